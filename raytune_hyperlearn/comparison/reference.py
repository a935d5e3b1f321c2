"""Finds a problem's reference, the zero of regret: the best of a grid by validation, averaged over seeds."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from datetime import date
from typing import Any

from ray import tune
from rich.console import Console
from rich.progress import Progress as Bar

from raytune_hyperlearn.baselines import grid
from raytune_hyperlearn.comparison.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.environment import describe_environment
from raytune_hyperlearn.comparison.reference_record import Reference
from raytune_hyperlearn.comparison.run import check_experiment, start_ray, stop_ray
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.tune.retraining import RetrainingTrainable

METRICS = ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy")


class _Counter(tune.Callback):
    """Moves a progress bar by one for every finished setting."""

    def __init__(self, bar: Bar, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("settings of the grid", total=total)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bar.advance(self._task)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def find_reference(
    problem: str, epochs: float | None, seeds: int, workers: int, gpus_per_trial: float, console: Console
) -> Reference:
    """Train every setting of the grid with every seed on Ray Tune and keep the best by mean validation loss.

    Args:
        problem: Name of the problem.
        epochs: Full budget, or None for the comparison's default.
        seeds: Seeds per setting; each has its own split, initialisation and data order.
        workers: Trials at a time.
        gpus_per_trial: GPUs of one trial.
        console: Where progress is shown.

    Raises:
        ValueError: In one line, if the problem is unknown, its data are missing or a number is out of range.
    """
    chosen: dict[str, Any] = {
        "problem": problem,
        "methods": ["rs"],
        "workers": workers,
        "gpus_per_trial": gpus_per_trial,
    }
    experiment = experiment_from_settings(
        {**chosen, **({} if epochs is None else {"epochs": epochs}), "reference": None}
    )
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it must be a whole number of at least 1")
    check_experiment(experiment)
    settings = grid.settings()
    start_ray(experiment)
    try:
        with Bar(console=console) as bar, tempfile.TemporaryDirectory() as storage:
            results = tune.Tuner(
                tune.with_resources(RetrainingTrainable, {"cpu": 1, "gpu": gpus_per_trial}),
                param_space={
                    "problem": problem,
                    "space": experiment.space,
                    "epochs": experiment.epochs,
                    "gradient_clamp": experiment.gradient_clamp,
                    "hyperparameters": tune.grid_search(settings),
                    "retrainings": seeds,
                    "resplit": True,
                },
                tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
                run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[_Counter(bar, len(settings))]),
            ).fit()
            rows = [result.metrics for result in results if result.metrics and "validation_loss" in result.metrics]
    finally:
        stop_ray()
    best = min(rows, key=lambda row: row["validation_loss"])
    if not math.isfinite(best["validation_loss"]):
        raise ValueError(f"epochs is {experiment.epochs}; every setting of the grid diverged")
    every = best["scores"]
    deviations = {
        name: statistics.stdev(scores[name] for scores in every) if len(every) > 1 else 0.0 for name in METRICS
    }
    return Reference(
        problem=problem,
        epochs=experiment.epochs,
        batch_size=load(problem).batch_size,
        **{name: best[name] for name in METRICS},
        deviations=deviations,
        hyperparameters=json.loads(json.dumps(best["hyperparameters"])),
        seeds=tuple(range(seeds)),
        grid={**grid.description(), "settings": len(settings)},
        how=f"hyperlearn reference {problem} --epochs {experiment.epochs:g} --seeds {seeds}",
        date=date.today().isoformat(),
        versions=describe_environment()["versions"],
    )
