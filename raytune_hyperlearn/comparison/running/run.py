"""Runs an experiment: every method with every seed, one after the other, on Ray Tune.

Everything that is observed goes to the experiment's folder as it is observed:

    experiment.yaml     what was asked for
    environment.json    machine and versions
    records.jsonl       one row per result
    runs.jsonl          one row per finished run
    tune/               Tune's own state, from which a broken run is continued
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raytune_hyperlearn.comparison.environment import describe_environment, write_environment
from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment, write_experiment
from raytune_hyperlearn.comparison.records import (
    ENVIRONMENT_FILE,
    EXPERIMENT_FILE,
    RECORDS_FILE,
    RUNS_FILE,
    RecordWriter,
    Run,
    read_records,
    read_runs,
)
from raytune_hyperlearn.comparison.running.method import MethodSetup
from raytune_hyperlearn.comparison.running.methods import method_options, setup_method
from raytune_hyperlearn.comparison.running.observer import Observer, RunClock, TimeLimit
from raytune_hyperlearn.problems import PROBLEMS, load
from raytune_hyperlearn.tune.kept_state import KeepState, can_restore, restore_tuner

TUNE_FOLDER = "tune"
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
}
"""Environment of the driver and its workers; what is already set is left as it is."""

Announce = Callable[[str, int], None]
"""Called with method and seed before each run."""


class FolderInUseError(ValueError):
    """The output folder holds another experiment."""


@dataclass(frozen=True)
class Folder:
    """The files of one experiment."""

    path: Path

    @property
    def records(self) -> Path:
        """File of records."""
        return self.path / RECORDS_FILE

    @property
    def runs(self) -> Path:
        """File of run summaries."""
        return self.path / RUNS_FILE

    def finished(self) -> set[tuple[str, int]]:
        """Methods and seeds whose run has ended by itself or at its limit."""
        if not self.runs.exists():
            return set()
        return {(run.method, run.seed) for run in read_runs(self.runs)}


def check_experiment(experiment: Experiment) -> None:
    """Refuse what cannot run, before anything is started or written.

    Raises:
        ValueError: In one line, for an unknown problem, method or option, or missing data.
    """
    if experiment.problem not in PROBLEMS:
        raise ValueError(f"problem is {experiment.problem!r}; it must be one of {', '.join(PROBLEMS)}")
    for method in experiment.methods:
        try:
            setup_method(experiment, method, 0)
        except TypeError as error:
            given = experiment.method_options.get(method, {})
            raise ValueError(f"method_options of {method} is {given}; a value has another type ({error})") from error
    load(experiment.problem)


def check_folder(experiment: Experiment, path: Path, resume: bool) -> None:
    """Refuse a folder that the experiment must not write to; nothing is written.

    Raises:
        FolderInUseError: If it holds another experiment, or this one's records and ``resume`` is False.
    """
    folder = Folder(path)
    settings = path / EXPERIMENT_FILE
    if path.exists() and not path.is_dir():
        raise FolderInUseError(f"output is {path}; it must be a folder")
    if settings.exists():
        if read_experiment(settings) != experiment:
            raise FolderInUseError(f"output is {path}; it holds another experiment, choose another folder")
        if not resume and folder.records.exists():
            raise FolderInUseError(f"output is {path}; it holds this experiment's records, add --resume {path}")
    elif path.exists() and any(path.iterdir()):
        raise FolderInUseError(f"output is {path}; it is neither empty nor an experiment's folder")


def prepare_folder(experiment: Experiment, path: Path, resume: bool) -> Folder:
    """Make the experiment's folder, or take up the one that holds the same experiment.

    Raises:
        FolderInUseError: As :func:`check_folder`.
    """
    check_folder(experiment, path, resume)
    folder = Folder(path)
    path.mkdir(parents=True, exist_ok=True)
    write_experiment(experiment, path / EXPERIMENT_FILE)
    folder.records.touch()
    return folder


def start_ray(experiment: Experiment) -> None:
    """Join the cluster at the experiment's address, or start a quiet local Ray with a core for each worker.

    Raises:
        ValueError: If there is no cluster at the address or it is too small for the experiment.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    shared: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if experiment.address is None:
        ray.init(num_cpus=max(experiment.workers, os.cpu_count() or 1), include_dashboard=False, **shared)
    else:
        _require_listener(experiment.address)
        try:
            environment = {"env_vars": {name: os.environ[name] for name in QUIET}}
            ray.init(address=experiment.address, runtime_env=environment, **shared)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"address is {experiment.address!r}; no Ray cluster answers there ({reason})") from error
    gpus = ray.cluster_resources().get("GPU", 0.0)
    if experiment.gpus_per_trial * experiment.workers > gpus:
        needed = experiment.gpus_per_trial * experiment.workers
        ray.shutdown()
        raise ValueError(f"gpus_per_trial needs {needed:g} GPUs for {experiment.workers} workers; Ray has {gpus:g}")


