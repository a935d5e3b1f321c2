"""FDS on Ray Tune: a trainable whose step is one outer step, and a scheduler that makes the outer updates.

    tune.run(FDSTrainable, config={"problem": "digits"}, scheduler=FDSScheduler(), stop={"training_iteration": 10})

With Tune's default scheduler the trainable makes the outer update itself, by the same function.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from torch import Tensor

from raytune_hyperlearn.algorithms.fds import Clamps, Hypergradient, hypergradient
from raytune_hyperlearn.algorithms.sign_descent import OuterState, converged, outer_step
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.problems import batches, derived_seed
from raytune_hyperlearn.tune.scheduler import HyperLearningScheduler
from raytune_hyperlearn.tune.trainable import (
    DIVERGED,
    HyperLearningTrainable,
    TrialSettings,
    mean_scores,
    validation_batches,
)

OUTER_STATE = "outer_state"
UPDATED_BY = "updated_by"
REPLAY = 1
"""Marks the seeds of replays; their four parts set them apart from those of retraining, which have three."""


@dataclass(frozen=True)
class FDSOptions:
    """What FDS can be told beyond the shared settings; keys of the trial's config.

    Attributes:
        horizons: Epochs of the inner loop in each outer step; the last entry serves all later ones. None: the full
            budget always.
        replay: After a hypergradient over fewer epochs than the full budget, or where an evaluation has several
            replicates, train with the same values at the full budget (no tangents), so that every outer step is
            scored as any other method's evaluation.
        replay_from: First outer step that is replayed; the ones before, far from good values, cost too much to score.
        coarse_steps: In so many first outer steps all values of a schedule are one, shared by the whole run: fewer
            columns and less noise while the values are far from their place. Then they part, with new step sizes.
        growth: Factor on a value's step size while its hypergradient keeps its sign; 1 is the paper's rule.
        tolerance: An outer step that ends at more than this times the best validation loss so far is retried with
            halved step sizes; None (the paper's rule) retries only what diverged.
        clamp_product: Bound on H Z, element by element, or None.
        hessian: Fields of :class:`HessianProductOptions`.
        outer_steps: Stop after so many outer steps, or None.
        stop_when_converged: Stop when every step size is below 5 % of its value.
    """

    horizons: tuple[float, ...] | None = None
    replay: bool = True
    replay_from: int = 1
    coarse_steps: int = 0
    growth: float = 1.0
    tolerance: float | None = None
    clamp_product: float | None = None
    hessian: HessianProductOptions = field(default_factory=HessianProductOptions)
    outer_steps: int | None = None
    stop_when_converged: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FDSOptions:
        """Read and check the keys.

        Raises:
            ValueError: In one line that names the key, its value and what is allowed.
        """
        given = {name: config[name] for name in cls.__dataclass_fields__ if config.get(name) is not None}
        if "hessian" in given and not isinstance(given["hessian"], HessianProductOptions):
            given["hessian"] = HessianProductOptions(**given["hessian"])
        if "horizons" in given:
            given["horizons"] = tuple(float(epochs) for epochs in given["horizons"])
        options = cls(**given)
        if options.horizons is not None and (
            not options.horizons or not all(e > 0 and math.isfinite(e) for e in options.horizons)
        ):
            raise ValueError(f"horizons is {list(options.horizons)}; it must hold positive numbers of epochs")
        if not options.growth >= 1:
            raise ValueError(f"growth is {options.growth}; it must be at least 1")
        if options.tolerance is not None and not options.tolerance > 1:
            raise ValueError(f"tolerance is {options.tolerance}; it must be greater than 1 or None")
        if not isinstance(options.coarse_steps, int) or options.coarse_steps < 0:
            raise ValueError(f"coarse_steps is {options.coarse_steps}; it must be a whole number of at least 0")
        if options.outer_steps is not None and options.outer_steps < 1:
            raise ValueError(f"outer_steps is {options.outer_steps}; it must be at least 1 or None")
        Clamps(product=options.clamp_product)
        return options

    def inner_epochs(self, outer_step: int, full: float) -> float:
        """Epochs of the inner loop in an outer step, at most the full budget."""
        if self.horizons is None:
            return full
        return min(self.horizons[min(outer_step, len(self.horizons) - 1)], full)


class FDSTrainable(HyperLearningTrainable):
    """One outer step of FDS per ``step``: train through the horizon with tangents, report the hypergradient, update.

    Config keys: the shared ones (see :class:`TrialSettings`) and the fields of :class:`FDSOptions`. Every outer
    step has its own initialisation and data order, derived from the run's seed; it can be repeated exactly.

    Besides the shared names a result holds ``hypergradient`` (name → entries), ``outer_state``, ``outer_step``,
    ``inner_epochs`` and ``inner_validation_loss`` (of the run that was differentiated).
    """

    allowed: ClassVar[frozenset[str]] = frozenset(FDSOptions.__dataclass_fields__) | {OUTER_STATE, UPDATED_BY}

    def start(self, config: dict[str, Any]) -> None:
        """Take the outer state from the config, if a scheduler left one there, else the space's start values."""
        self.options = FDSOptions.from_config(config)
        space = self.settings.space
        if OUTER_STATE in config:
            self.outer = OuterState.from_mapping(config[OUTER_STATE])
        else:
            self.outer = OuterState.start(space.initial(), space.step_sizes())
        self.makes_updates = config.get(UPDATED_BY, "trainable") == "trainable"
        self.functional = FunctionalModel(self.new_model(self.settings.seed), self.problem.loss)
        self.products = HessianProducts(self.functional, self.options.hessian)

    def step(self) -> dict[str, Any]:
        """One outer step."""
        outer = self.outer
        inner_epochs = self.options.inner_epochs(outer.index, self.epochs)
        found = self.differentiate(inner_epochs)
        instances = self.problem.horizon(inner_epochs) * self.problem.batch_size
        epochs = inner_epochs
        scores = self.score(lambda inputs: self._outputs(found, inputs)) if found.finite else {}
        if self.replays(inner_epochs):
            epochs = self.epochs
            scores = self.replay()
            instances += self.settings.replicates * self.problem.horizon(epochs) * self.problem.batch_size
        outcome = self.result(
            scores,
            outer.values,
            epochs,
            instances,
            hypergradient=found.values,
            outer_state=outer.to_mapping(),
            full_epochs=self.epochs,
            outer_step=outer.index,
            inner_epochs=inner_epochs,
            inner_validation_loss=found.validation_loss,
        )
        if not found.finite:
            outcome["status"] = DIVERGED
        limit = self.options.outer_steps
        outcome["done"] = limit is not None and outer.index + 1 >= limit
        if self.makes_updates:
            update = outer_update(outcome, self.options, self.settings.space, self.epochs)
            self.apply_update({OUTER_STATE: update.to_mapping()})
            finished = self.options.stop_when_converged and converged(update, self.settings.space.ranges())
            outcome["done"] = outcome["done"] or finished
        return outcome

    def differentiate(self, epochs: float) -> Hypergradient:
        """Hypergradient of the current values over ``epochs`` from a fresh initialisation and data order."""
        seed = derived_seed(self.settings.seed, self.outer.index)
        horizon = self.problem.horizon(epochs)
        self.functional.load_initial(self.new_model(seed))
        values = self.outer.values
        if self.outer.index < self.options.coarse_steps:
            values = {name: schedule[:1] for name, schedule in values.items()}
        with private_random_numbers(seed, self.device):
            found = hypergradient(
                self.functional,
                self.products,
                batches(self.split.train, self.problem.batch_size, horizon, seed, self.problem.augmentation),
                validation_batches(self.split.validation),
                values,
                horizon,
                self.settings.space.learned,
                Clamps(self.settings.gradient_clamp, self.options.clamp_product),
            )
        shared = {
            name: entries * (len(self.outer.values[name]) // len(entries)) for name, entries in found.values.items()
        }
        return replace(found, values=shared)

    def replays(self, inner_epochs: float) -> bool:
        """Whether the values are also scored by plain training; where no step moves there is nothing to train."""
        scored = inner_epochs >= self.epochs and self.settings.replicates == 1
        due = self.options.replay and self.outer.index >= self.options.replay_from
        return due and not scored and any(self.outer.values["learning_rate"])

    def replay(self) -> dict[str, float]:
        """Mean scores of plain training at the full budget with the current values, once per replicate."""
        run, step = self.settings.seed, self.outer.index
        seeds = [derived_seed(run, step, REPLAY, i) for i in range(self.settings.replicates)]
        return mean_scores([self.train_and_score(self.outer.values, self.epochs, seed) for seed in seeds])

    def apply_update(self, update: Mapping[str, Any]) -> None:
        """Take a new outer state; called between steps, by the scheduler or by the trainable itself."""
        self.outer = OuterState.from_mapping(update[OUTER_STATE])
        self.config = {**self.config, OUTER_STATE: update[OUTER_STATE]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The outer state: every outer step starts from a fresh network, so nothing else is needed."""
        (Path(checkpoint_dir) / "fds.json").write_text(json.dumps(self.outer.to_mapping()))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from the later of the checkpoint and what a scheduler wrote into the config."""
        saved = OuterState.from_mapping(json.loads((Path(checkpoint_dir) / "fds.json").read_text()))
        if OUTER_STATE not in self.config or saved.index >= self.outer.index:
            self.outer = saved

    def _outputs(self, found: Hypergradient, inputs: Tensor) -> Tensor:
        return self.functional.evaluation_outputs(found.parameters, found.statistics, inputs)


def outer_update(result: Mapping[str, Any], options: FDSOptions, space: SearchSpace, full: float) -> OuterState:
    """The outer state after a trial's (nested) result: the same for scheduler and trainable.

    Args:
        result: What :meth:`FDSTrainable.step` reported.
        options: The trial's options.
        space: The search space.
        full: The full budget in epochs. Losses of other budgets are not compared with the best so far.
    """
    state = OuterState.from_mapping(result["outer_state"])
    comparable = result["epochs"] >= full
    tolerance = options.tolerance if comparable else None
    loss, found = result["validation_loss"], result["hypergradient"]
    moved = outer_step(state, found, loss, space.ranges(), options.growth, tolerance)
    if not comparable:
        moved = replace(moved, best_loss=state.best_loss)
    return refined(moved, space) if moved.index == options.coarse_steps else moved


def refined(state: OuterState, space: SearchSpace) -> OuterState:
    """The state in which the values of schedules part: from one shared value, with first step sizes and no signs."""
    step_sizes, signs = dict(state.step_sizes), dict(state.signs)
    for name, schedule in space.schedules.items():
        if schedule.values > 1:
            step_sizes[name] = [schedule.step] * schedule.values
            signs[name] = [0.0] * schedule.values
    return replace(state, step_sizes=step_sizes, signs=signs)


class FDSScheduler(HyperLearningScheduler):
    """Makes FDS's outer updates on the driver: signs of the reported hypergradients move every trial's values.

    The outer state travels in the trial's results and config, so a run that is restored goes on where it was.
    """

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Tell the trial that its values are changed from here; adding it again changes nothing."""
        if trial.config.get(UPDATED_BY) != "scheduler":
            trial.set_config({**trial.config, UPDATED_BY: "scheduler"})

    def update(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        """The next outer state, or None once the search has converged."""
        numbers = {
            part: _nested(result, f"outer_state/{part}/") for part in ("values", "step_sizes", "signs", "accepted")
        }
        single = {part: result[f"outer_state/{part}"] for part in ("index", "best_loss")}
        nested = {
            "outer_state": {**single, **numbers},
            "hypergradient": _nested(result, "hypergradient/"),
            **{key: result[key] for key in ("epochs", "validation_loss")},
        }
        options = FDSOptions.from_config(trial.config)
        space = TrialSettings.from_config(trial.config).space
        state = outer_update(nested, options, space, result["full_epochs"])
        if options.stop_when_converged and converged(state, space.ranges()):
            return None
        return {OUTER_STATE: state.to_mapping()}


def _nested(flat: Mapping[str, Any], prefix: str) -> dict[str, Sequence[float]]:
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}
