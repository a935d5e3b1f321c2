"""The grid reference: what a practitioner would try around the literature's settings ([FDS] appendix F).

Learning rate, momentum and weight decay around 0.1, 0.9 and 5e-4, with a learning rate that is constant, is
divided by 5 at 30, 60 and 80 % of training, or follows half a cosine. The best setting by validation, averaged
over seeds, is the zero of regret.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product

LEARNING_RATES = (0.05, 0.1, 0.2)
MOMENTA = (0.8, 0.9)
WEIGHT_DECAYS = (0.0, 5e-4)
POINTS = 60
"""Values of a schedule; 30, 60 and 80 % of training fall on its edges."""


def constant(rate: float, _fraction: float) -> float:
    """The same learning rate throughout."""
    return rate


def multistep(rate: float, fraction: float) -> float:
    """Divided by 5 after 30, 60 and 80 % of training."""
    return rate / 5.0 ** sum(fraction >= edge for edge in (0.3, 0.6, 0.8))


def cosine(rate: float, fraction: float) -> float:
    """Half a cosine from the rate to 0."""
    return rate * (1 + math.cos(math.pi * fraction)) / 2


DECAYS: Mapping[str, Callable[[float, float], float]] = {"constant": constant, "multistep": multistep, "cosine": cosine}


def settings() -> list[dict[str, list[float]]]:
    """All settings of the grid, as schedules."""
    return [
        {
            "learning_rate": [decay(rate, point / POINTS) for point in range(POINTS)],
            "momentum": [momentum],
            "weight_decay": [weight_decay],
        }
        for decay, rate, momentum, weight_decay in product(DECAYS.values(), LEARNING_RATES, MOMENTA, WEIGHT_DECAYS)
    ]


def description() -> dict[str, list[object]]:
    """The grid's axes, for a report."""
    return {
        "learning_rate": list(LEARNING_RATES),
        "momentum": list(MOMENTA),
        "weight_decay": list(WEIGHT_DECAYS),
        "decay": list(DECAYS),
    }
