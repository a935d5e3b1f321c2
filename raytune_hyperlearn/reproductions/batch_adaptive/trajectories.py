"""Trains one network under several settings side by side on Ray Tune and keeps how every training went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from raytune_hyperlearn.algorithms.ruled_sgd import BatchSizeRule
from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle
from raytune_hyperlearn.problems import Problem
from raytune_hyperlearn.reproductions.trials import Row, run_trials
from raytune_hyperlearn.results import SCORES
from raytune_hyperlearn.tune import BatchAdaptiveTrainable

CURVES = ("training_loss", *SCORES)
KEPT = (*CURVES, "training_seconds", "batch_sizes")
CONFIG_KEYS = ("rule", "learning_rate", "momentum", "max_batch_size")
CHECKPOINTS = 20
"""Of each training, at least, where it has so many epochs."""


@dataclass(frozen=True)
class Training:
    """One network's training.

    Attributes:
        name: Unique among those trained together, such as ``BA-Momentum``.
        style: How it is drawn.
        rule: Builds its batch-size rule.
        learning_rate: η.
        momentum: ρ.
        max_batch_size: B_max.
    """

    name: str
    style: MethodStyle
    rule: Callable[[], BatchSizeRule]
    learning_rate: float
    momentum: float
    max_batch_size: int


@dataclass(frozen=True)
class Trajectory:
    """How a training went with one seed, epoch by epoch.

    Attributes:
        training: Its settings.
        seed: Of split, initialization, data order and dropout.
        seconds: Of training and validation, without test scoring, up to the end of each epoch, [E].
        scores: Of each of :data:`CURVES` after each epoch, [E]; infinite losses where it diverged.
        batch_sizes: Of the updates of each epoch, E arrays.
    """

    training: Training
    seed: int
    seconds: FloatArray
    scores: Mapping[str, FloatArray]
    batch_sizes: tuple[FloatArray, ...]

    @property
    def epochs(self) -> FloatArray:
        """1, 2, …, [E]."""
        return np.arange(1.0, len(self.seconds) + 1)

    @property
    def losses(self) -> FloatArray:
        """Loss of the whole training part after each epoch, [E]."""
        return self.scores["training_loss"]

    @property
    def final_loss(self) -> float:
        """The last training loss."""
        return float(self.losses[-1])

    @property
    def sizes(self) -> FloatArray:
        """Batch size of every update."""
        return np.concatenate(self.batch_sizes)

    @property
    def mean_sizes(self) -> FloatArray:
        """Mean batch size of each epoch, [E]."""
        return np.array([sizes.mean() for sizes in self.batch_sizes])

    @property
    def rises(self) -> float:
        """Share of the second half's epochs that end with a higher loss than the one before; NaN for one epoch."""
        late = self.losses[max(0, len(self.losses) // 2 - 1) :]
        return float(np.mean(np.diff(late) > 0)) if len(late) > 1 else float("nan")

    def first_below(self, loss: float) -> int | None:
        """Index of the first epoch that ends with at most this training loss, or None."""
        reached = np.flatnonzero(self.losses <= loss)
        return int(reached[0]) if reached.size else None


Seeds = tuple[Trajectory, ...]
"""One training's trajectories, one per seed; those of two trainings belong together in order, seed by seed."""
Trajectories = Mapping[str, Seeds]
"""By the training's name."""


def train_all(
    problem: Callable[[], Problem],
    trainings: Sequence[Training],
    epochs: int,
    seeds: Sequence[int],
    folder: Path,
    console: Console,
) -> dict[str, Seeds]:
    """Trains all with every seed, one trial each, as many at a time as there are cores; by name.

    Trainings with the same seed start from the same split and initialization.

    Args:
        problem: Builds the problem; it must be picklable.
        trainings: What to train.
        epochs: Of instances, each.
        seeds: Of split, initialization, data order and dropout.
        folder: Of the records and of Tune's state.
        console: Shows progress.

    Raises:
        RuntimeError: If a training ended in an error.
    """
    problem()  # missing data are an error before anything starts
    shared = {"problem": problem, "epochs": epochs}
    # All trainings of a seed come before the next seed's: those compared by the clock ran at about the same time.
    configs = {trial_name(one, seed): trial_config(one, seed) for seed in seeds for one in trainings}
    every = max(1, epochs // CHECKPOINTS)
    rows = run_trials(BatchAdaptiveTrainable, shared, configs, KEPT, epochs, folder, console, checkpoint_every=every)
    return {
        one.name: tuple(trajectory_of(one, seed, rows[trial_name(one, seed)]) for seed in seeds) for one in trainings
    }


def trial_name(training: Training, seed: int) -> str:
    """Unique among the trials of all trainings and seeds."""
    return f"{training.name} | {seed}"


def trial_config(training: Training, seed: int) -> dict[str, Any]:
    """The trial's own part of the config."""
    return {"seed": seed, **{key: getattr(training, key) for key in CONFIG_KEYS}}


def trajectory_of(training: Training, seed: int, rows: Sequence[Row]) -> Trajectory:
    """The trajectory that a trial's rows tell, an epoch each."""
    return Trajectory(
        training,
        seed,
        np.cumsum([row["training_seconds"] for row in rows]),
        {score: np.array([row[score] for row in rows]) for score in CURVES},
        tuple(np.array(row["batch_sizes"], dtype=float) for row in rows),
    )
