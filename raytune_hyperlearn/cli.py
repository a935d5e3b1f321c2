"""The ``hyperlearn`` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="hyperlearn",
    help="Learn hyperparameters by gradients during training, on Ray Tune, and compare with black-box search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()
errors = Console(stderr=True)

DEFAULT_METHODS = "fds,hd,rs,bo,hb,bohb"
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results (default: results/PROBLEM).")]


def main() -> None:
    """Entry point: bad input is one line and exit status 2."""
    app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn a refusal into one line on standard error and exit status 2; Ctrl-C into 130."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        errors.print(
            f"hyperlearn: {str(error).splitlines()[0]}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(2) from None


@app.command()
def compare(
    problem: Annotated[
        str | None, typer.Option(help="Problem to train (see `hyperlearn list`) [default: digits].")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help=f"Methods, separated by commas [default: {DEFAULT_METHODS}].")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Number of seeds (3 means 0, 1, 2), or seeds separated by commas [default: 3].")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Wall-clock seconds of each run, from its first worker being up.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Full budget of one training, in epochs.")] = None,
    workers: Annotated[int | None, typer.Option(help="Trials at a time [default: 1].")] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(help="GPUs of one trial, fractions allowed [default: 0].")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to join; without it Ray is started on this machine.")
    ] = None,
    output: Output = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of experiment settings; options given here override it.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a comparison that was stopped: go on where it was.")
    ] = None,
) -> None:
    """Run methods head-to-head on a problem and write a regret-vs-wallclock report.

    Every method runs once per seed, with the same search space, budgets, resources and wall-clock limit.
    """
    given = {
        "problem": problem,
        "methods": _names(methods),
        "seeds": _seeds(seeds),
        "time_limit": time_limit,
        "epochs": epochs,
        "workers": workers,
        "gpus_per_trial": gpus_per_trial,
        "address": address,
    }
    with _one_line_errors():
        from raytune_hyperlearn.comparison import run as running
        from raytune_hyperlearn.comparison.defaults import experiment_from_settings
        from raytune_hyperlearn.comparison.experiment import read_experiment, read_settings
        from raytune_hyperlearn.comparison.progress import Progress
        from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE

        chosen = {name: value for name, value in given.items() if value is not None}
        if resume is not None:
            if chosen or config is not None or output is not None:
                name = next(iter(chosen), "config" if config is not None else "output")
                raise ValueError(f"{name} is given beside resume; a resumed comparison keeps its settings")
            if not (resume / EXPERIMENT_FILE).is_file():
                raise ValueError(f"resume is {resume}; it must be a folder that holds {EXPERIMENT_FILE}")
            experiment, folder_path = read_experiment(resume / EXPERIMENT_FILE), resume
        else:
            settings = {} if config is None else read_settings(config)
            experiment = experiment_from_settings({**settings, **chosen})
            folder_path = output or Path("results") / experiment.problem
        running.check_experiment(experiment)
        folder = running.prepare_folder(experiment, folder_path, resume is not None)
        running.start_ray(experiment)
        done = len(folder.finished())
        try:
            with Progress(experiment, folder.records, done, console) as progress:
                running.run_experiment(experiment, folder, progress.announce)
        except KeyboardInterrupt:
            errors.print(f"\nStopped; every record is kept. Go on with: hyperlearn compare --resume {folder_path}")
            raise typer.Exit(130) from None
        finally:
            running.stop_ray()
        _report([folder_path], folder_path / "report.html")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Result folders; several are joined into one report.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write [default: report.html in the first folder].")
    ] = None,
) -> None:
    """Rebuild the report of a comparison from its records, or join several into one."""
    with _one_line_errors():
        _report(folders, output or folders[0] / "report.html")


@app.command(name="list")
def list_names() -> None:
    """Show the problems and methods that `hyperlearn compare` knows."""
    from raytune_hyperlearn.comparison.methods import METHODS
    from raytune_hyperlearn.problems import PROBLEMS

    problems = Table("problem", "what", title="Problems", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name, factory in PROBLEMS.items():
        problems.add_row(name, (factory.__doc__ or "").splitlines()[0])
    methods = Table("method", "what", title="Methods", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name, method in METHODS.items():
        methods.add_row(name, method.description)
    console.print(problems, "", methods)


@app.command()
def reference(
    problem: Annotated[str, typer.Argument(help="Problem (see `hyperlearn list`).")],
    epochs: Annotated[float | None, typer.Option(help="Full budget in epochs [default: the problem's own].")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds per setting.", min=1)] = 3,
    workers: Annotated[int, typer.Option(help="Trials at a time.", min=1)] = 1,
    gpus_per_trial: Annotated[float, typer.Option(help="GPUs of one trial.", min=0)] = 0.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write [default: reference-PROBLEM.json].")
    ] = None,
) -> None:
    """Find a problem's reference, the zero of regret: a grid around the usual settings, several seeds each."""
    with _one_line_errors():
        from raytune_hyperlearn.comparison.reference import find_reference
        from raytune_hyperlearn.comparison.reference_record import write_reference

        path = output or Path(f"reference-{problem}.json")
        if path.exists():
            raise ValueError(f"output is {path}; it exists already, name a new file")
        found = find_reference(problem, epochs, seeds, workers, gpus_per_trial, console)
        write_reference(found, path)
        console.print(f"{path}: validation loss {found.validation_loss:.4f}, test accuracy {found.test_accuracy:.4f}")


def _report(folders: list[Path], path: Path) -> None:
    """Write the report and print its final table."""
    from raytune_hyperlearn.comparison.report import build_report
    from raytune_hyperlearn.comparison.results import load_studies
    from raytune_hyperlearn.comparison.tables import summary_table

    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"folder is {folder}; it must be a folder that a comparison wrote")
    built = build_report(folders, path)
    for study in load_studies(folders):
        summary = summary_table(study)
        table = Table(title=f"{study.experiment.problem}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in summary.columns:
            table.add_column(heading)
        for row in summary.rows:
            table.add_row(*[str(cell) for cell in row])
        console.print(table)
    console.print(f"Report: {built}")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str | None) -> list[int] | None:
    """``3`` → [0, 1, 2]; ``4,7`` → [4, 7]."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        errors.print(
            f"hyperlearn: seeds is {text!r}; it must be a number of seeds or whole numbers with commas", style="red"
        )
        raise typer.Exit(2) from None
    return numbers if "," in text else list(range(numbers[0]))


if __name__ == "__main__":
    main()
