"""Ranks over several problems: how they develop over time, and the critical-difference diagram at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.across import common_methods
from raytune_hyperlearn.comparison.analysis.curves import FloatArray, StepCurve, across_seeds
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import CriticalDifference, critical_difference, ranks
from raytune_hyperlearn.comparison.analysis.summary import summarize
from raytune_hyperlearn.comparison.reporting.drawing import INK, look
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles


@dataclass(frozen=True)
class RanksOverTime:
    """Mean rank of each method over problems, by the fraction of the time limit that has passed.

    Attributes:
        styles: the methods' appearances [k].
        fractions: fractions of the time limit [G].
        mean_ranks: 1 is best, shape [G, k].
    """

    styles: tuple[MethodStyle, ...]
    fractions: FloatArray
    mean_ranks: FloatArray


def final_ranks(studies: Sequence[Study]) -> CriticalDifference:
    """Ranks by the final median validation regret on each problem."""
    methods = common_methods(studies)
    scores = [[summarize(study)[method].validation.median for method in methods] for study in studies]
    return critical_difference(methods, scores)


def ranks_over_time(studies: Sequence[Study], styles: Styles) -> RanksOverTime:
    """Ranks by the median validation regret so far; a method without a result in most of its runs ranks last."""
    methods = common_methods(studies)
    fractions = np.geomspace(0.01, 1.0, 200)
    medians = np.array([[_median_at(study, m, fractions) for m in methods] for study in studies])  # [N, k, G]
    begun = np.isfinite(medians).any(axis=1).all(axis=0)
    mean_ranks = ranks(np.moveaxis(medians, 1, 2)).mean(axis=0)  # [G, k]
    return RanksOverTime(tuple(styles[m] for m in methods), fractions[begun], mean_ranks[begun])


def draw_critical_difference(data: CriticalDifference, styles: Styles) -> Figure:
    """Methods on an axis of mean ranks; a bar joins those that Nemenyi's test cannot tell apart."""
    count = len(data.methods)
    half = math.ceil(count / 2)
    first_row = -0.3 - 0.14 * len(data.groups)
    bottom, top = first_row - 0.27 * (half - 1) - 0.15, 0.7
    with look():
        figure = Figure(figsize=(5.4, top - bottom))
        axes = figure.add_axes((0.2, 0.0, 0.6, 1.0))
        axes.set_xlim(1, max(count, 2))
        axes.set_ylim(bottom, top)  # one unit is one inch
        axes.set_axis_off()
        axes.hlines(0, 1, max(count, 2), color=INK, lw=1.2)
        for tick in range(1, max(count, 2) + 1):
            axes.vlines(tick, 0, 0.08, color=INK, lw=1.2)
            axes.text(tick, 0.12, str(tick), ha="center", va="bottom")
        for place, (method, rank) in enumerate(zip(data.methods, data.mean_ranks, strict=True)):
            on_left = place < half
            row = place if on_left else count - 1 - place
            _draw_stem(axes, styles[method], rank, first_row - 0.27 * row, on_left=on_left)
        for depth, (first, last) in enumerate(data.groups):
            level = -0.14 * (depth + 1)
            axes.hlines(level, data.mean_ranks[first] - 0.04, data.mean_ranks[last] + 0.04, color=INK, lw=4)
        if math.isfinite(data.difference):
            axes.hlines(0.47, 1, 1 + data.difference, color=INK, lw=1.5, clip_on=False)
            axes.text(
                1 + data.difference, 0.47, f"  critical difference {data.difference:.2f}", va="center", fontsize=8
            )
    return figure


def _draw_stem(axes: Axes, style: MethodStyle, rank: float, level: float, on_left: bool) -> None:
    low, high = axes.get_xlim()
    edge = low if on_left else high
    axes.plot([rank, rank, edge], [0, level, level], color=style.color, lw=1.3, clip_on=False)
    axes.plot([rank], [0], color=style.color, marker=style.marker, markersize=6, clip_on=False)
    axes.annotate(
        f"{style.short} {rank:.2f}",
        (edge, level),
        xytext=(-4 if on_left else 4, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        annotation_clip=False,
    )


def _median_at(study: Study, method: str, fractions: FloatArray) -> FloatArray:
    band = across_seeds([study.curve(result, "validation") for result in study.runs_of(method)])
    return StepCurve(band.times, band.median).at(fractions * study.experiment.time_limit)
