"""Curves against an independent O(n²) computation on random records, and against examples worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.curves import (
    StepCurve,
    across_seeds,
    area_over_log_time,
    columns,
    epochs_spent,
    incumbents,
    quartiles,
    regret,
    regret_curve,
    regret_zero,
    time_to_target,
)
from raytune_hyperlearn.comparison.experiment import Metric
from raytune_hyperlearn.comparison.records import Record
from tests.comparison.synthetic import make_record, make_reference

METRICS: tuple[Metric, ...] = ("validation_loss", "validation_accuracy")


def random_records(generator: np.random.Generator, count: int) -> list[Record]:
    """Rows with ties in time, in value and in budget, out of order, a third of them failed."""
    return [
        make_record(
            trial=str(i),
            time=float(generator.integers(1, 12)),
            budget=float(generator.choice([1, 3, 9])),
            validation_loss=float(generator.choice([0.1, 0.2, 0.3, 0.4, math.nan])),
            validation_accuracy=float(generator.choice([0.7, 0.8, 0.9])),
            test_loss=float(generator.uniform()),
            status=str(generator.choice(["completed", "completed", "diverged", "crashed"])),
            worker_seconds=float(generator.integers(1, 30)),
        )
        for i in range(count)
    ]


def incumbent_by_definition(records: Sequence[Record], time: float, metric: Metric) -> Record | None:
    """The incumbent at ``time`` straight from the definition, without any state carried from event to event.

    A row can only be the incumbent if no larger budget had completed before it. Among those rows the incumbent is the
    best, the earliest of equals; it must have beaten everything before it, which the best has.
    """
    sign = 1 if metric == "validation_loss" else -1
    seen = [(record.time, place, record) for place, record in enumerate(records) if record.time <= time]
    seen = [entry for entry in seen if entry[2].status == "completed" and math.isfinite(getattr(entry[2], metric))]
    eligible = [
        (sign * getattr(record, metric), at, place, record)
        for at, place, record in seen
        if all(other.budget <= record.budget for when, rank, other in seen if (when, rank) < (at, place))
    ]
    return min(eligible, key=lambda entry: entry[:3])[3] if eligible else None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(40))
def test_anytime_curve_is_the_definition_at_every_time(seed: int, metric: Metric) -> None:
    generator = np.random.default_rng(seed)
    records = random_records(generator, int(generator.integers(0, 25)))
    limit = float(generator.integers(4, 14))
    zero = 0.25
    chosen = incumbents(records, metric, limit)
    validation = regret_curve(chosen, metric, "validation", zero)
    test = regret_curve(chosen, metric, "test", zero)
    for time in np.arange(0, 15, 0.5):
        expected = incumbent_by_definition(records, min(time, limit), metric)
        if expected is None:
            assert math.isnan(validation.at(time))
            assert math.isnan(test.at(time))
        else:
            sign = 1 if metric == "validation_loss" else -1
            assert validation.at(time) == pytest.approx(sign * (getattr(expected, metric) - zero))
            name = metric.replace("validation", "test")
            assert test.at(time) == pytest.approx(sign * (getattr(expected, name) - zero))
    assert np.all(np.diff(validation.values) < 0)


def test_incumbent_by_hand() -> None:
    rows = [
        make_record(trial="a", time=1, budget=3, validation_loss=0.5),
        make_record(trial="b", time=2, budget=3, validation_loss=0.3),
        make_record(trial="tie", time=3, budget=3, validation_loss=0.3),
        make_record(trial="failed on more", time=3.5, budget=27, validation_loss=0.1, status="diverged"),
        make_record(trial="still counts", time=4, budget=3, validation_loss=0.29),
        make_record(trial="larger, worse", time=5, budget=9, validation_loss=0.4),
        make_record(trial="small, passed over", time=6, budget=3, validation_loss=0.01),
        make_record(trial="larger, better", time=7, budget=9, validation_loss=0.2),
        make_record(trial="too late", time=8.001, budget=9, validation_loss=0.1),
    ]
    chosen = incumbents(rows, "validation_loss", 8.0)
    assert [record.trial for record in chosen] == ["a", "b", "still counts", "larger, better"]
    assert incumbents(rows[8:], "validation_loss", 8.001)[0].trial == "too late"


def test_the_file_order_decides_between_rows_of_one_moment() -> None:
    rows = [make_record(trial=name, time=1, validation_loss=0.3) for name in ("first", "second")]
    assert [record.trial for record in incumbents(rows, "validation_loss")] == ["first"]


def test_test_regret_follows_validation_and_may_rise() -> None:
    rows = [
        make_record(time=1, validation_loss=0.5, test_loss=0.2),
        make_record(time=2, validation_loss=0.4, test_loss=0.7),
    ]
    curve = regret_curve(incumbents(rows, "validation_loss"), "validation_loss", "test", 0.1)
    np.testing.assert_allclose(curve.values, [0.1, 0.6])


def test_regret_is_signed_so_that_lower_is_better() -> None:
    assert regret(0.3, 0.2, "validation_loss") == pytest.approx(0.1)
    assert regret(0.1, 0.2, "validation_loss") == pytest.approx(-0.1)
    assert regret(0.97, 0.95, "validation_accuracy") == pytest.approx(-0.02)
    reference = make_reference()
    assert regret_zero(reference, "validation_accuracy", "test") == reference.test_accuracy
    assert regret_zero(None, "validation_loss", "validation") == 0
    assert regret(0.97, regret_zero(None, "validation_accuracy", "test"), "validation_accuracy") == pytest.approx(0.03)


def test_steps_are_right_continuous_and_unknown_before_the_first() -> None:
    curve = StepCurve(np.array([1.0, 2.0, 2.0, 5.0]), np.array([4.0, 3.0, 2.5, 1.0]))
    expected = [math.nan, 4.0, 4.0, 2.5, 2.5, 1.0, 1.0]
    np.testing.assert_array_equal(curve.at([0.999, 1.0, 1.999, 2.0, 4.999, 5.0, 99.0]), expected)
    assert np.isnan(StepCurve(np.empty(0), np.empty(0)).at([1.0, 2.0])).all()


def test_worker_seconds_never_run_backwards() -> None:
    rows = [
        make_record(time=1, validation_loss=0.5, worker_seconds=4),
        make_record(time=2, validation_loss=0.4, worker_seconds=3),
        make_record(time=3, validation_loss=0.3, worker_seconds=6),
    ]
    positions = columns(rows, "validation_loss").positions("worker_seconds")
    curve = regret_curve(incumbents(rows, "validation_loss"), "validation_loss", "validation", 0, positions)
    np.testing.assert_array_equal(curve.times, [4, 4, 6])
    np.testing.assert_array_equal(curve.at([3.9, 4, 6]), [math.nan, 0.4, 0.3])


def test_epochs_count_what_a_result_cost() -> None:
    rows = [
        make_record(trial="grows", budget=1),
        make_record(trial="grows", budget=3),
        make_record(trial="once", budget=9),
        make_record(trial="outer", budget=2, info={"inner_epochs": 2.0}),
        make_record(trial="outer", budget=27, info={"inner_epochs": 3.0}),
    ]
    assert epochs_spent(rows).tolist() == [1, 2, 9, 2, 30]
    np.testing.assert_array_equal(columns(rows, "validation_loss").positions("epochs"), [1, 3, 12, 14, 44])
    np.testing.assert_array_equal(columns(rows, "validation_loss").positions("evaluations"), [1, 2, 3, 4, 5])


def test_bands_begin_when_every_seed_has_a_value() -> None:
    curves = [
        StepCurve(np.array([1.0, 4.0]), np.array([8.0, 1.0])),
        StepCurve(np.array([2.0, 3.0]), np.array([6.0, 2.0])),
        StepCurve(np.array([3.0, 5.0]), np.array([4.0, 3.0])),
    ]
    band = across_seeds(curves)
    np.testing.assert_array_equal(band.times, [3, 4, 5])
    np.testing.assert_array_equal(band.median, [4, 2, 2])
    np.testing.assert_array_equal(band.lower, [3, 1.5, 1.5])
    np.testing.assert_array_equal(band.upper, [6, 3, 2.5])
    assert band.seeds == 3
    nothing = StepCurve(np.empty(0), np.empty(0))
    with_one = across_seeds([*curves, nothing])
    np.testing.assert_array_equal(with_one.times, band.times)
    np.testing.assert_array_equal(with_one.lower, [3.5, 1.75, 1.75])
    np.testing.assert_array_equal(with_one.median, [6, 3, 2.5])
    np.testing.assert_array_equal(with_one.upper, [math.inf] * 3)
    assert with_one.seeds == 4
    assert across_seeds([*curves, nothing, nothing, nothing]).times.size == 0
    assert across_seeds([]).times.size == 0


@pytest.mark.parametrize("seed", range(20))
def test_bands_against_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    curves = [
        StepCurve(np.sort(generator.integers(1, 20, size=n).astype(float)), generator.normal(size=n))
        for n in generator.integers(1, 8, size=int(generator.integers(1, 6)))
    ]
    band = across_seeds(curves)
    for time, lower, median, upper in zip(band.times, band.lower, band.median, band.upper, strict=True):
        held = []
        for curve in curves:
            value = math.nan
            for event, y in zip(curve.times, curve.values, strict=True):
                if event <= time:
                    value = y
            held.append(value)
        np.testing.assert_allclose([lower, median, upper], np.percentile(held, [25, 50, 75]))
    assert band.times[0] == max(curve.times[0] for curve in curves)
    assert set(band.times) <= {time for curve in curves for time in curve.times}


def test_quartiles_with_censored_values() -> None:
    assert quartiles([3, 1, 2]).median == 2
    five = quartiles([1, 2, 3, 4, math.inf])
    assert (five.lower, five.median, five.upper) == (2, 3, 4)
    two = quartiles([1, math.inf])
    assert (two.lower, two.median, two.upper) == (math.inf, math.inf, math.inf)
    assert quartiles([1, 2, math.inf]).upper == math.inf
    assert quartiles([math.inf, math.inf]).lower == math.inf
    assert math.isnan(quartiles([]).median)
    assert math.isnan(quartiles([1, math.nan]).median)


@pytest.mark.parametrize("seed", range(10))
def test_quartiles_of_finite_values_are_numpys(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=seed + 1)
    found = quartiles(values)
    np.testing.assert_allclose([found.lower, found.median, found.upper], np.quantile(values, [0.25, 0.5, 0.75]))


def test_time_to_target() -> None:
    curve = StepCurve(np.array([1.0, 2.0, 5.0]), np.array([0.5, 0.05, -0.01]))
    assert time_to_target(curve, 0.5) == 1
    assert time_to_target(curve, 0.2) == 2
    assert time_to_target(curve, 0.0) == 5
    assert time_to_target(curve, -0.02) == math.inf
    assert time_to_target(StepCurve(np.empty(0), np.empty(0)), 0.0) == math.inf


def test_area_over_log_time_by_hand_and_by_fine_sum() -> None:
    curve = StepCurve(np.array([1.0, math.e, math.e**3]), np.array([4.0, 2.0, 1.0]))
    assert area_over_log_time(curve, 1.0, math.e**4) == pytest.approx(4 * 1 + 2 * 2 + 1 * 1)
    assert area_over_log_time(curve, math.e**0.5, math.e**2) == pytest.approx(4 * 0.5 + 2 * 1)
    assert math.isnan(area_over_log_time(curve, 0.5, 2.0))
    logs = np.linspace(0.2, 3.7, 200_001)
    middles = np.exp((logs[1:] + logs[:-1]) / 2)
    fine = float(np.sum(curve.at(middles)) * (logs[1] - logs[0]))
    assert area_over_log_time(curve, math.exp(0.2), math.exp(3.7)) == pytest.approx(fine, rel=1e-4)
