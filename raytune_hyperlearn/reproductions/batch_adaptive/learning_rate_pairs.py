"""What [BA] figures 4 and 5 share: BA-Momentum and Mini-32-Momentum at several learning rates, with the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.baselines.batch_sizes import Constant
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, MethodStyle
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import (
    Seeds,
    Training,
    Trajectories,
    Trajectory,
    train_all,
)
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import seeds_text, spread_text
from raytune_hyperlearn.reproductions.parts import part_of
from raytune_hyperlearn.reproductions.reproduction import Scale

PROBLEM = "fashion-mnist-cnn3"
ADAPTIVE, CONSTANT = "BA-Momentum", "Mini-32-Momentum"
M0 = 32


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        train: Images, 0 for all; a part of them is kept for validation.
        test: Images, 0 for all.
        epochs: Of instances.
        learning_rates: η, ascending.
        seeds: Each of split, initialization, data order and dropout; both methods and all learning rates share them.
        momentum: ρ.
        max_batch_size: B_max of BA.
    """

    train: int
    test: int
    epochs: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    momentum: float = 0.9
    max_batch_size: int = 512


def scales(learning_rates: tuple[float, ...]) -> dict[Scale, Settings]:
    """The same trainings in both figures, but for the learning rates."""
    return {
        "smoke": Settings(300, 200, 8, learning_rates, seeds=(0, 1)),
        "small": Settings(300, 200, 75, learning_rates, seeds=(0, 1, 2, 3, 4)),
        "medium": Settings(0, 0, 15, learning_rates, seeds=(0, 1, 2)),
        "paper": Settings(0, 0, 100, learning_rates, seeds=(0, 1, 2, 3, 4)),
    }


Pairs = Mapping[float, tuple[Seeds, Seeds]]
"""By learning rate: BA-Momentum's trajectories and Mini-32-Momentum's, which belong together seed by seed."""


def train_pairs(settings: Settings, output: Path, console: Console) -> Pairs:
    """Both methods at every learning rate with every seed."""
    made = [
        Training(f"{method} η={rate:g}", style, rule, rate, settings.momentum, settings.max_batch_size)
        for method, rule in ((ADAPTIVE, partial(GaussianWalkRule, M0)), (CONSTANT, partial(Constant, M0)))
        for rate, style in zip(settings.learning_rates, _styles(method, settings.learning_rates), strict=True)
    ]
    problem = partial(part_of, PROBLEM, settings.train, settings.test)
    trajectories = train_all(problem, made, settings.epochs, settings.seeds, output, console)
    rates = settings.learning_rates
    return {rate: (trajectories[f"{ADAPTIVE} η={rate:g}"], trajectories[f"{CONSTANT} η={rate:g}"]) for rate in rates}


def named(pairs: Pairs) -> dict[str, Seeds]:
    """The trajectories by learning rate and method in words."""
    return {
        f"η = {rate:g}: {method}": trajectories
        for rate, pair in pairs.items()
        for method, trajectories in zip((ADAPTIVE, CONSTANT), pair, strict=True)
    }


def styled_by_method(trajectories: Seeds) -> Seeds:
    """In a panel of one learning rate the two methods go by their own style."""
    style = METHOD_STYLES["ba-momentum" if trajectories[0].training.name.startswith(ADAPTIVE) else "mini-32"]
    return tuple(replace(trajectory, training=replace(trajectory.training, style=style)) for trajectory in trajectories)


def trajectory_table(trajectories: Trajectories) -> Table:
    """One row per training."""
    columns = ("", "final loss", "lowest loss", "rises", "mean batch size", "largest", "updates")
    note = (
        f"{seeds_text(len(next(iter(trajectories.values()))))} Training loss on the whole training part. Rises: share "
        "of the second half's epochs that ended above the one before."
    )
    return Table("Learning rates", columns, tuple((name, *_cells(own)) for name, own in trajectories.items()), note)


def _cells(trajectories: Seeds) -> tuple[str, ...]:
    shown: tuple[tuple[Callable[[Trajectory], float], str], ...] = (
        (lambda trajectory: trajectory.final_loss, ".3g"),
        (lambda trajectory: float(trajectory.losses.min()), ".3g"),
        (lambda trajectory: trajectory.rises, ".2f"),
        (lambda trajectory: float(trajectory.sizes.mean()), ".1f"),
        (lambda trajectory: float(trajectory.sizes.max()), ".0f"),
        (lambda trajectory: len(trajectory.sizes), ",.0f"),
    )
    return tuple(
        spread_text([value(trajectory) for trajectory in trajectories], f"{{:{form}}}".format) for value, form in shown
    )


def trajectory_numbers(trajectories: Trajectories) -> dict[str, object]:
    """Every trajectory as plain data, by training and seed; batch sizes as means per epoch."""
    return {
        name: {str(trajectory.seed): _numbers(trajectory) for trajectory in own} for name, own in trajectories.items()
    }


def _numbers(trajectory: Trajectory) -> dict[str, object]:
    return {
        "training_loss": trajectory.losses.tolist(),
        "test_accuracy": trajectory.scores["test_accuracy"].tolist(),
        "seconds": trajectory.seconds.tolist(),
        "mean_batch_sizes": trajectory.mean_sizes.tolist(),
        "updates": len(trajectory.sizes),
    }


def _styles(method: str, rates: Sequence[float]) -> list[MethodStyle]:
    """One color per learning rate, the method's own line."""
    base = METHOD_STYLES["ba-momentum" if method == ADAPTIVE else "mini-32"]
    appearances = (("#56B4E9", "s"), ("#009E73", "^"), ("#D55E00", "o"), ("#4D4D4D", "D"))
    return [
        replace(base, label=f"{method}, η = {rate:g}", short=f"{rate:g}", color=color, marker=marker)
        for rate, (color, marker) in zip(rates, appearances, strict=False)
    ]
