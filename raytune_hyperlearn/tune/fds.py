"""FDS on Ray Tune: a trainable whose step is one outer step, and a scheduler that makes the outer updates.

    tune.run(FDSTrainable, config={"problem": "digits"}, scheduler=FDSScheduler(), stop={"training_iteration": 10})

With Tune's default scheduler the trainable makes the outer update itself, by the same function.

A group of trials makes each outer step together: an ensemble, whose hypergradients at the same values are averaged,
or column shards, which divide the values among themselves and replay the same training, or both::

    scheduler = FDSScheduler(ensemble=2, shards=3)
    tune.run(FDSTrainable, config={"problem": "digits", "member": scheduler.members()}, scheduler=scheduler)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, ClassVar

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from torch import Tensor

from raytune_hyperlearn.algorithms.checkpoints import Keeping
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient
from raytune_hyperlearn.algorithms.hypergradients import Hypergradients
from raytune_hyperlearn.algorithms.schedules import Shapes
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.algorithms.sign_descent import OuterState
from raytune_hyperlearn.algorithms.update_maps import Batch
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.checked import record
from raytune_hyperlearn.derivatives.differentiability import layer_without_forward_mode, require_second_derivatives
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.hyperparameters import OptimizerSpace, SearchSpace, Space
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.problems.checking import FEW
from raytune_hyperlearn.problems.examples import validation_batches
from raytune_hyperlearn.results import DIVERGED, ENDED, VALIDATION_LOSS, Ending
from raytune_hyperlearn.tune.fds_members import AVERAGING, Averaging, Member, check_shards, combine, digest
from raytune_hyperlearn.tune.fds_options import FDSOptions as FDSOptions
from raytune_hyperlearn.tune.fds_updates import OUTER_STATE, Measured, best_so_far, ending, outer_update, scored
from raytune_hyperlearn.tune.groups import MAILBOX, MEMBER, GroupScheduler, Update, next_update
from raytune_hyperlearn.tune.scheduler import UPDATED_BY, FromScheduler
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores
from raytune_hyperlearn.tune.trial_settings import TrialSettings


@record
class FromFDSScheduler(FromScheduler):
    """What an :class:`FDSScheduler` puts into a trial's config."""

    outer_state: Mapping[str, Any] | None = None
    mailbox: str | None = None
    ended: Ending | None = None


