from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from raytune_hyperlearn.algorithms.sign_descent import (
    OuterState,
    converged,
    outer_step,
    retry,
    sign,
    sign_update,
)

RANGES = {"learning_rate": (0.0, 1.0), "momentum": (0.0, 1.0)}
NAN, INF = math.nan, math.inf


def start(**changes: Any) -> OuterState:
    """Two learning rates in the middle, a momentum at zero, and a weight decay that is not learned."""
    state = OuterState.start(
        {"learning_rate": [0.5, 0.5], "momentum": [0], "weight_decay": [1e-4]},
        {"learning_rate": [0.1, 0.2], "momentum": [0.1]},
    )
    return replace(state, **changes)


def gradient(first: float, second: float, momentum: float = -1.0) -> dict[str, list[float]]:
    return {"learning_rate": [first, second], "momentum": [momentum]}


def one(value: float, size: float, last: float = 0.0) -> OuterState:
    """A single value in [0, 1]."""
    return OuterState(0, {"momentum": [value]}, {"momentum": [size]}, {"momentum": [last]})


def evaluated(state: OuterState) -> OuterState:
    """After training at these values."""
    return replace(state, accepted=state.values)


def moved(state: OuterState, *entries: float, growth: float = 1.0) -> tuple[float, float, float]:
    """Value, step size and sign after one update per entry."""
    for entry in entries:
        state = sign_update(state, {"momentum": [entry]}, RANGES, growth)
    return state.values["momentum"][0], state.step_sizes["momentum"][0], state.signs["momentum"][0]


@pytest.mark.parametrize(
    ("entry", "expected"), [(3.0, 1), (-1e-300, -1), (0.0, 0), (-0.0, 0), (NAN, 0), (INF, 0), (-INF, 0)]
)
def test_the_sign_of_what_is_zero_or_not_finite_is_zero(entry: float, expected: float) -> None:
    assert sign(entry) == expected


def test_values_move_against_the_sign_by_their_own_step_size() -> None:
    state = sign_update(start(), gradient(3.0, -1e-9), RANGES)
    assert state.values == {"learning_rate": [0.4, 0.7], "momentum": [0.1], "weight_decay": [1e-4]}
    assert state.step_sizes == {"learning_rate": [0.1, 0.2], "momentum": [0.1]}
    assert state.signs == {"learning_rate": [1.0, -1.0], "momentum": [-1.0]}
    assert state.index == 1


def test_a_change_of_sign_halves_the_step_size_before_the_move() -> None:
    assert moved(one(0.5, 0.1), 1, -1) == pytest.approx((0.45, 0.05, -1))
    assert moved(one(0.5, 0.1), 1, -1, 1) == pytest.approx((0.425, 0.025, 1))
    assert moved(one(0.5, 0.1), 1, 1, 1) == pytest.approx((0.2, 0.1, 1))


@pytest.mark.parametrize("nothing", [0.0, NAN, INF, -INF])
def test_an_entry_without_a_sign_changes_nothing_and_is_not_remembered(nothing: float) -> None:
    assert moved(one(0.5, 0.1), nothing) == (0.5, 0.1, 0.0)
    assert moved(one(0.5, 0.1), 1, nothing) == moved(one(0.5, 0.1), 1)
    assert moved(one(0.5, 0.1), 1, nothing, -1) == moved(one(0.5, 0.1), 1, -1)
    assert moved(one(0.5, 0.1), 1, nothing, 1, growth=2) == moved(one(0.5, 0.1), 1, 1, growth=2)


def test_growth_multiplies_the_step_size_while_the_sign_stays() -> None:
    assert moved(one(0.0, 0.1), -1, growth=1.5) == pytest.approx((0.1, 0.1, -1))
    assert moved(one(0.0, 0.1), -1, -1, growth=1.5) == pytest.approx((0.25, 0.15, -1))
    assert moved(one(0.0, 0.1), -1, -1, 1, growth=1.5) == pytest.approx((0.175, 0.075, 1))


def test_step_sizes_do_not_grow_at_a_bound() -> None:
    """Else a value that rests there would jump across its whole range at the first change of sign."""
    value, size, _ = moved(one(0.9, 0.1), *[-1] * 20, growth=2)
    assert (value, size) == (1.0, 0.1)
    assert moved(one(0.9, 0.1), *[-1] * 20, 1, growth=2) == pytest.approx((0.95, 0.05, 1))


def test_before_longer_trainings_moves_are_smaller_and_step_sizes_what_they_were() -> None:
    state = OuterState.start({"a": [0.5, 0.5, 1.0]}, {"a": [0.3, 0.3, 0.3]})
    moved = sign_update(state, {"a": [1.0, -1.0, -1.0]}, {"a": (0.0, 1.0)}, scale=1 / 3)
    assert moved.values["a"] == pytest.approx([0.4, 0.6, 1.0])
    assert moved.step_sizes == state.step_sizes
    accepted = outer_step(state, {"a": [1.0, -1.0, -1.0]}, 2.0, {"a": (0.0, 1.0)}, scale=1 / 3)
    assert accepted.values == moved.values


