"""The tuner of every run that may be stopped: its state is kept, and where it was stopped it continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.logger import LoggerCallback
from ray.tune.stopper import Stopper

from raytune_hyperlearn.tune.kept_state import KeepState, can_restore, remove_run, restore_tuner, run_path
from raytune_hyperlearn.tune.scalars import Scalars


def kept_tuner(
    trainable: Any,
    config: Mapping[str, Any],
    storage: str | Path,
    name: str,
    tune_config: tune.TuneConfig,
    observer: tune.Callback,
    *,
    stop: Stopper | None = None,
    keep: KeepState | None = None,
    max_failures: int = 0,
    checkpoint_frequency: int = 0,
    checkpoints_to_keep: int | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> tune.Tuner:
    """A run's tuner: restored if the run was stopped and its state is in the folder, else new.

    Args:
        trainable: What Tune runs, with its resources.
        config: Of the trials; a searcher adds to it.
        storage: Where the run's folder is: a local path, made where absent, or a URI that every node reaches.
        name: Of the run and its folder.
        tune_config: Searcher, scheduler and number of trials.
        observer: Is called with every result; a restored run has the one that was kept.
        stop: Ends the run.
        keep: Keeps its state; None keeps every state.
        max_failures: Times that a trial whose worker died is started again.
        checkpoint_frequency: Steps between checkpoints; 0 for none.
        checkpoints_to_keep: Of each trial. Tune's snapshot, up to ten seconds old, may name one that is not the last;
            None keeps all.
        callbacks: More of them, which are shown a result's scalars; a restored run has those kept. A logger holds open
            files, so every run has a copy of its own.
    """
    path = run_path(storage, name)
    if can_restore(path):
        return restore_tuner(path, trainable, resume_unfinished=True, param_space=dict(config))
    if isinstance(storage, Path):
        storage.mkdir(parents=True, exist_ok=True)
    remove_run(path)  # of a driver that was stopped before Tune saved anything
    checkpoints = tune.CheckpointConfig(
        checkpoint_frequency=checkpoint_frequency, num_to_keep=checkpoints_to_keep, checkpoint_at_end=False
    )
    return tune.Tuner(
        trainable,
        param_space=dict(config),
        tune_config=tune_config,
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage),
            callbacks=[observer, keep or KeepState(), *map(_shown_scalars, callbacks)],
            stop=stop,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=checkpoints,
        ),
    )


def _shown_scalars(callback: tune.Callback) -> Scalars:
    return Scalars(deepcopy(callback) if isinstance(callback, LoggerCallback) else callback)
