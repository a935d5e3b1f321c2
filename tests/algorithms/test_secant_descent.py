"""The secant rule: every branch by hand, and searches whose answers are known."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest

from raytune_hyperlearn.algorithms.secant_descent import secant_update
from raytune_hyperlearn.algorithms.sign_descent import OuterState, converged, outer_step, sign_rule

RANGES = {"momentum": (0.0, 1.0)}
NAN, INF = math.nan, math.inf


def start(value: float, size: float = 0.1) -> OuterState:
    return OuterState.start({"momentum": [value]}, {"momentum": [size]})


def moved(state: OuterState, *steps: tuple[float, bool]) -> OuterState:
    """The state after updates by (entry, whether the loss rose)."""
    for entry, rose in steps:
        state = secant_update(state, {"momentum": [entry]}, RANGES, rose)
    return state


def numbers(state: OuterState) -> tuple[float, float, float]:
    """Value, step size and sign."""
    return state.values["momentum"][0], state.step_sizes["momentum"][0], state.signs["momentum"][0]


def test_a_streak_of_equal_signs_is_the_sign_rule() -> None:
    state = moved(start(0.2), (-5.0, False), (-0.1, False), (-1e-9, False))
    assert numbers(state) == pytest.approx((0.5, 0.1, -1.0))
    assert state.index == 3


@pytest.mark.parametrize(
    ("after", "rose", "share"),
    [
        (1.0, False, 0.5),  # as large as before: the root lies in the middle, as for the sign rule
        (0.6 / 0.4, False, 0.6),
        (0.4 / 0.6, False, 0.4),
        (1e6, False, 0.7),
        (1e-6, False, 0.3),
        (1e6, True, 0.9),
        (1e-6, True, 0.5),
        (4.0, True, 0.8),
    ],
)
def test_a_change_of_sign_goes_to_where_the_line_crosses_zero(after: float, rose: bool, share: float) -> None:
    """From 0.3, with a hypergradient of −1, to 0.4, and back by a share of the way."""
    state = moved(start(0.3), (-1.0, False), (after, rose))
    assert numbers(state) == pytest.approx((0.4 - share * 0.1, min(share, 0.5) * 0.1, 1.0))


def test_after_a_change_of_sign_the_last_two_positions_bracket() -> None:
    """From 0.4 (−1) over 0.5 (+1) to 0.45 (−3): the next lies three quarters of the way to 0.5, at most 0.7 of it."""
    state = moved(start(0.4), (-1.0, False), (1.0, False), (-3.0, False))
    assert numbers(state) == pytest.approx((0.45 + 0.7 * 0.05, 0.025, -1.0))


def test_where_the_loss_rose_a_value_that_kept_its_sign_goes_half_way_back() -> None:
    state = moved(start(0.3), (-1.0, False), (-2.0, True))
    assert numbers(state) == pytest.approx((0.35, 0.05, -1.0))
    assert state.memory["before"] == {"momentum": [0.3]}  # still the last position that was good
    assert state.memory["entry"] == {"momentum": [-1.0]}
    assert numbers(moved(state, (-1.0, False))) == pytest.approx((0.4, 0.05, -1.0))


def test_the_first_outer_step_moves_whatever_the_loss() -> None:
    assert numbers(moved(start(0.3), (-1.0, True))) == pytest.approx((0.4, 0.1, -1.0))


@pytest.mark.parametrize("nothing", [0.0, NAN, INF, -INF])
def test_an_entry_without_a_sign_changes_nothing_and_is_not_remembered(nothing: float) -> None:
    before = moved(start(0.3), (-1.0, False))
    after = moved(before, (nothing, True))
    assert after == replace(before, index=2)


def test_values_stay_in_their_range_and_leave_a_bound_by_half_steps() -> None:
    state = moved(start(0.95), (-1.0, False), (-1.0, False))
    assert numbers(state) == (1.0, 0.1, -1.0)
    # It rests at the bound: there is no second position, the step is halved as by the sign rule.
    assert numbers(moved(state, (1.0, False))) == pytest.approx((0.95, 0.05, 1.0))


def test_no_argument_is_changed_and_the_state_survives_json() -> None:
    state = moved(start(0.3), (-1.0, False))
    kept = copy.deepcopy(state)
    after = outer_step(state, {"momentum": [2.0]}, 0.5, RANGES, secant_update)
    assert state == kept
    assert OuterState.from_mapping(json.loads(json.dumps(after.to_mapping()))) == after


def test_a_hypergradient_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^hypergradient of momentum has 2 entries; it must have 1$"):
        secant_update(start(0.3), {"momentum": [1.0, 1.0]}, RANGES, False)


def test_outer_steps_tell_the_rule_of_a_loss_beyond_the_noise_and_of_no_other() -> None:
    def after(loss: float, comparable: bool = True) -> float:
        first = outer_step(start(0.3), {"momentum": [-1.0]}, 1.0, RANGES, secant_update)
        second = outer_step(first, {"momentum": [-1.0]}, loss, RANGES, secant_update, comparable=comparable)
        return second.values["momentum"][0]

    assert after(1.19) == pytest.approx(0.5)
    assert after(1.21) == pytest.approx(0.35)
    assert after(1.21, comparable=False) == pytest.approx(0.5)


@pytest.mark.parametrize("root", [0.37, 0.04, 0.93])
def test_a_root_is_found_in_no_more_outer_steps_than_by_the_sign_rule(root: float) -> None:
    """(λ − root)², from zero: the line through two positions crosses zero at the root itself."""

    def steps(rule: object) -> int:
        state = start(0.0)
        for count in range(60):
            if abs(state.values["momentum"][0] - root) < 1e-3:
                return count
            value = state.values["momentum"][0]
            state = outer_step(state, {"momentum": [2 * (value - root)]}, (value - root) ** 2, RANGES, rule)  # type: ignore[arg-type]
        return 60

    assert steps(secant_update) <= steps(sign_rule()) < 60


def test_a_search_converges() -> None:
    state, count = start(0.0), 0
    while not converged(state, RANGES) and count < 30:
        value = state.values["momentum"][0]
        slope = math.exp(3 * value) - math.exp(3 * 0.37)
        state = outer_step(state, {"momentum": [slope]}, 1 + (value - 0.37) ** 2, RANGES, secant_update)
        count += 1
    assert state.values["momentum"][0] == pytest.approx(0.37, rel=0.05)
    assert count < 30


def test_values_that_are_too_large_together_are_taken_back() -> None:
    """The product of two values has an edge at 0.5 beyond which the loss explodes, but its first factor alone slopes
    down: the sign rule walks on along it, this one turns back."""
    ranges = {"a": (0.0, 1.0), "b": (0.0, 1.0)}

    def after(rule: object) -> float:
        state = OuterState.start({"a": [0.6], "b": [0.6]}, {"a": [0.2], "b": [0.2]})
        for _ in range(3):
            a, b = state.values["a"][0], state.values["b"][0]
            beyond = a * b > 0.5
            slopes = {"a": [-1.0], "b": [50.0 if beyond else -1.0]}
            state = outer_step(state, slopes, 10.0 if beyond else 2 - a - b, ranges, rule)  # type: ignore[arg-type]
        return state.values["a"][0] * state.values["b"][0]

    assert after(secant_update) < after(sign_rule())
