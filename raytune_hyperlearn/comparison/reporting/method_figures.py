"""What each method learned and what it was doing: schedules, single values, every evaluation over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray, StepCurve
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.analysis.rows import Rows, thinned
from raytune_hyperlearn.comparison.analysis.summary import record_regret
from raytune_hyperlearn.comparison.reporting.drawing import (
    INK,
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    plain_log_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles

RunsSchedules = tuple[tuple[float, ...], ...]
"""One schedule per run."""
MOST_DOTS = 1500
"""Dots of a panel, and crosses; of more, so many drawn at random, for they would be one blot."""
DRAW_SEED = 0
CROWDED = 60  # more dots than this are drawn as pixels: as shapes they would make the page heavy


@dataclass(frozen=True)
class EvaluationsPanel:
    """Every evaluation of one method over time.

    Attributes:
        style: the method's appearance.
        times: seconds, shape [E].
        losses: validation loss, shape [E].
        budgets: budget as a fraction of the full one, shape [E].
        failed: seconds of the evaluations that failed, shape [F].
        incumbents: the incumbent's loss, one curve per run.
        limit: the time limit in seconds.
        span: lowest and highest loss over all panels of the figure.
        left_out: evaluations that are not drawn, because there are more than ``MOST_DOTS``.
    """

    style: MethodStyle
    times: FloatArray
    losses: FloatArray
    budgets: FloatArray
    failed: FloatArray
    incumbents: tuple[StepCurve, ...]
    limit: float
    span: tuple[float, float]
    left_out: int = 0


@dataclass(frozen=True)
class SchedulePanel:
    """One hyperparameter's learned schedules, by the methods that learned more than one number.

    Attributes:
        name: the hyperparameter.
        schedules: style of each method and the values of each of its runs' incumbents, the best run's last.
        span: lowest and highest value.
    """

    name: str
    schedules: tuple[tuple[MethodStyle, RunsSchedules], ...]
    span: tuple[float, float]


@dataclass(frozen=True)
class ValuesPanel:
    """One hyperparameter that has a single value, as every method learned it.

    Attributes:
        name: the hyperparameter.
        values: style and values, one per run, of each method.
    """

    name: str
    values: tuple[tuple[MethodStyle, tuple[float, ...]], ...]


def evaluation_panels(study: Study, styles: Styles) -> tuple[EvaluationsPanel, ...]:
    """What each method was doing: one panel per method."""
    dots = {method: _evaluated(study, method) for method in study.methods}
    losses = np.concatenate([np.empty(0), *(own.losses for own in dots.values())])
    if not losses.size:
        return ()
    # Far outliers would squeeze all others into a line; they are drawn at the upper edge instead.
    span = float(losses.min()), min(float(losses.max()), 20 * float(np.median(losses)))
    return tuple(_evaluations_panel(study, styles[method], method, own, span) for method, own in dots.items())


@dataclass(frozen=True)
class _Evaluated:
    """All of a method's rows that count: times, losses and budgets [E] of those that have a loss, times of failures."""

    times: FloatArray
    losses: FloatArray
    budgets: FloatArray
    failed: FloatArray


def _evaluated(study: Study, method: str) -> _Evaluated:
    runs = [study.records_in_time(result) for result in study.runs_of(method)]
    with_loss = [rows.only(_has_loss(rows)) for rows in runs]
    times, losses, budgets = (
        np.concatenate([rows.column(name) for rows in with_loss]) for name in ("time", "validation_loss", "budget")
    )
    return _Evaluated(
        times, losses, budgets, np.concatenate([rows.column("time")[~rows.is_completed] for rows in runs])
    )


def _evaluations_panel(
    study: Study, style: MethodStyle, method: str, own: _Evaluated, span: tuple[float, float]
) -> EvaluationsPanel:
    dots = thinned(len(own.losses), MOST_DOTS, DRAW_SEED)
    crosses = thinned(len(own.failed), MOST_DOTS, DRAW_SEED)
    return EvaluationsPanel(
        style=style,
        times=own.times[dots],
        losses=own.losses[dots],
        budgets=own.budgets[dots] / study.experiment.epochs,
        failed=own.failed[crosses],
        incumbents=tuple(_incumbent_loss(result) for result in study.runs_of(method)),
        limit=study.experiment.time_limit,
        span=span,
        left_out=len(own.losses) + len(own.failed) - len(dots) - len(crosses),
    )


def draw_evaluations(panels: Sequence[EvaluationsPanel]) -> Figure:
    """A dot per evaluation, larger for larger budgets, a cross per failure, a thin line per run's incumbent."""
    return draw_grid(panels, _draw_evaluations_panel, columns=3, size=(3.5, 2.7), left_margin=0.75, right_margin=0.15)


def schedule_panels(study: Study, styles: Styles) -> tuple[SchedulePanel, ...]:
    """Schedules that move: one panel per hyperparameter, without the methods whose schedule is one number."""
    panels = []
    for name, by_method in _learned(study).items():
        moving = {method: schedules for method, schedules in by_method.items() if not is_one_number(schedules)}
        values = [value for schedules in moving.values() for schedule in schedules for value in schedule]
        if values:
            named = tuple((styles[method], schedules) for method, schedules in moving.items())
            panels.append(SchedulePanel(name, named, (min(values), max(values))))
    return tuple(panels)


