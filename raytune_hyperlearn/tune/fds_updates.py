"""The outer update of FDS on Ray Tune: from what an outer step measured to the next values.

Scheduler and trainable make it by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from raytune_hyperlearn.algorithms import coordinates
from raytune_hyperlearn.algorithms.adam_descent import adam_step
from raytune_hyperlearn.algorithms.coordinates import settled
from raytune_hyperlearn.algorithms.sign_descent import OuterState, judged, outer_step, with_loss
from raytune_hyperlearn.algorithms.surrogate_descent import surrogate_step
from raytune_hyperlearn.algorithms.values import Numbers, Ranges, Values
from raytune_hyperlearn.algorithms.windows import ChosenWindows
from raytune_hyperlearn.hyperparameters import Space
from raytune_hyperlearn.results import VALIDATION_LOSS, Ending
from raytune_hyperlearn.tune.fds_options import FDSOptions

OUTER_STATE = "outer_state"
"""Entry of a result, an update and a trial's config: the outer state as a mapping."""


@dataclass(frozen=True)
class Measured:
    """What an outer step measured: all that the next values depend on.

    Attributes:
        state: The outer state before the step; its values were trained with.
        hypergradient: One entry per learned value.
        validation_loss: At these values; infinite where training diverged.
        inner_validation_loss: Of the run that was differentiated.
        inner_steps: Of that run.
        epochs: Budget that the validation loss is of.
        full_epochs: The trial's full budget.
    """

    state: OuterState
    hypergradient: Numbers
    validation_loss: float
    inner_validation_loss: float
    inner_steps: int
    epochs: float
    full_epochs: float

    @property
    def comparable(self) -> bool:
        """Whether the loss may be held against others: not where training was shorter than the full budget."""
        return self.epochs >= self.full_epochs

    @classmethod
    def from_mapping(cls, result: Mapping[str, Any]) -> Measured:
        """The record of a nested result, whose other entries are left out."""
        entries = {part.name: result[part.name] for part in fields(cls) if part.name != "state"}
        return cls(OuterState.from_mapping(result[OUTER_STATE]), **entries)

    def to_mapping(self) -> dict[str, Any]:
        """Its entries of a result, which :meth:`from_mapping` reads back."""
        entries = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "state"}
        return {OUTER_STATE: self.state.to_mapping(), **entries}


def best_so_far(state: OuterState) -> dict[str, Any] | None:
    """Outer step, validation loss and values of the best outer step so far, or None before the first."""
    if not state.best:
        return None
    return {"outer_step": state.best_index, VALIDATION_LOSS: state.best_loss, "hyperparameters": state.best}


def scored(measured: Measured, options: FDSOptions) -> OuterState:
    """The outer state with the loss noted, before any move; arguments as in :func:`outer_update`."""
    state, loss, comparable = measured.state, measured.validation_loss, measured.comparable
    if options.outer_optimizer == "surrogate":
        return with_loss(state, loss) if comparable else state
    return judged(state, measured.hypergradient, loss, options.tolerance, comparable) or state


def outer_update(measured: Measured, options: FDSOptions, space: Space) -> OuterState:
    """The outer state after an outer step.

    Args:
        measured: In the outer step, by a trial or by a whole group.
        options: The trial's options.
        space: The search space.
    """
    state, horizon = measured.state, measured.inner_steps
    loss, comparable = measured.validation_loss, measured.comparable
    scale = options.move_scale(state.index + 1, measured.full_epochs)
    is_whole = options.inner_epochs(state.index, measured.full_epochs) >= measured.full_epochs
    growth = options.growth if is_whole else 1.0

    def rule(inside: OuterState, slopes: Numbers, ranges: Ranges) -> OuterState:
        if options.outer_optimizer == "surrogate":
            scales, inner_loss = coordinates.apart(space.step_sizes()), measured.inner_validation_loss
            return surrogate_step(inside, slopes, loss, ranges, scales, horizon, inner_loss, comparable)
        if options.outer_optimizer == "adam":
            return adam_step(inside, slopes, loss, ranges, options.tolerance, comparable)
        return outer_step(inside, slopes, loss, ranges, growth, options.tolerance, comparable, scale)

    hypergradient: Values = measured.hypergradient
    if options.windows == "auto":
        state, hypergradient = with_windows(state, hypergradient, space)
    shapes, axes = space.shapes(), space.axes()
    weights = {name: shapes.weights(name, len(own), horizon) for name, own in axes.items()}
    moved = coordinates.moved(rule, state, hypergradient, weights, axes)
    return refined(moved, space) if moved.index == options.coarse_steps else moved


def with_windows(
    state: OuterState, hypergradient: Values, space: Space
) -> tuple[OuterState, dict[str, Sequence[float]]]:
    """Choose windows and share the hypergradient in them.

    Args:
        state: Before the outer step.
        hypergradient: Its entries.
        space: Says which schedules have equal windows, more than one.

    Returns:
        The state that remembers the entries and the windows, and the shared hypergradient.
    """
    free = [name for name, own in space.schedules.items() if own.shape == "windows" and not own.lengths]
    given = {name: hypergradient[name] for name in free if len(hypergradient[name]) > 1}
    chosen = ChosenWindows.after(state.entries, given)
    windows = {name: list(lengths) for name, lengths in chosen.lengths.items()}
    state = replace(
        state, entries=[{name: list(own) for name, own in row.items()} for row in chosen.seen], windows=windows
    )
    return state, {**hypergradient, **chosen.shared(given)}


def ending(before: OuterState, after: OuterState, options: FDSOptions, space: Space) -> Ending | None:
    """Why the search ends with an outer step, or None if it goes on.

    Args:
        before: The outer state before the step.
        after: The outer state after it.
        options: The trial's options.
        space: The search space.
    """
    if options.is_last(before.index):
        return "outer_steps"
    if options.stop_when_converged and settled(after, space.axes()):
        return "converged"
    return None


def refined(state: OuterState, space: Space) -> OuterState:
    """The state in which the values of schedules part: from one shared value, as before the first step otherwise."""
    step_sizes, signs = dict(state.step_sizes), dict(state.signs)
    parted = {name: schedule for name, schedule in space.schedules.items() if schedule.count > 1}
    for name, schedule in parted.items():
        step_sizes[name] = list(schedule.steps)
        signs[name] = [0.0] * schedule.count
    return replace(state, step_sizes=step_sizes, signs=signs, history=[], means={}, squares={}, moved=0)
