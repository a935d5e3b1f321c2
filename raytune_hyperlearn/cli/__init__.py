"""The ``hyperlearn`` command: one module per group of subcommands, which import what is slow when they run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from raytune_hyperlearn import __version__
from raytune_hyperlearn.cli.comparison import compare
from raytune_hyperlearn.cli.papers import reproduce_experiment
from raytune_hyperlearn.cli.problems import check, list_names, reference
from raytune_hyperlearn.cli.results import export, report
from raytune_hyperlearn.cli.search import tune
from raytune_hyperlearn.cli.terminal import say
from raytune_hyperlearn.comparison.running.stopping import exit_status, stopping_on_sigterm

COMMANDS: dict[str, Callable[..., None]] = {
    "compare": compare,
    "tune": tune,
    "check": check,
    "report": report,
    "export": export,
    "list": list_names,
    "reference": reference,
    "reproduce": reproduce_experiment,
}
"""By name, in the order of the help."""
app = typer.Typer(
    name="hyperlearn",
    help="Learn hyperparameters by gradients during training, on Ray Tune, and compare with black-box search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for name, command in COMMANDS.items():
    app.command(name=name)(command)
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""What typer raises for arguments that do not parse: the base of the one such error that it exports."""


def main() -> None:
    """Entry point: bad input is one line on standard error and exit status 2; Ctrl-C is 130 and SIGTERM 143."""
    try:
        with stopping_on_sigterm():
            status = app(args=sys.argv[1:] or ["--help"], prog_name="hyperlearn", standalone_mode=False)
    except USAGE_ERROR as error:
        say(error.format_message())
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = exit_status()
    sys.exit(status if isinstance(status, int) else 0)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hyperlearn {__version__}")
        raise typer.Exit


@app.callback()
def whole_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn hyperparameters by gradients during training, on Ray Tune, and compare with black-box search."""
