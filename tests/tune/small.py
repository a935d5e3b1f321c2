"""A problem and a search space on which a whole training takes milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.problems import Examples, Problem
from raytune_hyperlearn.results import SCORES

SPACE = SearchSpace(LearningRate(values=3), Momentum(), WeightDecay())
VALUES = {"learning_rate": [0.3, 0.2, 0.05], "momentum": [0.8], "weight_decay": [1e-3]}


def small_model() -> nn.Module:
    """A network that trains in milliseconds."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def small_problem() -> Problem:
    """Three classes that a linear rule separates."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(240, 4, generator=generator)
    targets = (inputs @ torch.randn(4, 3, generator=generator)).argmax(dim=1)
    return Problem(
        name="small",
        model=small_model,
        train=Examples(inputs[:200], targets[:200]),
        test=Examples(inputs[200:], targets[200:]),
        batch_size=20,
        epochs=2,
    )


def dropout_problem() -> Problem:
    """The same with a network that draws random masks while it trains."""
    problem = small_problem()
    return Problem(
        name="dropout",
        model=dropout_model,
        train=problem.train,
        test=problem.test,
        batch_size=20,
        epochs=2,
    )


def dropout_model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 3))


def scores_of(result: dict[str, Any]) -> dict[str, float]:
    """The four scores of a result."""
    return {name: result[name] for name in SCORES}
