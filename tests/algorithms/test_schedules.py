from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.algorithms.schedules import (
    Column,
    Hats,
    Shape,
    Shapes,
    Windows,
    active,
    at_step,
    columns,
    fold,
    within,
)

SHAPES = [(1, 1), (1, 7), (3, 10), (7, 7), (7, 50), (10, 3), (5, 1), (400, 1000)]
"""(N values, T steps)."""


@pytest.mark.parametrize(("values", "horizon"), SHAPES)
def test_a_step_uses_the_value_whose_window_holds_it(values: int, horizon: int) -> None:
    used: list[list[int]] = [[] for _ in range(values)]
    for step in range(horizon):
        used[int(values * step / horizon)].append(step)  # ⌊N t / T⌋ in real numbers
        assert Windows(values).index(step, horizon) == int(values * step / horizon)
    for index, steps in enumerate(used):
        first, end = Windows(values).support(index, horizon)
        assert list(range(first, end)) == steps


@pytest.mark.parametrize(("values", "horizon"), SHAPES)
def test_windows_are_contiguous_and_as_equal_as_they_can_be(values: int, horizon: int) -> None:
    bounds = [Windows(values).support(index, horizon) for index in range(values)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == horizon
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(bounds))
    lengths = {end - first for first, end in bounds}
    assert max(lengths) - min(lengths) <= 1


def test_the_same_schedule_is_replayed_over_any_horizon() -> None:
    values = {"learning_rate": [3.0, 2.0, 1.0], "momentum": [0.9]}
    for horizon, rates in ((3, [3, 2, 1]), (6, [3, 3, 2, 2, 1, 1]), (2, [3, 2])):
        used = [at_step(values, step, horizon) for step in range(horizon)]
        assert used == [{"learning_rate": rate, "momentum": 0.9} for rate in rates]


def test_columns_that_have_begun_are_a_prefix() -> None:
    values = {"learning_rate": [0.1] * 3, "momentum": [0.9] * 2, "weight_decay": [0.0], "other": [1.0]}
    found = columns(values, ("learning_rate", "momentum", "weight_decay"), horizon=6)
    assert found == [
        Column("learning_rate", 0, 0, 2),
        Column("momentum", 0, 0, 3),
        Column("weight_decay", 0, 0, 6),
        Column("learning_rate", 1, 2, 4),
        Column("momentum", 1, 3, 6),
        Column("learning_rate", 2, 4, 6),
    ]
    assert [column.steps for column in found] == [2, 3, 6, 2, 3, 2]


def test_values_that_no_step_uses_have_empty_windows() -> None:
    found = columns({"learning_rate": [0.1] * 5}, ("learning_rate",), horizon=2)
    assert sum(column.steps for column in found) == 2
    assert {column.index for column in found if column.steps == 0} == {1, 3, 4}


# ---------------------------------------------------------------------------------------------------- shapes

LINEAR: list[Shape] = [
    Windows(1),
    Windows(3),
    Windows(3, (1, 4, 2)),
    Windows(5, (9, 1, 1, 1, 9)),
    Hats(1),
    Hats(2),
    Hats(4),
]
HORIZONS = [1, 2, 3, 7, 30]


def by_differences(shape: Shape, theta: list[float], step: int, horizon: int, change: float = 1e-6) -> list[float]:
    def value(k: int, by: float) -> float:
        return shape.value([t + by * (i == k) for i, t in enumerate(theta)], step, horizon)

    return [(value(k, change) - value(k, -change)) / (2 * change) for k in range(shape.count)]


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("shape", LINEAR, ids=repr)
def test_slopes_are_those_of_the_values_and_lie_in_the_support(shape: Shape, horizon: int) -> None:
    theta = [0.3 + 0.1 * k * k for k in range(shape.count)]
    rows = []
    for step in range(horizon):
        found = shape.slopes(theta, step, horizon)
        row = [found.get(k, 0.0) for k in range(shape.count)]
        assert row == pytest.approx(by_differences(shape, theta, step, horizon), abs=1e-8)
        rows.append(row)
    for k in range(shape.count):
        moved = [step for step in range(horizon) if rows[step][k] != 0]
        first, end = shape.support(k, horizon)
        assert list(range(first, end)) == moved
        assert shape.divisor(k, range(horizon), horizon) == pytest.approx(sum(row[k] for row in rows))
        assert shape.divisor(k, range(1, horizon - 1), horizon) == pytest.approx(sum(row[k] for row in rows[1:-1]))


