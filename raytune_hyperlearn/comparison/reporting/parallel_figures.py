"""Parallel coordinates: what was tried and what each method found, a line per setting and an axis per value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray, score, scores
from raytune_hyperlearn.comparison.analysis.importance import value_name
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.analysis.rows import thinned
from raytune_hyperlearn.comparison.analysis.settings import Bounds, Value, bounds_of, values_of
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reporting.drawing import INK, draw_grid, label_line_ends, label_width
from raytune_hyperlearn.comparison.reporting.figure_blocks import FigureBlock, FigureFiles
from raytune_hyperlearn.comparison.reporting.figure_data import Cell, FigureData
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles
from raytune_hyperlearn.comparison.reporting.wording import number, quantity_name

MOST_AXES = 9
"""Values that have an axis; more would leave no room for their names."""
MOST_LINES = 200
"""Settings tried that are drawn; more would be one blot."""
DRAW_SEED = 0


@dataclass(frozen=True)
class ParallelPanel:
    """Settings over their values, and what they scored.

    Attributes:
        names: of the axes, the score's last [A].
        spans: lowest and highest value of each axis, and whether it is logarithmic [A].
        tried: evaluations of all methods, shape [L, A].
        found: style of each method and its best run's incumbent, shape [A].
        evaluations: how many there are that ``tried`` was drawn from.
        values: how many values there are that the axes were chosen from.
        left_out: methods whose schedules have other values than most methods', such as one rate per epoch.
    """

    names: tuple[str, ...]
    spans: tuple[Bounds, ...]
    tried: FloatArray
    found: tuple[tuple[MethodStyle, FloatArray], ...]
    evaluations: int
    values: int
    left_out: tuple[str, ...] = ()


def parallel_panels(study: Study, styles: Styles) -> tuple[ParallelPanel, ...]:
    """One panel; none where fewer than two values were moved or nothing scored."""
    best = {method: _best(study, study.runs_of(method)) for method in study.methods}
    known = {method: row for method, row in best.items() if row is not None}
    kinds = Counter(frozenset(values_of(row)) for row in known.values())
    found = {method: row for method, row in known.items() if frozenset(values_of(row)) == kinds.most_common(1)[0][0]}
    tried, evaluations = _tried(study, [result for method in found for result in study.runs_of(method)])
    every = [*tried, *found.values()]
    bounds = {
        value: ends for value, ends in bounds_of(study, every).items() if all(value in values_of(row) for row in every)
    }
    if len(bounds) < 2:
        return ()
    shown = _telling(study, every, list(bounds))
    what = quantity_name(study, "validation")
    return (
        ParallelPanel(
            (*(value_name(*value) for value in shown), what),
            (*(bounds[value] for value in shown), _span([_scored(study, row) for row in every])),
            np.array([_line(study, row, shown) for row in tried]).reshape(-1, len(shown) + 1),
            tuple((styles[method], np.array(_line(study, row, shown))) for method, row in found.items()),
            evaluations,
            len(bounds),
            tuple(styles[method].label for method in known if method not in found),
        ),
    )


def draw_parallel(panels: Sequence[ParallelPanel]) -> Figure:
    """What was tried in gray, each method's find in its color."""
    room = label_width(style.short for panel in panels for style, _ in panel.found)
    return draw_grid(panels, _draw, columns=1, size=(9.8, 4.0), left_margin=0.6, right_margin=room)


def parallel_data(panels: Sequence[ParallelPanel]) -> FigureData:
    """A row per line and axis."""
    rows: list[tuple[Cell, ...]] = []
    for panel in panels:
        lines = [("tried", line) for line in panel.tried] + [(style.label, line) for style, line in panel.found]
        rows += [
            (whose, i, name, float(at))
            for i, (whose, line) in enumerate(lines)
            for name, at in zip(panel.names, line, strict=True)
        ]
    return FigureData(
        ("of", "line", "axis", "value"),
        tuple(rows),
        "The lines named tried are evaluations at the budget that most evaluations had; a method's line is the "
        "incumbent of its run with the lowest final validation value." + thinned_text(panels),
    )


