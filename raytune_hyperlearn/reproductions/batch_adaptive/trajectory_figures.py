"""Draws trajectories of training over seeds: loss by epoch and by second, and the batch size of every update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import (
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    plain_log_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle
from raytune_hyperlearn.comparison.reporting.training_figures import FEW_TICKS, draw_trajectory
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Seeds

BINS = 800
"""More updates than this are drawn as a band from the least to the largest of each bin, with the bin's mean."""
POWERS = tuple(float(2**power) for power in range(20))


@dataclass(frozen=True)
class SeedsLine:
    """What one training gave over its seeds.

    Attributes:
        style: Its appearance.
        xs: Abscissae, ascending, [E].
        low: Least over seeds, [E].
        median: Median over seeds, positive and finite, [E].
        high: Largest over seeds, infinite where one diverged, [E].
    """

    style: MethodStyle
    xs: FloatArray
    low: FloatArray
    median: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class SeedsPanel:
    """Trainings side by side.

    Attributes:
        title: What is shown.
        x_name: Label of the abscissa.
        y_name: Label of the ordinate.
        ordinate: Scales the ordinate of axes to the least and the largest value shown.
        lines: One per training.
        span: Least and largest ordinate to make room for, or None for those of the lines.
    """

    title: str
    x_name: str
    y_name: str
    ordinate: Callable[[Axes, float, float], None]
    lines: tuple[SeedsLine, ...]
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class SizesPanel:
    """Batch sizes of one training.

    Attributes:
        title: Whose.
        color: Its lines'.
        seeds: Of every update, [U], for each seed.
        span: Least and largest over all panels of the figure.
    """

    title: str
    color: str
    seeds: tuple[FloatArray, ...]
    span: tuple[float, float]


def loss_panel(title: str, trainings: Iterable[Seeds], clock: Literal["epochs", "seconds"]) -> SeedsPanel:
    """Training loss after each epoch, against epochs scanned or the median over seeds of the seconds of training."""
    lines = []
    for trajectories in trainings:
        losses = stacked([trajectory.losses for trajectory in trajectories], np.inf)
        xs = np.nanmedian(stacked([getattr(trajectory, clock) for trajectory in trajectories], np.nan), axis=0)
        lines.append(line_of(trajectories, xs, losses))
    return SeedsPanel(
        title, "epochs" if clock == "epochs" else "seconds of training", "training loss", loss_axis, _shown(lines)
    )


def mean_size_panel(title: str, trainings: Iterable[Seeds]) -> SeedsPanel:
    """Mean batch size of every epoch that all seeds trained for."""
    lines = []
    for trajectories in trainings:
        epochs = min(len(trajectory.epochs) for trajectory in trajectories)
        sizes = np.stack([trajectory.mean_sizes[:epochs] for trajectory in trajectories])
        lines.append(line_of(trajectories, trajectories[0].epochs[:epochs], sizes))
    return SeedsPanel(title, "epochs", "mean batch size", power_axis, _shown(lines))


def stacked(series: Sequence[FloatArray], fill: float) -> FloatArray:
    """Series of unequal length, a row each and filled up: a training that diverged ends early, [S, E]."""
    length = max(map(len, series))
    return np.stack([np.pad(one, (0, length - len(one)), constant_values=fill) for one in series])


def line_of(trajectories: Seeds, xs: FloatArray, values: FloatArray) -> SeedsLine:
    """The line of values [S, E], where their median is positive and finite."""
    low, median, high = values.min(axis=0), np.median(values, axis=0), values.max(axis=0)
    kept = np.isfinite(median) & (median > 0)
    return SeedsLine(trajectories[0].training.style, xs[kept], low[kept], median[kept], high[kept])


def on_one_scale(panels: Sequence[SeedsPanel]) -> list[SeedsPanel]:
    """The panels with room for the values of all of them, so that they compare at a glance."""
    lows, highs = zip(*map(span_of, panels), strict=True)
    return [replace(panel, span=(min(lows), max(highs))) for panel in panels]


def span_of(panel: SeedsPanel) -> tuple[float, float]:
    """Least and largest value that a panel makes room for."""
    if panel.span is not None:
        return panel.span
    every = np.concatenate([values for line in panel.lines for values in (line.low, line.median, line.high)])
    known = every[np.isfinite(every) & (every > 0)]
    return float(known.min()), float(known.max())


