"""The comparison's headline numbers, computed from a study's curves."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import (
    Quantity,
    Quartiles,
    across_seeds,
    area_over_log_time,
    metric_value,
    quartiles,
    regret,
    time_to_target,
)
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.analysis.rows import Rows
from raytune_hyperlearn.comparison.records import Record

Evaluated = tuple[int, float, int]
"""An evaluation: a number for its setting, its budget and, where it tells methods apart, its loss."""


@dataclass(frozen=True)
class MethodSummary:
    """One method on one problem, over its seeds; a run without any result counts as infinitely bad.

    Attributes:
        method: name of the method.
        seeds: number of runs.
        validation: final validation regret of the incumbent.
        test: final test regret of the same incumbent.
        area: area under the validation regret over ln t, between the limits of :func:`area_limits`.
        evaluations: rows that count, all runs together.
        model_picks: rows that count whose setting a model chose; None where the method has no model.
        late: rows observed after the time limit, which do not count.
        failures: rows that count by status other than completed.
        startup_seconds: median over the runs that wrote a summary; NaN without one.
        searcher_seconds: likewise.
        confirmed: validation regret of the incumbents trained again, each a mean over fresh seeds; None where none was.
        confirmed_test: likewise the test regret.
        times: seconds to each of the experiment's targets, median over runs; infinite where too few reached it.
        reached: number of runs that reached each target.
    """

    method: str
    seeds: int
    validation: Quartiles
    test: Quartiles
    area: Quartiles
    evaluations: int
    model_picks: int | None
    late: int
    failures: dict[str, int]
    startup_seconds: float
    searcher_seconds: float
    confirmed: Quartiles | None
    confirmed_test: Quartiles | None
    times: tuple[float, ...]
    reached: tuple[int, ...]


def summarize(study: Study) -> dict[str, MethodSummary]:
    """The summary of every method that has a run, in the experiment's order.

    Args:
        study: What was compared.
    """
    limits = area_limits(study)
    return {method: _summary(study, method, limits) for method in study.methods}


def final_regret(study: Study, result: RunResult, quantity: Quantity) -> float:
    """Regret of the run's incumbent at the end; infinite without one."""
    if result.incumbent is None:
        return math.inf
    return record_regret(study, result.incumbent, quantity)


def record_regret(study: Study, record: Record, quantity: Quantity) -> float:
    """Regret of one row's own value."""
    return regret(metric_value(record, study.metric, quantity), study.zero(quantity), study.metric)


def confirmed_regret(study: Study, result: RunResult, quantity: Quantity) -> float:
    """Mean regret of the run's incumbent over fresh seeds; infinite without one."""
    if result.confirmation is None:
        return math.inf
    scores = getattr(result.confirmation, study.metric.replace("validation", quantity))
    return regret(sum(scores) / len(scores), study.zero(quantity), study.metric)


def median_reaches(study: Study, method: str, level: float) -> float:
    """Seconds until the median over runs of the validation regret is at most ``level``; infinite if it never is."""
    band = across_seeds([study.curve(result, "validation") for result in study.runs_of(method)])
    reached = band.times[band.median <= level]
    return float(reached[0]) if reached.size else math.inf


def final_by_seed(study: Study) -> dict[str, dict[int, float]]:
    """Final validation regret by method and seed."""
    return {
        method: {result.seed: final_regret(study, result, "validation") for result in study.runs_of(method)}
        for method in study.methods
    }


def area_limits(study: Study) -> tuple[float, float]:
    """From when every run that has a result has one, to the time limit: the same for all methods."""
    firsts = [result.chosen[0].time for result in study.runs.values() if result.chosen]
    # A first result at the very start of the clock has no logarithm; a millisecond stands in.
    return max([*firsts, 1e-3]), study.experiment.time_limit


def failures_by_status(runs: Iterable[Rows]) -> dict[str, int]:
    """How many rows ended in each status other than completed."""
    total: Counter[str] = Counter()
    for rows in runs:
        total.update(rows.statuses())
    return {status: count for status, count in total.items() if status != "completed"}


