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

from raytune_hyperlearn.comparison.analysis.rows import Rows, rows_of
from raytune_hyperlearn.comparison.experiment import Metric
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reference_record import Reference

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Clock = Literal["time", "worker_seconds", "evaluations", "epochs"]
CLOCKS: tuple[Clock, ...] = ("time", "worker_seconds", "evaluations", "epochs")
Quantity = Literal["validation", "test"]
QUANTITIES: tuple[Quantity, ...] = ("validation", "test")
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
        """Values at the times ``grid`` [G]; NaN before the first event.

        Args:
            grid: Times [G], in the curve's unit.
        """
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


def in_time(records: Iterable[Record], time_limit: float) -> Rows:
    """The rows observed at or before the limit, by time; rows of equal time keep their order."""
    rows = rows_of(records)
    kept = np.flatnonzero(rows.column("time") <= time_limit)
    return rows.only(kept[np.argsort(rows.column("time")[kept], kind="stable")])


@dataclass(frozen=True)
class Columns:
    """One run's rows that count, by time, as one array per entry.

    Attributes:
        times: seconds of the observation, not decreasing, shape [R].
        budgets: epochs trained for the result, shape [R].
        scores: validation value, signed so that lower is better; infinite where a row cannot be an incumbent, [R].
        worker_seconds: of all the run's workers so far, shape [R].
        epochs: epochs of training spent on the row alone, shape [R].
    """

    times: FloatArray
    budgets: FloatArray
    scores: FloatArray
    worker_seconds: FloatArray
    epochs: FloatArray

    def positions(self, clock: Clock) -> FloatArray:
        """Where each row stands on a clock, not decreasing, shape [R]."""
        if clock == "evaluations":
            return np.arange(1.0, len(self.times) + 1)
        if clock == "epochs":
            return np.cumsum(self.epochs)
        return np.maximum.accumulate(self.times if clock == "time" else self.worker_seconds)

    def incumbents(self) -> IntArray:
        """Places [E] of the rows that became the incumbent, in order."""
        usable = np.flatnonzero(np.isfinite(self.scores))
        largest = np.maximum.accumulate(self.budgets[usable])
        eligible = usable[self.budgets[usable] >= largest]
        scores = self.scores[eligible]
        best_before = np.minimum.accumulate(np.concatenate([[math.inf], scores]))[:-1]
        return eligible[scores < best_before]


def columns(records: Iterable[Record], metric: Metric) -> Columns:
    """The rows of one run, by time already, as columns."""
    rows = rows_of(records)
    return Columns(
        times=rows.column("time"),
        budgets=rows.column("budget"),
        scores=scores(rows, metric),
        worker_seconds=rows.column("worker_seconds"),
        epochs=epochs_spent(rows),
    )


def scores(rows: Rows, metric: Metric) -> FloatArray:
    """The :func:`score` of each row, infinite where it is not usable (:func:`is_usable`), shape [R]."""
    values = rows.column(metric)
    signed = values if metric == "validation_loss" else -values
    return np.where(rows.is_completed & np.isfinite(values), signed, math.inf)


def epochs_spent(records: Iterable[Record]) -> FloatArray:
    """Epochs of training that each row of one run cost, shape [R].

    A trial that trains on reports growing budgets: a row costs what it adds. An outer step of FDS costs the training
    that is differentiated and, where it is scored on a larger budget, that training as well.
    """
    rows = rows_of(records)
    budgets, inner = rows.column("budget"), rows.column("inner_epochs")
    spent = inner + np.where(budgets > inner, budgets, 0.0)
    trained = np.flatnonzero(np.isnan(inner))
    trained = trained[np.argsort(rows.column("trial")[trained], kind="stable")]
    trials, reached = rows.column("trial")[trained], budgets[trained]
    goes_on = np.concatenate([[False], (trials[1:] == trials[:-1]) & (reached[1:] > reached[:-1])])[: len(trained)]
    spent[trained] = reached - np.where(goes_on, np.concatenate([[0.0], reached])[:-1], 0.0)
    return np.asarray(spent)


def incumbents(records: Iterable[Record], metric: Metric, time_limit: float = math.inf) -> tuple[Record, ...]:
    """The rows of one run that became its incumbent, in order.

    Args:
        records: the rows of one run.
        metric: the validation value that chooses.
        time_limit: later rows do not count.
    """
    rows = in_time(records, time_limit)
    return tuple(rows[place] for place in columns(rows, metric).incumbents())


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
    chosen: Sequence[Record], metric: Metric, quantity: Quantity, zero: float, positions: npt.ArrayLike | None = None
) -> StepCurve:
    """The anytime curve of a run's regret.

    Args:
        chosen: the run's :func:`incumbents` [E].
        metric: the validation value that chose them.
        quantity: regret on the validation or the test data.
        zero: where regret is zero, see :func:`regret_zero`.
        positions: where each stands on the abscissa [E]; None for seconds since the run's start.
    """
    given = [record.time for record in chosen] if positions is None else positions
    values = [regret(metric_value(record, metric, quantity), zero, metric) for record in chosen]
    return StepCurve(np.asarray(given, dtype=float), np.array(values, dtype=float))


def across_seeds(curves: Sequence[StepCurve]) -> Band:
    """Median and quartiles of several seeds' curves on the union of their event times.

    They begin when every seed with a value has its first. A seed without any counts as infinitely bad; where that
    makes the median infinite, the band is empty.
    """
    begun = [curve for curve in curves if curve.times.size]
    if 2 * len(begun) <= len(curves):
        empty = np.empty(0)
        return Band(empty, empty, empty, empty, len(curves))
    start = max(curve.times[0] for curve in begun)
    times = np.unique(np.concatenate([curve.times for curve in begun]))
    times = times[times >= start]
    values = np.full((len(curves), times.size), math.inf)
    values[: len(begun)] = [curve.at(times) for curve in begun]
    return Band(times, *_quartiles(np.sort(values, axis=0)), len(curves))


def quartiles(values: Iterable[float]) -> Quartiles:
    """Quartiles (linear between order statistics) where infinity stands for "worse than any" or "later than any".

    NaN if there are no values or one is NaN.
    """
    ordered = np.sort(np.array(list(values), dtype=float))
    if ordered.size == 0 or np.isnan(ordered).any():
        return Quartiles(math.nan, math.nan, math.nan)
    return Quartiles(*(float(part[0]) for part in _quartiles(ordered[:, None])))


def _quartiles(ordered: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Quartiles of values that ascend along their first dimension, shape [n, …]: three arrays of shape […].

    ``numpy.quantile`` would give NaN between a finite value and infinity; here infinity wins.
    """
    positions = np.array(QUARTILES) * (len(ordered) - 1)
    parts = []
    for position in positions:
        low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
        with np.errstate(invalid="ignore"):
            between = low + (position - math.floor(position)) * (high - low)
        parts.append(np.where(low == high, low, between))
    return parts[0], parts[1], parts[2]


def time_to_target(curve: StepCurve, target: float) -> float:
    """First time at which the curve is at or below ``target``; infinity where it never is (right-censored).

    Args:
        curve: A curve that falls, such as that of regret.
        target: Value to reach, in the curve's unit.
    """
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