def parallel_blocks(study: Study, styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """Settings over their values, for the page."""
    panels = parallel_panels(study, styles)
    return files.block(
        "parallel-coordinates",
        "What was tried, and what was found",
        draw_parallel,
        panels,
        "An axis per value and a last one for the score, logarithmic where it spans a power of ten. Gray: evaluations "
        "of all methods at the budget that most had. In color: the incumbent of each method's best run, whatever its "
        "budget." + thinned_text(panels),
        "wide",
        parallel_data(panels),
    )


def thinned_text(panels: Sequence[ParallelPanel]) -> str:
    """Sentences that say what is not drawn; empty where all is."""
    said = ""
    for panel in panels:
        if panel.evaluations > len(panel.tried):
            said += f" {len(panel.tried)} of {panel.evaluations:,} evaluations are drawn, chosen at random."
        if panel.values > len(panel.names) - 1:
            said += (
                f" Of {panel.values} values the {len(panel.names) - 1} have an axis whose rank correlation with the "
                "score is the largest."
            )
        if panel.left_out:
            said += f" Left out, because their schedules have other values: {', '.join(panel.left_out)}."
    return said


def _tried(study: Study, results: Sequence[RunResult]) -> tuple[list[Record], int]:
    """Scored evaluations at the most common budget, at most so many, and how many there are."""
    every = [study.records_in_time(result) for result in results]
    usable = [rows.only(np.isfinite(scores(rows, study.metric)) & rows.column("has_setting")) for rows in every]
    budgets, counts = np.unique(np.concatenate([[], *(rows.column("budget") for rows in usable)]), return_counts=True)
    if not counts.size:
        return [], 0
    kept = [rows.only(rows.column("budget") == budgets[counts.argmax()]) for rows in usable]
    total = int(counts.max())
    places, drawn = thinned(total, MOST_LINES, DRAW_SEED), list[Record]()
    for rows in kept:
        drawn += rows.only(places[(places >= 0) & (places < len(rows))])
        places = places - len(rows)
    return drawn, total


def _best(study: Study, results: Sequence[RunResult]) -> Record | None:
    known = [
        result.incumbent for result in results if result.incumbent is not None and result.incumbent.hyperparameters
    ]
    return min(known, key=lambda row: score(row, study.metric), default=None)


def _telling(study: Study, rows: Sequence[Record], values: Sequence[Value]) -> list[Value]:
    """The values that go most with the score, in the order of the space."""
    if len(values) <= MOST_AXES:
        return list(values)
    scored = [score(row, study.metric) for row in rows]
    by_value = [[values_of(row)[value] for row in rows] for value in values]
    strength = [0.0 if np.ptp(own) == 0 else abs(scipy.stats.spearmanr(own, scored).statistic) for own in by_value]
    strongest = np.argsort(-np.nan_to_num(strength), kind="stable")[:MOST_AXES]
    return [values[i] for i in sorted(strongest)]


def _line(study: Study, row: Record, shown: Sequence[Value]) -> list[float]:
    own = values_of(row)
    return [*(own[value] for value in shown), _scored(study, row)]


def _scored(study: Study, row: Record) -> float:
    zero = study.zero("validation")
    return score(row, study.metric) - (zero if study.metric == "validation_loss" else -zero)


def _span(values: Sequence[float]) -> Bounds:
    low, high = min(values), max(values)
    return Bounds(low, high if high > low else low + 1.0, is_log=0 < low < high / 10)


def _heights(spans: Sequence[Bounds], lines: FloatArray) -> FloatArray:
    """Where values stand between the ends of their axes, in [0, 1]; shapes [L, A]."""
    columns = []
    for span, own in zip(spans, lines.T, strict=True):
        low, high, at = (np.log(part) if span.is_log else np.asarray(part) for part in (span.low, span.high, own))
        columns.append((at - low) / (high - low))
    return np.stack(columns, axis=1)


def _draw(axes: Axes, panel: ParallelPanel) -> None:
    places = np.arange(len(panel.names))
    axes.set_xlim(0, places[-1])
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    labels = [
        f"{number(span.low)}\n{name.replace(' ', chr(10), 1)}"
        for name, span in zip(panel.names, panel.spans, strict=True)
    ]
    axes.set_xticks(places, labels, fontsize=8, parse_math=False)
    for place, span in zip(places, panel.spans, strict=True):
        axes.axvline(float(place), color=INK, lw=0.7, alpha=0.5)
        axes.annotate(number(span.high), (place, 1.02), ha="center", va="bottom", fontsize=8, annotation_clip=False)
    if len(panel.tried):
        heights = _heights(panel.spans, panel.tried)
        segments = [np.column_stack([places, line]) for line in heights]
        # As lines, not as pixels: a picture of lines that cross takes seven times as much of the page.
        axes.add_collection(LineCollection(segments, colors=INK, alpha=0.12, linewidths=0.7))
    ends = []
    for style, line in panel.found:
        (heights,) = _heights(panel.spans, line[None])
        axes.plot(
            places,
            heights,
            color=style.color,
            ls=style.line,
            lw=2,
            marker=style.marker,
            markersize=4,
            label=style.heading,
        )
        ends.append((float(heights[-1]), style.short, style.color))
    label_line_ends(axes, ends)
