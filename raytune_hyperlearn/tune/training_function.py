"""Calls a training function of the user's own: what black-box methods evaluate where the problem is no Problem."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import Annotated, Any

from ray import tune

from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.checked import Count, Described, FromConfig, InstanceOf, Positive, Whole, record
from raytune_hyperlearn.hyperparameters import OptimizerSpace
from raytune_hyperlearn.problems import Purpose, TrainingFunction, derived_seed
from raytune_hyperlearn.problems.references import ProblemSource
from raytune_hyperlearn.results import COMPLETED, DIVERGED, VALIDATION_LOSS, Result, worst_scores
from raytune_hyperlearn.tune.sgd import evaluation_seed, trial_hyperparameters
from raytune_hyperlearn.tune.trainable import mean_scores
from raytune_hyperlearn.tune.trial_settings import FROM_SEARCHERS, refuse_unknown_keys


@record
class EvaluationOptions(FromConfig):
    """What is evaluated; keys of the trial's config.

    Attributes:
        problem: The training function, or where it comes from.
        hyperparameters: Nested values or flat names; the function's own start values where there are none.
        seed: Seed of the run.
        epochs: Budget of this evaluation; None takes the function's own.
        replicates: Calls of the function, each with a seed of its own; the scores are means.
        retrainings: As replicates, but with seeds that depend on ``seed`` alone and not on what is evaluated, to
            train again what was found; every call's own scores are then in ``scores``.
    """

    problem: Annotated[InstanceOf[TrainingFunction] | InstanceOf[ProblemSource], Described("a TrainingFunction")]
    hyperparameters: dict[str, Any] | None = None
    seed: Whole = 0
    epochs: Positive | None = None
    replicates: Count = 1
    retrainings: Count | None = None


class TrainingFunctionTrainable(tune.Trainable):
    """One evaluation of a training function; then done. Config keys: the fields of :class:`EvaluationOptions`.

    Its results have the names of :class:`~raytune_hyperlearn.tune.trainable.HyperLearningTrainable`'s. Seeds are
    derived as there: anew for each evaluation, the same when it is repeated.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Find the function and check the hyperparameters.

        Raises:
            ValueError: In one line, if the config does not fit.
        """
        self.options = EvaluationOptions.from_config(config)
        given = self.options.problem
        found = given() if isinstance(given, ProblemSource) else given
        if not isinstance(found, TrainingFunction):
            raise ValueError(f"problem is {found.name}; it must be a TrainingFunction")
        self.function = found
        space: OptimizerSpace = found.space
        flat = space.flat_names()
        own = frozenset(entry.name for entry in fields(EvaluationOptions))
        refuse_unknown_keys(config, own | FROM_SEARCHERS | frozenset(flat))
        values = self.options.hyperparameters
        if values is None:
            values = {name: config[name] for name in flat if name in config} or space.initial()
        self.values: Numbers = trial_hyperparameters(space, values)
        self.epochs = found.epochs if self.options.epochs is None else self.options.epochs

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Evaluate other hyperparameters in the same actor."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Call the function with every seed."""
        begun = time.perf_counter()
        every = [self.function.evaluate(self.values, self.epochs, seed) for seed in self._seeds()]
        scores = [reported.scores for reported in every if reported.scores is not None]
        means = mean_scores(scores)
        diverged = not math.isfinite(means[VALIDATION_LOSS])
        unknown = [name for name, value in means.items() if math.isnan(value)]
        trained = [reported.epochs for reported in every if reported.epochs is not None]
        result = Result(
            status=DIVERGED if diverged else COMPLETED,
            hyperparameters=self.values,
            epochs=sum(trained) / len(trained) if trained else self.epochs,
            training_seconds=time.perf_counter() - begun,
        )
        again = {} if self.options.retrainings is None else {"scores": scores}
        return result.to_mapping() | (worst_scores(unknown) if diverged else means) | again | {"done": True}

    def _seeds(self) -> list[int]:
        seed, again = self.options.seed, self.options.retrainings
        if again is not None:
            return [derived_seed(seed, Purpose.RETRAINING, index) for index in range(again)]
        own = evaluation_seed(seed, self.values, self.epochs)
        return [derived_seed(own, Purpose.REPLICATE, index) for index in range(self.options.replicates)]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Nothing: a trial is one step."""
