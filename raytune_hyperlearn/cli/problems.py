"""``hyperlearn list``, ``check`` and ``reference``: what there is, whether a problem fits, and its zero of regret."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raytune_hyperlearn.cli.options import (
    DEFAULT_METHODS,
    CPUsPerTrial,
    Epochs,
    GPUsPerTrial,
    ProblemArguments,
    Workers,
    arguments_of,
    number_option,
    settings_of,
    whole_option,
)
from raytune_hyperlearn.cli.terminal import accuracy_text, console, errors, one_line_errors


def list_names() -> None:
    """Show the problems and methods that `hyperlearn compare` knows, and which extra a method needs."""
    from raytune_hyperlearn.comparison.counted import counted
    from raytune_hyperlearn.comparison.running.defaults import BY_PROBLEM, GENERAL
    from raytune_hyperlearn.comparison.running.duration import duration_text
    from raytune_hyperlearn.comparison.running.methods import METHODS
    from raytune_hyperlearn.problems import PROBLEMS

    problems = Table(
        "problem", "what", "data", "default", title="Problems", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for name, problem in PROBLEMS.items():
        settings = BY_PROBLEM.get(name, GENERAL)
        seeds, limit = counted(len(settings["seeds"]), "seed"), duration_text(settings["time_limit"])
        problems.add_row(name, problem.description, problem.data, f"{seeds} × {limit} a method")
    methods = Table("method", "what", "extra", title="Methods", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name, method in METHODS.items():
        state = f"(not installed: {', '.join(method.missing)})" if method.missing else ""
        methods.add_row(name, method.description, f"{method.extra} {state}".strip())
    console.print(problems, "", methods)


def check(
    problem: Annotated[
        str, typer.Option(help="Problem: a name, path/to/file.py:name or package.module:name.")
    ] = "digits",
    problem_args: ProblemArguments = None,
    methods: Annotated[
        str | None, typer.Option(help=f"Methods of the comparison (default: {DEFAULT_METHODS}).")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of the comparison (default: the problem's).")] = None,
    time_limit: Annotated[
        float | None,
        number_option("Limit of each run (default: the problem's).", "SECONDS"),
    ] = None,
    epochs: Epochs = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Measure on this machine's first GPU.")] = False,
) -> None:
    """Try a problem on one batch: does it fit together, what does a step cost, what would a comparison take?"""
    with one_line_errors():
        from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
        from raytune_hyperlearn.comparison.running.method import problem_source

        experiment = experiment_from_settings(
            settings_of(
                problem=problem,
                problem_args=problem_args,
                methods=methods,
                seeds=seeds,
                time_limit=time_limit,
                epochs=epochs,
            )
        )
        errors.print(f"trying {problem} on one batch", style="dim", markup=False, highlight=False)
        from raytune_hyperlearn.comparison.running.forecast import forecast, forecast_of_function
        from raytune_hyperlearn.problems import load
        from raytune_hyperlearn.problems.references import training_function_of

        source = problem_source(experiment)
        function = training_function_of(source)
        if function is None:
            found = forecast(load(source), experiment, "cuda" if gpu else "cpu")
        else:
            found = forecast_of_function(function, experiment)
    table = Table("what", "found", box=None, padding=(0, 2, 0, 0))
    for name, text in found.items():
        table.add_row(name, escape(text))
    console.print(table, highlight=False)


def reference(
    problem: Annotated[
        str, typer.Argument(help="Problem (see `hyperlearn list`), path/to/file.py:name or package.module:name.")
    ],
    problem_args: ProblemArguments = None,
    epochs: Epochs = None,
    seeds: Annotated[int, whole_option("Seeds per setting.")] = 3,
    workers: Workers = 1,
    cpus_per_trial: CPUsPerTrial = 1,
    gpus_per_trial: GPUsPerTrial = 0.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: reference-PROBLEM.json).")
    ] = None,
) -> None:
    """Find a problem's reference, the zero of regret: a grid around the usual settings, several seeds each."""
    with one_line_errors():
        from raytune_hyperlearn.comparison.reference_record import write_reference
        from raytune_hyperlearn.comparison.running.reference import find_reference
        from raytune_hyperlearn.problems.references import short_name

        path = output or Path(f"reference-{short_name(problem)}.json")
        if path.exists():
            raise ValueError(f"output is {path}; it exists already, name a new file")
        if not path.parent.is_dir():
            raise ValueError(f"output is {path}; its folder does not exist")
        resources = workers, gpus_per_trial, console, arguments_of(problem_args), cpus_per_trial
        found = find_reference(problem, epochs, seeds, *resources)
        write_reference(found, path)
        console.print(f"{path}: validation loss {found.validation_loss:.4f}{accuracy_text(found.test_accuracy)}")
