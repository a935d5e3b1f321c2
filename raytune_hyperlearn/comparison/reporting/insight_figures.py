"""How schedules moved over outer steps, hypergradients and windows, and which trial each worker was busy with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.analysis.importance import outer_steps
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.analysis.summary import final_regret
from raytune_hyperlearn.comparison.reporting.drawing import INK, draw_grid, light_grid
from raytune_hyperlearn.comparison.reporting.method_figures import CROWDED
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles

MOST_TRIALS = 400
"""Evaluations of a run that the timeline draws; a crowd of more would be a solid bar."""
BEHIND_WINDOWS = 4
"""Outer steps that windows are chosen by; a report is made without torch, which ``algorithms.windows`` needs."""


@dataclass(frozen=True)
class OuterStepsPanel:
    """One hyperparameter, or its hypergradient, over the outer steps of a run.

    Attributes:
        title: what is shown.
        value_name: label of the ordinate.
        style: the method's appearance.
        steps: outer steps, shape [T].
        values: one line per value of the schedule, shape [T, N].
        has_zero: whether zero is marked.
    """

    title: str
    value_name: str
    style: MethodStyle
    steps: FloatArray
    values: FloatArray
    has_zero: bool


@dataclass(frozen=True)
class WindowsPanel:
    """What the windows of one schedule were last chosen by.

    Attributes:
        title: what is shown.
        style: the method's appearance.
        entries: hypergradient of every part of the training, one row per outer step, each with a mean square of 1,
            shape [R, N].
        ends: where the windows end, as fractions of the training, shape [W].
    """

    title: str
    style: MethodStyle
    entries: FloatArray
    ends: FloatArray


@dataclass(frozen=True)
class TimelinePanel:
    """Which evaluation each worker was busy with, in one run.

    Attributes:
        style: the method's appearance.
        seed: seed of the run.
        starts: seconds, shape [E].
        ends: seconds, shape [E].
        lanes: worker of each evaluation, from 0, shape [E].
        budgets: as a fraction of the full budget, shape [E].
        failed: whether each failed, shape [E].
        limit: the time limit in seconds.
        left_out: later evaluations of the run.
    """

    style: MethodStyle
    seed: int
    starts: FloatArray
    ends: FloatArray
    lanes: FloatArray
    budgets: FloatArray
    failed: FloatArray
    limit: float
    left_out: int


def outer_step_panels(study: Study, styles: Styles) -> tuple[OuterStepsPanel, ...]:
    """Two panels per hyperparameter of each method that reports hypergradients: its best run's values and gradients."""
    panels = []
    for method in study.methods:
        best = min(study.runs_of(method), key=lambda result: final_regret(study, result, "validation"))
        for steps in outer_steps(study, best):
            name, style = steps.name.replace("_", " "), styles[method]
            scaled = steps.hypergradients * steps.width
            panels += [
                OuterStepsPanel(f"{style.short}: {name}", name, style, steps.steps, steps.values, False),
                OuterStepsPanel(f"{style.short}: its hypergradient", "dL/dλ × range", style, steps.steps, scaled, True),
            ]
    return tuple(panels)


def draw_outer_steps(panels: Sequence[OuterStepsPanel]) -> Figure:
    """A line per value of the schedule, from light at the start of the training to dark at its end."""
    return draw_grid(panels, _draw_outer_steps, columns=2, size=(4.4, 2.6), left_margin=0.8, right_margin=0.2)


def windows_panels(study: Study, styles: Styles) -> tuple[WindowsPanel, ...]:
    """One panel per schedule whose windows are chosen, of each method's best run."""
    panels = []
    for method in study.methods:
        best = min(study.runs_of(method), key=lambda result: final_regret(study, result, "validation"))
        for steps in outer_steps(study, best):
            rows = steps.hypergradients[-1 - BEHIND_WINDOWS : -1]
            if steps.windows and len(rows):
                size = np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
                entries = rows / np.where(size > 0, size, 1.0)
                ends = np.cumsum(steps.windows) / rows.shape[1]
                title = f"{styles[method].short}: {steps.name.replace('_', ' ')}"
                panels.append(WindowsPanel(title, styles[method], entries, ends))
    return tuple(panels)


def draw_windows(panels: Sequence[WindowsPanel]) -> Figure:
    """Every other window is shaded; the darkest line is the last outer step's."""
    return draw_grid(panels, _draw_windows, columns=2, size=(4.4, 2.6), left_margin=0.8, right_margin=0.2)


