"""Smaller problems for smaller scales."""

from __future__ import annotations

from dataclasses import replace

import torch

from raytune_hyperlearn.problems import Examples, Problem, load


def part_of(name: str, train: int, test: int) -> Problem:
    """A known problem with ``train`` of its training and ``test`` of its test examples; 0 means all."""
    whole = load(name)
    return replace(whole, train=evenly_spaced(whole.train, train), test=evenly_spaced(whole.test, test))


def evenly_spaced(examples: Examples, count: int) -> Examples:
    """That many of the examples, evenly spaced: data sets are often sorted by class. All of them for 0."""
    if not 0 < count < len(examples):
        return examples
    return examples[torch.arange(count, device=examples.device) * len(examples) // count]
