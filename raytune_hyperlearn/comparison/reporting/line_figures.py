"""A figure of plain lines, one per method: drawn for files and paper, and as data for the page's script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.across import FRACTIONS, RATIOS, TARGETS, ecdf, profile_ratios, runtimes
from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.reporting.drawing import (
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    time_axis,
)
from raytune_hyperlearn.comparison.reporting.explorer import dash_of, legend_entries, short_numbers
from raytune_hyperlearn.comparison.reporting.figure_data import FigureData
from raytune_hyperlearn.comparison.reporting.rank_figures import RanksOverTime
from raytune_hyperlearn.comparison.reporting.styles import Styles

TARGETS_TEXT = (
    f"{len(TARGETS)} regrets relative to the reference's value, from {TARGETS[0]:g} down to 0 and evenly spread on a "
    "logarithmic scale"
)
"""What counts as a target, in words."""


@dataclass(frozen=True)
class LinePanel:
    """Steps, one line per method.

    Attributes:
        title: what is shown.
        x_name: label of the abscissa.
        y_name: label of the ordinate.
        x_kind: scale of the abscissa.
        xs: abscissae of all lines, shape [G].
        lines: ordinates by method, each of shape [G].
        formula: how the ordinates follow from the records, in words.
    """

    title: str
    x_name: str
    y_name: str
    x_kind: Literal["log", "linear"]
    xs: FloatArray
    lines: dict[str, FloatArray]
    formula: str


def ecdf_panel(studies: Sequence[Study], methods: Sequence[str]) -> LinePanel:
    """Fraction of (problem, seed, target) triples reached by each fraction of the time limit."""
    lines = {method: ecdf(runtimes(studies, method), FRACTIONS) for method in methods}
    return LinePanel(
        "Targets reached",
        "fraction of the time limit",
        "fraction of (problem, seed, target)",
        "log",
        FRACTIONS,
        lines,
        "ecdf(f) = share of (problem, seed, target) triples whose first time at or below the target, over the time "
        f"limit, is at most f. The targets are {TARGETS_TEXT}.",
    )


def profile_panel(studies: Sequence[Study], methods: Sequence[str]) -> LinePanel:
    """Fraction of (problem, target) pairs reached within a multiple of the fastest method's time."""
    ratios = profile_ratios(studies, methods)
    lines = {method: ecdf(ratios[:, i], RATIOS) for i, method in enumerate(methods)}
    return LinePanel(
        "Performance profile",
        "time over the fastest method's",
        "fraction of (problem, target)",
        "log",
        RATIOS,
        lines,
        "ρ(τ) = share of (problem, target) pairs with t_method / min over methods of t <= τ, t the first time at "
        "which the median over seeds is at or below the target; pairs that no method reached are left out. The "
        f"targets are {TARGETS_TEXT}.",
    )


def rank_panel(data: RanksOverTime, methods: Sequence[str]) -> LinePanel:
    """Mean ranks over the fraction of the time limit."""
    lines = dict(zip(methods, data.mean_ranks.T, strict=True))
    return LinePanel(
        "Mean rank",
        "fraction of the time limit",
        "mean rank (1 is best)",
        "log",
        data.fractions,
        lines,
        "Rank of the median validation regret at that fraction of the time limit, 1 for the lowest, ties sharing their "
        "mean rank; mean over problems.",
    )


def draw_lines(panels: Sequence[LinePanel], styles: Styles) -> Figure:
    """Steps with the methods' names at their ends."""
    room = label_width(styles[method].short for panel in panels for method in panel.lines)

    def draw(axes: Axes, panel: LinePanel) -> None:
        light_grid(axes)
        axes.set_title(panel.title, loc="left")
        axes.set_xlabel(f"{panel.x_name} (log scale)" if panel.x_kind == "log" else panel.x_name)
        axes.set_ylabel(panel.y_name)
        if panel.x_kind == "log":
            time_axis(axes, float(panel.xs[0]), float(panel.xs[-1]))
        for method, values in panel.lines.items():
            style = styles[method]
            axes.plot(
                panel.xs,
                values,
                drawstyle="steps-post",
                color=style.color,
                ls=style.line,
                lw=1.9,
                label=style.heading,
            )
        ends = [(float(v[-1]), styles[m].short, styles[m].color) for m, v in panel.lines.items()]
        label_line_ends(axes, ends)

    return draw_grid(panels, draw, columns=2, size=(5.2, 3.6), left_margin=0.75, right_margin=room)


def line_source(panel: LinePanel, styles: Styles) -> dict[str, Any]:
    """The panel as the page's script reads it: a point wherever a step changes."""
    series = []
    for method, values in panel.lines.items():
        style = styles[method]
        places = np.unique(np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values) - 1]]))
        series.append(
            {
                "method": method,
                "name": style.label,
                "label": style.short,
                "color": style.color,
                "dash": dash_of(style),
                "width": 2.0,
                "x": short_numbers(panel.xs[places]),
                "y": short_numbers(values[places]),
            }
        )
    return {
        "series": series,
        "methods": legend_entries(tuple(panel.lines), styles),
        "stepped": True,
        "hasZero": False,
        "linearBelow": 1,
        "xName": panel.x_name,
        "xShort": f"({panel.x_name})",
        "yName": panel.y_name,
        "xKind": panel.x_kind,
        "yKind": "linear",
    }


def line_data(panel: LinePanel) -> FigureData:
    """The panel's points."""
    return FigureData(
        ("method", "position", "value"),
        tuple(
            (method, float(x), float(y))
            for method, values in panel.lines.items()
            for x, y in zip(panel.xs, values, strict=True)
        ),
        panel.formula,
    )
