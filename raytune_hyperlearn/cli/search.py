"""``hyperlearn tune``: search with one method."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from raytune_hyperlearn.cli.options import (
    CPUsPerTrial,
    GPUsPerTrial,
    GradientNorm,
    Precision,
    ProblemArguments,
    Trust,
    Verbose,
    Workers,
    number_option,
    settings_of,
    whole_option,
)
from raytune_hyperlearn.cli.runs import run_comparison
from raytune_hyperlearn.cli.terminal import accuracy_text, console, one_line_errors, say


def tune(
    problem: Annotated[
        str, typer.Option(help="Problem to train: a name, path/to/file.py:name or package.module:name.")
    ] = "digits",
    problem_args: ProblemArguments = None,
    method: Annotated[str, typer.Option(help="Method that searches (see `hyperlearn list`).")] = "fds",
    time_limit: Annotated[
        float | None,
        number_option("Wall-clock limit (default: the comparison's).", "SECONDS"),
    ] = None,
    outer_steps: Annotated[
        int | None,
        whole_option("Stop FDS after so many outer steps (default: at the time limit)."),
    ] = None,
    epochs: Annotated[
        float | None,
        number_option("Full budget of one training, in epochs (default: the comparison's)."),
    ] = None,
    seed: Annotated[int, whole_option("Seed of the search.")] = 0,
    workers: Workers = 1,
    cpus_per_trial: CPUsPerTrial = 1,
    gpus_per_trial: GPUsPerTrial = 0.0,
    gradient_norm: GradientNorm = None,
    precision: Precision = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results (default: results/PROBLEM-METHOD).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in the output folder that was stopped.")
    ] = False,
    trust: Trust = False,
    verbose: Verbose = False,
) -> None:
    """Search with one method, then show what was found and how to train with it."""
    with one_line_errors():
        from raytune_hyperlearn.comparison import head_to_head
        from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings

        chosen = settings_of(
            problem=problem,
            problem_args=problem_args,
            time_limit=time_limit,
            epochs=epochs,
            workers=workers,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            gradient_norm=gradient_norm,
            precision=precision,
        )
        options = {} if outer_steps is None else {method: {"outer_steps": outer_steps}}
        one_run = {"methods": [method], "seeds": [seed], "confirmations": 0, "method_options": options}
        experiment = experiment_from_settings({**chosen, **one_run})
        path = output or Path("results") / f"{experiment.name}-{method}"
    command = shlex.join(["hyperlearn", *sys.argv[1:], *([] if resume else ["--resume"])])
    begin = partial(head_to_head.begin, resume=resume, verbose=verbose)
    run_comparison(experiment, path, begin, trust or not resume, command, verbose)
    with one_line_errors():
        from raytune_hyperlearn.comparison.analysis.best import BEST_FILE
        from raytune_hyperlearn.comparison.analysis.results import load_study

        study = load_study(path)
        if not (path / BEST_FILE).is_file():
            reason = f", the first evaluation crashed with: {study.error_of_all}" if study.error_of_all else ""
            say(f"no evaluation completed within the time limit{reason}")
            raise typer.Exit(1)
        _show_best(path / BEST_FILE)


def _show_best(path: Path) -> None:
    """What was found as YAML, its scores, and the lines of PyTorch that use it."""
    from raytune_hyperlearn.learned import Learned

    learned = Learned.load(path)
    scores = f"validation loss {learned.found['validation_loss']:.4g}{accuracy_text(learned.found['test_accuracy'])}"
    sampler = "sampler = learned.to_batch_sampler(len(dataset), epochs)" if learned.batch_sizes else ""
    lines = [f"# {scores}", learned.to_yaml()]
    usage = [
        "# to train with it:",
        "from raytune_hyperlearn import Learned",
        f"learned = Learned.load({str(path)!r})",
        "scheduler = learned.to_torch(optimizer, steps)  # then scheduler.step() after every update",
        sampler,
    ]
    lines += usage if learned.is_for_torch else []
    console.print("\n".join(filter(None, lines)), markup=False, highlight=False, soft_wrap=True)
