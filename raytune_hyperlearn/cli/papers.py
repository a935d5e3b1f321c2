"""``hyperlearn reproduce``: an experiment of a paper, run again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raytune_hyperlearn.cli.terminal import console, one_line_errors, ways_to_continue


def reproduce_experiment(
    name: Annotated[str | None, typer.Argument(help="Reproduction (see --list).")] = None,
    scale: Annotated[
        str, typer.Option(help="smoke (a minute), small, medium (hours), or paper (the paper's own).")
    ] = "smoke",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder, new or of a run that was stopped (default: results/NAME-SCALE)."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the reproductions and stop.")] = False,
) -> None:
    """Run an experiment of a paper again and set the paper's claims beside what is measured."""
    with one_line_errors():
        from raytune_hyperlearn.comparison.running.cluster import prepare_environment

        prepare_environment(None)  # before what follows imports Ray
        from raytune_hyperlearn.reproductions.registry import REPRODUCTIONS, find
        from raytune_hyperlearn.reproductions.reproduction import as_scale
        from raytune_hyperlearn.reproductions.writing import REPORT_FILE, reproduce

        if show_list:
            table = Table("reproduction", "what", "scales", box=None, padding=(0, 2, 0, 0))
            for known, reproduction in REPRODUCTIONS.items():
                what = f"{reproduction.description} ({reproduction.source.rstrip('.')})"
                table.add_row(known, what, ", ".join(reproduction.scales))
            console.print(table)
            return
        if name is None:
            raise ValueError(f"name is missing; it must be one of {', '.join(REPRODUCTIONS)}")
        chosen = find(name)
        size = as_scale(scale, chosen.scales)
        folder = output or Path("results") / f"{name}-{scale}"
        with ways_to_continue(f"hyperlearn reproduce {name} --scale {scale} --output {shlex.quote(str(folder))}"):
            findings = reproduce(name, chosen, size, folder, console)
    for verdict in findings.verdicts:
        claim, found = escape(verdict.claim), escape(verdict.found)
        console.print(f"[bold]{verdict.word}[/bold]: {claim}\n  {found}", highlight=False)
    console.print(f"Report: {folder / REPORT_FILE}")
