"""What [BA] figures 4 and 5 share: BA-Momentum and Mini-32-Momentum at several learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.baselines.batch_sizes import Constant
from raytune_hyperlearn.comparison.styles import METHOD_STYLES, MethodStyle
from raytune_hyperlearn.comparison.tables import Table
from raytune_hyperlearn.comparison.wording import number
from raytune_hyperlearn.reproductions.courses import Course, Training, follow
from raytune_hyperlearn.reproductions.parts import part_of

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
        momentum: ρ.
        max_batch_size: B_max of BA.
        seed: Of split, initialisation, data order and dropout.
    """

    train: int
    test: int
    epochs: int
    learning_rates: tuple[float, ...]
    momentum: float = 0.9
    max_batch_size: int = 512
    seed: int = 0


Pairs = Mapping[float, tuple[Course, Course]]
"""By learning rate: BA-Momentum's course and Mini-32-Momentum's."""


def train_pairs(settings: Settings, output: Path, console: Console) -> Pairs:
    """Both methods at every learning rate, all from the same initialisation."""
    made = [
        Training(f"{method} η={rate:g}", style, rule, rate, settings.momentum, settings.max_batch_size)
        for method, rule in ((ADAPTIVE, partial(GaussianWalkRule, M0)), (CONSTANT, partial(Constant, M0)))
        for rate, style in zip(settings.learning_rates, _styles(method, settings.learning_rates), strict=True)
    ]
    problem = partial(part_of, PROBLEM, settings.train, settings.test)
    courses = follow(problem, made, settings.epochs, settings.seed, output, console)
    rates = settings.learning_rates
    return {rate: (courses[f"{ADAPTIVE} η={rate:g}"], courses[f"{CONSTANT} η={rate:g}"]) for rate in rates}


def pairs_table(pairs: Pairs) -> Table:
    """One row per learning rate and method."""
    rows = []
    for rate, pair in pairs.items():
        for method, course in zip((ADAPTIVE, CONSTANT), pair, strict=True):
            rows.append(
                (
                    f"η = {rate:g}: {method}",
                    number(course.final_loss),
                    number(float(course.losses.min())),
                    number(rises(course)),
                    f"{course.sizes.mean():.1f}",
                    f"{course.sizes.max():.0f}",
                    f"{len(course.sizes):,}",
                )
            )
    columns = ("", "final loss", "lowest loss", "rises", "mean batch size", "largest", "updates")
    note = (
        "Training loss on the whole training part. Rises: share of the second half's epochs that ended above the one "
        "before."
    )
    return Table("Learning rates", columns, tuple(rows), note)


def rises(course: Course) -> float:
    """Share of the second half's epochs whose loss is above the one before: how much it fluctuates."""
    late = course.losses[len(course.losses) // 2 - 1 :]
    return float(np.mean(np.diff(late) > 0)) if len(late) > 1 else float("nan")


def pairs_numbers(pairs: Pairs) -> dict[str, object]:
    """Every course as plain data; batch sizes as means per epoch."""
    return {
        course.training.name: {
            "training_loss": course.losses.tolist(),
            "test_accuracy": course.scores["test_accuracy"].tolist(),
            "seconds": course.seconds.tolist(),
            "mean_batch_sizes": course.mean_sizes.tolist(),
            "updates": len(course.sizes),
        }
        for pair in pairs.values()
        for course in pair
    }


def _styles(method: str, rates: Sequence[float]) -> list[MethodStyle]:
    """One colour per learning rate, the method's own line."""
    base = METHOD_STYLES["ba-momentum" if method == ADAPTIVE else "mini-32"]
    appearances = (("#56B4E9", "s"), ("#009E73", "^"), ("#D55E00", "o"), ("#4D4D4D", "D"))
    return [
        replace(base, label=f"{method}, η = {rate:g}", short=f"{rate:g}", colour=colour, marker=marker)
        for rate, (colour, marker) in zip(rates, appearances, strict=False)
    ]