def same_evaluations(study: Study) -> tuple[tuple[str, str], ...]:
    """Pairs of methods that evaluated the same, with every seed both have.

    A run of one may have got further than the other's: then all that the shorter one evaluated is in the longer one.
    """
    begun = [method for method in study.methods if any(result.records for result in study.runs_of(method))]
    known = {method: _evaluated(study, method) for method in begun}
    return tuple((one, other) for one, other in itertools.combinations(begun, 2) if _is_same(known[one], known[other]))


def _is_same(first: Mapping[int, set[Evaluated]], second: Mapping[int, set[Evaluated]]) -> bool:
    pairs = [(first[seed], second[seed]) for seed in first.keys() & second.keys()]
    return bool(pairs) and all(one <= other or other <= one for one, other in pairs)


def _evaluated(study: Study, method: str) -> dict[int, set[Evaluated]]:
    """What each run evaluated, by seed; without runs that evaluated nothing."""
    known = {result.seed: _identities(study.records_in_time(result)) for result in study.runs_of(method)}
    return {seed: identities for seed, identities in known.items() if identities}


def _identities(rows: Rows) -> set[Evaluated]:
    """Budget and setting, and for what no searcher proposed the loss, by which methods differ that learn online."""
    own = rows.only(rows.column("has_setting"))
    losses = np.where(own.column("has_config_id"), 0.0, own.column("validation_loss")).view(np.int64)  # NaN is NaN
    return set(zip(own.column("setting").tolist(), own.column("budget").tolist(), losses.tolist(), strict=True))


def _model_picks(runs: Iterable[Rows]) -> int | None:
    known = [picks[picks >= 0] for picks in (rows.column("model_pick") for rows in runs)]
    return sum(int(picks.sum()) for picks in known) if any(map(len, known)) else None


def speed_up(faster: float, slower: float) -> float:
    """How many times sooner ``faster`` (seconds to a target) is than ``slower``; below 1 where it is later.

    Infinite where only the first reached the target, 0 where only the second did, NaN where neither did.
    """
    if math.isinf(faster) and math.isinf(slower):
        return math.nan
    if faster == slower:
        return 1.0
    return slower / faster if faster > 0 else math.inf


def _summary(study: Study, method: str, limits: tuple[float, float]) -> MethodSummary:
    results = study.runs_of(method)
    rows = [study.records_in_time(result) for result in results]
    counted = sum(map(len, rows))
    curves = [study.curve(result, "validation") for result in results]
    times = [[time_to_target(curve, target) for curve in curves] for target in study.experiment.targets]
    summaries = [result.run for result in results if result.run is not None]
    return MethodSummary(
        method=method,
        seeds=len(results),
        validation=quartiles(final_regret(study, result, "validation") for result in results),
        test=quartiles(final_regret(study, result, "test") for result in results),
        area=quartiles(area_over_log_time(curve, *limits) if curve.times.size else math.inf for curve in curves),
        evaluations=counted,
        model_picks=_model_picks(rows),
        late=sum(len(result.records) for result in results) - counted,
        failures=failures_by_status(rows),
        startup_seconds=quartiles(run.startup_seconds for run in summaries).median,
        searcher_seconds=quartiles(run.searcher_seconds for run in summaries).median,
        confirmed=_confirmed_quartiles(study, results, "validation"),
        confirmed_test=_confirmed_quartiles(study, results, "test"),
        times=tuple(quartiles(of_target).median for of_target in times),
        reached=tuple(sum(math.isfinite(time) for time in of_target) for of_target in times),
    )


def _confirmed_quartiles(study: Study, results: Sequence[RunResult], quantity: Quantity) -> Quartiles | None:
    if all(result.confirmation is None for result in results):
        return None
    return quartiles(confirmed_regret(study, result, quantity) for result in results)


def best_method(summaries: Mapping[str, MethodSummary]) -> str:
    """The method with the lowest final median validation regret; the first of them where several tie."""
    return min(summaries, key=lambda method: _or_worst(summaries[method].validation.median))


def _or_worst(value: float) -> float:
    return math.inf if math.isnan(value) else value
