"""SGD under a usual decay of the learning rate, of which only the peak is searched: a practitioner's first choice.

With s the share of training that is over and c(x) = (1 + cos π x) / 2, which falls from 1 to 0, the peak is multiplied
by

    cosine         c(s)
    one-cycle      1/25 + (1 − 1/25) (1 − c(s / 0.3))  while s < 0.3,  then  c((s − 0.3) / 0.7)

whose constants are those of PyTorch's ``OneCycleLR``, except that its last rate of peak / 250,000 is 0 here and that
momentum is searched and constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.tune.sgd import SGDTrainable

POINTS = 60
"""Windows in which the decay is trained and recorded, so that the record can be trained again as it is."""
WARM_UP, LOWEST = 0.3, 1 / 25


def cosine(share: float) -> float:
    """From the peak to 0."""
    return (1 + math.cos(math.pi * share)) / 2


def one_cycle(share: float) -> float:
    """Up to the peak and down to 0."""
    if share < WARM_UP:
        return LOWEST + (1 - LOWEST) * (1 - cosine(share / WARM_UP))
    return cosine((share - WARM_UP) / (1 - WARM_UP))


DECAYS: Mapping[str, Callable[[float], float]] = {"cosine": cosine, "one-cycle": one_cycle}


class DecayedTrainable(SGDTrainable):
    """As :class:`SGDTrainable`, with the peak of the learning rate in place of its schedule.

    Its search space has one value for each hyperparameter. Config keys beyond those of :class:`SGDTrainable`:

    - ``decay``: ``cosine`` or ``one-cycle``.
    """

    allowed: ClassVar[frozenset[str]] = SGDTrainable.allowed | {"decay"}

    def start(self, config: dict[str, Any]) -> None:
        """Check the decay's name and start.

        Raises:
            ValueError: If ``decay`` is none of the known ones.
        """
        decay = config.get("decay")
        if decay not in DECAYS:
            raise ValueError(f"decay is {decay!r}; it must be one of {', '.join(DECAYS)}")
        self.decay = DECAYS[str(decay)]
        super().start(config)

    def schedules(self, given: Numbers) -> Numbers:
        """The peak's schedule, each window with the factor of its middle."""
        (peak,) = given["learning_rate"]
        return {**given, "learning_rate": [peak * self.decay((point + 0.5) / POINTS) for point in range(POINTS)]}
