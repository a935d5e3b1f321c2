"""What a race of FDS against black-box search shows: who had which validation loss when, and by what factor sooner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import (
    draw_grid,
    label_line_ends,
    label_width,
    light_grid,
    plain_log_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, method_styles
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number, seconds
from raytune_hyperlearn.reproductions.fds.races import BLACK_BOX, FDS, Row, best_loss
from raytune_hyperlearn.reproductions.reproduction import Verdict

SHOWN = 10.0
"""Losses above so many times the lowest are off the figure: there training has diverged, or hardly begun."""
ABOVE_ENDS = 1.5
"""Likewise of losses above so many times the highest that a run ends with."""
GOAL = 20.0
"""So many times sooner FDS is to be at the level of black-box search."""
Rows = Mapping[str, Mapping[int, Sequence[Row]]]
"""Method → seed → evaluations in order."""
Bound = Literal["at least", "exactly", "at most"]


@dataclass(frozen=True)
class Raced:
    """One contest.

    Attributes:
        name: Of the contest.
        title: What is trained.
        dimensions: Number K of learned values.
        rows: All evaluations.
        confirmed: Method → seed → the chosen values' evaluations with fresh seeds.
    """

    name: str
    title: str
    dimensions: int
    rows: Rows
    confirmed: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]

    @property
    def rivals(self) -> tuple[str, ...]:
        """All methods but FDS."""
        return tuple(method for method in self.rows if method != FDS)


@dataclass(frozen=True)
class Factor:
    """How many times sooner FDS was there.

    Attributes:
        value: Rival's seconds over FDS's.
        bound: Whether that is a bound because one of the two never was there.
    """

    value: float
    bound: Bound = "exactly"

    @property
    def text(self) -> str:
        """With two digits and the sign of the bound."""
        return {"at least": "> ", "exactly": "", "at most": "< "}[self.bound] + f"{self.value:.2g}×"


@dataclass(frozen=True)
class Meeting:
    """FDS and a rival with the same seed, at one level of the validation loss.

    Attributes:
        level: The loss.
        fds: Seconds after which FDS had it; None where it never did.
        rival: Likewise of the rival.
        fds_end: Seconds of FDS's run.
        rival_end: Seconds of the rival's.
    """

    level: float
    fds: float | None
    rival: float | None
    fds_end: float
    rival_end: float

    @property
    def factor(self) -> Factor | None:
        """How many times sooner FDS had it; None where neither did."""
        if self.fds is not None:
            if self.rival is not None:
                return Factor(self.rival / self.fds)
            return Factor(self.rival_end / self.fds, "at least")
        return None if self.rival is None else Factor(self.rival / self.fds_end, "at most")


def first_at(rows: Sequence[Row], level: float) -> float | None:
    """Seconds after which a run had a validation loss of the level or below; None if never."""
    times = (row.seconds for row in rows if row.validation_loss is not None and row.validation_loss <= level)
    return next(times, None)


def meeting(fds: Sequence[Row], rival: Sequence[Row], level: float) -> Meeting:
    """When both were at a level."""
    return Meeting(level, first_at(fds, level), first_at(rival, level), fds[-1].seconds, rival[-1].seconds)


At = Literal["rival", "beyond"]
"""The level of a meeting: the rival's final one, or the one with which FDS first is at or beyond that."""


def meetings(raced: Raced, method: str, at: At) -> dict[int, Meeting]:
    """Seed → meeting of FDS and a rival."""
    found = {}
    for seed, fds in raced.rows[FDS].items():
        rival = raced.rows[method][seed]
        final = best_loss(rival)
        found[seed] = meeting(fds, rival, final if at == "rival" else passing(fds, final))
    return found


def passing(rows: Sequence[Row], level: float) -> float:
    """The first validation loss at or below a level; the lowest one where none is."""
    losses = [row.validation_loss for row in rows if row.validation_loss is not None]
    return next((loss for loss in losses if loss <= level), min(losses, default=math.inf))


