"""The problems by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from raytune_hyperlearn.problems import data
from raytune_hyperlearn.problems.models import LeNet, SmallCNN, WideResNet
from raytune_hyperlearn.problems.problem import Problem


def digits() -> Problem:
    """scikit-learn's digits with a small CNN; comes with scikit-learn, nothing is downloaded."""
    train, test = data.digits()
    return Problem(
        name="digits",
        model=SmallCNN,
        train=train,
        test=test,
        batch_size=128,
        epochs=10,
        validation_fraction=0.25,
        source="scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, CC BY 4.0): "
        "1,437 training and 360 test images, 8×8 grey, 10 classes",
    )


def fashion_mnist() -> Problem:
    """Fashion-MNIST with LeNet-5."""
    train, test = data.fashion_mnist()
    return Problem(
        name="fashion-mnist",
        model=LeNet,
        train=train,
        test=test,
        batch_size=128,
        epochs=5,
        validation_fraction=0.05,
        source="Fashion-MNIST (Zalando Research, MIT licence): 60,000 training and 10,000 test images, "
        "28×28 grey, 10 classes",
    )


def cifar10_wrn() -> Problem:
    """CIFAR-10 with WRN-16-1, the setting of FDS's figure 1."""
    train, test = data.cifar(10)
    return Problem(
        name="cifar10-wrn16-1",
        model=partial(WideResNet, depth=16, width=1),
        train=train,
        test=test,
        batch_size=256,
        epochs=50,
        validation_fraction=0.05,
        augmentation=data.crop_and_flip,
        source="CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32×32 colour, 10 classes",
    )


PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10-wrn16-1": cifar10_wrn,
}


def load(problem: str | Problem | Callable[[], Problem]) -> Problem:
    """A problem from its name, from a function that builds one, or as it is.

    Raises:
        ValueError: If no problem has that name.
        MissingDataError: If its data are missing.
    """
    if isinstance(problem, Problem):
        return problem
    if isinstance(problem, str):
        if problem not in PROBLEMS:
            raise ValueError(f"problem is {problem!r}; it must be one of {', '.join(PROBLEMS)}")
        return PROBLEMS[problem]()
    return problem()
