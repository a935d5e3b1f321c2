"""Made-up experiments with the shape of real ones: what each method's records look like, without training anything."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hyperlearn.comparison.environment import describe_environment, write_environment
from raytune_hyperlearn.comparison.experiment import Experiment, write_experiment
from raytune_hyperlearn.comparison.records import (
    ENVIRONMENT_FILE,
    EXPERIMENT_FILE,
    RECORDS_FILE,
    RUNS_FILE,
    Record,
    RecordWriter,
    Run,
)
from raytune_hyperlearn.comparison.reference_record import Reference, reference_to_mapping

METHODS = ("fds", "hd", "rs", "bo", "hb", "bohb")
FULL_BUDGET = 27.0
SPACE = {
    "learning_rate": {"values": 7, "init": 0.0, "step": 0.1, "range": [0.0, 1.0]},
    "momentum": {"values": 1, "init": 0.0, "step": 0.1, "range": [0.0, 1.0]},
    "weight_decay": {"values": 1, "init": 0.0, "step": 0.0003, "range": [0.0, 0.003]},
}


def make_reference(problem: str = "digits", **changes: Any) -> Reference:
    reference = Reference(
        problem=problem,
        epochs=FULL_BUDGET,
        batch_size=128,
        validation_loss=0.105,
        validation_accuracy=0.971,
        test_loss=0.128,
        test_accuracy=0.964,
        deviations={
            "validation_loss": 0.012,
            "validation_accuracy": 0.004,
            "test_loss": 0.011,
            "test_accuracy": 0.003,
        },
        hyperparameters={"learning_rate": [0.1], "momentum": [0.9], "weight_decay": [0.0005]},
        seeds=(0, 1, 2, 3, 4),
        grid={"learning_rate": [0.01, 0.03, 0.1, 0.3], "momentum": [0.0, 0.9], "weight_decay": [0.0, 0.0005]},
        how=f"hyperlearn reference {problem}",
        date="2026-01-15",
        versions={"torch": "2.15.0", "numpy": "2.4.6"},
    )
    return replace(reference, **changes)


def make_experiment(**changes: Any) -> Experiment:
    problem = changes.get("problem", "digits")
    settings: dict[str, Any] = {
        "name": f"{problem}-comparison",
        "problem": problem,
        "methods": METHODS,
        "seeds": (0, 1, 2),
        "time_limit": 60.0,
        "epochs": FULL_BUDGET,
        "min_epochs": 3.0,
        "workers": 2,
        "space": SPACE,
        "reference": reference_to_mapping(make_reference(problem)),
    }
    return Experiment(**{**settings, **changes})


def make_record(**changes: Any) -> Record:
    settings: dict[str, Any] = {
        "experiment": "digits-comparison",
        "problem": "digits",
        "method": "fds",
        "seed": 0,
        "trial": "trial-0",
        "time": 1.0,
        "budget": FULL_BUDGET,
        "validation_loss": 0.5,
        "validation_accuracy": 0.9,
        "test_loss": 0.6,
        "test_accuracy": 0.88,
        "hyperparameters": {"learning_rate": [0.1], "momentum": [0.9], "weight_decay": [0.0]},
        "status": "completed",
        "training_seconds": 0.9,
        "worker_seconds": changes.get("time", 1.0),
    }
    return Record(**{**settings, **changes})


def make_run(**changes: Any) -> Run:
    settings: dict[str, Any] = {
        "method": "fds",
        "seed": 0,
        "startup_seconds": 3.1,
        "wall_seconds": 60.2,
        "searcher_seconds": 0.4,
        "evaluations": 12,
        "failures": {},
        "finished": "time_limit",
        "options": {},
    }
    return Run(**{**settings, **changes})


def write_folder(folder: Path, experiment: Experiment, skill: float = 0.0) -> Path:
    """Writes a whole result folder with realistic records for every method and seed of the experiment.

    Args:
        folder: made where absent.
        experiment: the settings.
        skill: lowers FDS's losses, so that tests can have it ahead or behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_experiment(experiment, folder / EXPERIMENT_FILE)
    write_environment(describe_environment(), folder / ENVIRONMENT_FILE)
    with RecordWriter(folder / RECORDS_FILE) as records, RecordWriter(folder / RUNS_FILE) as runs:
        for seed in experiment.seeds:
            for method in experiment.methods:
                rows = list(_rows(experiment, method, seed, skill))
                for row in rows:
                    records.append(row)
                failed = [row.status for row in rows if row.status != "completed"]
                runs.append(
                    make_run(
                        method=method,
                        seed=seed,
                        startup_seconds=2.9 + 0.2 * seed,
                        wall_seconds=experiment.time_limit + 0.3,
                        searcher_seconds=4.1 if method in ("bohb", "bo") else 0.05,
                        evaluations=len(rows),
                        failures={status: failed.count(status) for status in set(failed)},
                        options=_options(method),
                    )
                )
    return folder


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / RECORDS_FILE).read_text().splitlines()]


