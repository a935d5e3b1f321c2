"""What holds of every event log: curves, bands and summaries on logs that hypothesis makes up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytune_hyperlearn.comparison.analysis.curves import CLOCKS, Quantity, across_seeds, time_to_target
from raytune_hyperlearn.comparison.analysis.results import Study, study_of_records
from raytune_hyperlearn.comparison.analysis.statistics import bootstrap_median_interval
from raytune_hyperlearn.comparison.analysis.summary import final_regret, speed_up, summarize
from raytune_hyperlearn.comparison.analysis.verdict import verdict
from raytune_hyperlearn.comparison.records import Record
from tests.comparison.synthetic import make_experiment, make_record

LIMIT = 10.0
METHODS = ("fds", "rs", "bohb")
QUICK = settings(max_examples=60, deadline=None)

# Few distinct values, so that ties in time, value and budget are common.
times = st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.0, 5.0, 9.99, 10.0, 10.01, 30.0])
losses = st.sampled_from([0.05, 0.1, 0.2, 0.2, 0.4, 3.0, math.nan, math.inf])
statuses = st.sampled_from(["completed", "completed", "completed", "diverged", "crashed", "out_of_memory"])


@st.composite
def records(draw: st.DrawFn, methods: tuple[str, ...] = METHODS, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Record]:
    """Up to thirty rows of any methods and seeds, in any order; a seed may start late or have none."""
    return [
        make_record(
            trial=str(i),
            method=draw(st.sampled_from(methods)),
            seed=draw(st.sampled_from(seeds)),
            time=draw(times),
            budget=draw(st.sampled_from([1.0, 9.0, 27.0])),
            validation_loss=draw(losses),
            test_loss=draw(losses),
            status=draw(statuses),
            worker_seconds=draw(times),
        )
        for i in range(draw(st.integers(0, 30)))
    ]


def study_of(rows: list[Record], **changes: object) -> Study:
    methods = tuple(dict.fromkeys([*METHODS, *(row.method for row in rows)]))
    return study_of_records(make_experiment(methods=methods, time_limit=LIMIT, **changes), rows)


@QUICK
@given(records())
def test_nothing_is_known_before_it_happened(rows: list[Record]) -> None:
    """Cutting the log at any time leaves every curve up to then as it was: no look-ahead."""
    whole = study_of(rows)
    for moment in (0.4, 1.0, 4.0, LIMIT):
        cut = study_of([row for row in rows if row.time <= moment])
        for pair, result in whole.runs.items():
            grid = np.array([0.0, 0.2, 0.4, 1.0, 2.5, 4.0])
            grid = grid[grid <= moment]
            quantities: tuple[Quantity, ...] = ("validation", "test")
            for quantity in quantities:
                seen = whole.curve(result, quantity).at(grid)
                early = (
                    cut.curve(cut.runs[pair], quantity).at(grid) if pair in cut.runs else np.full(grid.shape, np.nan)
                )
                np.testing.assert_array_equal(seen, early)


@QUICK
@given(records())
def test_validation_regret_never_rises_on_any_clock(rows: list[Record]) -> None:
    study = study_of(rows)
    for result in study.runs.values():
        for clock in CLOCKS:
            curve = study.curve(result, "validation", clock)
            assert np.all(np.diff(curve.values) < 0)
            assert np.all(np.diff(curve.times) >= 0)
            assert np.isfinite(curve.values).all()
            assert curve.times.size == 0 or curve.times[-1] <= result.spent[clock]


@QUICK
@given(records(), st.randoms())
def test_the_order_of_records_does_not_matter(rows: list[Record], random: object) -> None:
    """Rows of different times may be written in any order (those of one time are ordered by being written)."""
    distinct = list({(row.method, row.seed, row.time): row for row in rows}.values())
    shuffled = list(distinct)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = study_of(distinct), study_of(shuffled)
    assert first.runs.keys() == second.runs.keys()
    for pair, result in first.runs.items():
        assert result.chosen == second.runs[pair].chosen
        for clock in CLOCKS:
            np.testing.assert_array_equal(result.positions[clock], second.runs[pair].positions[clock])


@QUICK
@given(records(), records(methods=("newcomer",)))
def test_adding_a_method_changes_no_others_curve(rows: list[Record], more: list[Record]) -> None:
    before, after = study_of(rows), study_of(rows + more)
    for pair, result in before.runs.items():
        for clock in CLOCKS:
            np.testing.assert_array_equal(
                before.curve(result, "validation", clock).values,
                after.curve(after.runs[pair], "validation", clock).values,
            )
    old, new = summarize(before), summarize(after)
    for method in old:
        for field in ("validation", "test", "times", "reached", "evaluations"):
            np.testing.assert_equal(dataclasses.asdict(old[method])[field], dataclasses.asdict(new[method])[field])


@QUICK
@given(records())
def test_ties_go_to_the_earlier_and_failures_never_win(rows: list[Record]) -> None:
    study = study_of(rows)
    for (method, seed), result in study.runs.items():
        for chosen in result.chosen:
            assert chosen.status == "completed"
            assert math.isfinite(chosen.validation_loss)
            assert chosen.time <= LIMIT
            own = [row for row in rows if (row.method, row.seed) == (method, seed)]
            rivals = [
                row
                for row in own
                if row.time < chosen.time and row.status == "completed" and row.budget >= chosen.budget
            ]
            assert all(not row.validation_loss <= chosen.validation_loss for row in rivals)
            completed = [row.budget for row in rivals if math.isfinite(row.validation_loss)]
            assert chosen.budget >= max(completed, default=0.0)


@QUICK
@given(records())
def test_bands_begin_with_the_last_seed_and_hold_its_quartiles(rows: list[Record]) -> None:
    study = study_of(rows)
    for method in study.methods:
        curves = [study.curve(result, "validation") for result in study.runs_of(method)]
        band = across_seeds(curves)
        begun = [curve for curve in curves if curve.times.size]
        if 2 * len(begun) <= len(curves):
            assert band.times.size == 0
            continue
        assert band.times[0] == max(curve.times[0] for curve in begun)
        never = [math.inf] * (len(curves) - len(begun))
        for time, lower, median, upper in zip(band.times, band.lower, band.median, band.upper, strict=True):
            values = sorted([float(curve.at(time)) for curve in begun] + never)
            assert values[0] <= lower <= median <= upper <= values[-1]
            assert median == pytest.approx(np.median(values))


@QUICK
@given(records())
def test_what_is_never_reached_is_censored(rows: list[Record]) -> None:
    study = study_of(rows)
    for result in study.runs.values():
        curve = study.curve(result, "validation")
        for target in (-1.0, 0.0, 0.1, 5.0):
            time = time_to_target(curve, target)
            assert math.isinf(time) == (final_regret(study, result, "validation") > target)
            if math.isfinite(time):
                assert curve.at(time) <= target
                assert not curve.at(np.nextafter(time, -1)) <= target


@QUICK
@given(records(seeds=(4,)))
def test_one_seed_is_its_own_median(rows: list[Record]) -> None:
    study = study_of(rows, seeds=(4,))
    for method, summary in summarize(study).items():
        value = final_regret(study, study.runs[method, 4], "validation")
        assert (summary.validation.lower, summary.validation.median, summary.validation.upper) == (value,) * 3


def test_no_record_is_no_method_and_no_verdict() -> None:
    study = study_of([])
    assert study.methods == ()
    assert summarize(study) == {}
    assert verdict(study, {}, frozenset({"rs"}), "fds", np.random.default_rng(0)) is None


@QUICK
@given(*[st.floats(1e-3, 100) | st.sampled_from([0.0, math.inf])] * 2)
def test_speed_up_of_one_over_the_other_is_the_inverse(first: float, second: float) -> None:
    there, back = speed_up(first, second), speed_up(second, first)
    if math.isnan(there):
        assert math.isnan(back)
    elif math.isinf(there) or there == 0:
        assert back == pytest.approx(0 if math.isinf(there) else math.inf)
    else:
        assert there * back == pytest.approx(1)


@pytest.mark.parametrize(("seeds", "least"), [(6, 0.90), (10, 0.90), (20, 0.90)])
def test_bootstrap_intervals_of_a_median_cover_at_their_rate(seeds: int, least: float) -> None:
    """Skewed values with a known median; the percentile interval's nominal rate is 0.95."""
    generator = np.random.default_rng(seeds)
    covered = 0
    for _ in range(300):
        low, high = bootstrap_median_interval(generator.exponential(size=seeds), generator, resamples=500)
        covered += low <= math.log(2) <= high
    assert least <= covered / 300 <= 0.99


def test_the_verdicts_margin_covers_at_its_rate_and_waits_for_five_seeds() -> None:
    """Two methods whose final losses are normal around 0.3 and 0.4: the truth of the margin is 0.1."""
    generator = np.random.default_rng(7)
    covered = known = 0
    for _ in range(40):
        rows = [
            make_record(method=method, seed=seed, time=1.0, validation_loss=float(generator.normal(center, 0.03)))
            for method, center in (("fds", 0.3), ("rs", 0.4))
            for seed in range(8)
        ]
        study = study_of(rows, seeds=tuple(range(8)))
        found = verdict(study, summarize(study), frozenset({"rs"}), "fds", generator)
        assert found is not None
        assert found.margin is not None
        known += found.margin.is_known
        covered += found.leader == "fds" and found.margin.lower <= 0.1 <= found.margin.upper
        assert found.is_certain
    assert known == 40
    assert 0.88 <= covered / 40 <= 1.0
    few = study_of([row for row in rows if row.seed < 4], seeds=(0, 1, 2, 3))
    found = verdict(few, summarize(few), frozenset({"rs"}), "fds", generator)
    assert found is not None
    assert not found.is_certain