def timeline_panels(study: Study, styles: Styles) -> tuple[TimelinePanel, ...]:
    """The first run of each method."""
    panels = (_timeline(study, study.runs_of(method)[0], styles[method]) for method in study.methods)
    return tuple(panel for panel in panels if panel.starts.size)


def draw_timelines(panels: Sequence[TimelinePanel]) -> Figure:
    """A bar per evaluation on its worker's lane, darker for a larger budget, black where it failed."""
    lanes = max(int(panel.lanes.max()) + 1 for panel in panels)
    size = (4.6, 1.15 + 0.28 * lanes)
    return draw_grid(panels, _draw_timeline, columns=2, size=size, left_margin=0.4, right_margin=0.2)


def lanes_of(starts: FloatArray, ends: FloatArray) -> FloatArray:
    """A worker for each evaluation: the lowest that is free when it starts, shape [E] for starts and ends [E]."""
    lanes, free = np.zeros(len(starts)), [-np.inf]
    for place in np.argsort(starts, kind="stable"):
        open_lanes = [lane for lane, until in enumerate(free) if until <= starts[place] + 1e-9]
        lane = open_lanes[0] if open_lanes else len(free)
        if not open_lanes:
            free.append(ends[place])
        free[lane] = ends[place]
        lanes[place] = lane
    return lanes


def _timeline(study: Study, result: RunResult, style: MethodStyle) -> TimelinePanel:
    every = study.records_in_time(result)
    rows = every[:MOST_TRIALS]
    ends = rows.column("time")
    starts = np.maximum(ends - np.nan_to_num(rows.column("training_seconds")), 0.0)
    return TimelinePanel(
        style=style,
        seed=result.seed,
        starts=starts,
        ends=ends,
        lanes=lanes_of(starts, ends),
        budgets=rows.column("budget") / study.experiment.epochs,
        failed=(~rows.is_completed).astype(float),
        limit=study.experiment.time_limit,
        left_out=len(every) - len(rows),
    )


def _draw_outer_steps(axes: Axes, panel: OuterStepsPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left", fontsize=10, parse_math=False)
    axes.set_xlabel("outer step")
    axes.set_ylabel(panel.value_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.has_zero:
        axes.axhline(0, color=INK, lw=0.8)
    count = panel.values.shape[1]
    for i, line in enumerate(panel.values.T):
        alpha = 0.35 + 0.65 * (i + 1) / count
        axes.plot(panel.steps, line, color=panel.style.color, lw=1.5, alpha=alpha, marker=".", markersize=4)


def _draw_windows(axes: Axes, panel: WindowsPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left", fontsize=10, parse_math=False)
    axes.set_xlabel("fraction of the training")
    axes.set_ylabel("dL/dλ, scaled")
    axes.set_xlim(0, 1)
    axes.axhline(0, color=INK, lw=0.8)
    for first, end in list(pairwise((0.0, *panel.ends)))[::2]:
        axes.axvspan(first, end, color=INK, alpha=0.08, lw=0)
    count, parts = panel.entries.shape
    edges = np.linspace(0, 1, parts + 1)
    for i, row in enumerate(panel.entries):
        alpha = 0.35 + 0.65 * (i + 1) / count
        axes.stairs(row, edges, baseline=None, color=panel.style.color, lw=1.4, alpha=alpha)


def _draw_timeline(axes: Axes, panel: TimelinePanel) -> None:
    axes.set_title(f"{panel.style.heading}, seed {panel.seed}", loc="left", fontsize=10)
    axes.set_xlabel("wall-clock seconds")
    axes.set_xlim(0, panel.limit)
    lanes = int(panel.lanes.max()) + 1
    axes.set_ylim(lanes - 0.4, -0.6)
    axes.set_yticks(range(lanes), [str(lane + 1) for lane in range(lanes)])
    corners = [
        [(start, lane - 0.4), (end, lane - 0.4), (end, lane + 0.4), (start, lane + 0.4)]
        for start, end, lane in zip(panel.starts, panel.ends, panel.lanes, strict=True)
    ]
    alphas = 0.25 + 0.65 * np.clip(panel.budgets, 0.0, 1.0)
    colors = [to_rgba(INK if failed else panel.style.color, a) for a, failed in zip(alphas, panel.failed, strict=True)]
    crowded = len(corners) > CROWDED
    bars = PolyCollection(corners, facecolors=colors, edgecolors=INK, linewidths=0.3, rasterized=crowded)
    axes.add_collection(bars, autolim=False)