def draw_over_seeds(panels: Sequence[SeedsPanel], columns: int = 2, width: float = 4.3) -> Figure:
    """A line with markers per training, in a band over its seeds.

    Args:
        panels: What is drawn, row by row.
        columns: Panels in a row.
        width: Of a panel with its labels, inches.
    """
    room = label_width(line.style.short for panel in panels for line in panel.lines)
    return draw_grid(panels, _draw_seeds_panel, columns, (width, 3.3), left_margin=0.75, right_margin=room)


def band_note(seeds: int) -> str:
    """How lines and bands of :func:`draw_over_seeds` are read."""
    return f"Lines are medians over {seeds} seeds, bands reach from the least to the largest of them."


def size_panels(trainings: Sequence[Seeds]) -> tuple[SizesPanel, ...]:
    """Batch size of every update, one panel per training on one scale."""
    every = np.concatenate([trajectory.sizes for trajectories in trainings for trajectory in trajectories])
    span = float(every.min()), float(every.max())
    return tuple(
        SizesPanel(
            one[0].training.name, one[0].training.style.color, tuple(trajectory.sizes for trajectory in one), span
        )
        for one in trainings
    )


def draw_sizes(panels: Sequence[SizesPanel]) -> Figure:
    """A step per update, or a band per bin of updates; a line per seed."""
    return draw_grid(panels, _draw_sizes_panel, columns=2, size=(5.6, 2.7), left_margin=0.75, right_margin=0.2)


def binned(sizes: FloatArray, bins: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Middle, least, mean and largest of ``bins`` runs of consecutive updates of nearly equal length, [bins] each."""
    edges = np.linspace(0, len(sizes), bins + 1).round().astype(int)
    parts = [sizes[start:stop] for start, stop in pairwise(edges)]
    middles = (edges[:-1] + edges[1:]) / 2
    return (middles, *(np.array([reduced(part) for part in parts]) for reduced in (np.min, np.mean, np.max)))


def loss_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical axis of losses, logarithmic where they span enough for round numbers to mark."""
    if high > FEW_TICKS * low:
        plain_log_axis(axes, low / 1.15, high * 1.15)
    else:
        margin = 0.05 * (high - low) or 0.05 * high
        axes.set_ylim(low - margin, high + margin)


def power_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical logarithmic axis of batch sizes with ticks at powers of two."""
    axes.set_yscale("log", base=2)
    axes.set_ylim(low / 1.2, high * 1.2)
    axes.yaxis.set_major_locator(FixedLocator([power for power in POWERS if low / 1.2 <= power <= high * 1.2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _shown(lines: Iterable[SeedsLine]) -> tuple[SeedsLine, ...]:
    return tuple(line for line in lines if len(line.xs))


def _draw_seeds_panel(axes: Axes, panel: SeedsPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_name)
    axes.set_ylabel(panel.y_name)
    low, high = span_of(panel)
    panel.ordinate(axes, low, high)
    right = 1.02 * max(float(line.xs[-1]) for line in panel.lines)
    axes.set_xlim(0, right)
    for line in panel.lines:
        _draw_line(axes, line, high)
    ends = {line.style.short: (float(line.median[-1]), line.style.short, line.style.color) for line in panel.lines}
    label_line_ends(axes, list(ends.values()))


def _draw_line(axes: Axes, line: SeedsLine, top: float) -> None:
    axes.fill_between(line.xs, line.low, np.minimum(line.high, top), color=line.style.color, alpha=0.15, lw=0)
    draw_trajectory(axes, line.xs, line.median, line.style)


def _draw_sizes_panel(axes: Axes, panel: SizesPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel("updates")
    axes.set_ylabel("batch size")
    axes.set_xlim(0, max(2, *map(len, panel.seeds)))
    power_axis(axes, *panel.span)
    for sizes in panel.seeds:
        if len(sizes) <= BINS:
            axes.plot(sizes, drawstyle="steps-mid", color=panel.color, lw=0.9, alpha=0.7)
            continue
        middles, least, mean, largest = binned(sizes, BINS)
        axes.fill_between(middles, least, largest, color=panel.color, alpha=0.3, lw=0, step="mid")
        axes.plot(middles, mean, color=panel.color, lw=0.9, alpha=0.7)
