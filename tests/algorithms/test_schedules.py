from __future__ import annotations

import itertools

import pytest

from raytune_hyperlearn.algorithms.schedules import Column, at_step, columns, window_bounds, window_index

SHAPES = [(1, 1), (1, 7), (3, 10), (7, 7), (7, 50), (10, 3), (5, 1), (400, 1000)]
"""(N values, T steps)."""


@pytest.mark.parametrize(("values", "horizon"), SHAPES)
def test_a_step_uses_the_value_whose_window_holds_it(values: int, horizon: int) -> None:
    used: list[list[int]] = [[] for _ in range(values)]
    for step in range(horizon):
        used[int(values * step / horizon)].append(step)  # ⌊N t / T⌋ in real numbers
        assert window_index(step, values, horizon) == int(values * step / horizon)
    for index, steps in enumerate(used):
        first, end = window_bounds(index, values, horizon)
        assert list(range(first, end)) == steps


@pytest.mark.parametrize(("values", "horizon"), SHAPES)
def test_windows_are_contiguous_and_as_equal_as_they_can_be(values: int, horizon: int) -> None:
    bounds = [window_bounds(index, values, horizon) for index in range(values)]
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
