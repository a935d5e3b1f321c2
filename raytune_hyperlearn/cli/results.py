"""``hyperlearn report`` and ``export``: what the records of comparisons say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from raytune_hyperlearn.cli.terminal import console, one_line_errors

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.reporting.tables import Table as SummaryTable


OF_SEVERAL_WORDS = ("time", "failures")
"""How the headings of columns begin whose cells may take several lines on a narrow terminal."""


def report(
    folders: Annotated[list[Path], typer.Argument(help="Result folders; several are joined into one report.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: report.html in the first folder).")
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="Method to test against each other one (default: as the comparison was asked).")
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="FIGURE", help="Print the rows (CSV) and the formula behind a figure, and write nothing."),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Serve the report on this machine to a browser, and renew it as results come in."),
    ] = False,
) -> None:
    """Rebuild the report of a comparison from its records, or join several into one."""
    with one_line_errors():
        if explain is not None:
            from raytune_hyperlearn.comparison.analysis.results import load_studies
            from raytune_hyperlearn.comparison.reporting.explain import explain as numbers_behind

            for problem, data in numbers_behind(load_studies(folders, focus), explain).items():
                typer.echo(f"# {explain}, {problem}\n# {data.formula}\n{data.to_csv()}", nl=False)
            return
        if live:
            _serve(folders, focus)
            return
        write_report(folders, output or folders[0] / "report.html", focus)


def _serve(folders: list[Path], focus: str | None) -> None:
    """Serve the report until Ctrl-C, which is how it ends."""
    from raytune_hyperlearn.comparison.reporting.live import LivePage, make_server, serve

    page = LivePage(folders, focus)
    page.refresh()
    server = make_server(page)
    host, port = server.server_address[:2]
    console.print(f"report at http://{host!s}:{port}/ on this machine alone; Ctrl-C ends it", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        serve(page, server)


def write_report(folders: list[Path], path: Path, focus: str | None = None) -> str:
    """Write the report and print its final table.

    Returns:
        The first exception if every evaluation crashed, else empty text.
    """
    from raytune_hyperlearn.comparison.experiment import read_experiment
    from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE

    for folder in folders:
        if not (folder / EXPERIMENT_FILE).is_file():
            raise ValueError(f"folder is {folder}; it must be a comparison's folder, which holds {EXPERIMENT_FILE}")
        read_experiment(folder / EXPERIMENT_FILE)
    from raytune_hyperlearn.comparison.analysis.results import load_studies  # after the checks: matplotlib and
    from raytune_hyperlearn.comparison.reporting.page import write_page  # scipy take seconds to import
    from raytune_hyperlearn.comparison.reporting.tables import summary_table

    studies = load_studies(folders, focus)
    built = write_page(studies, path)
    for study in studies:
        summary = summary_table(study)
        console.print(on_terminal(summary), summary.note)
    console.print(f"Report: {built}")
    crashes = [study.error_of_all for study in studies]
    return crashes[0] if crashes and all(crashes) else ""


def on_terminal(table: SummaryTable) -> Table:
    """The table for a terminal, where long cells take several lines and no number does."""
    shown = Table(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in table.columns:
        shown.add_column(heading, overflow="fold", no_wrap=not heading.startswith(OF_SEVERAL_WORDS))
    for row in table.rows:
        shown.add_row(*row)
    return shown


def export(
    folders: Annotated[list[Path], typer.Argument(help="Result folders.")],
    to: Annotated[
        str, typer.Option(help="csv (one table), optuna (a journal for optuna-dashboard), deepcave or ioh (a folder).")
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="What to write (default: in the first folder).")
    ] = None,
) -> None:
    """Write a comparison's records in the format of another viewer."""
    with one_line_errors():
        from raytune_hyperlearn.comparison.analysis.results import load_studies
        from raytune_hyperlearn.comparison.reporting.export import export as write
        from raytune_hyperlearn.comparison.reporting.export import file_name

        path = output or folders[0] / file_name(to)
        console.print(f"{write(load_studies(folders), to, path)}", soft_wrap=True)
