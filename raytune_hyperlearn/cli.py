"""The ``hyperlearn`` command."""

from __future__ import annotations

import errno
import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raytune_hyperlearn import __version__
from raytune_hyperlearn.cli_options import (
    DEFAULT_METHODS,
    Epochs,
    GPUsPerTrial,
    Output,
    ProblemArguments,
    Trust,
    Workers,
    number_option,
    whole_option,
)
from raytune_hyperlearn.comparison.running.stopping import exit_status, stopping_on_sigterm

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.experiment import Experiment

app = typer.Typer(
    name="hyperlearn",
    help="Learn hyperparameters by gradients during training, on Ray Tune, and compare with black-box search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""What typer raises for arguments that do not parse: the base of the one such error that it exports."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of a disk that takes no more."""
console = Console()
errors = Console(stderr=True)


def main() -> None:
    """Entry point: bad input is one line on standard error and exit status 2; Ctrl-C is 130 and SIGTERM 143."""
    try:
        with stopping_on_sigterm():
            status = app(args=sys.argv[1:] or ["--help"], prog_name="hyperlearn", standalone_mode=False)
    except USAGE_ERROR as error:
        _say(error.format_message())
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = exit_status()
    sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn a refusal into one line on standard error and exit status 2."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        _say(str(error))
        raise typer.Exit(2) from None


def _say(message: str) -> None:
    """One line on standard error, whatever the terminal's width."""
    line = " ".join(message.split())
    errors.print(f"hyperlearn: {line}", style="red", markup=False, highlight=False, soft_wrap=True)


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


@app.command()
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
        str | None, typer.Option(help="Number of seeds (3 means 0, 1, 2), or seeds separated by commas (default: 3).")
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
        number_option("Full budget of one training, in epochs (default: the problem's; 9 for an own one)."),
    ] = None,
    workers: Annotated[int | None, whole_option("Trials at a time (default: 1).")] = None,
    gpus_per_trial: Annotated[
        float | None,
        number_option("GPUs of one trial, fractions allowed (default: 0)."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to join; without it Ray is started on this machine.")
    ] = None,
    confirm: Annotated[
        int | None,
        whole_option(
            "Train every run's incumbent again with so many fresh seeds at the end; 0 for not at all "
            "(default: 3 on digits and fashion-mnist, else 0).",
        ),
    ] = None,
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
            "--time-limit. Nothing runs twice but what a shorter limit cut off."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how long, and stop.")] = False,
    trust: Trust = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew in a folder with results; those are kept in FOLDER.1.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as a YAML file for --config and stop.")
    ] = False,
) -> None:
    """Run methods head-to-head on a problem and write a regret-vs-wallclock report.

    Every method runs once per seed, with the same search space, budgets, resources and wall-clock limit.
    The exit status is 1 if every evaluation crashed.
    """
    with _one_line_errors():
        from raytune_hyperlearn.comparison import head_to_head
        from raytune_hyperlearn.comparison.experiment import read_experiment, read_settings
        from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE
        from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings

        given = {
            "problem": problem,
            "problem_args": _arguments(problem_args),
            "methods": _names(methods),
            "seeds": _seeds(seeds),
            "time_limit": time_limit,
            "epochs": epochs,
            "workers": workers,
            "gpus_per_trial": gpus_per_trial,
            "address": address,
            "confirmations": confirm,
            "focus": focus,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        if resume is not None:
            others = {"config": config is not None, "output": output is not None, "overwrite": overwrite}
            others["extend"] = extend is not None
            if chosen or any(others.values()):
                name = next(iter(chosen), next((name for name, is_given in others.items() if is_given), ""))
                raise ValueError(f"{name} is given beside resume; a resumed comparison keeps its settings")
            if not (resume / EXPERIMENT_FILE).is_file():
                raise ValueError(f"resume is {resume}; it must be a folder that holds {EXPERIMENT_FILE}")
            experiment, path = read_experiment(resume / EXPERIMENT_FILE), resume
        elif extend is not None:
            others = {"config": config is not None, "output": output is not None, "overwrite": overwrite}
            experiment, path = _extended(extend, chosen, others), extend
        else:
            if config is not None and not config.is_file():
                raise ValueError(f"config is {config}; it must be a YAML file of settings")
            settings = {} if config is None else read_settings(config)
            experiment = experiment_from_settings({**settings, **chosen})
            path = output or head_to_head.default_folder(experiment)
        if print_config:
            from raytune_hyperlearn.comparison.commented import commented_yaml

            print(commented_yaml(experiment), end="")
            return
        if dry_run:
            _say_plan(experiment, path, is_continued=resume is not None or extend is not None)
            return
        if overwrite:
            _set_aside(experiment, path)
        if extend is not None:
            _extend(experiment, path, trust)
    command = f"hyperlearn compare --resume {shlex.quote(str(path))}{' --trust' if trust else ''}"
    _run(experiment, path, resume is not None or extend is not None, trust, command)
    with _one_line_errors():
        error = _report([path], path / "report.html")
    if error:
        _say(f"every evaluation crashed, the first with: {error}")
        raise typer.Exit(1)


@app.command()
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
    gpus_per_trial: GPUsPerTrial = 0.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results (default: results/PROBLEM-METHOD).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in the output folder that was stopped.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Search with one method, then show what was found and how to train with it."""
    with _one_line_errors():
        from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings

        chosen = {"problem_args": _arguments(problem_args), "time_limit": time_limit, "epochs": epochs}
        experiment = experiment_from_settings(
            {
                "problem": problem,
                "methods": [method],
                "seeds": [seed],
                "confirmations": 0,
                "workers": workers,
                "gpus_per_trial": gpus_per_trial,
                "method_options": {} if outer_steps is None else {method: {"outer_steps": outer_steps}},
                **{name: value for name, value in chosen.items() if value is not None},
            }
        )
        path = output or Path("results") / f"{experiment.name}-{method}"
    command = shlex.join(["hyperlearn", *sys.argv[1:], *([] if resume else ["--resume"])])
    _run(experiment, path, resume, trust, command)
    with _one_line_errors():
        from raytune_hyperlearn.comparison.analysis.best import BEST_FILE
        from raytune_hyperlearn.comparison.analysis.results import load_study

        study = load_study(path)
        if not (path / BEST_FILE).is_file():
            reason = f", the first evaluation crashed with: {study.error_of_all}" if study.error_of_all else ""
            _say(f"no evaluation completed within the time limit{reason}")
            raise typer.Exit(1)
        _show_best(path / BEST_FILE)


@app.command()
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
    with _one_line_errors():
        from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
        from raytune_hyperlearn.comparison.running.method import problem_source

        given = {
            "problem": problem,
            "problem_args": _arguments(problem_args),
            "methods": _names(methods),
            "seeds": _seeds(seeds),
            "time_limit": time_limit,
            "epochs": epochs,
        }
        experiment = experiment_from_settings({name: value for name, value in given.items() if value is not None})
        errors.print(f"trying {problem} on one batch", style="dim", markup=False, highlight=False)
        from raytune_hyperlearn.comparison.running.forecast import forecast
        from raytune_hyperlearn.problems import load

        found = forecast(load(problem_source(experiment)), experiment, "cuda" if gpu else "cpu")
    table = Table("what", "found", box=None, padding=(0, 2, 0, 0))
    for name, text in found.items():
        table.add_row(name, escape(text))
    console.print(table, highlight=False)


def _show_best(path: Path) -> None:
    """What was found as YAML, its scores, and the lines of PyTorch that use it."""
    from raytune_hyperlearn.learned import Learned

    learned = Learned.load(path)
    scores = f"validation loss {learned.found['validation_loss']:.4g}{_accuracy_text(learned.found['test_accuracy'])}"
    sampler = "sampler = learned.to_batch_sampler(len(dataset), epochs)" if learned.batch_sizes else ""
    lines = [
        f"# {scores}",
        learned.to_yaml(),
        "# to train with it:",
        "from raytune_hyperlearn import Learned",
        f"learned = Learned.load({str(path)!r})",
        "scheduler = learned.to_torch(optimizer, steps)  # then scheduler.step() after every update",
        sampler,
    ]
    console.print("\n".join(filter(None, lines)), markup=False, highlight=False, soft_wrap=True)


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
        _say(f"what was in {path} is in {kept} now")


def _extended(path: Path, given: dict[str, Any], others: dict[str, bool]) -> Experiment:
    """The experiment that the folder is to hold."""
    from raytune_hyperlearn.comparison.running.extension import extension_of

    fixed = [name for name in given if name not in {"methods", "seeds", "time_limit"}]
    fixed += [name for name, is_given in others.items() if is_given]
    if fixed:
        raise ValueError(f"{fixed[0]} is given beside extend; it must be one of methods, seeds and time_limit")
    return extension_of(path, given.get("methods", ()), given.get("seeds", ()), given.get("time_limit"))


def _extend(grown: Experiment, path: Path, trust: bool) -> None:
    """Make the folder the grown experiment's, and say what that means."""
    from raytune_hyperlearn.comparison.head_to_head import extend_folder
    from raytune_hyperlearn.comparison.running.lock import locked
    from raytune_hyperlearn.comparison.running.trust import require_own

    if not trust:
        require_own(path)
    with locked(path):
        said, earlier = extend_folder(grown, path)
    console.print(f"{said}; the files as they were are kept in {earlier}", highlight=False, soft_wrap=True)


def _say_plan(experiment: Experiment, path: Path, is_continued: bool) -> None:
    """The runs of a comparison, those that the folder holds already, and how long the others take."""
    from raytune_hyperlearn.comparison import head_to_head
    from raytune_hyperlearn.comparison.running.duration import missing_text, plan_text
    from raytune_hyperlearn.comparison.running.extension import kept_runs

    head_to_head.check_settings(experiment)
    console.print(plan_text(experiment), highlight=False, soft_wrap=True)
    kept = kept_runs(experiment, path) if is_continued else set()
    for method in experiment.methods:
        seeds = ", ".join(f"{seed}{' (finished)' if (method, seed) in kept else ''}" for seed in experiment.seeds)
        console.print(f"  {method}: seeds {seeds}", highlight=False, soft_wrap=True)
    console.print(missing_text(experiment, len(kept)), highlight=False, soft_wrap=True)


def _run(experiment: Experiment, path: Path, resume: bool, trust: bool, command: str) -> None:
    """Check all, then run to the end and leave Ray; if it is stopped, name the command that continues.

    Args:
        experiment: What to run.
        path: The experiment's folder, which no other process may write to meanwhile.
        resume: Whether the folder is to be continued.
        trust: Whether it may be continued though others could have written to it.
        command: Continues the run.
    """
    from raytune_hyperlearn.comparison import head_to_head
    from raytune_hyperlearn.comparison.running import cluster
    from raytune_hyperlearn.comparison.running.duration import plan_text
    from raytune_hyperlearn.comparison.running.lock import locked
    from raytune_hyperlearn.comparison.running.trust import require_own

    with ExitStack() as held:
        with _one_line_errors():
            if resume and not trust:
                require_own(path)
            held.enter_context(locked(path))
            head_to_head.check_quickly(experiment, path, resume)
            folder = head_to_head.start(experiment, path, resume)
        held.callback(cluster.stop_ray)
        console.print(plan_text(experiment), highlight=False, soft_wrap=True)
        _say_what_seeds_can_show(experiment)
        with _ways_to_continue(command):
            head_to_head.run(experiment, folder, console)


def _say_what_seeds_can_show(experiment: Experiment) -> None:
    if len(experiment.methods) > 1:
        from raytune_hyperlearn.comparison.reporting.styles import method_styles
        from raytune_hyperlearn.comparison.reporting.wording import seeds_text

        label = method_styles(experiment.methods)[experiment.tested].label
        console.print(seeds_text(label, len(experiment.methods) - 1, len(experiment.seeds)))


@contextmanager
def _ways_to_continue(command: str) -> Iterator[None]:
    """After Ctrl-C, SIGTERM or a write that failed, say in one line how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        _say(f"stopped; every record is kept, continue with: {command}")
        raise typer.Exit(exit_status()) from None
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _say(f"{error}; every record before is kept, continue with: {command}")
        raise typer.Exit(1) from None


@app.command()
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
    with _one_line_errors():
        if explain is not None:
            from raytune_hyperlearn.comparison.analysis.results import load_studies
            from raytune_hyperlearn.comparison.reporting.explain import explain as numbers_behind

            for problem, data in numbers_behind(load_studies(folders, focus), explain).items():
                typer.echo(f"# {explain}, {problem}\n# {data.formula}\n{data.to_csv()}", nl=False)
            return
        if live:
            _serve(folders, focus)
            return
        _report(folders, output or folders[0] / "report.html", focus)


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


@app.command()
def export(
    folders: Annotated[list[Path], typer.Argument(help="Result folders.")],
    to: Annotated[str, typer.Option(help="csv (one table) or optuna (a journal that optuna-dashboard opens).")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: in the first folder).")
    ] = None,
) -> None:
    """Write a comparison's records in the format of another viewer."""
    with _one_line_errors():
        from raytune_hyperlearn.comparison.analysis.results import load_studies
        from raytune_hyperlearn.comparison.reporting.export import export as write
        from raytune_hyperlearn.comparison.reporting.export import file_name

        path = output or folders[0] / file_name(to)
        console.print(f"{write(load_studies(folders), to, path)}", soft_wrap=True)


@app.command(name="list")
def list_names() -> None:
    """Show the problems and methods that `hyperlearn compare` knows, and which extra a method needs."""
    from raytune_hyperlearn.comparison.running.defaults import BY_PROBLEM, GENERAL
    from raytune_hyperlearn.comparison.running.duration import duration_text
    from raytune_hyperlearn.comparison.running.methods import METHODS
    from raytune_hyperlearn.problems import PROBLEMS

    problems = Table(
        "problem", "what", "default", title="Problems", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for name, problem in PROBLEMS.items():
        settings = BY_PROBLEM.get(name, GENERAL)
        seeds, limit = len(settings["seeds"]), duration_text(settings["time_limit"])
        problems.add_row(name, problem.description, f"{seeds} seed{'s' if seeds > 1 else ''} × {limit} a method")
    methods = Table("method", "what", "extra", title="Methods", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name, method in METHODS.items():
        state = f"(not installed: {', '.join(method.missing)})" if method.missing else ""
        methods.add_row(name, method.description, f"{method.extra} {state}".strip())
    console.print(problems, "", methods)


@app.command()
def reference(
    problem: Annotated[
        str, typer.Argument(help="Problem (see `hyperlearn list`), path/to/file.py:name or package.module:name.")
    ],
    problem_args: ProblemArguments = None,
    epochs: Epochs = None,
    seeds: Annotated[int, whole_option("Seeds per setting.")] = 3,
    workers: Workers = 1,
    gpus_per_trial: GPUsPerTrial = 0.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: reference-PROBLEM.json).")
    ] = None,
) -> None:
    """Find a problem's reference, the zero of regret: a grid around the usual settings, several seeds each."""
    with _one_line_errors():
        from raytune_hyperlearn.comparison.reference_record import write_reference
        from raytune_hyperlearn.comparison.running.reference import find_reference
        from raytune_hyperlearn.problems.references import short_name

        path = output or Path(f"reference-{short_name(problem)}.json")
        if path.exists():
            raise ValueError(f"output is {path}; it exists already, name a new file")
        if not path.parent.is_dir():
            raise ValueError(f"output is {path}; its folder does not exist")
        found = find_reference(problem, epochs, seeds, workers, gpus_per_trial, console, _arguments(problem_args))
        write_reference(found, path)
        console.print(f"{path}: validation loss {found.validation_loss:.4f}{_accuracy_text(found.test_accuracy)}")


@app.command(name="reproduce")
def reproduce_experiment(
    name: Annotated[str | None, typer.Argument(help="Reproduction (see --list).")] = None,
    scale: Annotated[str, typer.Option(help="smoke (a minute), small, or paper (the paper's own).")] = "smoke",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder, new or of a run that was stopped (default: results/NAME-SCALE)."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the reproductions and stop.")] = False,
) -> None:
    """Run an experiment of a paper again and set the paper's claims beside what is measured."""
    with _one_line_errors():
        from raytune_hyperlearn.comparison.running.cluster import prepare_environment

        prepare_environment(None)  # before what follows imports Ray
        from raytune_hyperlearn.reproductions.registry import REPRODUCTIONS, find
        from raytune_hyperlearn.reproductions.reproduction import as_scale
        from raytune_hyperlearn.reproductions.writing import REPORT_FILE, reproduce

        if show_list:
            table = Table("reproduction", "what", box=None, padding=(0, 2, 0, 0))
            for known, reproduction in REPRODUCTIONS.items():
                table.add_row(known, f"{reproduction.description} ({reproduction.source.rstrip('.')})")
            console.print(table)
            return
        if name is None:
            raise ValueError(f"name is missing; it must be one of {', '.join(REPRODUCTIONS)}")
        chosen, size = find(name), as_scale(scale)
        folder = output or Path("results") / f"{name}-{scale}"
        with _ways_to_continue(f"hyperlearn reproduce {name} --scale {scale} --output {shlex.quote(str(folder))}"):
            findings = reproduce(name, chosen, size, folder, console)
    for verdict in findings.verdicts:
        claim, found = escape(verdict.claim), escape(verdict.found)
        console.print(f"[bold]{verdict.word}[/bold]: {claim}\n  {found}", highlight=False)
    console.print(f"Report: {folder / REPORT_FILE}")


def _report(folders: list[Path], path: Path, focus: str | None = None) -> str:
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
    from raytune_hyperlearn.comparison.reporting.page import build_report  # scipy take seconds to import
    from raytune_hyperlearn.comparison.reporting.tables import summary_table

    built = build_report(folders, path, focus)
    studies = load_studies(folders, focus)
    for study in studies:
        summary = summary_table(study)
        table = Table(title=summary.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in summary.columns:
            table.add_column(heading, overflow="fold")
        for row in summary.rows:
            table.add_row(*[str(cell) for cell in row])
        console.print(table, summary.note)
    console.print(f"Report: {built}")
    crashes = [study.error_of_all for study in studies]
    return crashes[0] if crashes and all(crashes) else ""


def _accuracy_text(accuracy: float | None) -> str:
    """``, test accuracy 0.9``; empty for a problem that has no accuracy."""
    return "" if accuracy is None or math.isnan(accuracy) else f", test accuracy {accuracy:.4g}"


def _arguments(given: list[str] | None) -> dict[str, Any] | None:
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


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str | None) -> list[int] | None:
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


if __name__ == "__main__":
    main()
