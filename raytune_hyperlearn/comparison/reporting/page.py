"""One self-contained page from one or several result folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from raytune_hyperlearn.comparison.analysis.results import Study, load_studies
from raytune_hyperlearn.comparison.analysis.statistics import CriticalDifference, compare_with, power_sentence
from raytune_hyperlearn.comparison.analysis.summary import final_by_seed, summarize
from raytune_hyperlearn.comparison.reporting.figure_blocks import (
    FigureBlock,
    FigureFiles,
    Styles,
    legend,
    method_blocks,
    rank_blocks,
    regret_blocks,
)
from raytune_hyperlearn.comparison.reporting.rank_figures import common_methods, final_ranks, ranks_over_time
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.tables import (
    Table,
    confirmation_table,
    environment_table,
    errors_table,
    final_table,
    given_table,
    hyperparameter_table,
    reference_table,
    runs_table,
    shared_table,
    speed_up_tables,
    statistics_table,
    target_table,
)
from raytune_hyperlearn.comparison.reporting.wording import headline, number

TEMPLATE = Path(__file__).with_name("report.html.jinja")
FIGURES_FOLDER = "figures"
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Section:
    """What the page says about one problem, in the order it says it."""

    problem: str
    anchor: str
    headline: list[str]
    legend: tuple[tuple[str, str, Markup], ...]
    regret: tuple[FigureBlock, ...]
    targets: Table | None
    speed_ups: list[Table]
    final: Table
    confirmation: Table | None
    statistics: Table | None
    untested: str
    methods: tuple[FigureBlock, ...]
    hyperparameters: Table
    settings: tuple[Table, ...]
    runs: Table
    errors: Table | None
    folders: tuple[str, ...]


@dataclass(frozen=True)
class RankSection:
    """What the page says over several problems."""

    sentence: str
    figures: tuple[FigureBlock, ...]


def build_report(folders: Sequence[Path], output: Path, focus: str | None = None) -> Path:
    """Writes the report of one or several result folders as a page, with the figures as SVG and PNG files beside it.

    Folders of one problem are pooled; several problems get a section each and ranks over all.

    Args:
        folders: result folders, each with its experiment, records, run summaries and environment.
        output: the page to write, such as ``results/report.html``; figures go to ``figures/`` beside it.
        focus: the method to test against each other one; None takes the one that the experiments named.

    Returns:
        ``output``.

    Raises:
        ValueError: if a folder is unreadable or the folders do not fit together; one line.
    """
    studies = load_studies(folders, focus)
    styles = method_styles(dict.fromkeys(method for study in studies for method in study.experiment.methods))
    figures = output.parent / FIGURES_FOLDER
    figures.mkdir(parents=True, exist_ok=True)
    several = len(studies) > 1
    prefixes = [f"{_slug(study.experiment.problem)}-" if several else "" for study in studies]
    environments = [item for study in studies for item in study.environments]
    renderer = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = renderer.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=" + ".join(dict.fromkeys(study.experiment.name for study in studies)),
        sections=[
            _section(study, styles, FigureFiles(figures, prefix))
            for study, prefix in zip(studies, prefixes, strict=True)
        ],
        ranks=_rank_section(studies, styles, FigureFiles(figures, "")) if several else None,
        environments=[environment_table(item) for i, item in enumerate(environments) if item not in environments[:i]],
    )
    output.write_text(page, encoding="utf-8")
    return output


def _section(study: Study, styles: Styles, files: FigureFiles) -> Section:
    summaries = summarize(study)
    anchor = f"problem-{_slug(study.experiment.problem)}"
    pairs = compare_with(study.focus, final_by_seed(study), np.random.default_rng(BOOTSTRAP_SEED))
    has_reference = study.reference is not None
    settings = (shared_table(study), given_table(study, styles), reference_table(study))
    return Section(
        problem=study.experiment.problem,
        anchor=anchor,
        headline=headline(study, summaries, styles, pairs),
        legend=legend(tuple(summaries), styles, anchor),
        regret=regret_blocks(study, styles, files),
        targets=target_table(study, summaries, styles) if has_reference else None,
        speed_ups=speed_up_tables(study, summaries, styles) if has_reference else [],
        final=final_table(study, summaries, styles),
        confirmation=confirmation_table(study, summaries, styles),
        statistics=statistics_table(study, pairs, styles) if pairs else None,
        untested="" if pairs else _untested(study, styles),
        methods=method_blocks(study, styles, files),
        hyperparameters=hyperparameter_table(study, styles),
        settings=tuple(table for table in settings if table is not None),
        runs=runs_table(study, styles),
        errors=errors_table(study, styles),
        folders=tuple(folder.name or str(folder) for folder in study.folders),
    )


def _untested(study: Study, styles: Styles) -> str:
    if len(study.methods) < 2:
        return "One method alone: nothing to test."
    return f"No other method shares a seed with {styles[study.focus].label}, so nothing is tested."


def _rank_section(studies: Sequence[Study], styles: Styles, files: FigureFiles) -> RankSection:
    if len(common_methods(studies)) < 2:
        return RankSection("No two methods ran on every problem, so there are no ranks.", ())
    final = final_ranks(studies)
    return RankSection(
        _rank_sentence(final, styles), rank_blocks(ranks_over_time(studies, styles), final, styles, files)
    )


def _rank_sentence(final: CriticalDifference, styles: Styles) -> str:
    sentence = (
        f"Over {final.problems} problems {styles[final.methods[0]].label} has the best mean rank, "
        f"{final.mean_ranks[0]:.2f}. "
    )
    if math.isfinite(final.p_value):
        return sentence + f"Friedman's test that all methods are alike: p = {number(final.p_value)}."
    return sentence + power_sentence(final.problems, "problems")


def _slug(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_" else "-" for character in name)
