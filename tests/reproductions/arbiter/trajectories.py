"""Trajectories made by hand, and a setting that trains in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from raytune_hyperlearn.reproductions.arbiter.trainings import METHODS, SERIES, Setting, Training, Trajectory
from raytune_hyperlearn.tune import ArbiterTrainable

SEEDS = 8
TINY = Setting(
    "digits",
    240,
    60,
    epochs=4,
    seeds=2,
    min_batch_size=8,
    max_batch_size=40,
    agent_lr=1e-3,
    mixing_lr=2e-3,
    wrong_labels=0.5,
)


def make_trajectory(
    group: str,
    method: str,
    seed: int,
    sizes: Sequence[float],
    final: Mapping[str, float] | None = None,
    rates: Sequence[float] = (0.1,),
) -> Trajectory:
    """A trajectory of as many epochs as there are batch sizes; each series is 1 and then its final value."""
    epochs = len(sizes)
    series = {name: np.append(np.ones(epochs - 1), (final or {}).get(name, 0.5)) for name in SERIES}
    series["mean_batch_size"] = np.array(sizes, dtype=float)
    series["updates"] = np.full(epochs, 1.0 if len(rates) == 1 else len(rates) // epochs)
    return Trajectory(Training(group, method, seed, 0.1, 32, {}, {}), series, np.array(rates, dtype=float))


def every_method(
    group: str,
    sizes: Mapping[str, Sequence[float]],
    final: Mapping[str, Mapping[str, float]] | None = None,
    rates: Mapping[str, Sequence[float]] | None = None,
    seeds: int = SEEDS,
) -> dict[str, dict[int, Trajectory]]:
    """All methods over seeds; what is given for "" stands for the methods that are not named.

    Final values differ a little from seed to seed, in the same way for all methods.
    """

    def chosen(values: Mapping[str, object] | None, method: str) -> object:
        return None if values is None else values.get(method, values.get(""))

    made: dict[str, dict[int, Trajectory]] = {}
    for method in METHODS:
        last = chosen(final, method) or {}
        for seed in range(seeds):
            shifted = {name: value + 0.01 * seed for name, value in last.items()}  # type: ignore[attr-defined]
            trajectory = make_trajectory(
                group,
                method,
                seed,
                chosen(sizes, method),  # type: ignore[arg-type]
                shifted,
                chosen(rates, method) or (0.1,),  # type: ignore[arg-type]
            )
            made.setdefault(method, {})[seed] = trajectory
    return made


def run_here(
    setting: Setting, configs: Mapping[str, Mapping[str, Any]], folder: Path, console: Console
) -> dict[str, list[dict[str, Any]]]:
    """What the trials report, trained in this process: Ray's workers take longer to start than these to train."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for name, config in configs.items():
        trainable = ArbiterTrainable({**setting.shared, **config})
        rows = trials.setdefault(name, [])
        while not rows or not rows[-1]["done"]:
            rows.append(trainable.step())
    return trials