def _require_listener(address: str) -> None:
    """Refuse at once an address at which nothing listens; Ray itself would go on trying for minutes.

    Raises:
        ValueError: In one line.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        allowed = "it must be auto, HOST:PORT or ray://HOST:PORT of a Ray cluster that is up"
        raise ValueError(f"address is {address!r}; {allowed} ({error})") from error


def run_experiment(experiment: Experiment, folder: Folder, announce: Announce) -> None:
    """Run what is not finished yet; Ray must have been started.

    Args:
        experiment: What to run.
        folder: From :func:`prepare_folder`.
        announce: Told of each run before it starts.

    Raises:
        KeyboardInterrupt: After Ctrl-C; all records are in the folder and a later call goes on.
    """
    write_environment(describe_environment(), folder.path / ENVIRONMENT_FILE)
    finished = folder.finished()
    for seed in experiment.seeds:  # seed by seed, so that an early end leaves every method with the same seeds
        for method in experiment.methods:
            if (method, seed) not in finished:
                announce(method, seed)
                run = run_method(experiment, method, seed, folder)
                with RecordWriter(folder.runs) as writer:
                    writer.append(run)


def run_method(experiment: Experiment, method: str, seed: int, folder: Folder) -> Run:
    """One run: a method with a seed, from its first trial to the time limit.

    A run whose Tune state is still in the folder (its driver was stopped) is continued from there.
    """
    storage = folder.path.resolve() / TUNE_FOLDER
    name = f"{method}-{seed}"
    summary = storage / f"{name}.json"
    setup = setup_method(experiment, method, seed)
    trainable = _trainable(setup, experiment)
    config = trial_config(setup, experiment, seed)
    if can_restore(storage / name):
        tuner = restore_tuner(storage / name, trainable, resume_unfinished=True, param_space=config)
    else:
        storage.mkdir(exist_ok=True)
        shutil.rmtree(storage / name, ignore_errors=True)  # of a driver that was stopped before Tune saved anything
        _drop_records(folder.records, method, seed)
        tuner = tune.Tuner(
            trainable,
            param_space=config,
            tune_config=_tune_config(setup, experiment),
            run_config=_run_config(setup, experiment, method, seed, folder, summary),
        )
    tuner.fit()
    times = json.loads(summary.read_text())
    own = [record for record in read_records(folder.records) if (record.method, record.seed) == (method, seed)]
    shutil.rmtree(storage / name)
    return Run(
        method=method,
        seed=seed,
        evaluations=len(own),
        failures=dict(Counter(record.status for record in own if record.status != "completed")),
        finished="time_limit" if times["wall_seconds"] >= experiment.time_limit else "ended",
        options=method_options(method, experiment.method_options.get(method, {})),
        **times,
    )


def _tune_config(setup: MethodSetup, experiment: Experiment) -> tune.TuneConfig:
    return tune.TuneConfig(
        search_alg=setup.searcher,
        scheduler=setup.scheduler,
        num_samples=1 if setup.searcher is None else -1,
        max_concurrent_trials=experiment.workers,
        reuse_actors=True,
    )


def _run_config(
    setup: MethodSetup, experiment: Experiment, method: str, seed: int, folder: Folder, summary: Path
) -> tune.RunConfig:
    clock = RunClock(experiment.workers)
    observer = Observer(
        records=folder.records.resolve(),
        experiment=experiment.name,
        problem=experiment.problem,
        method=method,
        seed=seed,
        clock=clock,
        searcher=setup.searcher,
        summary=summary,
    )
    checkpoints = setup.checkpoint_frequency
    return tune.RunConfig(
        name=summary.stem,
        storage_path=str(summary.parent),
        callbacks=[observer, KeepState()],
        stop=TimeLimit(clock, experiment.time_limit),
        verbose=0,
        # A searcher is told of a crash and goes on; a single trial is all that a run has, so it is started again.
        failure_config=tune.FailureConfig(max_failures=3 if setup.searcher is None else 0),
        # All checkpoints are kept while the run lasts: Tune's snapshot, up to ten seconds old, may name any of them.
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=checkpoints, checkpoint_at_end=False),
    )


def _trainable(setup: MethodSetup, experiment: Experiment) -> Any:
    """The setup's trainable with the resources of one trial."""
    return tune.with_resources(setup.trainable, {"cpu": 1, "gpu": experiment.gpus_per_trial})


def trial_config(setup: MethodSetup, experiment: Experiment, seed: int) -> dict[str, Any]:
    """The config that all trials of a run share."""
    return {
        "problem": experiment.problem,
        "space": experiment.space,
        "seed": seed,
        "epochs": experiment.epochs,
        "replicates": experiment.replicates,
        "gradient_clamp": experiment.gradient_clamp,
        **setup.config,
    }


def _drop_records(path: Path, method: str, seed: int) -> None:
    """Remove the rows of a run that is begun anew."""
    kept = [record for record in read_records(path) if (record.method, record.seed) != (method, seed)]
    unfinished = path.with_suffix(".rewritten")
    unfinished.unlink(missing_ok=True)
    with RecordWriter(unfinished) as writer:
        for record in kept:
            writer.append(record)
    unfinished.replace(path)


def stop_ray() -> None:
    """Leave the cluster, or stop the local Ray."""
    ray.shutdown()
