"""One self-contained page from one or several result folders."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from raytune_hyperlearn.comparison.analysis.across import common_methods
from raytune_hyperlearn.comparison.analysis.importance import importances
from raytune_hyperlearn.comparison.analysis.results import Study, load_studies
from raytune_hyperlearn.comparison.analysis.statistics import (
    BOOTSTRAP_SEED,
    CriticalDifference,
    PairedComparison,
    compare_with,
    power_sentence,
)
from raytune_hyperlearn.comparison.analysis.summary import MethodSummary, final_by_seed, summarize
from raytune_hyperlearn.comparison.analysis.verdict import verdict
from raytune_hyperlearn.comparison.reporting.figure_blocks import (
    FigureBlock,
    FigureFiles,
    cost_blocks,
    insight_blocks,
    learned_blocks,
    legend,
    rank_blocks,
    regret_blocks,
    target_blocks,
)
from raytune_hyperlearn.comparison.reporting.given_tables import (
    environment_table,
    given_table,
    reference_table,
    shared_table,
)
from raytune_hyperlearn.comparison.reporting.insight_tables import (
    aggregate_table,
    correlation_table,
    failure_table,
    importance_table,
    improvement_table,
    kept,
    methods_table,
    overhead_table,
    repeat_code,
)
from raytune_hyperlearn.comparison.reporting.parallel_figures import parallel_blocks
from raytune_hyperlearn.comparison.reporting.rank_figures import final_ranks, ranks_over_time
from raytune_hyperlearn.comparison.reporting.styles import BLACK_BOX, Styles, method_styles
from raytune_hyperlearn.comparison.reporting.tables import (
    Table,
    confirmation_table,
    errors_table,
    final_table,
    glance_table,
    hyperparameter_table,
    runs_table,
    speed_up_tables,
    statistics_table,
    target_table,
)
from raytune_hyperlearn.comparison.reporting.takeaway import (
    data_link,
    file_prefixes,
    slug,
    table_csv,
    table_latex,
    write_table,
)
from raytune_hyperlearn.comparison.reporting.verdict_text import verdict_sentence
from raytune_hyperlearn.comparison.reporting.wording import headline, number
from raytune_hyperlearn.comparison.running.extension import history

HERE = Path(__file__).parent
VENDOR = HERE / "vendor"
FIGURES_FOLDER = "figures"
TABLES_FOLDER = "tables"


@dataclass(frozen=True)
class Part:
    """A fold of the page: a heading and what stands under it.

    Attributes:
        anchor: the heading's id, unique on the page.
        title: the heading.
        sentences: paragraphs under it.
        figures: after these.
        tables: after the figures, each with a heading.
        is_open: whether the page opens with it unfolded.
        is_settings: whether its tables hold long text.
        cards: small tables side by side in a fold of their own.
        cards_title: heading of that fold.
        cards_note: how to read them.
        code: text to copy, in a box at the end.
    """

    anchor: str
    title: str
    sentences: tuple[str, ...] = ()
    figures: tuple[FigureBlock, ...] = ()
    tables: tuple[Table, ...] = ()
    is_open: bool = False
    is_settings: bool = False
    cards: tuple[Table, ...] = ()
    cards_title: str = ""
    cards_note: str = ""
    code: str = ""


@dataclass(frozen=True)
class Section:
    """What the page says about one problem: the first screen, then folds."""

    problem: str
    anchor: str
    prefix: str
    verdict: str
    glance: Table
    legend: tuple[tuple[str, str, Markup], ...]
    regret: tuple[FigureBlock, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class AcrossSection:
    """What the page says over several problems."""

    anchor: str
    prefix: str
    sentence: str
    parts: tuple[Part, ...]


def build_report(folders: Sequence[Path], output: Path, focus: str | None = None) -> Path:
    """Writes the report of one or several result folders as a page, with figures and tables as files beside it.

    Folders of one problem are pooled; several problems get a section each and a last one over all.

    Args:
        folders: result folders, each with its experiment, records, run summaries and environment.
        output: the page to write, such as ``results/report.html``; figures go to ``figures/`` (SVG, PNG and CSV) and
            tables to ``tables/`` (CSV and LaTeX) beside it.
        focus: the method to test against each other one; None takes the one that the experiments named.

    Returns:
        ``output``.

    Raises:
        ValueError: if a folder is unreadable or the folders do not fit together; one line.
    """
    return write_page(load_studies(folders, focus), output)


def write_page(studies: Sequence[Study], output: Path, version: str = "") -> Path:
    """Writes the report of studies that are read already, as :func:`build_report` does.

    Args:
        studies: what the folders hold.
        output: the page to write.
        version: of a page that is served live and asks for newer ones; empty for a page that stands alone.

    Returns:
        ``output``.
    """
    styles = method_styles(dict.fromkeys(method for study in studies for method in study.experiment.methods))
    figures = output.parent / FIGURES_FOLDER
    figures.mkdir(parents=True, exist_ok=True)
    sections = [
        _section(study, styles, FigureFiles(figures, prefix), prefix)
        for study, prefix in zip(studies, file_prefixes(studies), strict=True)
    ]
    across = _across(studies, styles, FigureFiles(figures, "")) if len(studies) > 1 else None
    _write_tables(output.parent / TABLES_FOLDER, [*sections, *([across] if across else [])])
    for table in _environment_tables(studies):
        write_table(table, output.parent / TABLES_FOLDER / table.file_name)
    output.write_text(_render(studies, sections, across, version), encoding="utf-8")
    return output


def _render(studies: Sequence[Study], sections: Sequence[Section], across: AcrossSection | None, version: str) -> str:
    renderer = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    library_script = _text(VENDOR / "uPlot.iife.min.js")
    scripts = [library_script, _text(HERE / "report.js"), *([_text(HERE / "live.js")] if version else [])]
    return renderer.from_string(_text(HERE / "report.html.jinja")).render(
        title=" + ".join(dict.fromkeys(study.experiment.name for study in studies)),
        sections=sections,
        across=across,
        environments=_environment_tables(studies),
        table_files=_table_files,
        data_link=data_link,
        generator="raytune-hyperlearn",
        library=library_version(library_script),
        version=version,
        library_style=_text(VENDOR / "uPlot.min.css"),
        scripts=scripts,
        style=_text(HERE / "report.css"),
        script_hashes=" ".join(map(script_hash, scripts)),
    )


def _environment_tables(studies: Sequence[Study]) -> list[Table]:
    """One table per machine, each with a file name of its own."""
    every = [item for study in studies for item in study.environments]
    distinct = [item for i, item in enumerate(every) if item not in every[:i]]
    return [replace(environment_table(item), name=f"machine {i}") for i, item in enumerate(distinct, start=1)]


def library_version(script: str) -> str:
    """Name and version of the drawing library, as its own first line gives them."""
    found = re.search(r"\(v([\d.]+)\)", script[:200])
    return f"uPlot {found.group(1)}" if found else "uPlot"


def script_hash(script: str) -> str:
    """What allows exactly this script to run on the page, and no other."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _table_files(table: Table) -> tuple[tuple[str, str, str], ...]:
    """Ending, media type and text of each form of a table."""
    return ("csv", "text/csv", table_csv(table)), ("tex", "text/plain", table_latex(table))


