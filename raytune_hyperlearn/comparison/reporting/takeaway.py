"""Tables and figures as files that other programs read: CSV and LaTeX beside the page, and as links within it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.reporting.figure_data import csv_text
from raytune_hyperlearn.comparison.reporting.tables import Table

LONGEST_LINK = 150_000
"""Characters of a file that the page carries within itself; larger ones lie beside the page alone."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "“": "``",
    "”": "''",
    "Φ": r"$\Phi$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def table_csv(table: Table) -> str:
    """The table's cells as they stand on the page."""
    return csv_text(table.columns, table.rows)


def table_latex(table: Table) -> str:
    r"""The table in LaTeX; it needs ``\usepackage{booktabs}``."""
    layout = "l" + "r" * (len(table.columns) - 1)
    lines = [
        rf"% {_one_line(table.title)}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        _latex_row(table.columns),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def write_table(table: Table, stem: Path) -> None:
    """Writes ``stem``.csv and ``stem``.tex."""
    stem.with_suffix(".csv").write_text(table_csv(table), encoding="utf-8")
    stem.with_suffix(".tex").write_text(table_latex(table), encoding="utf-8")


def data_link(text: str, media_type: str) -> str:
    """A link that holds the text itself; empty where that would make the page heavy."""
    return f"data:{media_type};charset=utf-8,{quote(text, safe=' ,.:;()[]/+=')}" if len(text) <= LONGEST_LINK else ""


def latex_text(text: str) -> str:
    """Plain text that LaTeX sets as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def slug(name: str) -> str:
    """The name as part of a file's name."""
    return "".join(character if character.isalnum() or character in "-_" else "-" for character in name)


def file_prefixes(studies: Sequence[Study]) -> list[str]:
    """What the names of each study's figures and tables begin with: its problem, where there are several."""
    return [f"{slug(study.experiment.problem)}-" if len(studies) > 1 else "" for study in studies]


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def _one_line(text: str) -> str:
    return " ".join(text.split())
