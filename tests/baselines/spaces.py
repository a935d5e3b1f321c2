"""The search space and the objective of the baselines' tests."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer


def mixed_space() -> ConfigurationSpace:
    """Float, log-float, integer, log-integer, categorical and conditional hyperparameters."""
    space = ConfigurationSpace()
    space.add(
        Float("learning_rate", (1e-4, 1.0), log=True),
        Float("momentum", (0.0, 0.99)),
        Integer("width", (8, 512), log=True),
        Integer("layers", (1, 5)),
        Categorical("optimizer", ["sgd", "adam", "rmsprop"]),
        Float("beta", (0.8, 0.999)),
    )
    space.add(EqualsCondition(space["beta"], space["optimizer"], "adam"))
    return space


def loss(hyperparameters: Mapping[str, Any], budget: float) -> float:
    """A bowl around learning rate 0.03 that flattens with the budget; Adam is a little better than the others."""
    bowl = (math.log10(float(hyperparameters["learning_rate"])) + 1.5) ** 2
    width = (math.log2(int(hyperparameters["width"])) - 6.0) ** 2 / 10.0
    gain = 0.3 * float(hyperparameters["beta"]) if hyperparameters["optimizer"] == "adam" else 0.0
    return bowl + width + float(hyperparameters["momentum"]) - gain + 1.0 / float(budget)


def unreliable_loss(hyperparameters: Mapping[str, Any], budget: float) -> float | None:
    """`loss`, but some evaluations crash (None), diverge to NaN, or overflow to +inf or -inf."""
    text = repr(sorted((name, str(value)) for name, value in hyperparameters.items())) + f"{budget:.6g}"
    fates: dict[int, float | None] = {0: None, 1: math.nan, 2: math.inf, 3: -math.inf}
    return fates.get(zlib.crc32(text.encode()) % 20, loss(hyperparameters, budget))