def _options(method: str) -> dict[str, Any]:
    if method == "fds":
        return {"outer_steps": 10, "budgets": [1, 3, 9], "hz_clip": 1.0}
    return {"eta": 3, "min_budget": 3, "max_budget": 27} if method in ("hb", "bohb") else {}


def _rows(experiment: Experiment, method: str, seed: int, skill: float) -> list[Record]:
    number = 1000 * seed + sum(map(ord, method + experiment.problem))
    generator = np.random.default_rng(number)
    sequential = method in ("fds", "hd")
    workers = 1 if sequential else experiment.workers
    free = [0.0] * workers
    rows: list[Record] = []
    index = 0
    while True:
        worker = int(np.argmin(free))
        budget, cost = _budget(method, index, experiment.epochs)
        free[worker] += cost * generator.uniform(0.85, 1.25)
        if free[worker] > experiment.time_limit + 2:
            return sorted(rows, key=lambda row: row.time)
        loss, values = _outcome(method, index, budget / experiment.epochs, generator, skill)
        diverged = loss > 2.5
        gap = abs(float(generator.normal(0.02, 0.015)))
        rows.append(
            Record(
                experiment=experiment.name,
                problem=experiment.problem,
                method=method,
                seed=seed,
                trial=f"{method}-{seed}-{index}",
                time=round(free[worker], 3),
                budget=budget,
                validation_loss=math.nan if diverged else loss,
                validation_accuracy=0.1 if diverged else 1 - loss / 3.5,
                test_loss=math.nan if diverged else loss + gap,
                test_accuracy=0.1 if diverged else 1 - (loss + gap) / 3.5,
                hyperparameters=values,
                status="diverged" if diverged else "completed",
                training_seconds=round(cost, 3),
                worker_seconds=round(min(sum(free), workers * free[worker]), 3),
                info={"model_based_pick": index > 10} if method == "bohb" else {},
            )
        )
        index += 1


def _budget(method: str, index: int, epochs: float) -> tuple[float, float]:
    """Epochs of the evaluation and the seconds it takes."""
    if method == "fds":
        budget = min(epochs, (1.0, 3.0, 9.0, 9.0)[min(index, 3)] + 3 * max(index - 3, 0))
        return budget, 0.6 + 0.55 * budget
    if method == "hd":
        return epochs, 0.6 + 0.16 * epochs
    if method in ("hb", "bohb"):
        budget = epochs / (9, 9, 9, 9, 9, 9, 9, 9, 9, 3, 3, 3, 1)[index % 13]
        return budget, 0.1 + 0.16 * budget
    return epochs, 0.1 + 0.16 * epochs


def _outcome(
    method: str, index: int, fraction: float, generator: np.random.Generator, skill: float
) -> tuple[float, dict[str, list[float]]]:
    if method == "fds":
        progress = 1 - math.exp(-(index + 1) / 3)
        rates = progress * (0.55 - 0.07 * np.arange(7)) + generator.normal(0, 0.03, 7)
        momentum, decay = 0.85 * progress, 0.0006 * progress
        loss = 0.14 - skill + 2.0 * math.exp(-1.1 * (index + 1)) + abs(generator.normal(0, 0.02))
    elif method == "hd":
        rates, momentum, decay = np.linspace(0.02, 0.2, 7), 0.3, 0.0001
        loss = 0.45 + generator.normal(0, 0.05)
    else:
        rates, momentum, decay = generator.uniform(0, 1, 7), generator.uniform(0, 1), generator.uniform(0, 0.003)
        learned = min(index / 60, 0.5) if method in ("bohb", "bo") else 0.0
        loss = 0.16 + (generator.lognormal(-1.2, 1.3) * (1 - learned)) + 0.5 * (1 - fraction) ** 2
    values = {
        "learning_rate": [float(value) for value in np.clip(rates, 0, 1)],
        "momentum": [float(momentum)],
        "weight_decay": [float(decay)],
    }
    return float(loss), values
