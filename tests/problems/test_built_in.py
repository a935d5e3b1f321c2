from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn.problems import PROBLEMS, Examples, Problem, digit_images, load
from raytune_hyperlearn.problems import data as readers
from raytune_hyperlearn.problems.models import initialize

IMAGES = {"digits": (1, 8, 8), "mnist-5k": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10-wrn16-1": (3, 32, 32)}


def own() -> Problem:
    examples = Examples(torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64))
    return Problem(name="own", model=lambda: nn.Linear(2, 2), train=examples, test=examples, batch_size=2)


@pytest.mark.parametrize("name", IMAGES)
def test_a_named_problem_carries_its_name_and_a_model_that_fits_its_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a few images in place of the large data sets."""

    def few(*_: Any) -> tuple[Examples, Examples]:
        inputs = torch.randn(600, *IMAGES[name], generator=torch.Generator().manual_seed(0))
        targets = torch.arange(600) % 10
        return Examples(inputs, targets), Examples(inputs[:50], targets[:50])

    for reader in ("fashion_mnist", "cifar"):
        monkeypatch.setattr(readers, reader, few)
    monkeypatch.setattr(digit_images, "mnist_5k", few)
    problem = load(name)
    assert problem.name == name
    outputs = initialize(problem.model, seed=0)(problem.test.inputs[:4])
    assert outputs.shape == (4, 10)
    assert problem.loss(outputs, problem.test.targets[:4]).shape == (4,)
    assert problem.source
    if problem.augmentation is not None:
        augmented = problem.augmentation(problem.test.inputs[:4], torch.Generator().manual_seed(0))
        assert augmented.shape == problem.test.inputs[:4].shape


def test_only_cifar_10_is_augmented_and_split_as_in_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Examples(torch.zeros(50_000, 1), torch.zeros(50_000, dtype=torch.int64))
    monkeypatch.setattr(readers, "cifar", lambda classes: (examples, examples))
    problem = load("cifar10-wrn16-1")
    assert problem.augmentation is readers.crop_and_flip
    assert (problem.batch_size, problem.epochs, problem.validation_size) == (256, 50, 2_500)
    assert load("digits").augmentation is None


def test_digits_have_a_validation_set_of_their_own() -> None:
    problem = load("digits")
    split = problem.split(seed=0)
    assert (len(split.train), len(split.validation), len(problem.test)) == (1078, 359, 360)


def test_every_name_is_its_problems_name() -> None:
    assert list(PROBLEMS)[:3] == ["digits", "mnist-5k", "fashion-mnist"]


def test_a_users_own_problem_is_taken_as_it_is_or_built() -> None:
    problem = own()
    assert load(problem) is problem
    assert load(own).name == "own"


@pytest.mark.parametrize("name", ["mnist", "", "Digits"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"^problem is '.*'; it must be one of digits, [^\n]+$") as caught:
        load(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in PROBLEMS)
