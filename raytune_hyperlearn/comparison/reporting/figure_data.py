"""The numbers behind every figure as rows, with the formula that made them: what a CSV file and ``--explain`` show."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import CLOCKS, Clock, across_seeds
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import CriticalDifference
from raytune_hyperlearn.comparison.reporting.insight_figures import OuterStepsPanel, TimelinePanel, WindowsPanel
from raytune_hyperlearn.comparison.reporting.method_figures import EvaluationsPanel, SchedulePanel, ValuesPanel
from raytune_hyperlearn.comparison.reporting.training_figures import TrainingPanel

Cell = str | float | int


@dataclass(frozen=True)
class FigureData:
    """A figure's numbers.

    Attributes:
        columns: names [C].
        rows: cells [R, C].
        formula: how the rows follow from the records, in words.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    formula: str

    def to_csv(self, digits: int = 17) -> str:
        """The rows as CSV with a header, numbers with so many significant digits."""
        return csv_text(self.columns, self.rows, digits)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int = 17) -> str:
    """CSV with a header; unknown numbers are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_written(cell, digits) for cell in row] for row in rows)
    return buffer.getvalue()


def regret_data(study: Study, clocks: Sequence[Clock] = CLOCKS) -> FigureData:
    """Every run's curve and every method's band, on each of the clocks."""
    rows: list[tuple[Cell, ...]] = []
    for clock in clocks:
        for quantity in ("validation", "test"):
            for method in study.methods:
                curves = {result.seed: study.curve(result, quantity, clock) for result in study.runs_of(method)}
                band = across_seeds(list(curves.values()))
                points = zip(band.times, band.lower, band.median, band.upper, strict=True)
                rows += [(clock, quantity, method, "median", *map(float, point)) for point in points]
                rows += [
                    (clock, quantity, method, seed, float(at), math.nan, float(value), math.nan)
                    for seed, curve in curves.items()
                    for at, value in zip(curve.times, curve.values, strict=True)
                ]
    return FigureData(
        ("clock", "quantity", "method", "seed", "position", "lower", "value", "upper"),
        tuple(rows),
        "value(t) = v(incumbent at t) − v*, with v the loss (v* − v for an accuracy) and v* the reference's, or 0 (1) "
        "without a reference. The incumbent at t is the completed row with the lowest validation value among those "
        "observed at or before t; ties go to the earlier row; a row counts only at the largest budget completed so "
        "far. The rows marked median hold the quartiles over the seeds' step functions, linear between order "
        "statistics, from the time when every seed that ever has a value has one; a seed that never has one counts as "
        "infinity. Nothing is interpolated in time.",
    )


class Thinned(Protocol):
    """What draws some of its points."""

    @property
    def left_out(self) -> int:
        """How many it does not draw."""


def left_out_text(parts: Sequence[Thinned]) -> str:
    """A sentence that says how many points are not drawn; empty where all are."""
    total = sum(part.left_out for part in parts)
    return f" {total:,} are left out, as in the figure." if total else ""


def evaluation_data(panels: Sequence[EvaluationsPanel]) -> FigureData:
    """Every evaluation that completed or failed."""
    rows: list[tuple[Cell, ...]] = []
    for panel in panels:
        points = zip(panel.times, panel.losses, panel.budgets, strict=True)
        rows += [(panel.style.label, float(time), float(loss), float(budget), "") for time, loss, budget in points]
        rows += [(panel.style.label, float(time), math.nan, math.nan, "failed") for time in panel.failed]
    return FigureData(
        ("method", "seconds", "validation_loss", "budget_fraction", "status"),
        tuple(rows),
        "One row per record within the time limit; budget_fraction = epochs of the row / epochs of the full budget."
        + left_out_text(panels),
    )


def schedule_data(panels: Sequence[SchedulePanel]) -> FigureData:
    """The schedules of the incumbents."""
    rows: list[tuple[Cell, ...]] = [
        (panel.name, style.label, run, i, value)
        for panel in panels
        for style, schedules in panel.schedules
        for run, schedule in enumerate(schedules)
        for i, value in enumerate(schedule)
    ]
    return FigureData(
        ("hyperparameter", "method", "run", "window", "value"),
        tuple(rows),
        "The incumbent of every run at the end; runs by final validation value, the best last. Window i of n holds "
        "from i/n to (i + 1)/n of the training.",
    )


def value_data(panels: Sequence[ValuesPanel]) -> FigureData:
    """The single values of the incumbents."""
    rows: list[tuple[Cell, ...]] = [
        (panel.name, style.label, run, value)
        for panel in panels
        for style, values in panel.values
        for run, value in enumerate(values)
    ]
    return FigureData(
        ("hyperparameter", "method", "run", "value"),
        tuple(rows),
        "The incumbent of every run at the end; a schedule whose values are all equal is one value.",
    )


def training_data(panels: Sequence[TrainingPanel]) -> FigureData:
    """Losses and batch sizes over a training."""
    rows: list[tuple[Cell, ...]] = [
        (panel.title, line.style.label, run, float(x), float(value))
        for panel in panels
        for run, line in enumerate(panel.lines)
        for x, value in zip(line.xs, line.values, strict=True)
    ]
    return FigureData(
        ("panel", "method", "line", "position", "value"),
        tuple(rows),
        "One row per completed record that tells a training loss or a mean batch size."
        + left_out_text([line for panel in panels for line in panel.lines]),
    )


def outer_step_data(panels: Sequence[OuterStepsPanel]) -> FigureData:
    """Values and hypergradients by outer step."""
    rows: list[tuple[Cell, ...]] = [
        (panel.title, i, float(step), float(value))
        for panel in panels
        for i, line in enumerate(panel.values.T)
        for step, value in zip(panel.steps, line, strict=True)
    ]
    return FigureData(
        ("panel", "window", "outer_step", "value"),
        tuple(rows),
        "The records of the method's best run that hold a finite hypergradient: the schedule they were at, and "
        "dL/dλ_i · (highest − lowest of λ's range), L the validation loss at the end of the differentiated training.",
    )


def windows_data(panels: Sequence[WindowsPanel]) -> FigureData:
    """Hypergradients by part of the training, and the window that each part is in."""
    rows: list[tuple[Cell, ...]] = [
        (panel.title, row, part, int(np.searchsorted(panel.ends, (part + 0.5) / panel.entries.shape[1])), float(entry))
        for panel in panels
        for row, entries in enumerate(panel.entries)
        for part, entry in enumerate(entries)
    ]
    return FigureData(
        ("panel", "line", "part", "window", "value"),
        tuple(rows),
        "dL/dλ of every part of the training in the outer steps before the last one, over the root of their mean "
        "square; the window of each part, in which the last values were moved together.",
    )


def timeline_data(panels: Sequence[TimelinePanel]) -> FigureData:
    """When which worker evaluated."""
    rows: list[tuple[Cell, ...]] = [
        (panel.style.label, panel.seed, int(lane) + 1, float(start), float(end), float(budget), int(failed))
        for panel in panels
        for start, end, lane, budget, failed in zip(
            panel.starts, panel.ends, panel.lanes, panel.budgets, panel.failed, strict=True
        )
    ]
    return FigureData(
        ("method", "seed", "worker", "start", "end", "budget_fraction", "failed"),
        tuple(rows),
        "end = the record's time, start = end − its training seconds; each evaluation takes the lowest worker that is "
        "free when it starts." + left_out_text(panels),
    )


def rank_data(data: CriticalDifference) -> FigureData:
    """Mean ranks at the end."""
    return FigureData(
        ("method", "mean_rank", "problems", "critical_difference", "friedman_p"),
        tuple(
            (method, rank, data.problems, data.difference, data.p_value)
            for method, rank in zip(data.methods, data.mean_ranks, strict=True)
        ),
        "Rank of the final median validation regret on each problem; Nemenyi's critical difference "
        "q sqrt(k (k + 1) / (6 N)) for k methods and N problems at 5 %.",
    )


def _written(cell: Cell, digits: int) -> str:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else min(repr(cell), f"{cell:.{digits}g}", key=len)
    return str(cell)