@pytest.mark.parametrize(("count", "horizon"), [(1, 5), (2, 5), (4, 7), (5, 30), (9, 9)])
def test_hats_are_straight_lines_through_their_knots(count: int, horizon: int) -> None:
    theta = [1.0 / (k + 1) for k in range(count)]
    knots = np.linspace(0, horizon - 1, count) if count > 1 else [0]
    expected = np.interp(np.arange(horizon), knots, theta)
    assert [Hats(count).value(theta, t, horizon) for t in range(horizon)] == pytest.approx(expected.tolist(), rel=1e-12)


def test_windows_of_any_lengths_keep_their_proportions() -> None:
    shape = Windows(3, (1, 4, 2))
    assert [shape.index(t, 7) for t in range(7)] == [0, 1, 1, 1, 1, 2, 2]
    assert [shape.support(k, 70) for k in range(3)] == [(0, 10), (10, 50), (50, 70)]


def test_step_t_holds_the_last_value() -> None:
    shapes = Shapes({"momentum": Hats(2)})
    values = {"learning_rate": [0.1, 0.2], "momentum": [0.5, 0.9]}
    assert shapes.at_step(values, 10, 10) == shapes.at_step(values, 9, 10) == {"learning_rate": 0.2, "momentum": 0.9}


@pytest.mark.parametrize("shape", LINEAR, ids=repr)
def test_folding_is_the_chain_rule_with_the_divisor(shape: Shape) -> None:
    horizon, theta = 21, [0.3] * shape.count
    entries = np.random.default_rng(0).normal(size=horizon)
    basis = np.array(
        [[shape.slopes(theta, t, horizon).get(k, 0.0) for k in range(shape.count)] for t in range(horizon)]
    )
    found = fold({"momentum": entries.tolist()}, {"momentum": theta}, ["momentum"], Shapes({"momentum": shape}))
    expected = entries @ basis / basis.sum(axis=0)
    assert found["momentum"] == pytest.approx(expected.tolist(), rel=1e-12)


def test_folded_parameters_that_no_step_uses_get_zero() -> None:
    found = fold({"momentum": [2.0, 4.0]}, {"momentum": [0.5] * 5}, ["momentum"])
    assert found == {"momentum": [2.0, 0.0, 4.0, 0.0, 0.0]}


def test_what_the_columns_do_at_a_step() -> None:
    values = {"learning_rate": [0.1, 0.2, 0.3], "momentum": [0.9], "weight_decay": [0.0]}
    shapes = Shapes({"learning_rate": Hats(3)})
    learnable = columns(values, ("learning_rate", "momentum"), 9, shapes)
    assert [(c.name, c.index, c.first, c.end) for c in learnable] == [
        ("learning_rate", 0, 0, 4),
        ("momentum", 0, 0, 9),
        ("learning_rate", 1, 1, 8),
        ("learning_rate", 2, 5, 9),
    ]
    now = active(learnable, values, 5, 9, shapes)
    assert (now.moving, now.begun, now.learned) == (3, 4, ("learning_rate", "momentum"))
    assert now.slopes == {"learning_rate": {2: 0.75, 3: 0.25}, "momentum": {1: 1.0}}
    assert [(c.index, c.first, c.end) for c in within(learnable, 4, 6)] == [(0, 4, 6), (1, 4, 6), (2, 5, 6)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Windows(0), "count is 0; it must be a whole number of at least 1"),
        (lambda: Hats(2.0), "count is 2.0; it must be a whole number of at least 1"),  # type: ignore[arg-type]
        (lambda: Windows(2, (1, 2, 3)), "lengths has 3 entries; it must have 2, one per window"),
        (lambda: Windows(2, (1, 0)), r"lengths is \[1, 0\]; it must hold whole numbers of at least 1"),
        (lambda: Shapes({"rate": Hats(1)}).check({"momentum": [1]}), "shapes hold 'rate'; they must be of momentum"),
        (lambda: Shapes({"rate": Hats(2)}).check({"rate": [1]}), "rate has 1 values; its shape needs 2"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
