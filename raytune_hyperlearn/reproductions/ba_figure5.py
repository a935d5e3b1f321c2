"""[BA] figure 5: the batch size boom, where Mini-32-Momentum stops improving and BA-Momentum goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.comparison.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.tables import Table
from raytune_hyperlearn.comparison.training_figures import TrainingPanel, draw_training
from raytune_hyperlearn.reproductions.course_figures import loss_panel, mean_size_panel
from raytune_hyperlearn.reproductions.courses import Course
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Reproduction, Scale, Verdict
from raytune_hyperlearn.reproductions.step_sizes import (
    M0,
    PROBLEM,
    Pairs,
    Settings,
    pairs_numbers,
    pairs_table,
    train_pairs,
)

RATES = (0.005, 0.01, 0.02)
FREQUENT = 0.05
"""A boom begins with the first epoch with a larger batch after which so many of the updates have one, for a period."""
PERIOD = 0.1
"""Share of the epochs that is a period. The first one does not count: there the momentum has nowhere to point yet."""
LOWEST = 1.1
"""Mini-32 has reached its lowest loss with the first epoch that ends within this factor of the least of all."""
SAME_TIME = 0.15
"""Two events are at the same time if they lie within this share of all epochs."""
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(train=300, test=200, epochs=8, learning_rates=RATES),
    "small": Settings(train=500, test=200, epochs=40, learning_rates=RATES),
    "paper": Settings(train=0, test=0, epochs=100, learning_rates=RATES),
}


@dataclass(frozen=True)
class Boom:
    """What happens when, in epochs.

    Attributes:
        begins: First epoch of BA's boom, or None without one.
        peak: Largest share of updates with more than m0 instances in a period.
        lowest: First epoch at which Mini-32 is about as low as it ever gets.
        below: Whether BA ends below the lowest loss that Mini-32 ever has.
    """

    begins: int | None
    peak: float
    lowest: int
    below: bool


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains both methods at every learning rate, compares, draws."""
    settings = SETTINGS[scale]
    return findings(train_pairs(settings, output, console), settings)


def boom_of(adaptive: Course, constant: Course) -> Boom:
    """When BA's batch sizes boom and when Mini-32 reaches its lowest loss."""
    larger = np.array([np.sum(sizes > M0) for sizes in adaptive.batch_sizes])
    updates = np.array([len(sizes) for sizes in adaptive.batch_sizes])
    period = max(2, round(PERIOD * len(larger)))
    starts = range(period, max(period, len(larger) - period) + 1)
    shares = np.array([larger[a : a + period].sum() / updates[a : a + period].sum() for a in starts])
    frequent = [a for a, share in zip(starts, shares, strict=True) if share >= FREQUENT and larger[a] > 0]
    lowest = constant.first_below(LOWEST * float(constant.losses.min()))
    assert lowest is not None
    return Boom(
        begins=frequent[0] + 1 if frequent else None,
        peak=float(shares.max()),
        lowest=lowest + 1,
        below=adaptive.final_loss < float(constant.losses.min()),
    )


def findings(pairs: Pairs, settings: Settings) -> Findings:
    """Verdicts, figure and tables."""
    booms = {rate: boom_of(*pair) for rate, pair in pairs.items()}
    return Findings(
        settings={"problem": PROBLEM, **asdict(settings)},
        verdicts=verdicts(booms, settings.epochs),
        figures=(
            Drawn(
                "boom",
                "Training loss, and the batch sizes below it",
                draw_training(panels(pairs)),
                "Above, loss on the whole training part after each epoch of instances scanned; below, the mean batch "
                "size of each epoch.",
            ),
        ),
        tables=(boom_table(booms), pairs_table(pairs)),
        numbers={"booms": {f"{rate:g}": asdict(boom) for rate, boom in booms.items()}, **pairs_numbers(pairs)},
    )


def panels(pairs: Pairs) -> list[TrainingPanel]:
    """A row of losses over a row of batch sizes, one column per learning rate."""
    named = {rate: [_renamed(course) for course in pair] for rate, pair in pairs.items()}
    above = [loss_panel(f"η = {rate:g}", pair, "epochs") for rate, pair in named.items()]
    return above + [mean_size_panel("", pair) for pair in named.values()]


def verdicts(booms: Mapping[float, Boom], epochs: int) -> tuple[Verdict, ...]:
    """There is a boom; it comes where Mini-32 is lowest; and it comes earlier at larger learning rates."""
    told = "; ".join(f"η = {rate:g}: {_told(boom)}" for rate, boom in booms.items())
    begun = [boom for boom in booms.values() if boom.begins is not None]
    together = [abs(boom.begins - boom.lowest) <= SAME_TIME * epochs for boom in begun if boom.begins is not None]
    order = [boom.begins for boom in begun if boom.begins is not None]
    complete = len(begun) == len(booms)
    return (
        Verdict(
            "At each learning rate there is a concentrated period in which BA-Momentum's batches grow.",
            f"A boom is a tenth of the training in which at least {100 * FREQUENT:.0f} % of the updates take more than "
            f"{M0} instances. {told}.",
            complete,
        ),
        Verdict(
            "The boom comes where Mini-32-Momentum reaches its lowest loss.",
            f"{sum(together)} of {len(begun)} booms lie within {100 * SAME_TIME:.0f} % of the training of that point.",
            all(together) if begun else None,
        ),
        Verdict(
            "With it BA-Momentum ends below the lowest loss that Mini-32-Momentum ever has.",
            f"So at {sum(boom.below for boom in booms.values())} of {len(booms)} learning rates.",
            all(boom.below for boom in booms.values()),
        ),
        Verdict(
            "The larger the learning rate, the earlier the boom.",
            f"Booms begin with epoch {', '.join(map(str, order)) or 'none'}, for ascending learning rates.",
            order == sorted(order, reverse=True) and len(set(order)) > 1 if complete else None,
        ),
    )


def boom_table(booms: Mapping[float, Boom]) -> Table:
    """One row per learning rate."""
    rows = tuple(
        (
            f"η = {rate:g}",
            "–" if boom.begins is None else str(boom.begins),
            f"{100 * boom.peak:.0f} %",
            str(boom.lowest),
            "yes" if boom.below else "no",
        )
        for rate, boom in booms.items()
    )
    columns = ("", "boom begins, epoch", "most updates above 32", "Mini-32 lowest, epoch", "BA ends below it")
    return Table("Batch size boom", columns, rows)


def _told(boom: Boom) -> str:
    begins = "no boom" if boom.begins is None else f"boom from epoch {boom.begins}"
    when = f"{begins} (at most {100 * boom.peak:.0f} % of a period's updates above {M0})"
    return f"{when}, Mini-32-Momentum lowest from epoch {boom.lowest}"


def _renamed(course: Course) -> Course:
    """In a panel of one learning rate the methods go by their own style."""
    method = "ba-momentum" if course.training.name.startswith("BA") else "mini-32"
    return replace(course, training=replace(course.training, style=METHOD_STYLES[method]))


REPRODUCTION = Reproduction(
    description="BA-Momentum's batch sizes grow where Mini-32-Momentum stops improving, at three learning rates.",
    source="Batch adaptive training, section 4.4, figure 5.",
    claim="a batch size boom always appears at the point in which Mini-32-Momentum reaches its lowest possible loss, "
    "earlier at larger learning rates, and helps BA-Momentum keep decreasing to lower loss.",
    run=run,
)
