"""Trains the same hyperparameters with several fresh seeds and reports the mean scores."""

from __future__ import annotations

from typing import Any, ClassVar

from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores


class RetrainingTrainable(HyperLearningTrainable):
    """One training per seed with given schedules, each from its own initialization and data order; then done.

    Config keys beyond the shared ones:

    - ``hyperparameters``: schedules by name, of any length and any values: what a method has learned is replayed as
      it is.
    - ``retrainings``: number of seeds (default 3).
    - ``resplit``: also split anew for every seed, instead of by the run's seed (default False).

    The scores are means over the seeds; ``scores`` holds every seed's own. If one diverges, the mean is infinite.
    """

    allowed: ClassVar[frozenset[str]] = frozenset({"hyperparameters", "retrainings", "resplit"})
    takes_groups: ClassVar[bool] = True

    def start(self, config: dict[str, Any]) -> None:
        """Take the schedules."""
        given = config.get("hyperparameters", {})
        names = self.settings.space.parts
        if sorted(given) != sorted(names) or not all(given.values()):
            raise ValueError(f"hyperparameters are {given}; they must hold schedules of {', '.join(names)}")
        self.values = {name: list(map(float, schedule)) for name, schedule in given.items()}
        self.retrainings = config.get("retrainings", 3)
        self.resplit = bool(config.get("resplit", False))
        if not isinstance(self.retrainings, int) or self.retrainings < 1:
            raise ValueError(f"retrainings is {self.retrainings!r}; it must be a whole number of at least 1")

    def step(self) -> dict[str, Any]:
        """Train and score with every seed."""
        every = [
            self._retrain(derived_seed(self.settings.seed, Purpose.RETRAINING, i)) for i in range(self.retrainings)
        ]
        instances = self.retrainings * self.problem.horizon(self.epochs) * self.problem.batch_size
        outcome = self.result(mean_scores(every), self.values, self.epochs, instances)
        return outcome | {"scores": every, "done": True}

    def _retrain(self, seed: int) -> dict[str, float]:
        if self.resplit:
            self.split = self.problem.split(seed)
        return self.train_and_score(self.values, self.epochs, seed)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""