class FDSTrainable(HyperLearningTrainable):
    """One outer step of FDS per ``step``: train through the horizon with tangents, report the hypergradient, update.

    Config keys: the shared ones (see :class:`TrialSettings`), the fields of :class:`FDSOptions`, and for a group of
    trials ``member``, which :meth:`FDSScheduler.members` gives. Every outer step has its own initialization and data
    order, derived from the run's seed; it can be repeated exactly.

    Besides the shared names a result holds ``hypergradient`` (name → entries), ``outer_state``, ``outer_step``,
    ``best`` (of the outer steps so far, by validation loss: its step, loss and values), ``inner_epochs``,
    ``inner_steps``, ``inner_validation_loss`` (of the run that was differentiated), ``hessian_way``, ``windows`` (where
    they are chosen: name → parts in each window that the values were last moved in) and ``ended`` (why the search
    ended: "converged" or "outer_steps"; None while it goes on). Where a scheduler finds that the search has
    converged, the reason is in the trial's config. A member of a group reports its own share; ``best`` is then the best
    of the group's outer steps before, and ``waiting_seconds``, which are no training, are those that it waited for the
    others.
    """

    allowed: ClassVar[frozenset[str]] = frozenset(FDSOptions.__dataclass_fields__) | {
        OUTER_STATE,
        UPDATED_BY,
        MEMBER,
        MAILBOX,
        ENDED,
    }
    spaces: ClassVar[tuple[type[Space], ...]] = (SearchSpace, OptimizerSpace)
    takes_groups: ClassVar[bool] = True

    def start(self, config: dict[str, Any]) -> None:
        """Take the outer state from the config, if a scheduler left one there, else the space's start values.

        Raises:
            ValueError: In one line, if an option is not allowed, the space holds what the optimizer has not, or a layer
                cannot be differentiated twice.
        """
        self.options = FDSOptions.from_config(config)
        self.member = Member.from_config(config.get(MEMBER))
        left = FromFDSScheduler.from_config(config)
        self.makes_updates = left.updates_itself
        space = self.settings.space
        self._check_member(space)
        if left.outer_state is not None:
            self.outer = OuterState.from_mapping(left.outer_state)
        else:
            self.outer = OuterState.start(space.initial(), space.step_sizes())
        self.outcome: dict[str, Any] | None = None
        self.functional = FunctionalModel(self.new_model(self.settings.seed), self.problem.loss)
        options = self.options
        if self.member.shards > 1 and options.hessian.way == "auto":
            # Shards that chose by their own measurements would not compute alike.
            options = replace(options, hessian=replace(options.hessian, way="forward_over_reverse"))
        self.inner = options.inner_step(self.functional, self.settings.bound, space)
        self.hypergradients = Hypergradients(self.inner, options.differentiation, Keeping(options.memory_limit))
        for name in space.parts:
            if name not in self.inner.defaults:
                raise ValueError(f"space holds {name!r}; the optimizer has {', '.join(self.inner.defaults)}")
        few = self.problem.train[slice(0, FEW)].read()
        if layer_without_forward_mode(self.functional.model, few.inputs) is not None:
            require_second_derivatives(self.functional.model, few.inputs)

    @property
    def products(self) -> HessianProducts | None:
        """What computes Hessian products; an own optimizer may need none."""
        return getattr(self.inner, "products", None)

    def step(self) -> dict[str, Any]:
        """One outer step; a member of a group first waits for the group's update."""
        if self.outcome is not None:
            begun = time.perf_counter()
            update = next_update(self.config[MAILBOX], self.outer.index + 1)
            self.waiting_seconds = time.perf_counter() - begun
            if update is None:
                return {**self.outcome, "done": True}
            self.apply_update(update)
        outcome = self.outer_step()
        if not self.member.alone:
            self.outcome = outcome
        return outcome

    def outer_step(self) -> dict[str, Any]:
        """Differentiate, score and report; then the values move: here, or where the scheduler moves them."""
        inner_epochs = self.options.inner_epochs(self.outer.index, self.epochs)
        found = self.differentiate(inner_epochs)
        outcome, measured = self._report(found, inner_epochs)
        if not self.member.alone:
            return outcome | self._share(found)
        return outcome | (self._move(measured) if self.makes_updates else self._leave_to_scheduler(measured))

    def _report(self, found: Hypergradient, inner_epochs: float) -> tuple[dict[str, Any], Measured]:
        """What every outer step reports, whoever moves the values, and what of it moves them."""
        epochs, scores = inner_epochs, self.score(lambda inputs: self._outputs(found, inputs)) if found.finite else {}
        inner_steps = self.problem.horizon(inner_epochs)
        instances = inner_steps * self.problem.batch_size
        if self.replays(inner_epochs):
            epochs, scores = self.epochs, self.replay()
            instances += self.settings.replicates * self.problem.horizon(epochs) * self.problem.batch_size
        outcome = self.result(
            scores,
            self.outer.values,
            epochs,
            instances,
            outer_step=self.outer.index,
            inner_epochs=inner_epochs,
            hessian_way=self.products.way if self.products is not None else None,
            differentiation=found.differentiation,
            differentiation_why=found.why,
            windows=self.outer.windows,
        )
        loss = outcome[VALIDATION_LOSS]
        measured = Measured(self.outer, found.values, loss, found.validation_loss, inner_steps, epochs, self.epochs)
        outcome |= measured.to_mapping()
        return outcome if found.finite else outcome | {"status": DIVERGED}, measured

    def _share(self, found: Hypergradient) -> dict[str, Any]:
        """What a member of a group adds; its scheduler ends the group once the last outer step has been combined."""
        return {
            "member": asdict(self.member),
            "weights_digest": digest(found.parameters, found.statistics),
            "best": best_so_far(self.outer),
            "waiting_seconds": self.waiting_seconds,
        }

    def _move(self, measured: Measured) -> dict[str, Any]:
        """Alone: take the next values, and say whether the search has ended."""
        best = best_so_far(scored(measured, self.options))
        before, self.outer = self.outer, outer_update(measured, self.options, self.settings.space)
        ended = ending(before, self.outer, self.options, self.settings.space)
        return {"best": best, "ended": ended, "done": ended is not None}

    def _leave_to_scheduler(self, measured: Measured) -> dict[str, Any]:
        """With a scheduler: it moves the values after this result, and ends a search that has converged."""
        ended = "outer_steps" if self.options.is_last(self.outer.index) else None
        best = best_so_far(scored(measured, self.options))
        return {"best": best, "ended": ended, "done": ended is not None}

    def differentiate(self, epochs: float) -> Hypergradient:
        """Hypergradient of the current values over ``epochs`` from a fresh initialization and data order.

        Args:
            epochs: Length of the training, in epochs.
        """
        seed = self._seed(Purpose.OUTER_STEP)
        horizon = self.problem.horizon(epochs)
        self.functional.load_initial(self.new_model(seed))
        values: Values = self.outer.values
        shapes = self.settings.space.shapes()
        if self.outer.index < self.options.coarse_steps:
            values, shapes = shapes.coarse(values)
        found = self._train(values, self.settings.space.learned, horizon, seed, shapes)
        shared = {
            name: entries * (len(self.outer.values[name]) // len(entries)) for name, entries in found.values.items()
        }
        return replace(found, values=shared)

    def replays(self, inner_epochs: float) -> bool:
        """Whether the values are also scored by plain training; where no step moves there is nothing to train.

        Args:
            inner_epochs: Epochs of this outer step's inner loop.
        """
        scored = inner_epochs >= self.epochs and self.settings.replicates == 1
        due = self.options.replay and self.outer.index >= self.options.replay_from
        return due and not scored and any(self.outer.values.get("learning_rate", [1.0]))

    def replay(self) -> dict[str, float]:
        """Mean scores of plain training at the full budget with the current values, once per replicate."""
        seeds = [self._seed(Purpose.REPLAY, i) for i in range(self.settings.replicates)]
        return mean_scores([self._train_and_score(seed) for seed in seeds])

    def apply_update(self, update: Mapping[str, Any]) -> None:
        """Take a new outer state; called between steps, by the scheduler or by the trainable itself.

        Args:
            update: The new outer state, under its config key.
        """
        self.outer = OuterState.from_mapping(update[OUTER_STATE])
        self.config = {**self.config, OUTER_STATE: update[OUTER_STATE]}
        self.outcome = None

    def state_dict(self) -> dict[str, Any]:
        """The outer state, what has been reported of it, and how products are computed; networks start afresh."""
        choices = self.products.choices() if self.products is not None else None
        state = {OUTER_STATE: self.outer.to_mapping(), "outcome": self.outcome, "choices": choices}
        state["directions"] = self.hypergradients.choices()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the later of the checkpoint and what a scheduler wrote into the config."""
        saved = OuterState.from_mapping(state[OUTER_STATE])
        if self.products is not None and state["choices"] is not None:
            self.products.take_choices(state["choices"])
        self.hypergradients.take_choices(state["directions"])
        if OUTER_STATE not in self.config or saved.index >= self.outer.index:
            self.outer, self.outcome = saved, state["outcome"]

    def make_again(self, steps: int) -> None:
        """Outer steps that the state and the scheduler's updates do not hold; a member of a group lacks one at most."""
        for _ in range(steps):
            if self.outer.index + (self.outcome is not None) < self.iteration:
                self.step()

    def _check_member(self, space: Space) -> None:
        if self.member.alone:
            return
        if self.makes_updates:
            raise ValueError("member is set; it needs the FDSScheduler that made it, Tune's default moves no group")
        if self.member.shards > space.dimensions:
            raise ValueError(f"shards is {self.member.shards}; the space has {space.dimensions} learned values")

    def _seed(self, purpose: Purpose, *replicate: int) -> int:
        """Seed of the outer step, or of a replicate of its replay; a trial alone is replica 0."""
        return derived_seed(self.settings.seed, purpose, self.outer.index, *replicate, self.member.replica)

    def _train(self, values: Values, learned: Sequence[str], horizon: int, seed: int, shapes: Shapes) -> Hypergradient:
        with private_random_numbers(derived_seed(seed, Purpose.DROPOUT, 0), self.device):
            return self.hypergradients(
                partial(self._batches, seed),
                validation_batches(self.split.validation),
                values,
                horizon,
                learned,
                shapes,
                part=self.member.columns,
            )

    def _batches(self, seed: int, first: int, end: int) -> Iterator[Batch]:
        """Of the steps first … end − 1."""
        return batches(self.split.train, self.problem.batch_size, end, seed, self.problem.augmentation, first)

    def _train_and_score(self, seed: int) -> dict[str, float]:
        if self.options.optimizer == "sgd" and set(self.settings.space.given) <= set(HYPERPARAMETERS):
            return self.train_and_score(self.outer.values, self.epochs, seed)
        self.functional.load_initial(self.new_model(seed))
        horizon, shapes = self.problem.horizon(self.epochs), self.settings.space.shapes()
        trained = self._train(self.outer.values, (), horizon, seed, shapes)
        return self.score(lambda inputs: self._outputs(trained, inputs))

    def _outputs(self, found: Hypergradient, inputs: Tensor) -> Tensor:
        return self.functional.evaluation_outputs(found.parameters, found.statistics, inputs)


class FDSScheduler(GroupScheduler):
    """Makes FDS's outer updates on the driver: signs of the reported hypergradients move every trial's values.

    The outer state travels in the trial's results and config, so a run that is restored goes on where it was.

    With ``ensemble`` × ``shards`` > 1 a run is one group of so many trials, which all need to run at once: pass
    ``member=scheduler.members()`` in the config. Every trial of an ensemble has its own initializations and data
    orders, all have the run's split. ``validation_loss`` in a member's result is its own; the group moves by the mean.
    Members in which training diverges make the group's outer step fail.

    Args:
        ensemble: Number n of trials whose hypergradients at the same values are put together.
        shards: Number m of trials that divide the values of one hypergradient among them.
        averaging: ``"mean"`` of the replicas' hypergradients, or ``"sign_majority"``: the mean of their signs.

    Raises:
        ValueError: In one line, if an argument is not allowed.
    """

    def __init__(self, ensemble: int = 1, shards: int = 1, averaging: Averaging = "mean") -> None:
        if averaging not in AVERAGING:
            raise ValueError(f"averaging is {averaging!r}; it must be one of {', '.join(AVERAGING)}")
        super().__init__(Member.group(ensemble, shards))
        self.averaging = averaging
        self._settings: dict[str, tuple[FDSOptions, Space]] = {}

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Tell the trial that its values are changed from here; adding it again changes nothing.

        Raises:
            ValueError: If signs are to serve a rule that needs slopes.
        """
        if self.averaging == "sign_majority" and trial.config.get("outer_optimizer") == "surrogate":
            raise ValueError("averaging is 'sign_majority'; with outer_optimizer 'surrogate' it must be 'mean'")
        if trial.config.get(UPDATED_BY) != "scheduler":
            trial.set_config({**trial.config, UPDATED_BY: "scheduler"})
        super().on_trial_add(tune_controller, trial)

    def update(self, trial: Trial, result: dict[str, Any]) -> Update | None:
        """The next outer state, or None once the search has converged or made its last outer step."""
        measured = Measured.from_mapping(result)
        options, space = self._read(trial, measured.state.values)
        after = outer_update(measured, options, space)
        ended = ending(measured.state, after, options, space)
        if ended is not None:
            trial.set_config({**trial.config, ENDED: ended})
            return None
        return {OUTER_STATE: after.to_mapping()}

    def forget(self, trial: Trial) -> None:
        """Its settings too."""
        super().forget(trial)
        self._settings.pop(trial.trial_id, None)

    def _read(self, trial: Trial, names: Iterable[str]) -> tuple[FDSOptions, Space]:
        """The trial's options and space, read from its config once.

        Args:
            trial: Whose.
            names: Of all values: the driver knows no model, whose layers may be groups of the space.
        """
        if trial.trial_id not in self._settings:
            options, settings = FDSOptions.from_config(trial.config), TrialSettings.from_config(trial.config)
            self._settings[trial.trial_id] = options, settings.space.for_values(names)
        return self._settings[trial.trial_id]

    def __getstate__(self) -> dict[str, Any]:
        """Without what the configs hold."""
        return {**super().__getstate__(), "_settings": {}}

    def next_round(self, config: Mapping[str, Any]) -> int:
        """The outer step."""
        return int(config[OUTER_STATE]["index"]) if OUTER_STATE in config else 0

    def reported_round(self, result: Mapping[str, Any]) -> int | None:
        """The outer step."""
        return result.get("outer_step")

    def held_update(self, config: Mapping[str, Any]) -> Update:
        """The outer state."""
        return {OUTER_STATE: config[OUTER_STATE]} if OUTER_STATE in config else {}

    def compare(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Refuse shards that did not replay the same training."""
        check_shards(results)

    def combine(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Shards put together, replicas averaged."""
        return combine(results, self.averaging)
