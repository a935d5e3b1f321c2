"""Outer rules in coordinates: identical on linear scales, multiplying on logarithmic ones."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest

from raytune_hyperlearn.algorithms.adam_descent import adam_step
from raytune_hyperlearn.algorithms.coordinates import Axis, Rule, apart, moved, settled
from raytune_hyperlearn.algorithms.sign_descent import OuterState, outer_step
from raytune_hyperlearn.algorithms.surrogate_descent import surrogate_step
from raytune_hyperlearn.algorithms.values import Numbers, Ranges

VALUES = {"learning_rate": [0.1, 0.2, 0.05], "momentum": [0.9], "weight_decay": [5e-4]}
SIZES = {"learning_rate": [0.1, 0.1, 0.1], "momentum": [0.3]}
ENTRIES = [
    {"learning_rate": [-0.3, 0.2, 1e-4], "momentum": [0.5]},
    {"learning_rate": [0.1, 0.1, 0.0], "momentum": [0.2]},
]
LINEAR = {"learning_rate": [Axis(0.0, 1.0)] * 3, "momentum": [Axis(0.0, 1.0)]}
LOG = {"learning_rate": [Axis(1e-3, 1.0, "log")] * 3, "momentum": [Axis(0.0, 1.0)]}
WHOLE = {"learning_rate": [1.0] * 3, "momentum": [1.0]}


def by_signs(loss: float) -> Rule:
    return lambda state, slopes, ranges: outer_step(state, slopes, loss, ranges, growth=1.3, tolerance=1.4)


def by_adam(loss: float) -> Rule:
    return lambda state, slopes, ranges: adam_step(state, slopes, loss, ranges, tolerance=1.4)


@pytest.mark.parametrize("make", [by_signs, by_adam])
def test_on_linear_scales_a_rule_is_itself(make: object) -> None:
    direct = inside = OuterState.start(VALUES, SIZES)
    ranges = {"learning_rate": (0.0, 1.0), "momentum": (0.0, 1.0)}
    for entries, loss in zip([*ENTRIES, *ENTRIES], (1.0, 0.5, 2.0, 0.4), strict=True):  # the third is retried
        rule = make(loss)  # type: ignore[operator]
        direct = rule(direct, entries, ranges)
        inside = moved(rule, inside, entries, WHOLE, LINEAR)
    assert inside.to_mapping() == direct.to_mapping()


def test_the_surrogate_is_given_the_slope_of_every_value() -> None:
    """Equal windows: what it makes of the means by itself, T / N steps each."""
    ranges, horizon = {"learning_rate": (0.0, 1.0), "momentum": (0.0, 1.0)}, 30
    weights = {"learning_rate": [1 / 3] * 3, "momentum": [1.0]}

    def rule(state: OuterState, slopes: Numbers, own: Ranges, scales: Numbers) -> OuterState:
        return surrogate_step(state, slopes, 0.7, own, scales, horizon)

    start = OuterState.start(VALUES, SIZES)
    direct = rule(start, ENTRIES[0], ranges, SIZES)
    inside = moved(partial(rule, scales=apart(SIZES)), start, ENTRIES[0], weights, LINEAR)
    assert inside.values["learning_rate"] == pytest.approx(direct.values["learning_rate"], rel=1e-6)
    assert inside.best == direct.best == VALUES


def test_signs_multiply_on_a_logarithmic_scale_and_ranges_are_kept() -> None:
    state = OuterState.start({**VALUES, "learning_rate": [0.1, 2e-3, 0.9]}, {**SIZES, "learning_rate": [0.5, 1.0, 1.0]})
    after = moved(by_signs(1.0), state, {"learning_rate": [1.0, 2.0, -3.0], "momentum": [1.0]}, WHOLE, LOG)
    assert after.values["learning_rate"] == pytest.approx([0.1 * math.exp(-0.5), 1e-3, 1.0], rel=1e-12)
    assert after.values["momentum"] == pytest.approx([0.6])
    assert after.values["weight_decay"] == [5e-4]
    assert after.best == after.accepted == state.values


def test_a_retry_goes_to_the_geometric_mean() -> None:
    state = replace(OuterState.start(VALUES, SIZES), accepted={**VALUES, "learning_rate": [0.4, 0.2, 0.05]})
    after = moved(by_signs(math.inf), state, ENTRIES[0], WHOLE, LOG)
    assert after.values["learning_rate"] == pytest.approx([0.2, 0.2, 0.05], rel=1e-12)
    assert after.accepted == state.accepted


def test_slopes_are_those_of_the_logarithm() -> None:
    seen: Numbers = {}

    def rule(state: OuterState, slopes: Numbers, ranges: Ranges) -> OuterState:
        seen.update(slopes)
        return state

    moved(rule, OuterState.start(VALUES, SIZES), ENTRIES[0], {"learning_rate": [0.5] * 3, "momentum": [1.0]}, LOG)
    assert seen == {
        "learning_rate[0]": [pytest.approx(-0.3 * 0.5 * 0.1)],
        "learning_rate[1]": [pytest.approx(0.2 * 0.5 * 0.2)],
        "learning_rate[2]": [pytest.approx(1e-4 * 0.5 * 0.05)],
        "momentum[0]": [0.5],
    }


@pytest.mark.parametrize(("size", "expected"), [(0.04, True), (0.06, False)])
def test_a_search_on_a_logarithmic_scale_has_converged_by_its_step_size(size: float, expected: bool) -> None:
    state = OuterState.start({"momentum": [0.01]}, {"momentum": [size]})
    assert settled(state, {"momentum": [Axis(1e-4, 1.0, "log")]}) is expected
    assert not settled(state, {"momentum": [Axis(0.0, 1.0)]})


def test_entries_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^hypergradient of learning_rate has 2 entries; it must have 3$"):
        moved(by_signs(1.0), OuterState.start(VALUES, SIZES), {"learning_rate": [0.1] * 2}, WHOLE, LINEAR)
