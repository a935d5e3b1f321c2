"""The report's figures ready for a page: each drawn panel by panel as SVG elements, and saved as one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import CriticalDifference
from raytune_hyperlearn.comparison.reporting.drawing import inline_svg, name_lines, save_figure
from raytune_hyperlearn.comparison.reporting.method_figures import (
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
    draw_ranks_over_time,
)
from raytune_hyperlearn.comparison.reporting.regret_figures import LINEAR_BELOW, draw_regret, draw_swatch, regret_panels
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle
from raytune_hyperlearn.comparison.reporting.training_figures import draw_training, training_panels
from raytune_hyperlearn.comparison.reporting.wording import quantity_name

Styles = dict[str, MethodStyle]


@dataclass(frozen=True)
class FigureBlock:
    """One figure on the page.

    Attributes:
        title: heading.
        panels: SVG elements, placed side by side where there is room.
        caption: how to read it.
        kind: class name that sets the panels' width.
    """

    title: str
    panels: tuple[Markup, ...]
    caption: str
    kind: str


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
    ) -> tuple[FigureBlock, ...]:
        """Saves all panels as one figure and returns them drawn one by one; nothing where there are no panels."""
        if not panels:
            return ()
        whole = draw(panels)
        name_lines(whole)
        save_figure(whole, self.folder / f"{self.prefix}{name}")
        drawn = tuple(
            svg(draw([panel]), f"{self.prefix}{name}-{i}", f"{title}, panel {i} of {len(panels)}")
            for i, panel in enumerate(panels, start=1)
        )
        return (FigureBlock(title, drawn, caption, kind),)


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
    what = quantity_name(study, "validation")
    caption = (
        f"Each line is the median over seeds of the {what}, and beside it of the {quantity_name(study, 'test')}, of "
        "what the method would have returned at that moment, chosen by validation alone; the band spans the quartiles. "
        "Lower is better. Lines begin when every seed has a result. "
    )
    if study.reference is not None:
        caption += (
            "Zero is the reference; the shaded region below it is better than the reference. Above "
            f"{LINEAR_BELOW:g} (and below −{LINEAR_BELOW:g}) the axis is logarithmic, in between linear. "
        )
    wall = caption + (
        "Wall-clock runs from the moment a run's first worker is up: scheduling, restarts, validation and the "
        "searcher's own computing are inside, for every method alike."
    )
    return (
        *files.block(
            "regret-wall-clock",
            "Regret over wall-clock",
            draw_regret,
            regret_panels(study, styles, "time"),
            wall,
            "wide",
        ),
        *files.block(
            "regret-worker-seconds",
            "The same over worker-seconds",
            draw_regret,
            regret_panels(study, styles, "worker_seconds"),
            "The seconds of all of a run's workers together: a method that keeps several busy pays for each. A "
            "method's line ends with its median run; the dotted thread only leads to its name.",
            "wide",
        ),
    )


def method_blocks(study: Study, styles: Styles, files: FigureFiles) -> tuple[FigureBlock, ...]:
    """What each method learned and what it was doing."""
    return (
        *files.block(
            "training-loss",
            "Training loss",
            draw_training,
            training_panels(study, styles),
            "Loss on the whole training part after each epoch of instances, without dropout, over epochs and over the "
            "run's wall-clock, and the mean batch size of each epoch; one line per seed, of the methods that train a "
            "single network at batch sizes of their own.",
            "small",
        ),
        *files.block(
            "schedules",
            "Learned schedules",
            draw_schedules,
            schedule_panels(study, styles),
            "The incumbent of every seed at the end; the thick line is the seed with the best validation value.",
            "small",
        ),
        *files.block(
            "values",
            "Learned single values",
            draw_values,
            value_panels(study, styles),
            "The incumbent of every seed at the end, one marker per seed.",
            "medium",
        ),
        *files.block(
            "evaluations",
            "Every evaluation",
            draw_evaluations,
            evaluation_panels(study, styles),
            "A dot per evaluation of all seeds, larger for a larger budget; crosses at the upper edge failed or "
            "diverged; the thin line is each seed's incumbent. Losses far above the others lie at the upper edge.",
            "small",
        ),
    )


def rank_blocks(
    over_time: RanksOverTime, final: CriticalDifference, styles: Styles, files: FigureFiles
) -> tuple[FigureBlock, ...]:
    """Ranks over several problems."""
    caption = "Mean rank of the final median validation regret over problems; 1 is best."
    if final.groups:
        caption += " A bar joins methods that Nemenyi's test cannot tell apart at 5 %."
    return (
        *files.block(
            "ranks-over-time",
            "Ranks over time",
            lambda panels: draw_ranks_over_time(panels[0]),
            [over_time],
            "At each fraction of the time limit the methods are ranked by median validation regret on each problem; "
            "a method without a result in every run ranks last.",
            "wide",
        ),
        *files.block(
            "ranks",
            "Ranks at the end",
            lambda panels: draw_critical_difference(panels[0], styles),
            [final],
            caption,
            "wide",
        ),
    )
