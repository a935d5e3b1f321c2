"""Trains the same hyperparameters with several fresh seeds and reports the mean scores."""

from __future__ import annotations

import statistics
from typing import Any, ClassVar

from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.problems import batches, derived_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable

RETRAINING = 2
"""Marks the seeds of retraining, so that they differ from those of any search."""


class RetrainingTrainable(HyperLearningTrainable):
    """One training per seed with given schedules, each from its own initialisation and data order; then done.

    Config keys beyond the shared ones:

    - ``hyperparameters``: schedules by name, of any length and any values: what a method has learned is replayed as
      it is.
    - ``retrainings``: number of seeds (default 3).
    - ``resplit``: also split anew for every seed, instead of by the run's seed (default False).

    The scores are means over the seeds; ``scores`` holds every seed's own. If one diverges, the mean is infinite.
    """

    allowed: ClassVar[frozenset[str]] = frozenset({"hyperparameters", "retrainings", "resplit"})

    def start(self, config: dict[str, Any]) -> None:
        """Take the schedules."""
        self.values = {name: list(map(float, schedule)) for name, schedule in config["hyperparameters"].items()}
        self.retrainings = int(config.get("retrainings", 3))
        self.resplit = bool(config.get("resplit", False))
        if self.retrainings < 1:
            raise ValueError(f"retrainings is {self.retrainings}; it must be at least 1")

    def step(self) -> dict[str, Any]:
        """Train and score with every seed."""
        horizon = self.problem.horizon(self.epochs)
        every = [self._retrain(index, horizon) for index in range(self.retrainings)]
        means = {name: statistics.fmean(scores[name] for scores in every) for name in every[0]}
        instances = self.retrainings * horizon * self.problem.batch_size
        return self.result(means, self.values, self.epochs, instances, scores=every, done=True)

    def _retrain(self, index: int, horizon: int) -> dict[str, float]:
        seed = derived_seed(self.settings.seed, RETRAINING, index)
        if self.resplit:
            self.split = self.problem.split(seed)
        model = self.new_model(seed)
        with private_random_numbers(seed, self.device):
            order = batches(self.split.train, self.problem.batch_size, horizon, seed, self.problem.augmentation)
            train(model, self.problem.loss, order, self.values, horizon, self.settings.gradient_clamp)
        model.eval()
        return self.score(model)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Nothing: a trial is one step."""
