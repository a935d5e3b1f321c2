"""[BA] figure 5: the batch size boom, where Mini-32-Momentum stops improving and BA-Momentum goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.reproductions.batch_adaptive.learning_rate_pairs import (
    M0,
    PROBLEM,
    Pairs,
    Settings,
    named,
    scales,
    styled_by_method,
    train_pairs,
    trajectory_numbers,
    trajectory_table,
)
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Trajectory
from raytune_hyperlearn.reproductions.batch_adaptive.trajectory_figures import (
    SeedsPanel,
    band_note,
    draw_over_seeds,
    loss_panel,
    mean_size_panel,
    on_one_scale,
)
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import judge, percent, seeds_text, spread_text
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

RATES = (0.005, 0.01, 0.02)
BEYOND = 0.05
"""A learning rate of figure 4 that the paper shows no boom for."""
FREQUENT = 0.05
"""A boom begins with the first epoch with a larger batch after which so many of the updates have one, for a period."""
PERIOD = 0.1
"""Share of the epochs that is a period. The first one does not count: there the momentum has nowhere to point yet."""
LOWEST = 1.1
"""Mini-32 has reached its lowest loss with the first epoch that ends within this factor of the least of all."""
SAME_TIME = 0.15
"""Two events are at the same time if they lie within this share of all epochs."""
SETTINGS = scales((*RATES, BEYOND))


@dataclass(frozen=True)
class Boom:
    """What happens when, in epochs: with one seed, or in the median over seeds.

    Attributes:
        begins: First epoch of BA's boom, infinite without one.
        peak: Largest share of updates with more than m0 instances in a period.
        lowest: First epoch at which Mini-32 is about as low as it ever gets.
        final: BA's final loss.
        least: The lowest loss that Mini-32 ever has.
    """

    begins: float
    peak: float
    lowest: float
    final: float
    least: float

    @property
    def is_one(self) -> bool:
        """Whether there is a boom at all."""
        return math.isfinite(self.begins)

    @property
    def below(self) -> bool:
        """Whether BA ends below the lowest loss that Mini-32 ever has."""
        return self.final < self.least

    def is_near(self, epochs: int) -> bool:
        """Whether the boom begins about when Mini-32 is lowest."""
        return abs(self.begins - self.lowest) <= SAME_TIME * epochs


Booms = Mapping[float, Boom]
"""Of one seed, or in the median over seeds, by learning rate."""


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains both methods at every learning rate, compares, draws."""
    settings = SETTINGS[scale]
    return findings(train_pairs(settings, output, console), settings)


def boom_of(adaptive: Trajectory, constant: Trajectory) -> Boom:
    """When BA's batch sizes boom and when Mini-32 reaches its lowest loss."""
    larger = np.array([np.sum(sizes > M0) for sizes in adaptive.batch_sizes])
    updates = np.array([len(sizes) for sizes in adaptive.batch_sizes])
    period = max(2, round(PERIOD * len(larger)))
    starts = range(period, max(period, len(larger) - period) + 1)
    shares = np.array([larger[a : a + period].sum() / updates[a : a + period].sum() for a in starts])
    frequent = [a for a, share in zip(starts, shares, strict=True) if share >= FREQUENT and larger[a] > 0]
    least = float(constant.losses.min())
    lowest = constant.first_below(LOWEST * least)
    assert lowest is not None
    return Boom(
        begins=frequent[0] + 1.0 if frequent else math.inf,
        peak=float(shares.max()),
        lowest=lowest + 1.0,
        final=adaptive.final_loss,
        least=least,
    )


def booms_of(pairs: Pairs) -> list[Booms]:
    """What happens when, for each seed."""
    by_rate = {rate: [boom_of(*two) for two in zip(*pair, strict=True)] for rate, pair in pairs.items()}
    count = len(next(iter(by_rate.values())))
    return [{rate: booms[index] for rate, booms in by_rate.items()} for index in range(count)]


def median_booms(seeds: Sequence[Booms]) -> dict[float, Boom]:
    """The median over seeds of everything; without a boom where half of the seeds have none."""
    return {rate: Boom(*np.median([astuple(booms[rate]) for booms in seeds], axis=0)) for rate in seeds[0]}


def findings(pairs: Pairs, settings: Settings) -> Findings:
    """Verdicts, figure and tables."""
    seeds = booms_of(pairs)
    return Findings(
        settings={"problem": PROBLEM, **asdict(settings)},
        verdicts=verdicts(seeds, settings.epochs),
        figures=(
            Drawn(
                "boom",
                "Training loss, and the batch sizes below it",
                draw_over_seeds(panels(pairs), columns=len(pairs), width=3.6),
                "Above, loss on the whole training part after each epoch of instances scanned; below, the mean batch "
                f"size of each epoch. {band_note(len(seeds))}",
            ),
        ),
        tables=(boom_table(seeds), trajectory_table(named(pairs))),
        numbers={"booms": booms_numbers(pairs), **trajectory_numbers(named(pairs))},
    )


def panels(pairs: Pairs) -> list[SeedsPanel]:
    """A row of losses over a row of batch sizes, one column per learning rate."""
    styled = {rate: [styled_by_method(trajectories) for trajectories in pair] for rate, pair in pairs.items()}
    above = [loss_panel(f"η = {rate:g}", pair, "epochs") for rate, pair in styled.items()]
    return above + on_one_scale([mean_size_panel("", pair) for pair in styled.values()])


