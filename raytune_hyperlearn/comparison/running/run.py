"""Runs an experiment on Ray Tune: every method with every seed, one after the other unless told otherwise.

Everything that is observed goes to the experiment's folder as it is observed:

    experiment.yaml     what was asked for
    environment.json    machine and versions
    records.jsonl       one row per result
    runs.jsonl          one row per finished run
    tune/               Tune's own state, from which a run that was stopped, or has now more time, is continued
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from raytune_hyperlearn.checked import shown
from raytune_hyperlearn.comparison.environment import describe_environment, write_environment
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.records import (
    ENVIRONMENT_FILE,
    TUNE_FOLDER,
    Finish,
    Record,
    RecordWriter,
    Run,
    read_records,
    remove_records,
)
from raytune_hyperlearn.comparison.running import cluster
from raytune_hyperlearn.comparison.running.folder import Folder, run_name, storage_of
from raytune_hyperlearn.comparison.running.kept_tuner import kept_tuner
from raytune_hyperlearn.comparison.running.method import MethodSetup, problem_source
from raytune_hyperlearn.comparison.running.methods import METHODS, method_options, setup_method
from raytune_hyperlearn.comparison.running.observer import Here, KeepUntil, Observer, RunClock, TimeLimit, run_from
from raytune_hyperlearn.comparison.running.side_by_side import Announce, side_by_side
from raytune_hyperlearn.problems import check_problem, load
from raytune_hyperlearn.problems.references import built_once
from raytune_hyperlearn.results import COMPLETED, ENDED
from raytune_hyperlearn.tune.kept_state import can_restore, leave_kept, names_in, remove_run, run_path


@built_once()  # its data may take minutes to read, and every method asks for them
def check_experiment(experiment: Experiment) -> None:
    """Refuse what cannot run, before anything is started or written.

    Raises:
        ValueError: In one line, for an unknown problem, method or option, missing data, or settings with which one of
            the methods cannot run.
    """
    if experiment.optimizer != "own":
        _check_problem(experiment)
    else:
        for name, only in (("gradient_clamp", None), ("gradient_norm", None), ("precision", "full")):
            if getattr(experiment, name) != only:
                given = getattr(experiment, name)
                raise ValueError(f"{name} is {given}; with a training function it must be {only}")
    for method in experiment.methods:
        try:
            _make_first_trial(experiment, method)
        except ValueError as error:
            raise ValueError(f"method {method}: {error}") from error
        except (ImportError, OSError):
            raise
        except Exception as error:  # whatever another package makes of an option that it cannot use
            given = shown(experiment.method_options.get(method, {}))
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            allowed = "it must be options with which the method can run"
            raise ValueError(f"method_options of {method} is {given}; {allowed} ({reason})") from error


def _check_problem(experiment: Experiment) -> None:
    problem = load(problem_source(experiment))
    check_problem(problem)
    if experiment.metric == "validation_accuracy" and problem.score is None:
        raise ValueError(
            f"metric is {experiment.metric!r}; {problem.name} has no accuracy, it must be 'validation_loss'"
        )


def _make_first_trial(experiment: Experiment, method: str) -> None:
    """Make a run's first trial as a worker would, without a step: this is how a method is asked whether it can run."""
    seed = experiment.seeds[0]
    setup = setup_method(experiment, method, seed)
    proposed = {} if setup.searcher is None else setup.searcher.suggest("check")
    config = {**trial_config(setup, experiment, seed), **(proposed if isinstance(proposed, dict) else {})}
    trial = setup.trainable.__new__(setup.trainable)  # the constructor would make a folder for Tune's logs
    trial.config = config
    trial.setup(config)


