"""Draws what FDS and hypergradient descent learned: values over the training, and accuracy over the outer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import draw_grid, light_grid
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, MethodStyle

FDS, HD = METHOD_STYLES["fds"], METHOD_STYLES["hd"]


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        xs: Abscissae.
        values: What is shown; steps between them, or straight lines.
        style: Of the method.
        label: In the legend, or empty.
        width: Of the line.
        alpha: Opacity.
        stairs: Whether a value lasts until the next.
    """

    xs: FloatArray
    values: FloatArray
    style: MethodStyle
    label: str
    width: float
    alpha: float = 1.0
    stairs: bool = True


@dataclass(frozen=True)
class Panel:
    """Lines side by side.

    Attributes:
        title: What is shown.
        x_name: Label of the abscissa.
        lines: In the order of drawing.
    """

    title: str
    x_name: str
    lines: tuple[Line, ...]


def value_panels(
    names: Sequence[str], outer: Sequence[Sequence[Values]], chosen: Sequence[Values], descent: Sequence[Values]
) -> list[Panel]:
    """A panel per hyperparameter.

    Args:
        names: Of the hyperparameters.
        outer: FDS's values by seed and outer step.
        chosen: Those of every seed's best outer step.
        descent: HD's values by seed, one per epoch.
    """
    panels = []
    for name in names:
        lines = [
            _stairs(values[name], FDS, "", 0.7, 0.1 + 0.5 * index / len(steps))
            for steps in outer
            for index, values in enumerate(steps, start=1)
        ]
        lines += [_stairs(values[name], FDS, "FDS", 2.4) for values in chosen]
        lines += [_stairs(values[name], HD, "HD", 1.6) for values in descent]
        panels.append(Panel(name.replace("_", " ").capitalize(), "fraction of the training", tuple(lines)))
    return panels


def accuracy_panel(accuracies: Sequence[Sequence[float]], descent: float) -> Panel:
    """Test accuracy in per cent: of FDS by seed and outer step, and HD's at its end."""
    lines = [
        Line(1.0 + np.arange(len(own), dtype=np.float64), 100 * np.asarray(own), FDS, "FDS", 1.6, stairs=False)
        for own in accuracies
    ]
    last = max(map(len, accuracies))
    level = Line(np.array([1.0, last]), np.full(2, 100 * descent), HD, "HD", 1.6, stairs=False)
    return Panel("Test accuracy, %", "outer step", (*lines, level))


def draw_learned(panels: Sequence[Panel]) -> Figure:
    """Two panels to a row."""
    return draw_grid(panels, _draw_panel, columns=2, size=(5.2, 3.3), left_margin=0.75, right_margin=0.2)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_name)
    for line in panel.lines:
        axes.plot(
            line.xs,
            line.values,
            drawstyle="steps-post" if line.stairs else "default",
            color=line.style.color,
            ls=line.style.line,
            lw=line.width,
            alpha=line.alpha,
            label=line.label or None,
        )
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    axes.legend(list(named.values()), list(named), loc="best", frameon=False, fontsize=8)


def _stairs(values: Sequence[float], style: MethodStyle, label: str, width: float, alpha: float = 1.0) -> Line:
    edges: FloatArray = np.linspace(0, 1, len(values) + 1, dtype=np.float64)
    return Line(edges, np.array([*values, values[-1]], dtype=np.float64), style, label, width, alpha)
