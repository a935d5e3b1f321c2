"""The grid reference: its axes, the literature's settings in it, and its decays by hand."""

from __future__ import annotations

import math

import pytest

from raytune_hyperlearn.baselines import grid
from raytune_hyperlearn.hyperparameters import SearchSpace


def test_the_grid_is_the_product_of_its_axes() -> None:
    settings = grid.settings()
    axes = grid.description()
    assert len(settings) == math.prod(len(values) for values in axes.values())
    assert len({str(setting) for setting in settings}) == len(settings)
    assert {setting["momentum"][0] for setting in settings} == set(axes["momentum"])
    assert {setting["weight_decay"][0] for setting in settings} == set(axes["weight_decay"])
    assert {setting["learning_rate"][0] for setting in settings} == set(axes["learning_rate"])
    assert list(axes["decay"]) == ["constant", "multistep", "cosine"]


@pytest.mark.parametrize("decay", ["constant", "multistep", "cosine"])
def test_the_usual_setting_is_in_it_with_every_decay(decay: str) -> None:
    rates = [grid.DECAYS[decay](0.1, point / 60) for point in range(60)]
    assert {"learning_rate": rates, "momentum": [0.9], "weight_decay": [5e-4]} in grid.settings()


def test_every_setting_lies_in_the_range_that_the_methods_search() -> None:
    ranges = SearchSpace().ranges()
    for setting in grid.settings():
        for name, schedule in setting.items():
            low, high = ranges[name]
            assert low <= min(schedule)
            assert max(schedule) <= high


def test_multistep_divides_by_five_at_30_60_and_80_percent() -> None:
    (rates,) = (
        setting["learning_rate"]
        for setting in grid.settings()
        if setting["learning_rate"][0] == 0.1
        and setting["learning_rate"][30] == pytest.approx(0.02)
        and setting["learning_rate"][59] == pytest.approx(0.0008)
        and setting["momentum"] == [0.9]
        and setting["weight_decay"] == [0.0]
    )
    assert rates == pytest.approx([0.1] * 18 + [0.02] * 18 + [0.004] * 12 + [0.0008] * 12)


def test_cosine_falls_from_the_rate_to_zero_over_half_a_period() -> None:
    assert grid.cosine(0.4, 0.0) == 0.4
    assert grid.cosine(0.4, 0.25) == pytest.approx(0.4 * (1 + math.sqrt(0.5)) / 2)
    assert grid.cosine(0.4, 0.5) == pytest.approx(0.2)
    assert grid.cosine(0.4, 2 / 3) == pytest.approx(0.1)
    assert grid.cosine(0.4, 1.0) == pytest.approx(0.0, abs=1e-15)


def test_constant_stays() -> None:
    assert {grid.constant(0.2, point / 60) for point in range(61)} == {0.2}
