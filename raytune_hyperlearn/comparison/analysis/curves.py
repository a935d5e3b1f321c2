"""From one run's records to what it had achieved by when, and from several seeds' curves to one band.

**Incumbent at t**: the completed row with the best validation value among those observed at or before t. Ties go to
the earlier row. Rows of different budgets compare only at the largest budget completed so far: a row on a smaller one
is passed over, a first row on a larger one replaces the incumbent only if it is better. A row that failed is never an
incumbent, and the budget it was given does not count as completed.

**Regret** is signed so that lower is better: value − reference for losses, reference − value for accuracies. It is
negative where a method beats the reference, and for the validation value never rises (an absolute difference would).
Test regret is that of the incumbent chosen by validation: it may rise.

A curve is a right-continuous step function, unknown (NaN) before its first row. Nothing is interpolated, and no row
counts before its time: y(t) belongs to the last event at or before t.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from raytune_hyperlearn.comparison.experiment import Metric
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reference_record import Reference

FloatArray = npt.NDArray[np.float64]
Clock = Literal["time", "worker_seconds"]
Quantity = Literal["validation", "test"]
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class StepCurve:
    """A right-continuous step function.

    Attributes:
        times: event times in seconds, not decreasing, shape [E].
        values: the value from each event on, shape [E].
    """

    times: FloatArray
    values: FloatArray

    def at(self, grid: npt.ArrayLike) -> FloatArray:
        """Values at the times ``grid`` [G]; NaN before the first event."""
        index = np.searchsorted(self.times, np.asarray(grid, dtype=float), side="right") - 1
        return np.concatenate([[math.nan], self.values])[index + 1]


@dataclass(frozen=True)
class Band:
    """Median and quartiles over seeds, from the time when every seed has a value.

    Attributes:
        times: union of the seeds' event times from then on, shape [E]; empty if a seed never has a value.
        lower: first quartile from each event on, shape [E].
        median: median, shape [E].
        upper: third quartile, shape [E].
        seeds: number of seeds.
    """

    times: FloatArray
    lower: FloatArray
    median: FloatArray
    upper: FloatArray
    seeds: int


@dataclass(frozen=True)
class Quartiles:
    """First quartile, median and third quartile of one number over seeds; infinite where too many seeds lack it."""

    lower: float
    median: float
    upper: float


def in_time(records: Iterable[Record], time_limit: float) -> list[Record]:
    """The rows observed at or before the limit, by time; rows of equal time keep their order."""
    return sorted((record for record in records if record.time <= time_limit), key=lambda record: record.time)


def incumbents(records: Iterable[Record], metric: Metric, time_limit: float = math.inf) -> tuple[Record, ...]:
    """The rows of one run that became its incumbent, in order.

    Args:
        records: the rows of one run.
        metric: the validation value that chooses.
        time_limit: later rows do not count.
    """
    chosen: list[Record] = []
    largest_budget = 0.0
    for record in in_time(records, time_limit):
        if not is_usable(record, metric) or record.budget < largest_budget:
            continue
        largest_budget = record.budget
        if not chosen or score(record, metric) < score(chosen[-1], metric):
            chosen.append(record)
    return tuple(chosen)


def is_usable(record: Record, metric: Metric) -> bool:
    """Whether a row can be an incumbent: it completed and its validation value is finite."""
    return record.status == "completed" and math.isfinite(metric_value(record, metric, "validation"))


def score(record: Record, metric: Metric) -> float:
    """The row's validation value, signed so that lower is better."""
    return regret(metric_value(record, metric, "validation"), 0.0, metric)


def metric_value(row: Record | Reference, metric: Metric, quantity: Quantity) -> float:
    """The row's loss or accuracy (as ``metric`` says) on the validation or the test data."""
    return float(getattr(row, metric.replace("validation", quantity)))


def regret(value: float, zero: float, metric: Metric) -> float:
    """Signed regret of ``value`` against the reference value ``zero``: lower is better, below zero beats it."""
    return value - zero if metric == "validation_loss" else zero - value


def regret_zero(reference: Reference | None, metric: Metric, quantity: Quantity) -> float:
    """Where regret is zero: the reference's value; without one 0 for losses and 1 for accuracies.

    Without a reference "regret" is then the loss itself, or the error rate.
    """
    if reference is not None:
        return metric_value(reference, metric, quantity)
    return 0.0 if metric == "validation_loss" else 1.0


def regret_curve(
    chosen: Sequence[Record], metric: Metric, quantity: Quantity, zero: float, clock: Clock = "time"
) -> StepCurve:
    """The anytime curve of a run's regret.

    Args:
        chosen: the run's :func:`incumbents` [E].
        metric: the validation value that chose them.
        quantity: regret on the validation or the test data.
        zero: where regret is zero, see :func:`regret_zero`.
        clock: abscissa: seconds since the run's start, or seconds of all its workers together.
    """
    times = np.array([getattr(record, clock) for record in chosen], dtype=float)
    values = [regret(metric_value(record, metric, quantity), zero, metric) for record in chosen]
    return StepCurve(np.maximum.accumulate(times), np.array(values, dtype=float))


def across_seeds(curves: Sequence[StepCurve]) -> Band:
    """Median and quartiles of several seeds' curves on the union of their event times."""
    if not curves or any(curve.times.size == 0 for curve in curves):
        empty = np.empty(0)
        return Band(empty, empty, empty, empty, len(curves))
    start = max(curve.times[0] for curve in curves)
    times = np.unique(np.concatenate([curve.times for curve in curves]))
    times = times[times >= start]
    lower, median, upper = np.quantile([curve.at(times) for curve in curves], QUARTILES, axis=0)
    return Band(times, lower, median, upper, len(curves))


def quartiles(values: Iterable[float]) -> Quartiles:
    """Quartiles (linear between order statistics) where infinity stands for "worse than any" or "later than any".

    NaN if there are no values or one is NaN.
    """
    ordered = np.sort(np.array(list(values), dtype=float))
    if ordered.size == 0 or np.isnan(ordered).any():
        return Quartiles(math.nan, math.nan, math.nan)
    positions = np.array(QUARTILES) * (ordered.size - 1)
    below, above = ordered[np.floor(positions).astype(int)], ordered[np.ceil(positions).astype(int)]
    weights = positions - np.floor(positions)
    # numpy.quantile would give NaN between a finite value and infinity; the censored end wins instead.
    mixed = [
        low if low == high else low + weight * (high - low)
        for low, high, weight in zip(below.tolist(), above.tolist(), weights.tolist(), strict=True)
    ]
    return Quartiles(*mixed)


def time_to_target(curve: StepCurve, target: float) -> float:
    """First time at which the curve is at or below ``target``; infinity where it never is (right-censored)."""
    reached = np.flatnonzero(curve.values <= target)
    return float(curve.times[reached[0]]) if reached.size else math.inf


def area_over_log_time(curve: StepCurve, start: float, end: float) -> float:
    """The integral of the curve over ln t from ``start`` to ``end`` (exact, the curve being steps).

    Args:
        curve: a run's regret.
        start: seconds, > 0; NaN is returned where the curve begins later.
        end: seconds, >= start.
    """
    events = curve.times[(curve.times > start) & (curve.times < end)]
    edges = np.concatenate([[start], events, [end]])
    return float(np.sum(curve.at(edges[:-1]) * np.diff(np.log(edges))))
