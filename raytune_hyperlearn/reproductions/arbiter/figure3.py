"""[Arbiter] figure 3: does Arbiter find the batch size that the dynamics call for, and does that lower the loss?

The paper trains from two starts: large steps with small batches (stochastic), from which the batch size ought to grow,
and small steps with large batches (non-stochastic), from which it ought to shrink. Both happen; but the first start
lies below the middle of the range [B_min, B_max] and the second above it. The middle is what the logit s = 0 stands
for, where the gate of the features is open and does nothing, so the outer loss may draw s there by itself. To tell the
two apart, Arbiter is also started

- from each side with the other step size,
- with B_max moved, so that the middle lies on the other side of the same start,
- with its response Φ at zero, which draws s nowhere at first,
- without Adam's weight decay, which draws the agent's output to 0 as well,

and with what might help it to see the dynamics: gradient statistics as the agent's input, decisions over a window of
samples, and a longer time between decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.arbiter.directions import Direction, Start, draw_directions, sign_test
from raytune_hyperlearn.reproductions.arbiter.judgement import (
    all_hold,
    judge,
    of_final,
    table,
    verdicts,
)
from raytune_hyperlearn.reproductions.arbiter.panels import BandPanel, draw_panels, epoch_panel
from raytune_hyperlearn.reproductions.arbiter.trainings import (
    ARBITER,
    CIFAR,
    DIGITS,
    FASHION,
    HELPING,
    METHODS,
    SHOWN,
    Setting,
    Training,
    Trajectories,
    family,
    numbers,
    train_all,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "Φ at zero": {"response_scale": 0.0},
    "no weight decay": {"weight_decay": 0.0},
    **HELPING,
}
"""Changes to the agent: two that test why it goes where it goes, three that might help it to see the dynamics."""


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        setting: Agent and data, but for the problem.
        problems: Trained one after the other; the changed starts on the first of them.
        learning_rates: η of the stochastic start and of the other.
        batch_sizes: B_0 of the two.
        moved: B_max for each that moves the middle to the other side of B_0.
        variants: Names of :data:`VARIANTS`, each tried from both B_0 with both η.
        variant_seeds: Seeds of each of these four.
    """

    setting: Setting
    problems: tuple[str, ...]
    learning_rates: tuple[float, float]
    batch_sizes: tuple[int, int]
    moved: tuple[int, int]
    variants: tuple[str, ...] = tuple(VARIANTS)
    variant_seeds: int = 4

    def main(self, problem: str) -> list[Start]:
        """The paper's two starts."""
        rates, sizes = self.learning_rates, self.batch_sizes
        return [self._start(problem, rates[i], sizes[i]) for i in range(2)]

    def changed(self) -> list[Start]:
        """The starts that tell the dynamics from the place in the range, and the variants."""
        first, rates, sizes = self.problems[0], self.learning_rates, self.batch_sizes
        crossed = [self._start(first, rates[i], sizes[1 - i]) for i in range(2)]
        moved = [self._start(first, rates[i], sizes[i], max_batch_size=self.moved[i]) for i in range(2)]
        varied = [self._start(first, rate, size, name) for name in self.variants for size in sizes for rate in rates]
        return [*crossed, *moved, *varied]

    def _start(self, problem: str, rate: float, size: int, variant: str = "", max_batch_size: int = 0) -> Start:
        span = self.setting.min_batch_size, max_batch_size or self.setting.max_batch_size
        named = problem if len(self.problems) > 1 else ""
        return Start(named, rate, size, span, rate == self.learning_rates[0], bool(max_batch_size), variant)


SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(
        replace(DIGITS, epochs=4, seeds=1), ("digits",), (0.1, 0.01), (32, 100), (40, 300), ("Φ at zero",), 1
    ),
    "small": Settings(DIGITS, ("digits",), (0.1, 0.01), (32, 100), (40, 300)),
    "medium": Settings(FASHION, ("fashion-mnist",), (0.1, 0.01), (128, 400), (160, 1000), variants=()),
    "paper": Settings(
        replace(CIFAR, problem=""),
        ("cifar10-vgg11", "cifar10-wrn16-4", "cifar100-vgg11", "cifar100-wrn16-4"),
        (0.1, 0.01),
        (128, 400),
        (160, 1000),
    ),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains, judges, draws."""
    settings = SETTINGS[scale]
    trajectories: dict[str, Any] = {}
    for problem in settings.problems:
        setting = replace(settings.setting, problem=problem)
        planned = [one for start in settings.main(problem) for one in _trainings(setting, start, tuple(METHODS))]
        if problem == settings.problems[0]:
            for start in settings.changed():
                seeds = settings.variant_seeds if start.variant else setting.seeds
                planned += _trainings(replace(setting, seeds=seeds), start, (ARBITER,))
        trajectories.update(train_all(setting, planned, output / problem, console))
    return findings(settings, trajectories)


def _trainings(setting: Setting, start: Start, methods: Sequence[str]) -> list[Training]:
    agent = {**VARIANTS.get(start.variant, {}), "max_batch_size": start.span[1]}
    return family(setting, start.group, start.learning_rate, start.batch_size, methods, agent)


def findings(settings: Settings, trajectories: Trajectories) -> Findings:
    """Verdicts, figures and tables from the trajectories."""
    main = [start for problem in settings.problems for start in settings.main(problem)]
    compared = {start.group: trajectories[start.group] for start in main}
    judged = judge(compared, of_final("validation_loss"))
    claim = "Arbiter's schedules give a lower validation loss than the constant batch size, from both starts"
    expected = [Direction.of(start, trajectories[start.group][ARBITER]) for start in main]
    changed = [Direction.of(start, trajectories[start.group][ARBITER]) for start in settings.changed()]
    return Findings(
        settings={**asdict(settings), "methods": list(METHODS)},
        verdicts=(
            _as_expected(expected),
            _dynamics_or_middle([*expected, *changed]),
            *(_needed(method, main, trajectories) for method in SHOWN),
            *(_variant(name, [one for one in changed if one.start.variant == name]) for name in settings.variants),
            *verdicts(judged, claim, "no control gives as low a validation loss"),
        ),
        figures=(
            Drawn(
                "trajectories",
                "Batch size, outer loss and validation loss by epoch",
                draw_panels([panel for start in main for panel in _panels(start, trajectories)], columns=3),
                "Medians over seeds; bands are quartiles, of Arbiter and of training without it. The dotted line is "
                "the middle of the range of batch sizes.",
            ),
            Drawn(
                "directions",
                "Where Arbiter's batch size goes",
                draw_directions([*expected, *changed]),
                "Ring: B₀. Dots: mean batch size of the last third of the epochs, one per seed; the arrow ends at "
                "their median. Bar: the range; tick: its middle. The paper expects the large step size to call for a "
                "larger batch, the small one for a smaller batch.",
            ),
        ),
        tables=(
            _direction_table([*expected, *changed]),
            _schedule_table(main, trajectories),
            table(
                judged, "Final validation loss", "Arbiter − control, paired by seed: negative where Arbiter is better."
            ),
        ),
        numbers=numbers(trajectories),
    )


def _as_expected(directions: Sequence[Direction]) -> Verdict:
    holds = [sign_test(one.as_expected, one.count) for one in directions]
    return Verdict(
        "The batch size grows from the stochastic start and shrinks from the non-stochastic one.",
        " ".join(one.sentence for one in directions),
        all_hold(holds),
    )


def _dynamics_or_middle(directions: Sequence[Direction]) -> Verdict:
    """Over the starts with the agent as published where the paper and the middle call for opposite directions."""
    telling = [one for one in directions if one.start.tells_apart and not one.start.variant]
    expected, middle, count = (
        sum(getattr(one, name) for one in telling) for name in ("as_expected", "to_the_middle", "count")
    )
    return Verdict(
        "Beyond the paper: it is the step size that decides this, not on which side of the range's middle the start "
        "lies.",
        f"In the {len(telling)} starts where the two call for opposite directions, the batch size went where the step "
        f"size calls for in {expected} of {count} trainings, and towards the middle in {middle}.",
        sign_test(expected, count),
    )


def _needed(method: str, main: Sequence[Start], trajectories: Trajectories) -> Verdict:
    """Whether the direction is lost with a part of Arbiter taken away."""
    whole = [Direction.of(start, trajectories[start.group][ARBITER]) for start in main]
    without = [Direction.of(start, trajectories[start.group][method]) for start in main]
    expected, count = sum(one.as_expected for one in without), sum(one.count for one in without)
    own = sign_test(sum(one.as_expected for one in whole), count)
    lost = sign_test(expected, count)
    what = {"arbiter-frozen": "a response that is learned", "arbiter-noise": "validation data for the agent"}[method]
    return Verdict(
        f"Beyond the paper: to go there, Arbiter needs {what}.",
        f"Without, the batch size went there in {expected} of {count} trainings: "
        + " ".join(one.sentence for one in without),
        None if own is not True or lost is None else not lost,
    )


def _variant(name: str, directions: Sequence[Direction]) -> Verdict:
    """Over all four starts: a pull towards the middle, or away from it, meets what is expected in half of them."""
    expected, middle, count = (
        sum(getattr(one, name) for one in directions) for name in ("as_expected", "to_the_middle", "count")
    )
    by_size: dict[int, list[Direction]] = {}
    for one in directions:
        by_size.setdefault(one.start.batch_size, []).append(one)
    differences = np.concatenate([large.late - small.late for large, small in by_size.values()])
    higher = int((differences > 0).sum())
    place_decides = sign_test(middle, count) is not None
    return Verdict(
        f"Beyond the paper: with the variant “{name}” the batch size goes where the step size calls for, from both "
        "sides of the middle.",
        f"It did in {expected} of {count} trainings, and went towards the middle in {middle}: "
        + " ".join(one.sentence for one in directions)
        + f" From the same start and seed the larger step size led to the larger batch in {higher} of "
        f"{len(differences)} pairs (median difference {number(round(float(np.median(differences)), 6))}).",
        False if place_decides else sign_test(expected, count),
    )


def _panels(start: Start, trajectories: Trajectories) -> list[BandPanel]:
    methods = trajectories[start.group]
    learning = {name: methods[name] for name in (ARBITER, *SHOWN)}
    name = start.group
    return [
        epoch_panel(name, "batch size", methods, lambda trajectory: trajectory.sizes, ((start.middle, "middle"),)),
        epoch_panel("Outer loss F", "outer loss", learning, lambda trajectory: trajectory.series["outer_loss"]),
        epoch_panel(
            "Validation loss", "validation loss", methods, lambda trajectory: trajectory.series["validation_loss"]
        ),
    ]


def _direction_table(directions: Sequence[Direction]) -> Table:
    rows = [
        (
            one.start.group,
            f"{one.start.span[0]} to {one.start.span[1]}",
            number(one.start.middle),
            number(float(np.median(one.late))),
            "grows" if one.start.grows else "shrinks",
            f"{one.as_expected} of {one.count}",
            f"{one.to_the_middle} of {one.count}",
        )
        for one in directions
    ]
    return Table(
        "Where Arbiter's batch size goes",
        ("start", "range", "middle", "late batch size", "expected", "as expected", "towards the middle"),
        tuple(rows),
        "Late batch size: mean of the last third of the epochs, median over seeds. Expected of the step size: that the "
        "batch size grows with the large one and shrinks with the small one.",
    )


def _schedule_table(main: Sequence[Start], trajectories: Trajectories) -> Table:
    """How far the controls' schedules are from Arbiter's, beside how far Arbiter's are from each other."""
    rows = []
    for start in main:
        own = trajectories[start.group][ARBITER]
        seeds = sorted(own)
        others = [own[a].sizes - own[b].sizes for a in seeds for b in seeds if a < b]
        cells = {"Arbiter from another seed": others}
        for method in SHOWN:
            control = trajectories[start.group][method]
            cells[method] = [own[seed].sizes - control[seed].sizes for seed in seeds]
        distances = [number(float(np.mean(np.abs(ds)))) if len(ds) else "–" for ds in cells.values()]
        rows.append((start.group, *distances))
    return Table(
        "How far schedules are from Arbiter's",
        ("start", "Arbiter, another seed", "frozen response, same seed", "noise, same seed"),
        tuple(rows),
        "Mean absolute difference of the batch size over epochs and seeds.",
    )