def _write_tables(folder: Path, sections: Sequence[Section | AcrossSection]) -> None:
    folder.mkdir(exist_ok=True)
    for section in sections:
        shown = [table for part in section.parts for table in (*part.tables, *part.cards)]
        glance = [section.glance] if isinstance(section, Section) else []
        for table in [*glance, *shown]:
            write_table(table, folder / f"{section.prefix}{table.file_name}")


def _section(study: Study, styles: Styles, files: FigureFiles, prefix: str) -> Section:
    summaries = summarize(study)
    anchor = f"problem-{slug(study.experiment.problem)}"
    pairs = compare_with(study.focus, final_by_seed(study), np.random.default_rng(BOOTSTRAP_SEED))
    found = verdict(study, summaries, BLACK_BOX, study.focus, np.random.default_rng(BOOTSTRAP_SEED))
    regret, *other_clocks = regret_blocks(study, styles, files)
    return Section(
        problem=study.experiment.problem,
        anchor=anchor,
        prefix=prefix,
        verdict=verdict_sentence(study, found, styles) if summaries else "No run has begun.",
        glance=glance_table(study, summaries, styles, found),
        legend=legend(tuple(summaries), styles, anchor),
        regret=(regret,),
        parts=(
            Part(f"{anchor}-findings", "Findings", tuple(headline(study, summaries, styles, pairs))),
            _outcome_part(study, summaries, styles, anchor, pairs, tuple(other_clocks)),
            Part(
                f"{anchor}-learned",
                "What was learned",
                figures=learned_blocks(study, styles, files),
                tables=(hyperparameter_table(study, styles),),
            ),
            _insight_part(study, styles, anchor, files),
            Part(
                f"{anchor}-costs",
                "Costs and failures",
                figures=cost_blocks(study, styles, files),
                tables=kept(
                    errors_table(study, styles),
                    failure_table(study, styles),
                    overhead_table(study, styles),
                    runs_table(study, styles),
                ),
            ),
            _settings_part(study, styles, anchor),
            Part(
                f"{anchor}-repeat",
                "Repeat it",
                ("These commands run the same comparison again; the digests tell whether settings and records agree.",),
                code=repeat_code(study),
            ),
        ),
    )


