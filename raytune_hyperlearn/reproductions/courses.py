"""Trains one network under several settings side by side on Ray Tune and keeps how every training went.

Each epoch of each training is a line of ``epochs.jsonl``, written as it is observed; a run that was stopped goes on
from Tune's checkpoints in the same folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from rich.console import Console
from rich.progress import Progress as Bar

from raytune_hyperlearn.algorithms.batch_size_rule import BatchSizeRule
from raytune_hyperlearn.comparison.curves import FloatArray
from raytune_hyperlearn.comparison.run import QUIET
from raytune_hyperlearn.comparison.styles import MethodStyle
from raytune_hyperlearn.problems import Problem, load
from raytune_hyperlearn.tune import BatchAdaptiveTrainable

EPOCHS_FILE, TUNE_FOLDER = "epochs.jsonl", "tune"
SCORES = ("training_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
TRAINING_KEYS = ("rule", "learning_rate", "momentum", "max_batch_size")


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


def part_of(name: str, train: int, test: int) -> Problem:
    """A problem with the first ``train`` training and ``test`` test examples of a known one; 0 means all."""
    whole = load(name)
    return replace(whole, train=whole.train[: train or len(whole.train)], test=whole.test[: test or len(whole.test)])


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
    with local_ray(), Bar(console=console) as bar:
        recorder = _Recorder(folder / EPOCHS_FILE, [training.name for training in trainings])
        recorder.show(bar, len(trainings) * epochs)
        storage = (folder / TUNE_FOLDER).resolve()
        workers = min(len(trainings), max(1, int(ray.cluster_resources().get("CPU", 1))))
        gpus = ray.cluster_resources().get("GPU", 0.0)
        trainable = tune.with_resources(BatchAdaptiveTrainable, {"cpu": 1, "gpu": min(1.0, gpus / workers)})
        config = {
            "problem": problem,
            "seed": seed,
            "epochs": epochs,
            "index": tune.grid_search(list(range(len(trainings)))),
            **{key: tune.sample_from(partial(_chosen, [getattr(t, key) for t in trainings])) for key in TRAINING_KEYS},
        }
        if tune.Tuner.can_restore(str(storage / "run")):
            tuner = tune.Tuner.restore(str(storage / "run"), trainable, resume_unfinished=True, param_space=config)
        else:
            tuner = tune.Tuner(
                trainable,
                param_space=config,
                tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
                run_config=tune.RunConfig(
                    name="run",
                    storage_path=str(storage),
                    callbacks=[recorder],
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=2),
                    checkpoint_config=tune.CheckpointConfig(
                        checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=False
                    ),
                ),
            )
        results = tuner.fit()
    if results.num_errors:
        raise RuntimeError(f"{results.num_errors} of {len(trainings)} trainings failed: {results.errors[0]}")
    return read_courses(folder / EPOCHS_FILE, trainings)


def read_courses(file: Path, trainings: Sequence[Training]) -> dict[str, Course]:
    """Courses from the recorded epochs; an epoch that was trained again after a restart counts once."""
    rows = {(row["name"], row["epoch"]): row for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    courses = {}
    for training in trainings:
        own = [rows[name, epoch] for name, epoch in sorted(rows) if name == training.name]
        courses[training.name] = Course(
            training,
            np.cumsum([row["seconds"] for row in own]),
            {score: np.array([row[score] for row in own]) for score in SCORES},
            tuple(np.array(row["batch_sizes"], dtype=float) for row in own),
        )
    return courses


@contextmanager
def local_ray() -> Iterator[None]:
    """A quiet local Ray for the body; one that is running already is used and left running."""
    if ray.is_initialized():
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


class _Recorder(tune.Callback):
    """Appends every epoch of every training to a file, and moves a progress bar.

    Args:
        file: Of JSON lines.
        names: Of the trainings, by the config's ``index``.
    """

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        self.file, self.names = file.resolve(), list(names)
        self._bar: Bar | None = None

    def show(self, bar: Bar, total: int) -> None:
        """Moves this bar from now on; a restored run has another recorder, without one."""
        self._bar, self._task = bar, bar.add_task("epochs trained", total=total)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Write one epoch."""
        row = {
            "name": self.names[trial.config["index"]],
            "epoch": result["training_iteration"],
            "seconds": result["training_seconds"],
            **{score: result[score] for score in SCORES},
            "batch_sizes": result["batch_sizes"],
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._bar is not None:
            self._bar.advance(self._task)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None}


def _chosen(values: Sequence[Any], spec: Any) -> Any:
    """The value of the training that a trial's ``index`` names."""
    return values[spec.config["index"]]
