"""The outer update of FDS on Ray Tune: from a result to the next values, the same for scheduler and trainable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from raytune_hyperlearn.algorithms import coordinates
from raytune_hyperlearn.algorithms.adam_descent import adam_step
from raytune_hyperlearn.algorithms.coordinates import settled
from raytune_hyperlearn.algorithms.sign_descent import OuterState, judged, outer_step, with_loss
from raytune_hyperlearn.algorithms.surrogate_descent import surrogate_step
from raytune_hyperlearn.algorithms.values import Numbers, Ranges
from raytune_hyperlearn.algorithms.windows import ChosenWindows
from raytune_hyperlearn.hyperparameters import Space
from raytune_hyperlearn.results import VALIDATION_LOSS, Ending
from raytune_hyperlearn.tune.fds_options import FDSOptions


def best_so_far(state: OuterState) -> dict[str, Any] | None:
    """Outer step, validation loss and values of the best outer step so far, or None before the first."""
    if not state.best:
        return None
    return {"outer_step": state.best_index, VALIDATION_LOSS: state.best_loss, "hyperparameters": state.best}


def is_comparable(result: Mapping[str, Any]) -> bool:
    """Whether a result's loss may be held against others: not where training was shorter than the full budget."""
    return bool(result["epochs"] >= result["full_epochs"])


def scored(state: OuterState, result: Mapping[str, Any], options: FDSOptions) -> OuterState:
    """The outer state with a result's loss noted, before any move; arguments as in :func:`outer_update`."""
    loss, comparable = result[VALIDATION_LOSS], is_comparable(result)
    if options.outer_optimizer == "surrogate":
        return with_loss(state, loss) if comparable else state
    return judged(state, result["hypergradient"], loss, options.tolerance, comparable) or state


def outer_update(state: OuterState, result: Mapping[str, Any], options: FDSOptions, space: Space) -> OuterState:
    """The outer state after a trial's (nested) result: the same for scheduler and trainable.

    Args:
        state: Before the outer step.
        result: What :meth:`FDSTrainable.step` reported, or a group's combined result.
        options: The trial's options.
        space: The search space.
    """
    loss, horizon, comparable = result[VALIDATION_LOSS], result["inner_steps"], is_comparable(result)
    scale = options.move_scale(state.index + 1, result["full_epochs"])

    def rule(inside: OuterState, slopes: Numbers, ranges: Ranges) -> OuterState:
        if options.outer_optimizer == "surrogate":
            scales, inner_loss = coordinates.apart(space.step_sizes()), result["inner_validation_loss"]
            return surrogate_step(inside, slopes, loss, ranges, scales, horizon, inner_loss, comparable)
        if options.outer_optimizer == "adam":
            return adam_step(inside, slopes, loss, ranges, options.tolerance, comparable)
        return outer_step(inside, slopes, loss, ranges, options.growth, options.tolerance, comparable, scale)

    hypergradient = result["hypergradient"]
    if options.windows == "auto":
        state, hypergradient = with_windows(state, hypergradient, space)
    shapes, axes = space.shapes(), space.axes()
    weights = {name: shapes.weights(name, len(own), horizon) for name, own in axes.items()}
    moved = coordinates.moved(rule, state, hypergradient, weights, axes)
    return refined(moved, space) if moved.index == options.coarse_steps else moved


def with_windows(
    state: OuterState, hypergradient: Mapping[str, Sequence[float]], space: Space
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