def test_values_stay_in_their_range() -> None:
    assert moved(one(0.05, 0.1), 1)[0] == 0.0
    assert moved(one(0.0, 0.1), 1) == (0.0, 0.1, 1.0)
    assert moved(one(0.95, 0.1), -1)[0] == 1.0
    narrow = sign_update(one(0.5, 0.3), {"momentum": [1.0]}, {"momentum": (0.4, 0.6)})
    assert narrow.values["momentum"] == [0.4]


@pytest.mark.parametrize("growth", [0.99, 0.0, NAN])
def test_growth_below_one_is_refused(growth: float) -> None:
    with pytest.raises(ValueError, match=rf"^growth is {growth}; it must be at least 1$"):
        sign_update(start(), gradient(1, 1), RANGES, growth)


@pytest.mark.parametrize(("wrong", "count"), [({"momentum": [1.0]}, 0), (gradient(1, 1) | {"learning_rate": [1.0]}, 1)])
def test_a_hypergradient_of_another_shape_is_refused(wrong: dict[str, list[float]], count: int) -> None:
    message = f"^hypergradient of learning_rate has {count} entries; it must have 2$"
    with pytest.raises(ValueError, match=message):
        sign_update(start(), wrong, RANGES)


def test_no_function_changes_its_arguments() -> None:
    state = sign_update(start(accepted=start().values, best_loss=1.0), gradient(1, -1), RANGES)
    kept, entries = copy.deepcopy(state), gradient(1.0, NAN)
    sign_update(state, entries, RANGES, growth=2)
    outer_step(state, entries, 0.5, RANGES)
    outer_step(state, entries, INF, RANGES)
    retry(state)
    converged(state, RANGES)
    assert state == kept
    assert repr(entries) == repr(gradient(1.0, NAN))


def test_a_state_survives_json() -> None:
    state = outer_step(start(), gradient(1, -1), 0.25, RANGES)
    assert OuterState.from_mapping(json.loads(json.dumps(state.to_mapping()))) == state
    assert OuterState.from_mapping(json.loads(json.dumps(start().to_mapping()))) == start()


def test_changing_a_mapping_does_not_change_its_state() -> None:
    state = start()
    state.to_mapping()["values"]["momentum"].append(1.0)
    assert state == start()


# -------------------------------------------------------------------------------------- convergence


@pytest.mark.parametrize(
    ("value", "size", "last", "expected"),
    [
        (1.0, 0.0499, 1.0, True),
        (0.5, 0.0249, 0.0, True),
        (0.5, 0.025, 1.0, False),  # γ/|λ| = 0.05 is not below it
        (0.5, 0.0251, 1.0, False),
        (0.0, 1e-9, 0.0, False),  # at zero, but nothing holds it there
        (0.0, 0.1, -1.0, False),
        (0.0, 0.1, 1.0, True),  # at the lower bound, pushed against it
        (1.0, 0.1, -1.0, True),  # at the upper bound, pushed against it
        (1.0, 0.1, 1.0, False),
    ],
)
def test_a_value_has_converged_when_its_step_is_small_or_a_bound_holds_it(
    value: float, size: float, last: float, expected: bool
) -> None:
    assert converged(evaluated(one(value, size, last)), RANGES) is expected


def test_a_bound_counts_once_training_there_has_been_differentiated() -> None:
    """AdamW's learning rate from 1e-3 in (1e-5, 0.1) with step 0.1: the first move is cut at the bound."""
    ranges = {"momentum": (1e-5, 0.1)}
    at_bound = outer_step(one(1e-3, 0.1), {"momentum": [-1.0]}, 0.7, ranges)
    assert at_bound.values == {"momentum": [0.1]}
    assert not converged(at_bound, ranges)
    assert converged(outer_step(at_bound, {"momentum": [-1.0]}, 0.6, ranges), ranges)
    assert not converged(outer_step(at_bound, {"momentum": [1.0]}, 0.9, ranges), ranges)


def test_values_below_zero_converge_by_their_magnitude() -> None:
    ranges = {"momentum": (-1.0, 1.0)}
    assert converged(one(-0.5, 0.02, 1.0), ranges)
    assert not converged(one(-0.5, 0.03, 1.0), ranges)
    assert not converged(one(0.0, 0.03, 1.0), ranges)  # zero is no bound here


def test_the_search_has_converged_when_every_value_has() -> None:
    small = {"learning_rate": [0.01, 0.01], "momentum": [0.1]}
    held = start(step_sizes=small, signs={"learning_rate": [1.0, 1.0], "momentum": [1.0]})
    held = evaluated(held)
    assert converged(held, RANGES)
    assert not converged(replace(held, signs={"learning_rate": [1.0, 1.0], "momentum": [-1.0]}), RANGES)
    assert not converged(replace(held, step_sizes=small | {"learning_rate": [0.01, 0.1]}), RANGES)
    assert not converged(start(), RANGES)