def run_experiment(
    experiment: Experiment,
    folder: Folder,
    announce: Announce,
    callbacks: Sequence[tune.Callback] = (),
    ended: Announce = lambda method, seed: None,
) -> None:
    """Run what is not finished yet; Ray must have been started.

    Args:
        experiment: What to run.
        folder: From :func:`prepare_folder`.
        announce: Told of each run before it starts.
        callbacks: Of Ray Tune, called in every run.
        ended: Told of each run after its summary is in the folder.

    Raises:
        KeyboardInterrupt: After Ctrl-C; all records are in the folder and a later call goes on.
    """
    packages = [package for method in experiment.methods for package in METHODS[method].packages]
    write_environment(describe_environment(packages), folder.path / ENVIRONMENT_FILE)
    finished = folder.finished()
    # Seed by seed, so that an early end leaves every method with the same seeds.
    every = ((method, seed) for seed in experiment.seeds for method in experiment.methods)
    missing = [run for run in every if run not in finished]
    for run in _all_runs(experiment, missing, folder, announce, callbacks):
        with RecordWriter(folder.runs) as writer:
            writer.append(run)
        clear = leave_kept if can_go_on(experiment, run) else remove_run
        clear(run_path(storage_of(experiment, folder.path), run_name(run.method, run.seed)))
        ended(run.method, run.seed)


def _all_runs(
    experiment: Experiment,
    missing: Sequence[tuple[str, int]],
    folder: Folder,
    announce: Announce,
    callbacks: Sequence[tune.Callback],
) -> Iterator[Run]:
    """All runs side by side, then those that need Ray to themselves; or all of them one by one."""
    if experiment.concurrent == 1:
        yield from _one_by_one(experiment, missing, folder, announce, callbacks)
        return
    alone = [run for run in missing if METHODS[run[0]].alone]
    yield from side_by_side(experiment, [run for run in missing if run not in alone], folder, announce, callbacks)
    yield from _one_by_one(experiment, alone, folder, announce, callbacks)


def _one_by_one(
    experiment: Experiment,
    missing: Sequence[tuple[str, int]],
    folder: Folder,
    announce: Announce,
    callbacks: Sequence[tune.Callback],
) -> Iterator[Run]:
    for method, seed in missing:
        announce(method, seed)
        yield run_method(experiment, method, seed, folder, callbacks)


def run_method(
    experiment: Experiment, method: str, seed: int, folder: Folder, callbacks: Sequence[tune.Callback] = ()
) -> Run:
    """One run: a method with a seed, from its first trial to the time limit.

    A run whose Tune state is in the folder (its driver was stopped, or its limit is longer now) is continued from
    there, and one that had ended is not begun again.

    Args:
        experiment: Problem, space and budgets.
        method: One of the experiment's methods.
        seed: One of the experiment's seeds.
        folder: The comparison's folder, where the run's rows are added.
        callbacks: Of Ray Tune.
    """
    name = run_name(method, seed)
    ended = folder.end_of(method, seed)
    times = _read_times(ended)
    if times is None:
        with run_from(Here(folder.path, experiment.time_limit)):
            _tuner(experiment, method, seed, folder, callbacks).fit()
        (folder.path / TUNE_FOLDER / f"{name}.json").replace(ended)
        times = json.loads(ended.read_text(encoding="utf-8"))
    own = [record for record in read_records(folder.records) if (record.method, record.seed) == (method, seed)]
    return Run(
        method=method,
        seed=seed,
        evaluations=len(own),
        failures=dict(Counter(record.status for record in own if record.status != COMPLETED)),
        finished=_finish(own, times["wall_seconds"] >= experiment.time_limit),
        options=method_options(method, experiment.method_options.get(method, {})),
        implementation=METHODS[method].implementation,
        reference=METHODS[method].reference,
        **times,
    )


def can_go_on(experiment: Experiment, run: Run) -> bool:
    """Whether a finished run's state is kept, so that it goes on where it is given more time.

    Not a population's, whose members are changed at moments of their own; nor in a storage elsewhere, which is left
    empty; nor through Ray's client, whose driver would not learn of a new limit.
    """
    is_here = experiment.storage is None and not (experiment.address or "").startswith("ray://")
    return is_here and run.finished == "time_limit" and not METHODS[run.method].alone


