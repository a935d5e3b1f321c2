"""Arbiter and its controls, trained side by side from the same seeds: what all of Arbiter's figures are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.running.cluster import local_ray
from raytune_hyperlearn.problems import Examples, Problem, load
from raytune_hyperlearn.reproductions.parts import part_of
from raytune_hyperlearn.reproductions.trials import Row, run_trials
from raytune_hyperlearn.tune import ArbiterTrainable
from raytune_hyperlearn.tune.arbiter_training import NEEDS_RECORD

ARBITER, WITHOUT = "arbiter", "arbiter-constant"
METHODS: Mapping[str, Mapping[str, Any]] = {
    ARBITER: {"chosen_by": "arbiter"},
    WITHOUT: {"chosen_by": "heuristic"},
    "arbiter-frozen": {"chosen_by": "arbiter", "arbiter": {"response": "frozen"}},
    "arbiter-noise": {"chosen_by": "arbiter", "arbiter": {"agent_input": "noise"}},
    "arbiter-constant-mean": {"chosen_by": "mean"},
    "arbiter-replay": {"chosen_by": "replay"},
    "arbiter-random-walk": {"chosen_by": "random-walk"},
}
"""Arbiter and its controls as in the comparison."""
CONTROLS = tuple(name for name in METHODS if name != ARBITER)
SHOWN = ("arbiter-frozen", "arbiter-noise")
"""Controls that learn as Arbiter does, with one part taken away."""

HELPING: Mapping[str, Mapping[str, Any]] = {
    "gradient statistics": {"agent_input": "gradients"},
    "window": {"decision": "window"},
    "every 5 epochs": {"learn_every": 5},
}
"""Changes to the agent that might help it to see the dynamics."""

SERIES = (
    "training_seconds",
    "mean_batch_size",
    "updates",
    "outer_loss",
    "mixture",
    "training_loss",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
)


@dataclass(frozen=True)
class Setting:
    """Data and agent that all trainings of a figure share.

    Attributes:
        problem: Its name.
        train: Use so many training examples, evenly spaced; 0 means all.
        test: Likewise of the test examples.
        epochs: Of each training.
        seeds: Number of seeds; a seed is split, initialization, data order and agent.
        min_batch_size: B_min.
        max_batch_size: B_max.
        agent_lr: Adam's learning rate for φ and Φ.
        mixing_lr: Adam's learning rate for α.
        warm_up_lr: Adam's learning rate for φ in the warm-up.
        momentum: Of the inner SGD.
        weight_decay: Of the inner optimizer.
        checkpoint_every: Epochs between checkpoints; 0 for none, where a training takes seconds.
        wrong_labels: Share of the training and validation labels that are drawn anew, at random.
    """

    problem: str
    train: int
    test: int
    epochs: int
    seeds: int
    min_batch_size: int
    max_batch_size: int
    agent_lr: float
    mixing_lr: float
    warm_up_lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    checkpoint_every: int = 0
    wrong_labels: float = 0.0

    @property
    def shared(self) -> dict[str, Any]:
        """The config's part that all trainings share."""
        problem = partial(training_problem, self.problem, self.train, self.test, self.wrong_labels)
        return {"problem": problem, "epochs": self.epochs}

    def agent(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The agent's settings with these changes."""
        names = ("min_batch_size", "max_batch_size", "agent_lr", "mixing_lr", "warm_up_lr")
        return {**{name: getattr(self, name) for name in names}, **changes}


# Adam's rates make up for fewer updates: rate times updates is that of 200 epochs on CIFAR-10 for φ and that of one
# epoch for α. On digits batch sizes are a quarter of the paper's.
DIGITS = Setting(
    "digits", 0, 0, epochs=16, seeds=8, min_batch_size=8, max_batch_size=150, agent_lr=1e-3, mixing_lr=2e-3
)
"""At small scale."""
CIFAR = Setting(
    "cifar10-wrn16-4",
    0,
    0,
    epochs=200,
    seeds=8,
    min_batch_size=8,
    max_batch_size=600,
    agent_lr=1e-5,
    mixing_lr=1e-4,
    warm_up_lr=1e-4,
    checkpoint_every=1,
)
"""As in the paper."""
FASHION = replace(
    CIFAR, problem="fashion-mnist", train=16_000, test=2_000, epochs=8, agent_lr=1e-3, mixing_lr=3e-4, warm_up_lr=1e-3
)
"""At medium scale: the paper's batch sizes."""


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        group: What it is compared within: the same start, optimizer and agent.
        method: A name of :data:`METHODS`.
        seed: See :class:`Setting`.
        learning_rate: η.
        batch_size: B_0.
        agent: Changes to the agent's settings, beside the method's.
        more: Further entries of the trial's config.
    """

    group: str
    method: str
    seed: int
    learning_rate: float
    batch_size: int
    agent: Mapping[str, Any]
    more: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Unique in a figure."""
        return f"{self.group} | {self.method} | {self.seed}"

    @property
    def learns_first(self) -> bool:
        """Whether it needs the schedule that Arbiter learned in the same group from the same seed."""
        return METHODS[self.method]["chosen_by"] in NEEDS_RECORD

    def config(self, setting: Setting) -> dict[str, Any]:
        """The trial's own part of the config."""
        method = METHODS[self.method]
        values = {"learning_rate": self.learning_rate, "momentum": setting.momentum}
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "hyperparameters": {**values, "weight_decay": setting.weight_decay},
            "chosen_by": method["chosen_by"],
            "arbiter": setting.agent({**self.agent, **method.get("arbiter", {})}),
            **self.more,
        }


