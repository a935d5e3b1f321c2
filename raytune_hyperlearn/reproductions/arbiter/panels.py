"""Draws Arbiter and its controls: medians over seeds by epoch, one line per method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import (
    INK,
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    name_lines,
    plain_log_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, MethodStyle
from raytune_hyperlearn.reproductions.arbiter.trainings import ARBITER, WITHOUT, Trajectory

BANDED = (ARBITER, WITHOUT)
"""Methods drawn with the quartiles of their seeds; more bands would hide each other."""
LOG_FROM = 6.0
"""A positive series that spans more than this factor is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class BandLine:
    """One method over its seeds.

    Attributes:
        method: Its name.
        xs: Abscissae, [E].
        middle: Median, [E].
        low: Lower quartile, [E].
        high: Upper quartile, [E].
    """

    method: str
    xs: FloatArray
    middle: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def style(self) -> MethodStyle:
        """How it is drawn."""
        return METHOD_STYLES[self.method]


@dataclass(frozen=True)
class BandPanel:
    """Methods side by side.

    Attributes:
        title: What the panel shows.
        x_name: Label of the abscissa.
        y_name: Label of the ordinate.
        lines: One per method.
        marks: Heights of horizontal lines and their names.
        moments: Abscissae of vertical lines.
    """

    title: str
    x_name: str
    y_name: str
    lines: tuple[BandLine, ...]
    marks: tuple[tuple[float, str], ...] = ()
    moments: tuple[float, ...] = ()


def epoch_panel(
    title: str,
    y_name: str,
    methods: Mapping[str, Mapping[int, Trajectory]],
    values: Callable[[Trajectory], FloatArray],
    marks: tuple[tuple[float, str], ...] = (),
    moments: tuple[float, ...] = (),
) -> BandPanel:
    """A panel over epochs; seeds that ended early, and values that are not finite, are left out of the medians."""
    lines = []
    for method, seeds in methods.items():
        stacked = padded([values(trajectory) for trajectory in seeds.values()])
        line = band(method, np.arange(1.0, stacked.shape[1] + 1), stacked)
        if len(line.xs):
            lines.append(line)
    return BandPanel(title, "epoch", y_name, tuple(lines), marks, moments)


def padded(series: Sequence[FloatArray]) -> FloatArray:
    """Series of different lengths as the rows of one array, NaN behind their ends and for infinities."""
    rows = np.full((len(series), max(map(len, series))), math.nan)
    for row, values in zip(rows, series, strict=True):
        row[: len(values)] = np.where(np.isfinite(values), values, math.nan)
    return rows


def band(method: str, xs: FloatArray, rows: FloatArray) -> BandLine:
    """Median and quartiles over rows [n, E] at ``xs`` [E]; places without any number are left out."""
    known = np.isfinite(rows).any(axis=0)
    low, middle, high = np.nanquantile(rows[:, known], [0.25, 0.5, 0.75], axis=0)
    return BandLine(method, xs[known], middle, low, high)


def draw_panels(panels: Sequence[BandPanel], columns: int) -> Figure:
    """A grid of panels with one legend below."""
    room = label_width(line.style.short for panel in panels for line in panel.lines)
    figure = draw_grid(panels, _draw_panel, columns=columns, size=(4.6, 3.3), left_margin=0.75, right_margin=room)
    name_lines(figure)
    return figure


def _draw_panel(axes: Axes, panel: BandPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_name)
    axes.set_ylabel(panel.y_name)
    for line in panel.lines:
        style = line.style
        if line.method in BANDED:
            axes.fill_between(line.xs, line.low, line.high, color=style.color, alpha=0.15, lw=0)
        axes.plot(
            line.xs,
            line.middle,
            color=style.color,
            ls=style.line,
            lw=2.2 if line.method == ARBITER else 1.4,
            marker=style.marker,
            markersize=4,
            markevery=max(1, len(line.xs) // 8),
            zorder=3 if line.method == ARBITER else 2,
            label=style.heading,
        )
    for height, name in panel.marks:
        axes.axhline(height, color=INK, lw=0.9, ls=(0, (1, 2)))
        axes.annotate(name, (0.02, height), xycoords=("axes fraction", "data"), ha="left", va="bottom", fontsize=8)
    for moment in panel.moments:
        axes.axvline(moment, color=INK, lw=0.8, alpha=0.35)
    drawn = np.concatenate([line.middle for line in panel.lines])
    if drawn.min() > 0 and drawn.max() > LOG_FROM * drawn.min():
        plain_log_axis(axes, *_limits(panel))
    first, last = min(line.xs[0] for line in panel.lines), max(line.xs[-1] for line in panel.lines)
    axes.set_xlim(first - 0.02 * (last - first), last + 0.02 * (last - first) or last + 1)
    label_line_ends(axes, [(float(line.middle[-1]), line.style.short, line.style.color) for line in panel.lines])


def _limits(panel: BandPanel) -> tuple[float, float]:
    lows = [low for line in panel.lines for low in (line.low if line.method in BANDED else line.middle) if low > 0]
    highs = [high for line in panel.lines for high in (line.high if line.method in BANDED else line.middle)]
    heights = [height for height, _ in panel.marks]
    return min([*lows, *heights]) / 1.15, max([*highs, *heights]) * 1.15
