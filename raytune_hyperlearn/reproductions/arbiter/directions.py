"""Where Arbiter's batch size goes from a start: as the step size calls for, or towards the middle of its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import INK, light_grid, look
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.arbiter.trainings import Trajectory

COLOURS = {True: "#CC6677", False: "#332288"}
"""Of starts whose batch size is expected to grow, and of the others."""


@dataclass(frozen=True)
class Start:
    """Where trainings begin.

    Attributes:
        problem: Its name where there are several, else empty.
        learning_rate: η.
        batch_size: B_0.
        span: B_min and B_max.
        grows: Whether the step size calls for a larger batch, or else for a smaller one.
        moved: Whether the range is not the usual one.
        variant: Name of a change to the agent, or empty.
    """

    problem: str
    learning_rate: float
    batch_size: int
    span: tuple[int, int]
    grows: bool
    moved: bool = False
    variant: str = ""

    @property
    def group(self) -> str:
        """The start in words."""
        parts = (
            self.problem,
            f"η = {self.learning_rate:g}, B₀ = {self.batch_size}",
            f"B ≤ {self.span[1]}" if self.moved else "",
            self.variant,
        )
        return ", ".join(part for part in parts if part)

    @property
    def middle(self) -> float:
        """The batch size that the logit 0 stands for."""
        return sum(self.span) / 2

    @property
    def tells_apart(self) -> bool:
        """Whether the step size and the middle call for opposite directions."""
        return self.grows != (self.middle > self.batch_size)


@dataclass(frozen=True)
class Direction:
    """Where the batch size went, over seeds.

    Attributes:
        start: From where.
        late: Mean batch size of the last third of the epochs, one per seed, [n].
    """

    start: Start
    late: FloatArray

    @classmethod
    def of(cls, start: Start, seeds: Mapping[int, Trajectory]) -> Direction:
        """From the trajectories of one method."""
        return cls(start, np.array([trajectory.late_size for trajectory in seeds.values()]))

    @property
    def count(self) -> int:
        """Seeds."""
        return len(self.late)

    @property
    def as_expected(self) -> int:
        """Seeds whose batch size went where the step size calls for."""
        return int((np.sign(self.late - self.start.batch_size) == (1 if self.start.grows else -1)).sum())

    @property
    def to_the_middle(self) -> int:
        """Seeds whose batch size went towards the middle of the range."""
        side = np.sign(self.start.middle - self.start.batch_size)
        return int((np.sign(self.late - self.start.batch_size) == side).sum())

    @property
    def sentence(self) -> str:
        """The numbers."""
        verb = "grew" if self.start.grows else "shrank"
        return (
            f"{self.start.group} (middle {number(self.start.middle)}): to {number(float(np.median(self.late)))}, "
            f"{verb} in {self.as_expected} of {self.count}."
        )


def sign_test(successes: int, count: int) -> bool | None:
    """Whether successes are more than luck; False where failures are, None where neither (two-sided, 5 %)."""
    if scipy.stats.binomtest(successes, count).pvalue >= 0.05:
        return None
    return 2 * successes > count


def draw_directions(directions: Sequence[Direction]) -> Figure:
    """A row per start."""
    with look():
        height = 0.32 * len(directions) + 0.9
        figure = Figure(figsize=(10.0, height))
        axes = figure.add_axes((0.43, 0.6 / height, 0.54, 1 - 0.9 / height))
        light_grid(axes)
        axes.set_xscale("log", base=2)
        for row, one in enumerate(directions):
            start, color = one.start, COLOURS[one.start.grows]
            axes.plot(start.span, [row, row], color=INK, lw=5, alpha=0.13, solid_capstyle="butt")
            axes.plot([start.middle] * 2, [row - 0.32, row + 0.32], color=INK, lw=1.4)
            axes.plot(one.late, [row] * one.count, ls="", marker="o", ms=4, color=color, alpha=0.55)
            axes.plot(start.batch_size, row, ls="", marker="o", ms=8, mfc="none", mec=color, mew=1.6)
            axes.annotate(
                "",
                xy=(float(np.median(one.late)), row),
                xytext=(start.batch_size, row),
                arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 5, "shrinkB": 0},
            )
        axes.set_yticks(
            range(len(directions)),
            [f"{one.start.group} — should {'grow' if one.start.grows else 'shrink'}" for one in directions],
        )
        axes.set_ylim(len(directions) - 0.4, -0.6)
        low, high = min(one.start.span[0] for one in directions), max(one.start.span[1] for one in directions)
        ticks = [float(2**power) for power in range(20) if low <= 2**power <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlim(low / 1.1, high * 1.1)
        axes.set_xlabel("batch size")
    return figure
