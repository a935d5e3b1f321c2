"""The report's figures, each in two functions: the data it shows, and the drawing of it.

A figure is a row or grid of panels. A page draws each panel alone, so that it stays legible on a phone; the files hold
all panels of a figure together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import Band, Clock, Quantity, across_seeds
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.reporting.drawing import (
    INK,
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    look,
    regret_axis,
    time_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles, method_styles
from raytune_hyperlearn.comparison.reporting.wording import quantity_name

CLOCK_NAMES: dict[Clock, str] = {
    "time": "wall-clock seconds",
    "worker_seconds": "worker-seconds",
    "evaluations": "evaluations",
    "epochs": "epochs of training",
}
LINEAR_BELOW = 0.01


@dataclass(frozen=True)
class RegretLine:
    """One method's band.

    Attributes:
        style: its appearance.
        band: median and quartiles over its runs.
        end: until when the last value is drawn on: the time limit, or the worker-seconds of the median run.
    """

    style: MethodStyle
    band: Band
    end: float


@dataclass(frozen=True)
class RegretPanel:
    """Regret against a clock.

    Attributes:
        title: what the panel shows.
        clock_name: label of the abscissa.
        value_name: label of the ordinate.
        has_zero: whether zero is a reference that can be beaten.
        lines: one per method with a value in more than half of its runs.
        absent: short names of the methods without one.
    """

    title: str
    clock_name: str
    value_name: str
    has_zero: bool
    lines: tuple[RegretLine, ...]
    absent: tuple[str, ...]


def regret_panels(study: Study, styles: Styles, clock: Clock) -> tuple[RegretPanel, ...]:
    """Validation and test regret against wall-clock or worker-seconds."""
    return tuple(_regret_panel(study, styles, clock, quantity) for quantity in ("validation", "test"))


def draw_regret(panels: Sequence[RegretPanel]) -> Figure:
    """Medians as steps with quartile bands; lower is better."""
    room = label_width(line.style.short for panel in panels for line in panel.lines)
    return draw_grid(panels, _draw_regret_panel, columns=2, size=(4.9, 3.6), left_margin=0.75, right_margin=room)


def plot(study: Study, clock: Clock, quantity: Quantity) -> Figure:
    """One panel of a study's regret, for a notebook."""
    return draw_regret([_regret_panel(study, method_styles(study.methods), clock, quantity)])


def draw_swatch(style: MethodStyle) -> Figure:
    """A method's line and marker, for a legend beside the text."""
    with look():
        figure = Figure(figsize=(0.5, 0.2))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.plot([0, 0.5, 1], [0, 0, 0], color=style.color, ls=style.line, lw=2, marker=style.marker, markevery=[1])
        axes.set_xlim(-0.02, 1.02)
        axes.set_axis_off()
    return figure


def _regret_panel(study: Study, styles: Styles, clock: Clock, quantity: Quantity) -> RegretPanel:
    lines, absent = [], []
    for method in study.methods:
        results = study.runs_of(method)
        band = across_seeds([study.curve(result, quantity, clock) for result in results])
        known = np.isfinite(band.median)
        if not known.any():
            absent.append(styles[method].short)
            continue
        lines.append(RegretLine(styles[method], band, curve_end(study, method, clock)))
    what = quantity_name(study, quantity)
    return RegretPanel(
        title=what[0].upper() + what[1:],
        clock_name=f"{CLOCK_NAMES[clock]} (log scale)",
        value_name=_ordinate(study, what),
        has_zero=study.reference is not None,
        lines=tuple(lines),
        absent=tuple(absent),
    )


def curve_end(study: Study, method: str, clock: Clock) -> float:
    """Until where a method's last value is drawn on: the time limit, or what its median run spent."""
    if clock == "time":
        return study.experiment.time_limit
    used = [result.spent[clock] for result in study.runs_of(method)]
    return float(np.median([amount for amount in used if amount] or [0.0]))


def _ordinate(study: Study, what: str) -> str:
    if study.reference is None:
        return f"{what} (lower is better)"
    return "loss − reference" if study.metric == "validation_loss" else "reference − accuracy"


def _draw_regret_panel(axes: Axes, panel: RegretPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.clock_name)
    axes.set_ylabel(panel.value_name)
    if not panel.lines:
        axes.text(0.5, 0.5, "no method with a result in most of its runs", transform=axes.transAxes, ha="center")
        return
    begin = min(float(line.band.times[0]) for line in panel.lines)
    last = max(max(float(line.band.times[-1]), line.end) for line in panel.lines)
    left = max(0.85 * begin, last / 1e4)
    time_axis(axes, left, max(last, 1.2 * left))
    shown = np.concatenate([part for line in panel.lines for part in (line.band.lower, line.band.upper)])
    shown = shown[np.isfinite(shown)]
    regret_axis(axes, float(shown.min()), float(shown.max()), LINEAR_BELOW)
    if panel.has_zero and axes.get_ylim()[0] < 0:
        axes.axhspan(axes.get_ylim()[0], 0, color=INK, alpha=0.06, lw=0)
        axes.axhline(0, color=INK, lw=1)
        axes.annotate(
            "better than the reference ↓",
            (0.01, 0),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, -3),
            textcoords="offset points",
            fontsize=8,
            va="top",
        )
    for depth, line in enumerate(panel.lines):
        _draw_band(axes, line, depth)
    ends = [(float(line.band.median[-1]), line.style.short, line.style.color) for line in panel.lines]
    label_line_ends(axes, [end for end in ends if math.isfinite(end[0])])
    if panel.absent:
        note = f"not shown: {', '.join(panel.absent)} (half of the runs or more without any result)"
        axes.text(0.99, 0.98, note, transform=axes.transAxes, ha="right", va="top", fontsize=8)


def _draw_band(axes: Axes, line: RegretLine, depth: int) -> None:
    band, style = line.band, line.style
    closing = [line.end] if line.end > band.times[-1] else []
    times = np.concatenate([band.times, closing])
    lower, median, upper = (
        np.concatenate([part, part[-1:] if closing else []]) for part in (band.lower, band.median, band.upper)
    )
    upper = np.minimum(upper, axes.get_ylim()[1])  # a run without any result counts as infinity
    axes.fill_between(times, lower, upper, step="post", color=style.color, alpha=0.15, lw=0, zorder=2)
    axes.plot(
        times,
        median,
        drawstyle="steps-post",
        color=style.color,
        ls=style.line,
        lw=2.4 if style.line == "-" else 1.9,
        marker=style.marker,
        markersize=5,
        markevery=(0.03 * depth, 0.22),
        zorder=4 - 0.01 * depth,
        label=style.heading,
    )
    leader = [times[-1], axes.get_xlim()[1]]
    axes.plot(leader, [median[-1]] * 2, color=style.color, ls=":", lw=0.7, zorder=2)
    axes.plot(times[-1:], median[-1:], color=style.color, marker=style.marker, markersize=5, clip_on=False, zorder=5)
