"""Finds a problem's reference, the zero of regret: the best of a grid by validation, averaged over seeds."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Mapping
from datetime import date
from typing import Any

from rich.console import Console

from raytune_hyperlearn.baselines import grid
from raytune_hyperlearn.comparison.environment import describe_environment
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.reference_record import Reference
from raytune_hyperlearn.comparison.running.cluster import prepare_environment, start_ray, stop_ray
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.method import problem_source
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.results import SCORES, VALIDATION_LOSS


def find_reference(
    problem: str,
    epochs: float | None,
    seeds: int,
    workers: int,
    gpus_per_trial: float,
    console: Console,
    problem_args: Mapping[str, Any] | None = None,
    cpus_per_trial: int = 1,
) -> Reference:
    """Train every setting of the grid with every seed on Ray Tune and keep the best by mean validation loss.

    Args:
        problem: Name of the problem, or reference of an own one.
        epochs: Full budget, or None for the comparison's default.
        seeds: Seeds per setting; each has its own split, initialization and data order.
        workers: Trials at a time.
        gpus_per_trial: GPUs of one trial.
        console: Where progress is shown.
        problem_args: Given to the function that builds an own problem.
        cpus_per_trial: Processors of one trial.

    Raises:
        ValueError: In one line, if the problem is unknown, its data are missing or a number is out of range.
    """
    chosen: dict[str, Any] = {
        "problem": problem,
        "methods": ["rs"],
        "workers": workers,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        **({"problem_args": dict(problem_args)} if problem_args else {}),
    }
    experiment = experiment_from_settings(
        {**chosen, **({} if epochs is None else {"epochs": epochs}), "reference": None}
    )
    if experiment.optimizer != "sgd":
        raise ValueError(f"problem is {problem!r}; a reference is of SGD on a Problem, a training function has none")
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it must be a whole number of at least 1")
    prepare_environment(None)
    from raytune_hyperlearn.comparison.running.retraining import retrain  # not before the cheap checks:
    from raytune_hyperlearn.comparison.running.run import check_experiment  # both import Ray

    check_experiment(experiment)
    settings = grid.settings()
    start_ray(experiment)
    try:
        found = retrain(experiment, settings, seeds, workers, "settings of the grid", console)
    finally:
        stop_ray()
    best = min((row for row in found if row is not None), key=lambda row: row[VALIDATION_LOSS])
    if not math.isfinite(best[VALIDATION_LOSS]):
        raise ValueError(f"epochs is {experiment.epochs}; every setting of the grid diverged")
    every = best["scores"]
    deviations = {
        name: statistics.stdev(scores[name] for scores in every) if len(every) > 1 else 0.0 for name in SCORES
    }
    return Reference(
        problem=problem,
        epochs=experiment.epochs,
        batch_size=load(problem_source(experiment)).batch_size,
        **{name: best[name] for name in SCORES},
        deviations=deviations,
        hyperparameters=json.loads(json.dumps(best["hyperparameters"])),
        seeds=tuple(range(seeds)),
        grid={**grid.description(), "settings": len(settings)},
        how=_command(experiment, seeds),
        date=date.today().isoformat(),
        versions=describe_environment()["versions"],
    )


def _command(experiment: Experiment, seeds: int) -> str:
    """What makes the reference again."""
    arguments = [f"--problem-args={name}={value}" for name, value in experiment.problem_args.items()]
    numbers = ["--epochs", f"{experiment.epochs:g}", "--seeds", str(seeds)]
    return shlex.join(["hyperlearn", "reference", experiment.problem, *arguments, *numbers])