def verdicts(seeds: Sequence[Booms], epochs: int) -> tuple[Verdict, ...]:
    """What the paper says of its three learning rates, and the same of a larger one."""
    paper, beyond = ([of_rates(booms, rates) for booms in seeds] for rates in (RATES, (BEYOND,)))
    return (
        *boom_verdicts(paper, epochs),
        judge(is_helpful, beyond, median_booms(beyond)).verdict(
            f"Beyond the paper: at η = {BEYOND:g} there is a boom too, and with it BA-Momentum ends below the lowest "
            "loss that Mini-32-Momentum ever has.",
            f"{_described(BEYOND, [booms[BEYOND] for booms in beyond])}.",
        ),
    )


def of_rates(booms: Booms, rates: Sequence[float]) -> dict[float, Boom]:
    """Those at the learning rates named."""
    return {rate: booms[rate] for rate in rates}


def boom_verdicts(seeds: Sequence[Booms], epochs: int) -> tuple[Verdict, ...]:
    """There is a boom; it comes where Mini-32 is lowest; and it comes earlier at larger learning rates."""
    every = [boom for booms in seeds for boom in booms.values()]
    begun = [boom for boom in every if boom.is_one]
    medians = median_booms(seeds)
    return (
        judge(all_boom, seeds, medians).verdict(
            "At each learning rate there is a concentrated period in which BA-Momentum's batches grow.",
            f"A boom is a tenth of the training in which at least {100 * FREQUENT:.0f} % of the updates take more than "
            f"{M0} instances. {'; '.join(_described(rate, [booms[rate] for booms in seeds]) for rate in medians)}.",
        ),
        judge(lambda booms: all_near(booms, epochs), seeds, medians).verdict(
            "The boom comes where Mini-32-Momentum reaches its lowest loss.",
            f"{sum(boom.is_near(epochs) for boom in begun)} of {len(begun)} booms lie within {100 * SAME_TIME:.0f} % "
            "of the training of that point.",
        ),
        judge(all_below, seeds, medians).verdict(
            "With it BA-Momentum ends below the lowest loss that Mini-32-Momentum ever has.",
            f"So in {sum(boom.below for boom in every)} of {len(every)} pairs of trainings.",
        ),
        judge(is_earlier, seeds, medians).verdict(
            "The larger the learning rate, the earlier the boom.",
            f"In the median over seeds booms begin with epoch "
            f"{', '.join(_epoch(boom.begins) for boom in medians.values())}, for ascending learning rates.",
        ),
    )


def all_boom(booms: Booms) -> bool:
    """Whether there is a boom at each learning rate."""
    return all(boom.is_one for boom in booms.values())


def is_helpful(booms: Booms) -> bool:
    """Whether there is a boom at each learning rate and BA ends below Mini-32's lowest loss."""
    return all_boom(booms) and all_below(booms)


def all_near(booms: Booms, epochs: int) -> bool | None:
    """Whether all booms come where Mini-32 is lowest; None without one."""
    near = [boom.is_near(epochs) for boom in booms.values() if boom.is_one]
    return all(near) if near else None


def all_below(booms: Booms) -> bool:
    """Whether BA ends below Mini-32's lowest loss at each learning rate."""
    return all(boom.below for boom in booms.values())


def is_earlier(booms: Booms) -> bool | None:
    """Whether booms come no later, and one earlier, at larger learning rates; None where one is missing."""
    begins = [boom.begins for boom in booms.values()]
    return begins == sorted(begins, reverse=True) and len(set(begins)) > 1 if all_boom(booms) else None


def boom_table(seeds: Sequence[Booms]) -> Table:
    """One row per learning rate."""
    rows = tuple((f"η = {rate:g}", *_cells([booms[rate] for booms in seeds])) for rate in seeds[0])
    columns = ("", "booms", "begins, epoch", "most updates above 32", "Mini-32 lowest, epoch", "BA ends below it")
    note = f"{seeds_text(len(seeds))} When booms begin is of the seeds that have one."
    return Table("Batch size boom", columns, rows, note)


def booms_numbers(pairs: Pairs) -> dict[str, object]:
    """Every boom as plain data, by learning rate and seed."""
    return {
        f"{rate:g}": {str(one.seed): asdict(boom_of(one, other)) for one, other in zip(*pair, strict=True)}
        for rate, pair in pairs.items()
    }


def _cells(booms: Sequence[Boom]) -> tuple[str, ...]:
    begins = [boom.begins for boom in booms if boom.is_one]
    return (
        f"{len(begins)} of {len(booms)}",
        spread_text(begins, _epoch) if begins else "–",
        spread_text([boom.peak for boom in booms], percent),
        spread_text([boom.lowest for boom in booms], _epoch),
        f"{sum(boom.below for boom in booms)} of {len(booms)}",
    )


def _described(rate: float, booms: Sequence[Boom]) -> str:
    count, begins, peak, lowest, below = _cells(booms)
    when = "" if begins == "–" else f", from epoch {begins}"
    return (
        f"η = {rate:g}: a boom in {count} seeds{when} (most updates above {M0} in a period: {peak}); Mini-32-Momentum "
        f"lowest from epoch {lowest}; BA-Momentum ends below that in {below}"
    )


def _epoch(epoch: float) -> str:
    return f"{epoch:g}" if math.isfinite(epoch) else "none"
