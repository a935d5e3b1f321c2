"""Options that several subcommands share, and how what is given for them is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show a line for every result, and what Ray and its workers print.")
]
ProblemArguments = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Argument of the function that builds an own problem; may be repeated."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results (default: results/PROBLEM).")]
Epochs = Annotated[float | None, number_option("Full budget in epochs (default: the comparison's).")]
Workers = Annotated[int, whole_option("Trials at a time.")]
CPUsPerTrial = Annotated[int, whole_option("Processors of one trial, which trains with as many threads.")]
GPUsPerTrial = Annotated[float, number_option("GPUs of one trial.")]
GradientNorm = Annotated[
    float | None, number_option("Shorten every batch gradient of a training to this norm (default: no bound).")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="full|bf16-mixed", help="Precision of training; bf16-mixed is bfloat16 under autocast (default: full)."
    ),
]


def settings_of(**given: Any) -> dict[str, Any]:
    """The settings of an experiment that were given on the command line, read; options that were not given are None.

    Raises:
        ValueError: In one line, if what is given for one cannot be read.
    """
    read = {name: READ[name](value) if name in READ else value for name, value in given.items()}
    return {name: value for name, value in read.items() if value is not None}


def arguments_of(given: list[str] | None) -> dict[str, Any] | None:
    """``KEY=VALUE`` each, the value as YAML would read it; None if there is none.

    Raises:
        ValueError: If one has no ``=``.
    """
    if not given:
        return None
    import yaml

    for text in given:
        if "=" not in text:
            raise ValueError(f"problem_args is {text!r}; it must be KEY=VALUE")
    return {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in given)}


def names_of(text: str | None) -> list[str] | None:
    """``fds, rs`` → ["fds", "rs"]; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def seeds_of(text: str | None) -> list[int] | None:
    """``3`` → [0, 1, 2]; ``4,7`` → [4, 7].

    Raises:
        ValueError: If it is neither.
    """
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or ("," not in text and numbers[0] < 1):
        raise ValueError(f"seeds is {text!r}; it must be a number >= 1 of seeds, or seeds separated by commas")
    return numbers if "," in text else list(range(numbers[0]))


READ: Mapping[str, Callable[[Any], Any]] = {"problem_args": arguments_of, "methods": names_of, "seeds": seeds_of}
"""How the settings are read that the command line has as text."""
