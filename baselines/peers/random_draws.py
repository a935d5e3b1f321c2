"""Independent uniform draws as a Ray Tune searcher: what schedulers such as ASHA and PBT start trials from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from typing_extensions import Unpack

from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.searcher import AskTellSearcher, TrialNames, check_count


class _Draws:
    """The draws, asked and told.

    Args:
        axes: Range and scale by hyperparameter.
        budget: Of every evaluation.
        seed: Of the draws.
        population: Draw so many, then wait until all of them have ended, and so on; None never waits.
    """

    def __init__(self, axes: Mapping[str, Axis], budget: float, seed: int, population: int | None) -> None:
        self._axes, self._budget, self._population = dict(axes), budget, population
        self._generator = np.random.default_rng(seed)
        self._asked = self._told = 0
        self.seconds = 0.0

    def ask(self) -> Evaluation | None:
        if self._population is not None and self._asked == self._population * (self._told // self._population + 1):
            return None
        values = {name: self._draw(axis) for name, axis in self._axes.items()}
        self._asked += 1
        return Evaluation(self._asked - 1, values, self._budget, False)

    def _draw(self, axis: Axis) -> float:
        return axis.value(float(self._generator.uniform(axis.coordinate(axis.low), axis.coordinate(axis.high))))

    def tell(self, key: int, loss: float) -> None:
        self._told += 1

    def tell_crash(self, key: int, exception: str) -> None:
        self._told += 1


class RandomDraws(AskTellSearcher):
    """Draws every hyperparameter uniformly on its scale; the scheduler beside it decides how long a trial trains."""

    def __init__(
        self,
        axes: Mapping[str, Axis],
        *,
        budget: float,
        seed: int,
        population: int | None = None,
        **names: Unpack[TrialNames],
    ) -> None:
        """Check the arguments.

        Args:
            axes: range and scale by hyperparameter.
            budget: the full budget of every trial, in the trainable's unit.
            seed: non-negative; the same seed gives the same draws.
            population: start so many trials, and the next ones when all of them have ended; None never waits.
            names: as `TrialNames` has them.

        Raises:
            ValueError: an argument is outside its range.
        """
        check_count("seed", seed, smallest=0)
        if population is not None:
            check_count("population", population, smallest=1)
        super().__init__(_Draws(axes, budget, seed, population), tuple(axes), **names)
