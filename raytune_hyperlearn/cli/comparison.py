"""``hyperlearn compare``: methods head-to-head on a problem."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raytune_hyperlearn.cli.options import (
    DEFAULT_METHODS,
    GradientNorm,
    Output,
    Precision,
    ProblemArguments,
    Trust,
    Verbose,
    number_option,
    settings_of,
    whole_option,
)
from raytune_hyperlearn.cli.results import write_report
from raytune_hyperlearn.cli.runs import run_comparison
from raytune_hyperlearn.cli.terminal import console, one_line_errors, say

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.experiment import Experiment


def compare(
    problem: Annotated[
        str | None,
        typer.Option(
            help="Problem to train: a name (see `hyperlearn list`), path/to/file.py:name or package.module:name "
            "(default: digits)."
        ),
    ] = None,
    problem_args: ProblemArguments = None,
    methods: Annotated[
        str | None, typer.Option(help=f"Methods, separated by commas (default: {DEFAULT_METHODS}).")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Number of seeds (3 means 0, 1, 2), or seeds separated by commas (default: the problem's, see `list`; "
            "3 for an own one)."
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        number_option(
            "Wall-clock limit of each run, from its first worker on (default: the problem's, see `list`; "
            "600 for an own one).",
            "SECONDS",
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        number_option("Full budget of one training, in epochs (default: the problem's)."),
    ] = None,
    workers: Annotated[int | None, whole_option("Trials at a time (default: 1).")] = None,
    concurrent: Annotated[
        int | None,
        whole_option("Runs at a time, each with as many workers as one alone (default: 1)."),
    ] = None,
    cpus_per_trial: Annotated[
        int | None,
        whole_option("Processors of one trial, which trains with as many threads (default: 1)."),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        number_option("GPUs of one trial, fractions allowed (default: 0)."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to join; without it Ray is started on this machine.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where runs keep checkpoints while they last: an empty path or URI, such as s3://bucket/folder, that "
            "all nodes reach (default: the output folder)."
        ),
    ] = None,
    confirm: Annotated[
        int | None,
        whole_option(
            "Train every run's incumbent again with so many fresh seeds at the end; 0 for not at all "
            "(default: 3 on digits, mnist-5k, fashion-mnist and connect-4, else 0).",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="What trains, and whose hyperparameters are searched: sgd, adam or adamw (default: sgd)."),
    ] = None,
    gradient_norm: GradientNorm = None,
    precision: Precision = None,
    focus: Annotated[
        str | None,
        typer.Option(help="Method to test against each other one (default: fds where it takes part, else the first)."),
    ] = None,
    output: Output = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of experiment settings; options given here override it.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a comparison that was stopped: continue where it was.")
    ] = None,
    extend: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a finished comparison: add --methods and --seeds to it, or give its runs a longer "
            "--time-limit. Runs that a shorter limit cut off go on from their last states, at most ten seconds before."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how long, and stop.")] = False,
    trust: Trust = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew in a folder with results; those are kept in FOLDER.1.")
    ] = False,
    verbose: Verbose = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as a YAML file for --config and stop.")
    ] = False,
) -> None:
    """Run methods head-to-head on a problem and write a regret-vs-wallclock report.

    Every method runs once per seed, with the same search space, budgets, resources and wall-clock limit.
    The exit status is 1 if every evaluation crashed.
    """
    with one_line_errors():
        from raytune_hyperlearn.comparison import head_to_head
        from raytune_hyperlearn.comparison.experiment import read_experiment, read_settings
        from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE
        from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings

        chosen = settings_of(
            problem=problem,
            problem_args=problem_args,
            methods=methods,
            seeds=seeds,
            time_limit=time_limit,
            epochs=epochs,
            workers=workers,
            concurrent=concurrent,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            address=address,
            storage=storage,
            confirmations=confirm,
            optimizer=optimizer,
            gradient_norm=gradient_norm,
            precision=precision,
            focus=focus,
        )
        others = {"config": config is not None, "output": output is not None, "overwrite": overwrite}
        begin = partial(head_to_head.begin, resume=resume is not None, verbose=verbose)
        if resume is not None:
            others["extend"] = extend is not None
            if chosen or any(others.values()):
                name = next(iter(chosen), next((name for name, is_given in others.items() if is_given), ""))
                raise ValueError(f"{name} is given beside resume; a resumed comparison keeps its settings")
            if not (resume / EXPERIMENT_FILE).is_file():
                raise ValueError(f"resume is {resume}; it must be a folder that holds {EXPERIMENT_FILE}")
            experiment, path = read_experiment(resume / EXPERIMENT_FILE), resume
        elif extend is not None:
            experiment, path = _extended(extend, chosen, others), extend
            begin = partial(head_to_head.begin_extended, say=_say_line, verbose=verbose)
        else:
            if config is not None and not config.is_file():
                raise ValueError(f"config is {config}; it must be a YAML file of settings")
            settings = {} if config is None else read_settings(config)
            experiment = experiment_from_settings({**settings, **chosen})
            path = output or head_to_head.default_folder(experiment)
        is_continued = resume is not None or extend is not None
        if print_config:
            from raytune_hyperlearn.comparison.commented import commented_yaml

            print(commented_yaml(experiment), end="")
            return
        if dry_run:
            _say_plan(experiment, path, is_continued)
            return
        if overwrite:
            _set_aside(experiment, path)
    command = f"hyperlearn compare --resume {shlex.quote(str(path))}{' --trust' if trust else ''}"
    run_comparison(experiment, path, begin, trust or not is_continued, command, verbose)
    with one_line_errors():
        error = write_report([path], path / "report.html")
    if error:
        say(f"every evaluation crashed, the first with: {error}")
        raise typer.Exit(1)


def _set_aside(experiment: Experiment, path: Path) -> None:
    """Rename a folder with results, after the checks of what is to take its place."""
    from raytune_hyperlearn.comparison import head_to_head
    from raytune_hyperlearn.comparison.running.folder import set_aside
    from raytune_hyperlearn.comparison.running.lock import locked

    head_to_head.check_settings(experiment)
    with locked(path):  # no other process may be writing to it
        pass
    kept = set_aside(path)
    if kept is not None:
        say(f"what was in {path} is in {kept} now")


def _extended(path: Path, given: dict[str, Any], others: dict[str, bool]) -> Experiment:
    """The experiment that the folder is to hold."""
    from raytune_hyperlearn.comparison.running.extension import extension_of

    fixed = [name for name in given if name not in {"methods", "seeds", "time_limit"}]
    fixed += [name for name, is_given in others.items() if is_given]
    if fixed:
        raise ValueError(f"{fixed[0]} is given beside extend; it must be one of methods, seeds and time_limit")
    return extension_of(path, given.get("methods", ()), given.get("seeds", ()), given.get("time_limit"))


def _say_line(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _say_plan(experiment: Experiment, path: Path, is_continued: bool) -> None:
    """The runs of a comparison, those that the folder holds already, and how long the others take."""
    from raytune_hyperlearn.comparison import head_to_head
    from raytune_hyperlearn.comparison.running.duration import missing_text, plan_text
    from raytune_hyperlearn.comparison.running.extension import kept_runs

    head_to_head.check_settings(experiment)
    _say_line(plan_text(experiment))
    kept = kept_runs(experiment, path) if is_continued else set()
    for method in experiment.methods:
        seeds = ", ".join(f"{seed}{' (finished)' if (method, seed) in kept else ''}" for seed in experiment.seeds)
        _say_line(f"  {method}: seeds {seeds}")
    _say_line(missing_text(experiment, kept))