def _finish(records: Sequence[Record], timed_out: bool) -> Finish:
    """Why a run ended: what the search itself says goes before the clock."""
    said: Any = next((record.info[ENDED] for record in records if ENDED in record.info), None)
    return said or ("time_limit" if timed_out else "ended")


def _read_times(ended: Path) -> dict[str, Any] | None:
    """The times of a run that has ended; None if it has not, or the file is damaged."""
    try:
        times = json.loads(ended.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    names = {"startup_seconds", "wall_seconds", "searcher_seconds", "redone"}
    return times if isinstance(times, dict) and set(times) == names else None


def _tuner(
    experiment: Experiment, method: str, seed: int, folder: Folder, callbacks: Sequence[tune.Callback]
) -> tune.Tuner:
    """The run's tuner: restored if the run was stopped, else new."""
    setup = setup_method(experiment, method, seed)
    storage, name = storage_of(experiment, folder.path), run_name(method, seed)
    if not can_restore(run_path(storage, name)):
        remove_records(folder.records, lambda record: (record.method, record.seed) == (method, seed))
    clock = RunClock(experiment.workers)
    limit = TimeLimit(clock, experiment.time_limit)
    return kept_tuner(
        resourced(setup, experiment),
        trial_config(setup, experiment, seed),
        storage,
        name,
        tune_config(setup, experiment),
        Observer(experiment.name, experiment.problem, method, seed, clock, setup.searcher),
        stop=limit,
        keep=KeepUntil(limit),
        # A searcher is told of a crash and goes on; a single trial is all that a run has, so it is started again.
        max_failures=3 if setup.searcher is None else 0,
        checkpoint_frequency=setup.checkpoint_frequency,
        callbacks=callbacks,
    )


def require_empty_storage(experiment: Experiment) -> None:
    """Refuse a storage that cannot be opened, or that holds something: what lies there would be taken up or removed.

    Raises:
        ValueError: In one line.
    """
    if experiment.storage is None:
        return
    try:
        held = names_in(experiment.storage)
    except (OSError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"storage is {experiment.storage}; it must be an address that pyarrow opens, such as s3://bucket/folder, "
            f"or a path ({reason})"
        ) from error
    if held:
        raise ValueError(f"storage is {experiment.storage}; it must be empty, it holds {shown(sorted(held)[0])}")


def tune_config(setup: MethodSetup, experiment: Experiment) -> tune.TuneConfig:
    """Searcher, scheduler and number of trials of a method's run."""
    return tune.TuneConfig(
        search_alg=setup.searcher,
        scheduler=setup.scheduler,
        num_samples=1 if setup.searcher is None else -1,
        max_concurrent_trials=setup.population or experiment.workers,
        reuse_actors=True,
    )


def resourced(setup: MethodSetup, experiment: Experiment) -> Any:
    """The setup's trainable with the resources of one trial.

    Tune starts every member of a population for which there are resources, so a member asks for at least so many
    processors that no more members than workers fit.
    """
    largest = cluster.largest_node()
    cpus = experiment.cpus_per_trial
    if setup.population is not None:
        cpus = max(cpus, min(largest, largest // (experiment.workers + 1) + 1))
    return tune.with_resources(setup.trainable, {"cpu": cpus, "gpu": experiment.gpus_per_trial})


def trial_config(setup: MethodSetup, experiment: Experiment, seed: int) -> dict[str, Any]:
    """The config that all trials of a run share."""
    if experiment.optimizer == "own":
        shared = {"epochs": experiment.epochs, "replicates": experiment.replicates, "seed": seed}
        return {"problem": problem_source(experiment), **shared, **setup.config}
    return {
        "problem": problem_source(experiment),
        "space": experiment.searched,
        "seed": seed,
        "epochs": experiment.epochs,
        "replicates": experiment.replicates,
        "gradient_clamp": experiment.gradient_clamp,
        "gradient_norm": experiment.gradient_norm,
        "precision": experiment.precision,
        **setup.config,
    }