def draw_schedules(panels: Sequence[SchedulePanel]) -> Figure:
    """Steps over the fraction of the training; each method's best run is thick, its others are faint."""
    room = label_width(style.short for panel in panels for style, _ in panel.schedules)
    return draw_grid(panels, _draw_schedule_panel, columns=2, size=(4.9, 3.3), left_margin=0.75, right_margin=room)


def value_panels(study: Study, styles: Styles) -> tuple[ValuesPanel, ...]:
    """Hyperparameters that a method learned as one number: one panel each."""
    panels = []
    for name, by_method in _learned(study).items():
        single = {method: schedules for method, schedules in by_method.items() if is_one_number(schedules)}
        if single:
            panels.append(ValuesPanel(name, tuple((styles[m], tuple(s[0] for s in own)) for m, own in single.items())))
    return tuple(panels)


def is_one_number(schedules: RunsSchedules) -> bool:
    """Whether none of the schedules moves."""
    return all(value == schedule[0] for schedule in schedules for value in schedule)


def draw_values(panels: Sequence[ValuesPanel]) -> Figure:
    """A marker per run, a row per method."""
    rows = max(len(panel.values) for panel in panels)
    room = label_width(style.short for panel in panels for style, _ in panel.values)
    size = (5.0, 1.0 + 0.3 * rows)
    return draw_grid(panels, _draw_values_panel, columns=2, size=size, left_margin=room, right_margin=0.2)


def _draw_evaluations_panel(axes: Axes, panel: EvaluationsPanel) -> None:
    light_grid(axes)
    low, high = panel.span
    axes.set_title(panel.style.heading, loc="left")
    axes.set_xlabel("wall-clock seconds")
    axes.set_ylabel("validation loss")
    axes.set_xlim(0, panel.limit * 1.02)
    plain_log_axis(axes, low / 1.15, high * 1.3)
    color = panel.style.color
    for curve in panel.incumbents:
        times = np.append(curve.times, panel.limit if curve.times.size else [])
        values = np.append(curve.values, curve.values[-1:])
        axes.plot(times, values, drawstyle="steps-post", color=color, lw=0.9, alpha=0.8)
    heights = np.minimum(panel.losses, high * 1.2)
    crowded = len(heights) > CROWDED
    sizes = 7 + 40 * np.clip(panel.budgets, 0, 1)
    axes.scatter(
        panel.times,
        heights,
        s=sizes,
        color=color,
        alpha=0.45,
        lw=0.5,
        edgecolors=INK,
        clip_on=False,
        rasterized=crowded,
    )
    edge = np.full(panel.failed.shape, high * 1.2)
    axes.plot(panel.failed, edge, ls="", marker="x", color=INK, markersize=5, clip_on=False)


def _draw_schedule_panel(axes: Axes, panel: SchedulePanel) -> None:
    light_grid(axes)
    axes.set_title(panel.name.replace("_", " ").capitalize(), loc="left", parse_math=False)
    axes.set_xlabel("fraction of the training")
    axes.set_xlim(0, 1)
    axes.set_ylim(*_widened(panel.span))
    for style, schedules in panel.schedules:
        for schedule in schedules[:-1]:
            axes.plot(*_steps(schedule), drawstyle="steps-post", color=style.color, ls=style.line, lw=0.8, alpha=0.35)
        best = _steps(schedules[-1])
        axes.plot(*best, drawstyle="steps-post", color=style.color, ls=style.line, lw=2.2, label=style.heading)
    ends = [(schedules[-1][-1], style.short, style.color) for style, schedules in panel.schedules]
    label_line_ends(axes, ends)


def _steps(schedule: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    return np.linspace(0, 1, len(schedule) + 1), np.append(schedule, schedule[-1])


def _draw_values_panel(axes: Axes, panel: ValuesPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.name.replace("_", " ").capitalize(), loc="left", parse_math=False)
    count = len(panel.values)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks(range(count), [style.short for style, _ in panel.values])
    for row, (style, values) in enumerate(panel.values):
        axes.plot(values, [row] * len(values), ls="", marker=style.marker, color=style.color, markersize=7, alpha=0.8)
    everything = [value for _, values in panel.values for value in values]
    axes.set_xlim(*_widened((min(everything), max(everything))))
    axes.locator_params(axis="x", nbins=5)


def _learned(study: Study) -> dict[str, dict[str, RunsSchedules]]:
    """By hyperparameter and method the schedules of each run's incumbent, the best run's last."""
    learned: dict[str, dict[str, RunsSchedules]] = {}
    for method in study.methods:
        best_last = sorted(
            (result.incumbent for result in study.runs_of(method) if result.incumbent is not None),
            key=lambda record: -record_regret(study, record, "validation"),
        )
        for name in dict.fromkeys(name for record in best_last for name in record.hyperparameters):
            schedules = (tuple(record.hyperparameters.get(name, ())) for record in best_last)
            finite = tuple(schedule for schedule in schedules if schedule and np.isfinite(schedule).all())
            if finite:
                learned.setdefault(name, {})[method] = finite
    return learned


def _incumbent_loss(result: RunResult) -> StepCurve:
    return StepCurve(
        np.array([record.time for record in result.chosen]),
        np.array([record.validation_loss for record in result.chosen]),
    )


def _has_loss(rows: Rows) -> npt.NDArray[np.bool_]:
    losses = rows.column("validation_loss")
    return np.asarray(rows.is_completed & np.isfinite(losses) & (losses > 0))


def _widened(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin
