"""PyTorch's optimizers by name, with their own values of what is not given; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

OptimizerName = Literal["sgd", "adam", "adamw"]

ADAM: Mapping[str, float] = {
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "weight_decay": 0.0,
}
DEFAULTS: Mapping[OptimizerName, Mapping[str, float]] = {
    "sgd": {"learning_rate": 1e-3, "momentum": 0.0, "weight_decay": 0.0},
    "adam": ADAM,
    "adamw": {**ADAM, "weight_decay": 1e-2},
}
"""Hyperparameters of each optimizer, and PyTorch's own values for those that are not given."""
