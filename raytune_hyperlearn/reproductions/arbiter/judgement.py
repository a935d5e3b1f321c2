"""Is Arbiter better than its controls? Paired by seed, with Holm's correction over the controls, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.analysis.statistics import (
    FEWEST,
    bootstrap_median_interval,
    holm,
    power_sentence,
    wilcoxon_p_value,
)
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.arbiter.trainings import ARBITER, CONTROLS, WITHOUT, Trajectories, Trajectory
from raytune_hyperlearn.reproductions.reproduction import Verdict

SIGNIFICANT = 0.05
Difference = Callable[[Trajectory, Trajectory], float]


@dataclass(frozen=True)
class Judged:
    """Arbiter against one control in one group.

    Attributes:
        group: Where both start.
        control: Name of the control.
        differences: Arbiter − control by seed, of a number that should be small, [n].
        p_value: Wilcoxon's signed-rank test, two-sided, Holm-corrected over the group's controls; NaN for fewer than
            five seeds.
    """

    group: str
    control: str
    differences: FloatArray
    p_value: float

    @property
    def median(self) -> float:
        """Median difference: negative where Arbiter is better."""
        return float(np.median(self.differences))

    @property
    def better(self) -> bool | None:
        """Whether Arbiter is better; None where luck may have made the difference."""
        return self.median < 0 if self.p_value < SIGNIFICANT else None

    @property
    def sentence(self) -> str:
        """The numbers."""
        wins, ties, count = int((self.differences < 0).sum()), int((self.differences == 0).sum()), len(self.differences)
        tied = f" and the same in {ties}" if ties else ""
        low, high = bootstrap_median_interval(self.differences, np.random.default_rng(0))
        interval = f" (95 % interval {number(low)} to {number(high)})" if count >= FEWEST else ""
        p_value = f", p = {number(self.p_value)}" if count >= FEWEST else ""
        return (
            f"{self.group}: better in {wins} of {count} seeds{tied}, median difference {number(self.median)}"
            f"{interval}{p_value}."
        )


def of_final(series: str, sign: float = 1.0) -> Difference:
    """By the last value of a series; ``sign`` is −1 where large values are good."""

    def difference(arbiter: Trajectory, control: Trajectory) -> float:
        own, other = sign * arbiter.final(series), sign * control.final(series)
        return 0.0 if own == other else own - other  # two infinities are equal

    return difference


def judge(trajectories: Trajectories, difference: Difference) -> list[Judged]:
    """Arbiter against every control in every group.

    Args:
        trajectories: By group, method and seed.
        difference: Of Arbiter's trajectory and the control's from the same seed: negative where Arbiter's is better.
    """
    judged = []
    for group, methods in trajectories.items():
        controls = [control for control in CONTROLS if control in methods]
        differences = [
            np.array([difference(trajectory, methods[control][seed]) for seed, trajectory in methods[ARBITER].items()])
            for control in controls
        ]
        enough = all(len(one) >= FEWEST for one in differences)
        p_values = holm([wilcoxon_p_value(one) for one in differences]) if enough else [np.nan] * len(controls)
        pairs = zip(controls, differences, p_values, strict=True)
        judged += [Judged(group, control, difference, p_value) for control, difference, p_value in pairs]
    return judged


def all_hold(outcomes: Sequence[bool | None]) -> bool | None:
    """Whether all hold; None where some are inconclusive and no other fails."""
    return None if None in outcomes and False not in outcomes else all(outcomes)


def judge_variants(trajectories: Trajectories, groups: Mapping[str, str], difference: Difference) -> list[Judged]:
    """Changed agents against training without Arbiter, Holm-corrected over all of them.

    Args:
        trajectories: By group, method and seed.
        groups: By the group of a changed agent the group that holds its training without Arbiter.
        difference: As for :func:`judge`.
    """
    differences = {
        group: np.array(
            [
                difference(trajectory, trajectories[main][WITHOUT][seed])
                for seed, trajectory in trajectories[group][ARBITER].items()
            ]
        )
        for group, main in groups.items()
    }
    enough = all(len(one) >= FEWEST for one in differences.values())
    tested = holm([wilcoxon_p_value(one) for one in differences.values()]) if enough else [np.nan] * len(differences)
    return [Judged(group, WITHOUT, one, p) for (group, one), p in zip(differences.items(), tested, strict=True)]


def verdicts(judged: Sequence[Judged], claim: str, beyond: str) -> tuple[Verdict, Verdict]:
    """The paper's claim, against training without Arbiter; and beyond the paper the same against every control.

    Args:
        judged: From :func:`judge`.
        claim: That Arbiter is better than without it, as a sentence without its full stop.
        beyond: That no control is as good, likewise.
    """
    without, controls = ([one for one in judged if (one.control == WITHOUT) is kept] for kept in (True, False))
    power = power_sentence(min(len(one.differences) for one in judged))
    numbers = " ".join(one.sentence for one in without)
    outcomes = {control: all_hold([one.better for one in own]) for control, own in _by_control(controls).items()}
    return (
        Verdict(f"{claim}.", f"{numbers} {power}".strip(), all_hold([one.better for one in without])),
        Verdict(
            f"Beyond the paper: {beyond}, so it is what Arbiter learns that does it.",
            f"{_against(outcomes)} {power}".strip(),
            all_hold(list(outcomes.values())),
        ),
    )


def _against(outcomes: Mapping[str, bool | None]) -> str:
    """A sentence that names every control with its outcome."""
    words = {True: "better than", None: "indistinguishable from", False: "worse than"}
    parts = []
    for outcome, word in words.items():
        names = [METHOD_STYLES[control].label for control, found in outcomes.items() if found is outcome]
        if names:
            parts.append(f"{word} {_listed(names)}")
    return f"Arbiter is {'; '.join(parts)}."


def variants_verdict(judged: Sequence[Judged], claim: str) -> Verdict:
    """Whether any changed agent makes the claim hold against training without Arbiter.

    Args:
        judged: From :func:`judge_variants`.
        claim: What is claimed, as a sentence without its full stop.
    """
    outcomes = [one.better for one in judged]
    power = power_sentence(min(len(one.differences) for one in judged))
    return Verdict(
        f"Beyond the paper: with a changed agent, {claim}.",
        f"{' '.join(one.sentence for one in judged)} {power}".strip(),
        True if True in outcomes else all_hold(outcomes),
    )


def _by_control(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    grouped: dict[str, list[Judged]] = {}
    for one in judged:
        grouped.setdefault(one.control, []).append(one)
    return grouped


def _listed(names: Sequence[str]) -> str:
    *first, last = (f"“{name}”" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def table(judged: Sequence[Judged], title: str, note: str) -> Table:
    """The same numbers in rows."""
    rows = []
    for one in judged:
        low, high = bootstrap_median_interval(one.differences, np.random.default_rng(0))
        wins, count = int((one.differences < 0).sum()), len(one.differences)
        p_value = number(one.p_value) if np.isfinite(one.p_value) else "too few seeds"
        interval = f"{number(low)} to {number(high)}"
        outcome = {True: "better", None: "inconclusive", False: "worse"}[one.better]
        label = METHOD_STYLES[one.control].label
        rows.append((one.group, label, number(one.median), interval, f"{wins} of {count}", p_value, outcome))
    columns = (
        "start",
        "Arbiter against",
        "median difference",
        "95 % interval",
        "Arbiter better in",
        "p (Holm)",
        "Arbiter is",
    )
    return Table(title, columns, tuple(rows), note)
