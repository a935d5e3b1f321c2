"""What a notebook shows of a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import escape

from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import BOOTSTRAP_SEED
from raytune_hyperlearn.comparison.analysis.summary import summarize
from raytune_hyperlearn.comparison.analysis.verdict import verdict
from raytune_hyperlearn.comparison.reporting.styles import BLACK_BOX, method_styles
from raytune_hyperlearn.comparison.reporting.tables import glance_table
from raytune_hyperlearn.comparison.reporting.verdict_text import verdict_sentence
from raytune_hyperlearn.comparison.reporting.wording import seconds


def study_html(study: Study) -> str:
    """The first screen of the report without its figure: a verdict and the table at a glance."""
    title = f"{study.experiment.problem}, {seconds(study.experiment.time_limit)} per run"
    summaries = summarize(study)
    if not summaries:
        return f"<p><b>{escape(title)}.</b> No run has begun.</p>"
    styles = method_styles(summaries)
    found = verdict(study, summaries, BLACK_BOX, study.focus, np.random.default_rng(BOOTSTRAP_SEED))
    table = glance_table(study, summaries, styles, found)
    return (
        f"<p><b>{escape(title)}.</b> {escape(verdict_sentence(study, found, styles))}</p>"
        f"<table><thead>{_row(table.columns, 'th')}</thead>"
        f"<tbody>{''.join(_row(row, 'td') for row in table.rows)}</tbody></table><p>{escape(table.note)}</p>"
    )


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
