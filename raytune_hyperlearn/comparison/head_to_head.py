"""A whole comparison, from its settings to its results: what ``hyperlearn compare`` does, and the same from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment
from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE
from raytune_hyperlearn.comparison.running import cluster, extension
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.folder import Folder, check_folder, prepare_folder
from raytune_hyperlearn.comparison.running.lock import locked
from raytune_hyperlearn.comparison.running.method import problem_source
from raytune_hyperlearn.comparison.running.methods import method_options
from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.problems.references import reference_to

if TYPE_CHECKING:
    from ray.tune import Callback

    from raytune_hyperlearn.comparison.study import Study
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction


def compare(
    problem: str | Callable[..., Problem] | TrainingFunction = "digits",
    methods: Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    *,
    output: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    space: SearchSpace | Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Study:
    """Runs methods head to head on a problem: every method once per seed, with the same resources and time limit.

    What is not given has the problem's default, as for ``hyperlearn compare``. A local Ray is started unless Ray is
    running already; then that one is used and left running.

    Args:
        problem: Name of a built-in problem, reference of an own one (``file.py:name``, ``package.module:name``), or a
            function at the top level of a file that builds one; or a training function with a name there.
        methods: Names of methods.
        seeds: How many (3 means 0, 1 and 2), or the seeds themselves.
        output: Folder for the records (default: ``results/PROBLEM``).
        resume: Continue what is in the folder; without it, a folder with results is refused.
        progress: Show progress on the terminal.
        space: The search space of all methods.
        callbacks: Of Ray Tune, such as its loggers for TensorBoard and MLflow; called in every run, with plain metrics
            and every value of a schedule as a scalar of its own. With ``concurrent`` > 1 every run has copies of them.
        settings: Any other field of :class:`~raytune_hyperlearn.comparison.experiment.Experiment`, such as
            ``time_limit`` (seconds per run), ``epochs`` (full budget of one training), ``workers`` or ``concurrent``.

    Returns:
        The records of all runs, with what each run found.

    Raises:
        ValueError: In one line, if a setting is unknown or not allowed, the folder holds something else, or another
            process writes to it.
    """
    given = {
        "problem": problem if isinstance(problem, str) else reference_to(problem),
        "methods": methods if methods is None else list(methods),
        "seeds": seeds_from(seeds),
        "space": space.to_mapping() if isinstance(space, SearchSpace) else space,
    }
    experiment = experiment_from_settings({**settings, **{k: v for k, v in given.items() if v is not None}})
    path = Path(output) if output is not None else default_folder(experiment)
    with locked(path):
        to_the_end(experiment, lambda: begin(experiment, path, resume), Console(quiet=not progress), callbacks)
    return _study(path)


def to_the_end(
    experiment: Experiment, begin: Callable[[], Folder], console: Console, callbacks: Sequence[Callback] = ()
) -> None:
    """Begin, run and leave Ray, unless it was running before; the caller holds the folder's lock.

    Args:
        experiment: What is run.
        begin: :func:`begin` or :func:`begin_extended` with its arguments.
        console: Shows progress.
        callbacks: Of Ray Tune.
    """
    joined = cluster.is_running()
    folder = begin()
    try:
        run(experiment, folder, console, callbacks)
    finally:
        if not joined:
            cluster.stop_ray()


def _study(path: Path) -> Study:
    from raytune_hyperlearn.comparison.study import load_study

    return load_study(path)


def extend(
    folder: str | Path,
    methods: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    *,
    time_limit: float | None = None,
    progress: bool = False,
) -> Study:
    """Adds methods and seeds to a finished comparison, or gives its runs more time; the reference stays.

    Nothing runs twice. A run that stopped at a limit which is longer now goes on from there, or is run anew where its
    state is gone. The files as they were are kept in ``earlier/1``, ``earlier/2``, … of the folder.

    Args:
        folder: Of the comparison.
        methods: To add.
        seeds: How many there are to be (10 means 0 to 9), or the seeds to add.
        time_limit: Wall-clock seconds of every run.
        progress: Show progress on the terminal.

    Returns:
        All records, old and new.

    Raises:
        ValueError: In one line, if the comparison is not finished, nothing is added or it cannot run.
    """
    path = Path(folder)
    with locked(path):
        grown = extension.extension_of(path, methods, seeds_from(seeds) or (), time_limit)
        to_the_end(grown, lambda: begin_extended(grown, path), Console(quiet=not progress))
    return _study(path)


def seeds_from(seeds: int | Sequence[int] | None) -> list[int] | None:
    """A number of seeds as the seeds 0, 1, …; seeds as they are.

    Raises:
        ValueError: If the number is below 1.
    """
    if not isinstance(seeds, int):
        return None if seeds is None else list(seeds)
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it must be a number of seeds of at least 1, or a list of seeds")
    return list(range(seeds))


def default_folder(experiment: Experiment) -> Path:
    """Where results go if no folder is named."""
    return Path("results") / experiment.name


def check_settings(experiment: Experiment) -> None:
    """Refuse what can be refused without importing torch or Ray.

    Raises:
        ValueError: In one line, for an unknown method or option, or an address at which nothing listens.
    """
    problem_source(experiment)
    for method in experiment.methods:
        method_options(method, experiment.method_options.get(method, {}))
    if experiment.address is not None:
        cluster.require_listener(experiment.address)


def begin(experiment: Experiment, path: Path, resume: bool, verbose: bool = False) -> Folder:
    """Check all, cheap things first, start Ray unless it is running, and make the folder; the caller holds its lock.

    Args:
        experiment: What is to run.
        path: Its folder.
        resume: Whether to continue what is in the folder.
        verbose: Show what Ray and its workers print.

    Raises:
        ValueError: In one line; Ray is as before then, and nothing is written.
    """
    check_settings(experiment)
    check_folder(experiment, path, resume)
    with _on_ray(experiment, is_new=not resume, verbose=verbose):
        return prepare_folder(experiment, path, resume)


def begin_extended(
    grown: Experiment, path: Path, say: Callable[[str], object] = lambda text: None, verbose: bool = False
) -> Folder:
    """As :func:`begin`, in the folder of the comparison that has grown.

    Args:
        grown: What is to run.
        path: The folder.
        say: Is told what is added, what becomes of the runs that were there, and where the files as they were are.
        verbose: Show what Ray and its workers print.

    Raises:
        ValueError: In one line; Ray is as before then, and nothing is written.
    """
    check_settings(grown)
    with _on_ray(grown, verbose=verbose):
        before = read_experiment(path / EXPERIMENT_FILE)
        earlier = extension.extend_folder(before, grown, path)
        say(f"{extension.history(path)[-1]}; the files as they were are kept in {earlier}")
        return prepare_folder(grown, path, resume=True)


@contextmanager
def _on_ray(experiment: Experiment, is_new: bool = False, verbose: bool = False) -> Iterator[None]:
    """Make every method's first trial, and start Ray unless it is running; stop it if the body fails.

    The storage of a new experiment must be empty.
    """
    cluster.prepare_environment(experiment.address)
    from raytune_hyperlearn.comparison.running import run as running

    running.check_experiment(experiment)
    if is_new:
        running.require_empty_storage(experiment)
    joined = cluster.is_running()
    if joined:
        cluster.require_room(experiment)
    else:
        cluster.start_ray(experiment, verbose)
    try:
        yield
    except BaseException:
        if not joined:
            cluster.stop_ray()
        raise


def run(
    experiment: Experiment,
    folder: Folder,
    console: Console,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
) -> None:
    """Run and confirm what is not finished yet, and write the best of all runs to ``best.json``; Ray is running.

    Args:
        experiment: What is run.
        folder: From :func:`begin` or :func:`begin_extended`.
        console: Shows progress.
        callbacks: Of Ray Tune.
        verbose: Show a line for every result.

    Raises:
        KeyboardInterrupt: After Ctrl-C; all records are in the folder, and a later call continues.
    """
    from raytune_hyperlearn.comparison.analysis.best import BEST_FILE, best_of
    from raytune_hyperlearn.comparison.analysis.results import load_study
    from raytune_hyperlearn.comparison.reporting.progress import Progress
    from raytune_hyperlearn.comparison.running import run as running
    from raytune_hyperlearn.comparison.running.confirmation import confirm

    with Progress(experiment, folder.records, len(folder.finished()), console, verbose) as progress:
        running.run_experiment(experiment, folder, progress.announce, callbacks, progress.ended)
    confirm(experiment, folder.path, console)
    best = best_of(load_study(folder.path))
    if best is not None:
        best.save(folder.path / BEST_FILE)
