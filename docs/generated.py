"""Fills in the reference pages while MkDocs builds them, from the command's help and the records' own docstrings.

A page holds ``<!-- generated: NAME -->`` where a part is to stand; ``PARTS`` has the names.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable
from typing import Any

import typer

from raytune_hyperlearn import cli
from raytune_hyperlearn.checked import allowed
from raytune_hyperlearn.comparison.commented import descriptions
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.records import Confirmation, Record, Run

MID = r"\|"
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_others: Any) -> str:
    """MkDocs calls this for every page."""
    return MARK.sub(lambda mark: PARTS[mark[1]](), markdown)


def commands() -> str:
    """Every command of ``hyperlearn``: what it does, how it is called, and its options."""
    group: Any = typer.main.get_command(cli.app)
    sections = []
    for name, command in group.commands.items():
        context: Any = typer.Context(command, info_name=f"hyperlearn {name}")
        records = (parameter.get_help_record(context) for parameter in command.get_params(context))
        rows = [(f"`{option}`", text) for option, text in filter(None, records)]
        about = "\n\n".join(command.help.strip().split("\n\n"))
        usage = f"    {' '.join(command.get_usage(context).removeprefix('Usage:').split())}"
        sections.append(f"## hyperlearn {name}\n\n{about}\n\n{usage}\n\n{_table(('option', 'meaning'), rows)}")
    return "\n\n".join(sections)


def settings() -> str:
    """Every setting of a comparison: its name, what it must be, its default, and its meaning."""
    meanings, hints = descriptions(Experiment), typing.get_type_hints(Experiment, include_extras=True)
    return _table(
        ("setting", "must be", "default", "meaning"),
        [
            (f"`{field.name}`", allowed(hints[field.name]), _default(field), meanings[field.name])
            for field in dataclasses.fields(Experiment)
        ],
    )


def rows_of(record_type: type) -> Callable[[], str]:
    """The fields of one kind of row and what they mean."""
    return lambda: _table(
        ("field", "meaning"), [(f"`{name}`", text) for name, text in descriptions(record_type).items()]
    )


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default}`"
    return "" if field.default_factory is dataclasses.MISSING else f"`{field.default_factory()}`"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()).replace('|', MID) for cell in row)} |" for row in lines)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "record": rows_of(Record),
    "run": rows_of(Run),
    "confirmation": rows_of(Confirmation),
}
