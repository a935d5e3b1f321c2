"""Options that several of the command's subcommands share, and how numbers are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def number(text: str) -> float:
    """A number; the refusal shows what was given, which typer's own does not."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}; it must be a number") from None


def whole(text: str) -> int:
    """A whole number; likewise."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}; it must be a whole number") from None


def whole_option(help: str) -> Any:
    """An option that takes a whole number."""
    return typer.Option(parser=whole, metavar="INTEGER", help=help)


def number_option(help: str, metavar: str = "NUMBER") -> Any:
    """An option that takes a number."""
    return typer.Option(parser=number, metavar=metavar, help=help)


DEFAULT_METHODS = "fds,hd,rs,bo,hb,bohb"
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Continue though others could have written to the folder: its pickles can run code."),
]
ProblemArguments = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Argument of the function that builds an own problem; may be repeated."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results (default: results/PROBLEM).")]
Epochs = Annotated[float | None, number_option("Full budget in epochs (default: the comparison's).")]
Workers = Annotated[int, whole_option("Trials at a time.")]
GPUsPerTrial = Annotated[float, number_option("GPUs of one trial.")]