@dataclass(frozen=True)
class Trajectory:
    """How a training went, epoch by epoch.

    Attributes:
        training: Its settings.
        series: Of each of :data:`SERIES`, [E]; infinite losses where it diverged.
        learning_rates: After every update, [U].
    """

    training: Training
    series: Mapping[str, FloatArray]
    learning_rates: FloatArray

    @property
    def sizes(self) -> FloatArray:
        """Batch size of each epoch, [E]."""
        return self.series["mean_batch_size"]

    @property
    def late_size(self) -> float:
        """Mean batch size of the last third of the epochs: single decisions are noisy."""
        return float(self.sizes[-max(1, len(self.sizes) // 3) :].mean())

    def final(self, name: str) -> float:
        """A series' last value."""
        return float(self.series[name][-1])


Trajectories = Mapping[str, Mapping[str, Mapping[int, Trajectory]]]
"""By group, method and seed."""


def training_problem(name: str, train: int, test: int, wrong_labels: float) -> Problem:
    """Part of a known problem; of its training labels a share is drawn anew, uniformly and always the same.

    Args:
        name: The problem's name.
        train: So many training examples, evenly spaced; 0 means all.
        test: Likewise of the test examples, whose labels stay right.
        wrong_labels: The share, in [0, 1].
    """
    problem = part_of(name, train, test)
    if not wrong_labels:
        return problem
    generator = torch.Generator().manual_seed(0)
    targets = problem.train.targets.clone()
    drawn = torch.rand(len(targets), generator=generator) < wrong_labels
    classes = int(targets.max()) + 1
    targets[drawn] = torch.randint(classes, (int(drawn.sum()),), generator=generator)
    return replace(problem, train=Examples(problem.train.inputs, targets))


def family(
    setting: Setting,
    group: str,
    learning_rate: float,
    batch_size: int,
    methods: Iterable[str] = METHODS,
    agent: Mapping[str, Any] | None = None,
    **more: Any,
) -> list[Training]:
    """One training per method and seed."""
    return [
        Training(group, method, seed, learning_rate, batch_size, agent or {}, more)
        for method in methods
        for seed in range(setting.seeds)
    ]


def train_all(setting: Setting, trainings: Sequence[Training], folder: Path, console: Console) -> Trajectories:
    """Trains all; the controls that need a learned schedule after Arbiter has learned it.

    Args:
        setting: What they share.
        trainings: With unique names.
        folder: Of the records.
        console: Shows progress.

    Raises:
        MissingDataError: If the problem's data are missing, before anything starts.
    """
    load(setting.problem)
    with local_ray():
        return _train_all(setting, trainings, folder, console)


def _train_all(setting: Setting, trainings: Sequence[Training], folder: Path, console: Console) -> Trajectories:
    learning = [training for training in trainings if not training.learns_first]
    rows = _run(setting, {one.name: one.config(setting) for one in learning}, folder / "learning", console)
    controls = {}
    for one in trainings:
        if one.learns_first:
            learned = [round(row["mean_batch_size"]) for row in rows[replace(one, method=ARBITER).name]]
            controls[one.name] = {**one.config(setting), "recorded": [learned]}
    if controls:
        rows = {**rows, **_run(setting, controls, folder / "controls", console)}
    trajectories: dict[str, dict[str, dict[int, Trajectory]]] = {}
    for one in trainings:
        trajectories.setdefault(one.group, {}).setdefault(one.method, {})[one.seed] = _trajectory(one, rows[one.name])
    return trajectories


def _run(
    setting: Setting, configs: Mapping[str, Mapping[str, Any]], folder: Path, console: Console
) -> dict[str, list[Row]]:
    kept = (*SERIES, "learning_rates")
    every = setting.checkpoint_every
    return run_trials(ArbiterTrainable, setting.shared, configs, kept, setting.epochs, folder, console, every)


def _trajectory(training: Training, rows: Sequence[Row]) -> Trajectory:
    series = {name: np.array([row[name] for row in rows], dtype=float) for name in SERIES}
    return Trajectory(training, series, np.concatenate([row["learning_rates"][0] for row in rows]))


def numbers(trajectories: Trajectories) -> dict[str, Any]:
    """Every series of every training as plain data."""
    return {
        trajectory.training.name: {name: values.tolist() for name, values in trajectory.series.items()}
        for methods in trajectories.values()
        for seeds in methods.values()
        for trajectory in seeds.values()
    }
