"""Trains the same hyperparameters with several fresh seeds and reports the mean scores."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from raytune_hyperlearn.algorithms.optimizer_defaults import OptimizerName
from raytune_hyperlearn.checked import AnyNumber, Count, FromConfig, Items, record
from raytune_hyperlearn.hyperparameters import OptimizerSpace, SearchSpace, Space
from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.tune.sgd import require_space
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores


@record
class RetrainingOptions(FromConfig):
    """What is trained again and how often; keys of the trial's config.

    Attributes:
        hyperparameters: Schedules by name, of any length and any values: what a method has learned is replayed as it
            is.
        retrainings: Number of seeds.
        resplit: Also split anew for every seed, instead of by the run's seed.
        optimizer: What trains; the space is its own.
    """

    hyperparameters: dict[str, Annotated[Items[AnyNumber], Field(min_length=1)]]
    retrainings: Count = 3
    resplit: bool = False
    optimizer: OptimizerName = "sgd"


class RetrainingTrainable(HyperLearningTrainable):
    """One training per seed with given schedules, each from its own initialization and data order; then done.

    Config keys: the shared ones and the fields of :class:`RetrainingOptions`.

    The scores are means over the seeds; ``scores`` holds every seed's own. If one diverges, the mean is infinite.
    """

    allowed: ClassVar[frozenset[str]] = frozenset(RetrainingOptions.__dataclass_fields__)
    takes_groups: ClassVar[bool] = True
    spaces: ClassVar[tuple[type[Space], ...]] = (SearchSpace, OptimizerSpace)

    def start(self, config: dict[str, Any]) -> None:
        """Take the schedules.

        Raises:
            ValueError: If the schedules are not those of the space.
        """
        self.options = RetrainingOptions.from_config(config)
        require_space(self.options.optimizer, self.settings.space)
        given = self.options.hyperparameters
        names = self.settings.space.parts
        if sorted(given) != sorted(names):
            raise ValueError(f"hyperparameters is {given}; it must hold schedules of {', '.join(names)}")
        self.values = {name: list(schedule) for name, schedule in given.items()}

    def step(self) -> dict[str, Any]:
        """Train and score with every seed."""
        retrainings = self.options.retrainings
        every = [self._retrain(derived_seed(self.settings.seed, Purpose.RETRAINING, i)) for i in range(retrainings)]
        instances = retrainings * self.problem.horizon(self.epochs) * self.problem.batch_size
        outcome = self.result(mean_scores(every), self.values, self.epochs, instances)
        return outcome | {"scores": every, "done": True}

    def _retrain(self, seed: int) -> dict[str, float]:
        if self.options.resplit:
            self.split = self.problem.split(seed)
        return self.train_and_score(self.values, self.epochs, seed, self.options.optimizer)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""
