"""How the training loss falls, by epochs and by seconds, and the batch sizes that it fell with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.rows import evenly
from raytune_hyperlearn.comparison.reporting.drawing import (
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    plain_log_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles

MOST_POINTS = 1000
"""Points of a line; a figure is not as many pixels wide."""
FEW_TICKS = 4.0
"""A logarithmic axis that spans less than this factor has hardly a round number to mark: it is drawn linear."""


@dataclass(frozen=True)
class TrainingLine:
    """One run.

    Attributes:
        style: the method's appearance.
        xs: abscissae in the order of training, shape [E].
        values: what is shown, positive and finite, shape [E].
        left_out: points of the run between these that are not drawn.
    """

    style: MethodStyle
    xs: FloatArray
    values: FloatArray
    left_out: int = 0


@dataclass(frozen=True)
class TrainingPanel:
    """Runs side by side.

    Attributes:
        title: what the panel shows.
        x_name: label of the abscissa.
        y_name: label of the ordinate.
        lines: one per run.
    """

    title: str
    x_name: str
    y_name: str
    lines: tuple[TrainingLine, ...]


def training_panels(study: Study, styles: Styles) -> tuple[TrainingPanel, ...]:
    """Training loss by epochs and by seconds, mean batch size by epochs; nothing where no record tells it."""
    shown = (
        ("Training loss by epoch", "epochs", "training loss", "budget", "training_loss"),
        ("Training loss by second", "wall-clock seconds", "training loss", "time", "training_loss"),
        ("Batch size by epoch", "epochs", "mean batch size", "budget", "mean_batch_size"),
    )
    panels = (
        TrainingPanel(title, x_name, y_name, _lines(study, styles, x, entry))
        for title, x_name, y_name, x, entry in shown
    )
    return tuple(panel for panel in panels if panel.lines)


def draw_training(panels: Sequence[TrainingPanel]) -> Figure:
    """A line with markers per run, on a logarithmic ordinate where it spans enough."""
    room = label_width(line.style.short for panel in panels for line in panel.lines)
    return draw_grid(panels, _draw_training_panel, columns=3, size=(4.3, 3.3), left_margin=0.75, right_margin=room)


def _lines(study: Study, styles: Styles, x: str, entry: str) -> tuple[TrainingLine, ...]:
    lines = []
    for result in study.runs.values():
        rows = study.records_in_time(result)
        told = np.where(np.isfinite(rows.column(entry)), rows.column(entry), 0.0) > 0
        kept = rows.only(told & rows.is_completed)
        if kept:
            drawn = kept.only(evenly(len(kept), MOST_POINTS))
            left_out = len(kept) - len(drawn)
            lines.append(TrainingLine(styles[result.method], drawn.column(x), drawn.column(entry), left_out))
    return tuple(lines)


def _draw_training_panel(axes: Axes, panel: TrainingPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_name)
    axes.set_ylabel(panel.y_name)
    every = np.concatenate([line.values for line in panel.lines])
    if every.max() > FEW_TICKS * every.min():
        plain_log_axis(axes, float(every.min()) / 1.15, float(every.max()) * 1.15)
    last = max(float(line.xs[-1]) for line in panel.lines)
    axes.set_xlim(0, last * 1.02)
    ends: dict[str, tuple[float, str, str]] = {}
    for line in panel.lines:
        style = line.style
        draw_trajectory(axes, line.xs, line.values, style)
        ends.setdefault(style.short, (float(line.values[-1]), style.short, style.color))
    label_line_ends(axes, list(ends.values()))


def draw_trajectory(axes: Axes, xs: FloatArray, values: FloatArray, style: MethodStyle) -> None:
    """One line with a dozen markers and a thin leader from its end to the right border, which must be set."""
    axes.plot(
        xs,
        values,
        color=style.color,
        ls=style.line,
        lw=1.8,
        marker=style.marker,
        markersize=4,
        markevery=max(1, len(xs) // 12),
        label=style.heading,
    )
    axes.plot([xs[-1], axes.get_xlim()[1]], [values[-1]] * 2, color=style.color, ls=":", lw=0.7)