def test_a_quadratic_is_found() -> None:
    """A deterministic search over (λ − 0.37)²: the rule as a whole, from zero."""
    state, steps = one(0.0, 0.1), 0
    while not converged(state, RANGES):
        state = sign_update(state, {"momentum": [2 * (state.values["momentum"][0] - 0.37)]}, RANGES)
        steps += 1
    assert state.values["momentum"][0] == pytest.approx(0.37, rel=0.05)
    assert steps < 15


# ------------------------------------------------------------------------------------- failed steps


def test_an_accepted_step_is_remembered_with_the_best_loss() -> None:
    first = outer_step(start(), gradient(1, -1), 0.8, RANGES)
    assert first.accepted == start().values
    assert first.best_loss == 0.8
    second = outer_step(first, gradient(1, -1), 0.9, RANGES)
    assert second.accepted == first.values
    assert second.best_loss == 0.8
    assert second.values == sign_update(first, gradient(1, -1), RANGES).values


@pytest.mark.parametrize("loss", [INF, NAN, 1.21])
def test_a_failed_step_goes_half_way_back_and_halves_the_step_sizes(loss: float) -> None:
    before = outer_step(start(), gradient(1, -1), 0.8, RANGES)  # rates 0.4 and 0.7, momentum 0.1
    after = outer_step(before, gradient(1, 0.0), loss, RANGES, tolerance=1.5)
    assert after.values["learning_rate"] == pytest.approx([0.45, 0.6])
    assert after.values["momentum"] == pytest.approx([0.05])
    assert after.step_sizes == {"learning_rate": [0.05, 0.1], "momentum": [0.05]}
    assert (after.index, after.signs, after.accepted) == (before.index + 1, before.signs, start().values)
    assert after.best_loss == 0.8
    again = outer_step(after, gradient(1, 1), INF, RANGES)
    assert again.values["learning_rate"] == pytest.approx([0.475, 0.55])
    assert again.step_sizes["momentum"] == [0.025]


def test_a_retry_moves_no_value_that_had_not_moved_and_undoes_half_of_a_cut_step() -> None:
    state = start(
        values={"learning_rate": [0.95, 0.5], "momentum": [0.3], "weight_decay": [1e-4]},
        signs={"learning_rate": [-1.0, 1.0], "momentum": [1.0]},
    )
    before = outer_step(state, gradient(-1, 0.0, NAN), 0.8, RANGES)
    assert before.values["learning_rate"] == [1.0, 0.5]
    after = outer_step(before, gradient(-1, 1, 1), INF, RANGES)
    assert after.values["learning_rate"] == pytest.approx([0.975, 0.5])
    assert after.values["momentum"] == [0.3]


def test_a_hypergradient_without_a_finite_entry_is_a_failure() -> None:
    before = outer_step(start(), gradient(1, -1), 0.8, RANGES)
    assert outer_step(before, gradient(NAN, INF, NAN), 0.8, RANGES) == retry(before)
    partly = outer_step(before, gradient(NAN, 1.0, NAN), 0.8, RANGES)
    assert partly.values["learning_rate"] == pytest.approx([0.4, 0.6])  # the sign changed: half of 0.2


def test_a_failure_of_the_first_step_leaves_the_values_where_they_are() -> None:
    state = outer_step(start(), gradient(NAN, NAN, NAN), INF, RANGES)
    assert state.values == start().values
    assert state.step_sizes == start().step_sizes
    assert (state.index, state.accepted, state.best_loss) == (1, {}, INF)


def test_without_a_tolerance_every_finite_loss_is_accepted() -> None:
    before = outer_step(start(), gradient(1, -1), 0.8, RANGES)
    assert outer_step(before, gradient(1, -1), 1e9, RANGES).accepted == before.values
    assert outer_step(before, gradient(1, -1), 1.2, RANGES, tolerance=1.5).accepted == before.values


@pytest.mark.parametrize("tolerance", [1.0, 0.5, NAN])
def test_a_tolerance_of_one_or_less_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match=rf"^tolerance is {tolerance}; it must be greater than 1 or None$"):
        outer_step(start(), gradient(1, 1), 1.0, RANGES, tolerance=tolerance)


# --------------------------------------------------------------------------------------- best outer step


def test_the_best_outer_step_is_kept_with_its_values() -> None:
    state = start()
    for loss in (0.8, 0.5, 0.6, INF, 0.5):
        state = outer_step(state, gradient(1, -1), loss, RANGES)
        if state.index == 2:
            expected = state.best
    assert (state.best_index, state.best_loss) == (1, 0.5)
    assert state.best == expected
    assert state.best["learning_rate"] == pytest.approx([0.4, 0.7])
    assert state.best != state.values


def test_a_loss_of_another_budget_is_neither_kept_nor_held_against_the_step() -> None:
    before = outer_step(start(), gradient(1, -1), 0.8, RANGES)
    lower = outer_step(before, gradient(1, -1), 0.1, RANGES, tolerance=1.5, comparable=False)
    assert (lower.best_index, lower.best_loss) == (0, 0.8)
    higher = outer_step(before, gradient(1, -1), 9.0, RANGES, tolerance=1.5, comparable=False)
    assert higher.accepted == before.values
    assert outer_step(before, gradient(1, -1), INF, RANGES, comparable=False) == retry(before)