def _insight_part(study: Study, styles: Styles, anchor: str, files: FigureFiles) -> Part:
    found = importances(study, BLACK_BOX)
    tables = kept(importance_table(study, found, styles), correlation_table(study, styles))
    figures = insight_blocks(study, styles, files) + parallel_blocks(study, styles, files)
    silence = "" if tables or figures else "Too few evaluations to tell, and no method reports hypergradients."
    return Part(f"{anchor}-mattered", "What mattered", (silence,) if silence else (), figures=figures, tables=tables)


def _outcome_part(
    study: Study,
    summaries: dict[str, MethodSummary],
    styles: Styles,
    anchor: str,
    pairs: Sequence[PairedComparison],
    figures: tuple[FigureBlock, ...],
) -> Part:
    has_reference = study.reference is not None
    tables = (
        final_table(study, summaries, styles),
        target_table(study, summaries, styles) if has_reference else None,
        confirmation_table(study, summaries, styles),
        statistics_table(study, pairs, styles) if pairs else None,
    )
    return Part(
        f"{anchor}-outcome",
        "At the end, and on the way",
        sentences=() if pairs else (_untested(study, styles),),
        figures=figures,
        tables=tuple(table for table in tables if table is not None),
        cards=tuple(speed_up_tables(study, summaries, styles)) if has_reference else (),
        cards_title="Speed-ups of each method over each other",
        cards_note="How many times sooner the row's method reaches the regret than the column's, by medians. “>”: the "
        "column's never did within the limit; “<”: the row's never did.",
    )


def _settings_part(study: Study, styles: Styles, anchor: str) -> Part:
    settings = (methods_table(study, styles), shared_table(study), given_table(study, styles), reference_table(study))
    folders = ", ".join(folder.name or str(folder) for folder in study.folders)
    many = "s" if len(study.folders) > 1 else ""
    return Part(
        f"{anchor}-settings",
        "Settings",
        (f"From the result folder{many} {folders}.", *_extensions(study)),
        tables=tuple(table for table in settings if table is not None),
        is_settings=True,
    )


def _extensions(study: Study) -> list[str]:
    """A sentence for each time that a folder was extended."""
    return [f"Extended later: {text}." for folder in study.folders for text in history(folder)]


def _untested(study: Study, styles: Styles) -> str:
    if len(study.methods) < 2:
        return "One method alone: nothing to test."
    return f"No other method shares a seed with {styles[study.focus].label}, so nothing is tested."


def _across(studies: Sequence[Study], styles: Styles, files: FigureFiles) -> AcrossSection:
    if len(common_methods(studies)) < 2:
        return AcrossSection("ranks", "", "No two methods ran on every problem, so there are no ranks.", ())
    final = final_ranks(studies)
    ranks = rank_blocks(studies, ranks_over_time(studies, styles), final, styles, files)
    targets = target_blocks(studies, styles, files)
    tables = kept(aggregate_table(studies, styles), improvement_table(studies, styles))
    parts = (
        Part("across-targets", "Targets over all problems", figures=targets, is_open=True),
        Part("across-aggregates", "Aggregates with intervals", tables=tables, is_open=True),
        Part("across-ranks", "Ranks", figures=ranks),
    )
    return AcrossSection("across", "", _rank_sentence(final, styles), parts)


def _rank_sentence(final: CriticalDifference, styles: Styles) -> str:
    sentence = (
        f"Over {final.problems} problems {styles[final.methods[0]].label} has the best mean rank, "
        f"{final.mean_ranks[0]:.2f}. "
    )
    if math.isfinite(final.p_value):
        return sentence + f"Friedman's test that all methods are alike: p = {number(final.p_value)}."
    return sentence + power_sentence(final.problems, "problems")
