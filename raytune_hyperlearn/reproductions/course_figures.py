"""Draws courses of training: loss by epoch and by second, and the batch size of every update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from raytune_hyperlearn.comparison.curves import FloatArray
from raytune_hyperlearn.comparison.drawing import draw_grid, light_grid
from raytune_hyperlearn.comparison.training_figures import TrainingLine, TrainingPanel
from raytune_hyperlearn.reproductions.courses import Course

BINS = 300
"""More updates than this are drawn as a band from the least to the largest of each bin, with the bin's mean."""
POWERS = tuple(float(2**power) for power in range(20))


@dataclass(frozen=True)
class SizesPanel:
    """Batch sizes of one training.

    Attributes:
        title: Whose.
        colour: Its line's.
        sizes: Of every update, [U].
        span: Least and largest over all panels of the figure.
    """

    title: str
    colour: str
    sizes: FloatArray
    span: tuple[float, float]


def loss_panel(title: str, courses: Iterable[Course], clock: Literal["epochs", "seconds"]) -> TrainingPanel:
    """Training loss of the courses, where it is finite, against epochs scanned or seconds of training."""
    lines = []
    for course in courses:
        shown = np.isfinite(course.losses) & (course.losses > 0)
        if shown.any():
            lines.append(TrainingLine(course.training.style, getattr(course, clock)[shown], course.losses[shown]))
    return TrainingPanel(title, "epochs" if clock == "epochs" else "seconds of training", "training loss", tuple(lines))


def mean_size_panel(title: str, courses: Iterable[Course]) -> TrainingPanel:
    """Mean batch size of every epoch."""
    lines = tuple(TrainingLine(course.training.style, course.epochs, course.mean_sizes) for course in courses)
    return TrainingPanel(title, "epochs", "mean batch size", lines)


def size_panels(courses: Sequence[Course]) -> tuple[SizesPanel, ...]:
    """Batch size of every update, one panel per course on one scale."""
    every = np.concatenate([course.sizes for course in courses])
    span = float(every.min()), float(every.max())
    return tuple(SizesPanel(c.training.name, c.training.style.colour, c.sizes, span) for c in courses)


def draw_sizes(panels: Sequence[SizesPanel]) -> Figure:
    """A step per update, or a band per bin of updates."""
    return draw_grid(panels, _draw_sizes_panel, columns=2, size=(5.6, 2.7), left_margin=0.75, right_margin=0.2)


def binned(sizes: FloatArray, bins: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Middle, least, mean and largest of ``bins`` runs of consecutive updates of nearly equal length, [bins] each."""
    edges = np.linspace(0, len(sizes), bins + 1).round().astype(int)
    parts = [sizes[start:stop] for start, stop in pairwise(edges)]
    middles = (edges[:-1] + edges[1:]) / 2
    return (middles, *(np.array([reduced(part) for part in parts]) for reduced in (np.min, np.mean, np.max)))


def power_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical logarithmic axis of batch sizes with ticks at powers of two."""
    axes.set_yscale("log", base=2)
    axes.set_ylim(low / 1.2, high * 1.2)
    axes.yaxis.set_major_locator(FixedLocator([power for power in POWERS if low / 1.2 <= power <= high * 1.2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _draw_sizes_panel(axes: Axes, panel: SizesPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel("updates")
    axes.set_ylabel("batch size")
    axes.set_xlim(0, max(len(panel.sizes), 2))
    power_axis(axes, *panel.span)
    if len(panel.sizes) <= BINS:
        axes.plot(panel.sizes, drawstyle="steps-mid", color=panel.colour, lw=1.0)
        return
    middles, least, mean, largest = binned(panel.sizes, BINS)
    axes.fill_between(middles, least, largest, color=panel.colour, alpha=0.3, lw=0, step="mid")
    axes.plot(middles, mean, color=panel.colour, lw=1.3)
