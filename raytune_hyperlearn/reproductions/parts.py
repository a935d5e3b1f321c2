"""Smaller problems for smaller scales."""

from __future__ import annotations

from dataclasses import replace

import torch

from raytune_hyperlearn.problems import Examples, Problem, load
from raytune_hyperlearn.problems.data import cifar
from raytune_hyperlearn.problems.models import BatchNormCNN


def part_of(name: str, train: int, test: int) -> Problem:
    """A known problem with ``train`` of its training and ``test`` of its test examples; 0 means all."""
    whole = load(name)
    return replace(whole, train=evenly_spaced(whole.train, train), test=evenly_spaced(whole.test, test))


def evenly_spaced(examples: Examples, count: int) -> Examples:
    """That many of the examples, evenly spaced: data sets are often sorted by class. All of them for 0."""
    if not 0 < count < len(examples):
        return examples
    return examples[torch.arange(count, device=examples.device) * len(examples) // count]


def cifar_images(train: int = 10_000, test: int = 2_000) -> Problem:
    """So many CIFAR-10 images and a small network with BatchNorm.

    Raises:
        MissingDataError: If they are nowhere.
    """
    parts = [evenly_spaced(whole, count) for whole, count in zip(cifar(10), (train, test), strict=True)]
    return Problem(
        name="cifar10-images",
        model=BatchNormCNN,
        train=parts[0],
        test=parts[1],
        batch_size=128,
        epochs=3,
        validation_fraction=0.2,
    )