def median_factor(factors: Sequence[Factor | None]) -> Factor | None:
    """The median over seeds: a bound where what is not known could move it; None where it says nothing."""
    lowest = sorted(_low(factor) for factor in factors)[len(factors) // 2] if factors else 0.0
    highest = sorted(_high(factor) for factor in factors)[len(factors) // 2] if factors else math.inf
    if lowest == highest:
        return Factor(lowest)
    from_below = any(factor is not None and factor.bound == "at least" for factor in factors)
    if lowest > 0 and (from_below or math.isinf(highest)):
        return Factor(lowest, "at least")
    return Factor(highest, "at most") if math.isfinite(highest) else None


def _low(factor: Factor | None) -> float:
    return 0.0 if factor is None or factor.bound == "at most" else factor.value


def _high(factor: Factor | None) -> float:
    return math.inf if factor is None or factor.bound == "at least" else factor.value


def reaches_goal(factor: Factor | None) -> bool | None:
    """Whether the factor is at least :data:`GOAL`; None where its bound leaves that open."""
    if factor is None:
        return None
    if factor.bound == "at least":
        return True if factor.value >= GOAL else None
    if factor.bound == "at most":
        return False if factor.value < GOAL else None
    return factor.value >= GOAL


# --------------------------------------------------------------------------------------------------- verdicts


def verdicts(raced: Raced) -> tuple[Verdict, Verdict]:
    """At the black-box methods' final levels, and beyond."""
    styles, rivals = method_styles(raced.rows), [method for method in raced.rivals if method in BLACK_BOX]
    at_rivals = {m: median_factor([x.factor for x in meetings(raced, m, "rival").values()]) for m in rivals}
    at_own = {m: median_factor([x.factor for x in meetings(raced, m, "beyond").values()]) for m in rivals}
    return (
        Verdict(
            f"{raced.title}: FDS has each black-box method's final validation loss 20 times sooner than that does.",
            f"Median factor over seeds: {_factors_text(at_rivals, styles)}.",
            _all([reaches_goal(factor) for factor in at_rivals.values()]),
        ),
        Verdict(
            f"{raced.title}: no black-box method has, within 20 times FDS's seconds, the loss with which FDS "
            "passes that method's final one.",
            f"Median factor over seeds: {_factors_text(at_own, styles)}.",
            _all([reaches_goal(factor) for factor in at_own.values()]),
        ),
    )


def _factors_text(factors: Mapping[str, Factor | None], styles: Mapping[str, MethodStyle]) -> str:
    return ", ".join(f"{styles[m].short} {'–' if factor is None else factor.text}" for m, factor in factors.items())


def _all(answers: Sequence[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True


# ----------------------------------------------------------------------------------------------------- tables


LEVELS: Mapping[At, tuple[str, str]] = {
    "rival": ("At the final validation loss of the other method", "the other method's lowest loss in its whole run"),
    "beyond": (
        "Beyond the final validation loss of the other method",
        "FDS's first loss at or below the other method's lowest (FDS's own lowest where it has none such)",
    ),
}


def level_table(contests: Sequence[Raced], at: At) -> Table:
    """Seconds to a level, seed by seed."""
    title, level = LEVELS[at]
    rows = [
        (
            f"{raced.title}: {method_styles(raced.rows)[method].heading}",
            ", ".join(number(x.level) for x in found.values()),
            ", ".join(_time_text(x.fds, x.fds_end) for x in found.values()),
            ", ".join(_time_text(x.rival, x.rival_end) for x in found.values()),
            ", ".join("–" if x.factor is None else x.factor.text for x in found.values()),
            "–" if (median := median_factor([x.factor for x in found.values()])) is None else median.text,
        )
        for raced in contests
        for method in raced.rivals
        for found in [meetings(raced, method, at)]
    ]
    return Table(
        title,
        ("FDS against", "validation loss", "FDS after", "the other after", "times sooner", "median"),
        tuple(rows),
        f"Seed by seed: {level}, when each had it first, and the ratio. "
        "Processor seconds of one core. “Not within N s”: the run ended after N seconds without; the ratio is then a "
        "bound, and so is a median that the unknown could move.",
    )


def _time_text(time: float | None, end: float) -> str:
    return f"not within {seconds(end)}" if time is None else seconds(time)


def final_table(contests: Sequence[Raced]) -> Table:
    """What each method had at its end, and what its choice is worth when it is trained again."""
    rows = [
        (
            f"{raced.title}: {method_styles(raced.rows)[method].heading}",
            ", ".join(str(len(run)) for run in runs.values()),
            ", ".join(seconds(run[-1].seconds) for run in runs.values()),
            seconds(float(np.mean([run[-1].searching for run in runs.values()]))),
            str(sum(bool(row.model_based) for run in runs.values() for row in run)),
            ", ".join(number(best_loss(run)) for run in runs.values()),
            *_again(raced.confirmed.get(method, {})),
        )
        for raced in contests
        for method, runs in raced.rows.items()
    ]
    columns = ("method", "evaluations", "seconds", "of them searching", "picked by a model", "validation loss")
    return Table(
        "At the end, and trained again",
        (*columns, "again", "on the test examples"),
        tuple(rows),
        "Seed by seed. What was found is the lowest of many noisy losses; “again” is the mean over fresh seeds of the "
        "same values, off the clock. Test scores, likewise: loss, accuracy, and for hyper-cleaning F1 of the examples "
        "found to be wrong; means over all seeds.",
    )


def _again(confirmed: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[str, str]:
    if not confirmed:
        return "–", "–"
    means = [_mean([entry["validation_loss"] for entry in entries]) for entries in confirmed.values()]
    every = [entry["scores"] for entries in confirmed.values() for entry in entries]
    shown = [number(_mean([scores[name] for scores in every])) for name in every[0]]
    return ", ".join(number(mean) for mean in means), ", ".join(shown)


def _mean(values: Sequence[float | None]) -> float:
    """Infinite where a training diverged."""
    return float(np.mean([math.inf if value is None else value for value in values]))


# ----------------------------------------------------------------------------------------------------- figure


@dataclass(frozen=True)
class RaceLine:
    """One run: its lowest validation loss so far.

    Attributes:
        style: The method's.
        seconds: On the clock after each evaluation [E].
        losses: Lowest validation loss so far, finite [E].
    """

    style: MethodStyle
    seconds: FloatArray
    losses: FloatArray


@dataclass(frozen=True)
class RacePanel:
    """One contest.

    Attributes:
        title: Of the contest.
        lines: One per run.
    """

    title: str
    lines: tuple[RaceLine, ...]


def race_panels(contests: Sequence[Raced]) -> list[RacePanel]:
    """A panel per contest."""
    return [
        RacePanel(f"{raced.title}, K = {raced.dimensions:,}", tuple(_lines(raced)))
        for raced in contests
        if _lines(raced)
    ]


def _lines(raced: Raced) -> list[RaceLine]:
    styles = method_styles(raced.rows)
    lines = []
    for method, runs in raced.rows.items():
        for run in runs.values():
            points = [(row.seconds, best_loss(run[: i + 1])) for i, row in enumerate(run)]
            kept = [point for point in points if math.isfinite(point[1])]
            if kept:
                lines.append(RaceLine(styles[method], *np.array(kept).T))
    return lines


def draw_races(panels: Sequence[RacePanel]) -> Figure:
    """A thin line per run."""
    room = label_width(line.style.short for panel in panels for line in panel.lines)
    return draw_grid(panels, _draw_race, columns=3, size=(4.6, 3.4), left_margin=0.75, right_margin=room)


def _draw_race(axes: Axes, panel: RacePanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel("processor seconds")
    axes.set_ylabel("lowest validation loss so far")
    losses = np.concatenate([line.losses for line in panel.lines])
    times = np.concatenate([line.seconds for line in panel.lines])
    lowest, worst_end = float(losses.min()), max(float(line.losses[-1]) for line in panel.lines)
    plain_log_axis(axes, lowest / 1.1, min(float(losses.max()), lowest * SHOWN, worst_end * ABOVE_ENDS) * 1.1)
    axes.set_xscale("log")
    axes.set_xlim(float(times.min()) / 1.2, float(times.max()) * 1.2)
    ends: dict[str, list[tuple[float, MethodStyle]]] = {}
    for line in panel.lines:
        style = line.style
        axes.step(line.seconds, line.losses, where="post", color=style.color, ls=style.line, lw=1.0)
        ends.setdefault(style.short, []).append((float(line.losses[-1]), style))
    middles = [sorted(found, key=lambda end: end[0])[len(found) // 2] for found in ends.values()]
    label_line_ends(axes, [(loss, style.short, style.color) for loss, style in middles])
