"""The report's figures ready for a page: each drawn panel by panel as SVG elements, and saved as one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.across import common_methods
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import CriticalDifference
from raytune_hyperlearn.comparison.reporting.drawing import inline_svg, name_lines, save_figure
from raytune_hyperlearn.comparison.reporting.explorer import json_block, regret_explorer, shown_clocks
from raytune_hyperlearn.comparison.reporting.figure_data import (
    FigureData,
    evaluation_data,
    outer_step_data,
    rank_data,
    regret_data,
    schedule_data,
    timeline_data,
    training_data,
    value_data,
    windows_data,
)
from raytune_hyperlearn.comparison.reporting.insight_figures import (
    MOST_TRIALS,
    draw_outer_steps,
    draw_timelines,
    draw_windows,
    outer_step_panels,
    timeline_panels,
    windows_panels,
)
from raytune_hyperlearn.comparison.reporting.line_figures import (
    TARGETS_TEXT,
    LinePanel,
    draw_lines,
    ecdf_panel,
    line_data,
    line_source,
    profile_panel,
    rank_panel,
)
from raytune_hyperlearn.comparison.reporting.method_figures import (
    MOST_DOTS,
    EvaluationsPanel,
    draw_evaluations,
    draw_schedules,
    draw_values,
    evaluation_panels,
    schedule_panels,
    value_panels,
)
from raytune_hyperlearn.comparison.reporting.rank_figures import (
    RanksOverTime,
    draw_critical_difference,
)
from raytune_hyperlearn.comparison.reporting.regret_figures import LINEAR_BELOW, draw_regret, draw_swatch, regret_panels
from raytune_hyperlearn.comparison.reporting.styles import Styles
from raytune_hyperlearn.comparison.reporting.training_figures import (
    MOST_POINTS,
    TrainingPanel,
    draw_training,
    training_panels,
)


@dataclass(frozen=True)
class FigureBlock:
    """One figure on the page.

    Attributes:
        name: its file's name without ending, unique on the page.
        title: heading.
        panels: SVG elements, placed side by side where there is room.
        caption: how to read it.
        kind: class name that sets the panels' width.
        data: its numbers.
        reading: more on how to read it, folded away.
        interactive: which of the page's scripts draws it, "regret" or "chart"; empty for none.
        source: what that script reads, as JSON.
    """

    name: str
    title: str
    panels: tuple[Markup, ...]
    caption: str
    kind: str
    data: FigureData
    reading: str = ""
    interactive: str = ""
    source: str = ""


@dataclass(frozen=True)
class FigureFiles:
    """Where a section's figures are saved.

    Attributes:
        folder: existing folder.
        prefix: put before every file name.
    """

    folder: Path
    prefix: str

    def block(
        self,
        name: str,
        title: str,
        draw: Callable[[Sequence[Any]], Figure],
        panels: Sequence[Any],
        caption: str,
        kind: str,
        data: FigureData,
        reading: str = "",
        interactive: str = "",
        source: object = None,
    ) -> tuple[FigureBlock, ...]:
        """Saves all panels as one figure, its numbers beside it, and returns them drawn one by one.

        Nothing where there are no panels.
        """
        if not panels:
            return ()
        whole = draw(panels)
        name_lines(whole)
        stem = self.folder / f"{self.prefix}{name}"
        save_figure(whole, stem)
        stem.with_suffix(".csv").write_text(data.to_csv(), encoding="utf-8")
        drawn = tuple(
            svg(draw([panel]), f"{self.prefix}{name}-{i}", f"{title}, panel {i} of {len(panels)}")
            for i, panel in enumerate(panels, start=1)
        )
        block = FigureBlock(f"{self.prefix}{name}", title, drawn, caption, kind, data, reading)
        if not interactive:
            return (block,)
        return (replace(block, interactive=interactive, source=json_block(source)),)


def svg(figure: Figure, name: str, title: str) -> Markup:
    """The figure as an SVG element that a template does not escape."""
    return Markup(inline_svg(figure, name, title))


def legend(methods: Sequence[str], styles: Styles, anchor: str) -> tuple[tuple[str, str, Markup], ...]:
    """Abbreviation, full name and drawn line of each method."""
    return tuple(
        (styles[m].short, styles[m].label, svg(draw_swatch(styles[m]), f"{anchor}-line-{i}", styles[m].label))
        for i, m in enumerate(methods)
    )


def regret_blocks(study: Study, styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """Regret against wall-clock and against worker-seconds."""
    caption = (
        "What each method would have returned at that moment, chosen by validation alone: median over seeds and "
        "quartiles. Lower is better."
    )
    reading = (
        "Lines begin when every seed has a result. Wall-clock runs from the moment a run's first worker is up: "
        "scheduling, restarts, validation and the searcher's own computing are inside, for every method alike. Epochs "
        "count every training, FDS's differentiated ones too; such an epoch takes longer than a plain one. "
    )
    if study.reference is not None:
        reading += (
            "Zero is the reference; the shaded region below it is better than the reference. On the logarithmic axis "
            f"values between −{LINEAR_BELOW:g} and {LINEAR_BELOW:g} are drawn linearly. "
        )
    return (
        *files.block(
            "regret-wall-clock",
            "Regret over wall-clock",
            draw_regret,
            regret_panels(study, styles, "time"),
            caption,
            "wide",
            regret_data(study),
            reading,
            "regret",
            regret_explorer(study, styles),
        ),
        *files.block(
            "regret-worker-seconds",
            "Regret over worker-seconds",
            draw_regret,
            regret_panels(study, styles, "worker_seconds") if "worker_seconds" in shown_clocks(study) else (),
            "The seconds of all of a run's workers together: a method that keeps several busy pays for each. A "
            "method's line ends with its median run; the dotted line only leads to its name.",
            "wide",
            regret_data(study, ("worker_seconds",)),
        ),
    )


def learned_blocks(study: Study, styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """What each method learned."""
    training = training_panels(study, styles)
    schedules = schedule_panels(study, styles)
    values = value_panels(study, styles)
    return (
        *files.block(
            "schedules",
            "Learned schedules",
            draw_schedules,
            schedules,
            "The incumbents at the end. The thick line is each method's best run, the faint ones are its other seeds. "
            "A schedule that is one number stands among the single values.",
            "wide",
            schedule_data(schedules),
        ),
        *files.block(
            "values",
            "Learned single values",
            draw_values,
            values,
            "The incumbent of every seed at the end, one marker per seed.",
            "medium",
            value_data(values),
        ),
        *files.block(
            "training-loss",
            "Training loss",
            draw_training,
            training,
            "Loss on the whole training part after each epoch of instances, without dropout, over epochs and over the "
            "run's wall-clock, and the mean batch size of each epoch; one line per seed, of the methods that train a "
            "single network at batch sizes of their own." + _thinned_lines(training),
            "small",
            training_data(training),
        ),
    )


def insight_blocks(study: Study, styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """How learned schedules moved, and along which hypergradients."""
    panels, windows = outer_step_panels(study, styles), windows_panels(study, styles)
    return files.block(
        "outer-steps",
        "Schedules over outer steps, with their hypergradients",
        draw_outer_steps,
        panels,
        "The best run of each method that computes hypergradients. One line per value of a schedule, the faintest at "
        "the start of the training. Beside it dL/dλ times the width of λ's range: above zero the value should fall.",
        "medium",
        outer_step_data(panels),
    ) + files.block(
        "windows",
        "Hypergradients over the training, with the windows chosen",
        draw_windows,
        windows,
        "The best run of each method that chooses its windows. A line per outer step, the last one darkest: dL/dλ of "
        "every part of the training, scaled to a mean square of 1. Shades are the windows that were chosen by them.",
        "medium",
        windows_data(windows),
    )


def cost_blocks(study: Study, styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """What each method was doing."""
    panels = evaluation_panels(study, styles)
    timelines = timeline_panels(study, styles)
    return files.block(
        "timeline",
        "Evaluations on workers",
        draw_timelines,
        timelines,
        "The first seed of each method: a bar per evaluation on the worker that did it, darker for a larger budget, "
        "black where it failed. Gaps are scheduling, restarts and the searcher's own computing."
        + (f" Of a longer run the first {MOST_TRIALS}." if any(panel.left_out for panel in timelines) else ""),
        "medium",
        timeline_data(timelines),
    ) + files.block(
        "evaluations",
        "Every evaluation",
        draw_evaluations,
        panels,
        "A dot per evaluation of all seeds, larger for a larger budget; crosses at the upper edge failed or "
        "diverged; the thin line is each seed's incumbent. Losses far above the others lie at the upper edge."
        + _thinned_dots(panels),
        "small",
        evaluation_data(panels),
    )


def _thinned_dots(panels: Sequence[EvaluationsPanel]) -> str:
    left_out = sum(panel.left_out for panel in panels)
    if not left_out:
        return ""
    return f" Of each method's dots and crosses {MOST_DOTS:,} are drawn, chosen at random; {left_out:,} are left out."


def _thinned_lines(panels: Sequence[TrainingPanel]) -> str:
    if not any(line.left_out for panel in panels for line in panel.lines):
        return ""
    return f" Of a longer line {MOST_POINTS:,} points are drawn, evenly spaced."


def rank_blocks(
    studies: Sequence[Study], over_time: RanksOverTime, final: CriticalDifference, styles: Styles, files: FigureFiles
) -> tuple[FigureBlock, ...]:
    """Ranks over several problems."""
    caption = "Mean rank of the final median validation regret over problems; 1 is best."
    if final.groups:
        caption += " A bar joins methods that Nemenyi's test cannot tell apart at 5 %."
    panels = [rank_panel(over_time, common_methods(studies))] if over_time.fractions.size else []
    return (
        *_line_blocks(
            files,
            "ranks-over-time",
            "Ranks over time",
            panels,
            styles,
            "At each fraction of the time limit the methods are ranked by median validation regret on each problem; "
            "a method without a result in most of its runs ranks last.",
        ),
        *files.block(
            "ranks",
            "Ranks at the end",
            lambda panels: draw_critical_difference(panels[0], styles),
            [final],
            caption,
            "wide",
            rank_data(final),
        ),
    )


def target_blocks(studies: Sequence[Study], styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """How often and how soon targets are reached over several problems."""
    methods = common_methods(studies)
    return (
        *_line_blocks(
            files,
            "targets-reached",
            "Targets reached over time",
            [ecdf_panel(studies, methods)],
            styles,
            f"Fraction of all (problem, seed, target) triples that a method has reached. The targets are "
            f"{TARGETS_TEXT}; they do not move when a method is added. Higher is better.",
        ),
        *_line_blocks(
            files,
            "performance-profile",
            "Performance profile",
            [profile_panel(studies, methods)],
            styles,
            "Fraction of (problem, target) pairs that a method's median reached within a multiple of the fastest "
            "method's time. At 1 it is how often the method was the fastest. A profile is relative to the methods "
            "that stand in it. Higher is better.",
        ),
    )


def _line_blocks(
    files: FigureFiles,
    name: str,
    title: str,
    panels: Sequence[LinePanel],
    styles: Styles,
    caption: str,
) -> tuple[FigureBlock, ...]:
    if not panels:
        return ()
    return files.block(
        name,
        title,
        lambda drawn: draw_lines(drawn, styles),
        panels,
        caption,
        "wide",
        line_data(panels[0]),
        interactive="chart",
        source=line_source(panels[0], styles),
    )
