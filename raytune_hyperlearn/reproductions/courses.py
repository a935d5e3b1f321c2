"""Trains one network under several settings side by side on Ray Tune and keeps how every training went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.algorithms.batch_size_rule import BatchSizeRule
from raytune_hyperlearn.comparison.curves import FloatArray
from raytune_hyperlearn.comparison.styles import MethodStyle
from raytune_hyperlearn.problems import Problem
from raytune_hyperlearn.reproductions.trials import Row, run_trials
from raytune_hyperlearn.tune import BatchAdaptiveTrainable

SCORES = ("training_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
KEPT = (*SCORES, "training_seconds", "batch_sizes")
CONFIG_KEYS = ("rule", "learning_rate", "momentum", "max_batch_size")


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
class Course:
    """How a training went, epoch by epoch.

    Attributes:
        training: Its settings.
        seconds: Of training and validation, without test scoring, up to the end of each epoch, [E].
        scores: Of each of :data:`SCORES` after each epoch, [E]; infinite losses where it diverged.
        batch_sizes: Of the updates of each epoch, E arrays.
    """

    training: Training
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

    def first_below(self, loss: float) -> int | None:
        """Index of the first epoch that ends with at most this training loss, or None."""
        reached = np.flatnonzero(self.losses <= loss)
        return int(reached[0]) if reached.size else None


def follow(
    problem: Callable[[], Problem],
    trainings: Sequence[Training],
    epochs: int,
    seed: int,
    folder: Path,
    console: Console,
) -> dict[str, Course]:
    """Trains all, as many at a time as there are cores, from the same initialisation and split; by name.

    Args:
        problem: Builds the problem; it must be picklable.
        trainings: What to train.
        epochs: Of instances, each.
        seed: Of split, initialisation, data order and dropout.
        folder: Of the records and of Tune's state.
        console: Shows progress.

    Raises:
        RuntimeError: If a training ended in an error.
    """
    problem()  # missing data are an error before anything starts
    shared = {"problem": problem, "seed": seed, "epochs": epochs}
    configs = {training.name: {key: getattr(training, key) for key in CONFIG_KEYS} for training in trainings}
    rows = run_trials(BatchAdaptiveTrainable, shared, configs, KEPT, epochs, folder, console, checkpoint_every=1)
    return {training.name: course_of(training, rows[training.name]) for training in trainings}


def course_of(training: Training, rows: Sequence[Row]) -> Course:
    """The course that a trial's rows tell, an epoch each."""
    return Course(
        training,
        np.cumsum([row["training_seconds"] for row in rows]),
        {score: np.array([row[score] for row in rows]) for score in SCORES},
        tuple(np.array(row["batch_sizes"], dtype=float) for row in rows),
    )
