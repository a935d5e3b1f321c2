"""Trains given hyperparameters at the full budget, each with several seeds, on Ray Tune."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from typing import Any

from ray import tune
from rich.console import Console

from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.comparison.running.method import problem_source
from raytune_hyperlearn.results import VALIDATION_LOSS
from raytune_hyperlearn.tune.retraining import RetrainingTrainable
from raytune_hyperlearn.tune.training_function import TrainingFunctionTrainable


def retrain(
    experiment: Experiment, settings: Sequence[Values], seeds: int, workers: int, what: str, console: Console
) -> list[dict[str, Any] | None]:
    """The result of training again for each setting, None where its trial failed; Ray is running.

    Seed i has the same split, initialization and data order for every setting. Equal settings are trained once.

    Args:
        experiment: Problem, budget and resources of a trial.
        settings: Schedules by hyperparameter.
        seeds: Of each setting.
        workers: Trials at a time.
        what: What the progress bar counts.
        console: Where it is shown.
    """
    distinct = list({_key(setting): dict(setting) for setting in settings}.values())
    trainable, shared = _retraining(experiment)
    with Bar(console) as bar, tempfile.TemporaryDirectory() as storage:
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": experiment.cpus_per_trial, "gpu": experiment.gpus_per_trial}),
            param_space={
                "problem": problem_source(experiment),
                "epochs": experiment.epochs,
                "hyperparameters": tune.grid_search(distinct),
                "retrainings": seeds,
                **shared,
            },
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[_Counter(bar, what, len(distinct))]),
        ).fit()
        rows = [result.metrics for result in results if result.metrics and VALIDATION_LOSS in result.metrics]
    found = {_key(row["hyperparameters"]): row for row in rows}
    return [found.get(_key(setting)) for setting in settings]


def _retraining(experiment: Experiment) -> tuple[type[tune.Trainable], dict[str, Any]]:
    """What trains again, and the part of its config that is its own."""
    if experiment.optimizer == "own":
        return TrainingFunctionTrainable, {}
    return RetrainingTrainable, {
        "space": experiment.searched,
        "optimizer": experiment.optimizer,
        "gradient_clamp": experiment.gradient_clamp,
        "gradient_norm": experiment.gradient_norm,
        "precision": experiment.precision,
        "resplit": True,
    }


class _Counter(tune.Callback):
    """Moves a progress bar by one for every finished setting."""

    def __init__(self, bar: Bar, what: str, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=total)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bar.advance(self._task)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _key(schedules: Values) -> str:
    return json.dumps({name: list(map(float, values)) for name, values in schedules.items()}, sort_keys=True)
