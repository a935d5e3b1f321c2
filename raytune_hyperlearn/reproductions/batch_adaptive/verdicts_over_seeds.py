"""Judges a claim over several seeds: by the medians, and seed by seed.

Trajectories with the same seed start from the same split and initialization, so methods are compared within each seed.
A claim holds if the medians and most seeds say so; it does not hold if the medians and most seeds deny it; anything
else is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Trajectories, Trajectory
from raytune_hyperlearn.reproductions.reproduction import Verdict

LEVEL = 1.02
"""Losses within this factor of each other are called level."""
Observed = TypeVar("Observed")
Values = Mapping[str, float]
"""Numbers of one seed, or their medians over seeds, by name."""

_BY_MEDIANS = {
    True: "By the medians it holds",
    False: "By the medians it does not hold",
    None: "The medians leave it open",
}


@dataclass(frozen=True)
class Judgement:
    """Whether a claim holds.

    Attributes:
        of_medians: For the medians over seeds; None where they leave it open.
        of_seeds: For each seed by itself, likewise.
    """

    of_medians: bool | None
    of_seeds: tuple[bool | None, ...]

    @property
    def holds(self) -> bool | None:
        """What the medians and more than half of the seeds agree on; None where they do not agree."""
        agree = 2 * self.of_seeds.count(self.of_medians) > len(self.of_seeds)
        return self.of_medians if agree else None

    @property
    def sentence(self) -> str:
        """In how many seeds it holds, and plainly if they disagree."""
        yes, no, undecided = (self.of_seeds.count(outcome) for outcome in (True, False, None))
        basis = _BY_MEDIANS[self.of_medians]
        left = f" and is open in {undecided}" if undecided else ""
        split = " The seeds disagree." if yes and no else ""
        return f"{basis}; seed by seed it holds in {yes} of {len(self.of_seeds)}{left}.{split}"

    def verdict(self, claim: str, found: str) -> Verdict:
        """The claim with what was found and in how many seeds it holds."""
        return Verdict(claim, f"{found} {self.sentence}", self.holds)


def judge(rule: Callable[[Observed], bool | None], seeds: Sequence[Observed], medians: Observed) -> Judgement:
    """Puts the same question to the medians and to every seed.

    Args:
        rule: Whether the claim holds for what was observed; None where that cannot tell.
        seeds: What was observed with each seed.
        medians: The same in the median over seeds.
    """
    return Judgement(rule(medians), tuple(map(rule, seeds)))


def judge_values(rule: Callable[[Values], bool | None], seeds: Sequence[Values]) -> Judgement:
    """:func:`judge` of plain numbers."""
    return judge(rule, seeds, medians_of(seeds))


def medians_of(seeds: Sequence[Values]) -> dict[str, float]:
    """The median over seeds of each number."""
    return {name: float(np.median([values[name] for values in seeds])) for name in seeds[0]}


def per_seed(trajectories: Trajectories, value: Callable[[Trajectory], float]) -> list[dict[str, float]]:
    """The value of every training, by name, for each seed."""
    count = len(next(iter(trajectories.values())))
    return [{name: value(own[index]) for name, own in trajectories.items()} for index in range(count)]


def final_loss(trajectory: Trajectory) -> float:
    """The last training loss; infinite where it diverged."""
    return trajectory.final_loss if math.isfinite(trajectory.final_loss) else math.inf


def below(first: float, second: float) -> bool | None:
    """Whether the first loss is clearly the lower one; None if they are level."""
    if first * LEVEL < second:
        return True
    return False if second * LEVEL < first else None


def spread_text(values: Sequence[float], shown: Callable[[float], str] = number) -> str:
    """Median and, in brackets, least and largest."""
    low, median, high = (shown(float(reduced(values))) for reduced in (np.min, np.median, np.max))
    return median if low == high else f"{median} [{low}, {high}]"


def percent(share: float) -> str:
    """A share of one in per cent."""
    return f"{100 * share:.1f} %"


def seeds_text(count: int) -> str:
    """How many seeds, and how a cell of :func:`spread_text` is read."""
    return f"Medians [least, largest] over {count} seeds." if count > 1 else "One seed."
