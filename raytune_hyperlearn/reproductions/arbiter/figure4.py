"""[Arbiter] figure 4: does Arbiter, searching between the milestones of a fixed heuristic, find better batch sizes?

The heuristic doubles the batch size at milestones. Inside it, Arbiter starts from each milestone's batch size, warmed
up to it, and goes where its outer loss draws it. The paper sees smaller batches at first, larger ones for the rest, and
a higher test accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.arbiter.directions import sign_test
from raytune_hyperlearn.reproductions.arbiter.judgement import (
    all_hold,
    judge,
    judge_variants,
    of_final,
    table,
    variants_verdict,
    verdicts,
)
from raytune_hyperlearn.reproductions.arbiter.panels import draw_panels, epoch_panel
from raytune_hyperlearn.reproductions.arbiter.trainings import (
    ARBITER,
    CIFAR,
    DIGITS,
    HELPING,
    METHODS,
    SHOWN,
    Setting,
    Training,
    Trajectories,
    Trajectory,
    family,
    numbers,
    train_all,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        setting: Data and agent.
        learning_rate: η.
        heuristic: (epoch, batch size) pairs, the first at epoch 0.
        variants: Names of :data:`HELPING`.
    """

    setting: Setting
    learning_rate: float
    heuristic: tuple[tuple[int, int], ...]
    variants: tuple[str, ...] = tuple(HELPING)

    @property
    def group(self) -> str:
        """The heuristic in words."""
        return " → ".join(str(size) for _, size in self.heuristic)

    @property
    def periods(self) -> list[slice]:
        """The epochs between milestones."""
        edges = [epoch for epoch, _ in self.heuristic] + [self.setting.epochs]
        return [slice(first, end) for first, end in pairwise(edges)]


SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(replace(DIGITS, epochs=8, seeds=1), 0.05, ((0, 16), (2, 32), (4, 64), (6, 128)), ("window",)),
    "small": Settings(DIGITS, 0.05, ((0, 16), (2, 32), (4, 64), (8, 128))),
    "paper": Settings(CIFAR, 0.05, ((0, 64), (25, 128), (50, 256), (100, 512))),
}


@dataclass(frozen=True)
class Period:
    """Between two milestones, over seeds.

    Attributes:
        dictated: The heuristic's batch size.
        middle: Of the range of batch sizes.
        sizes: Mean batch size of the epochs after the first, which is the heuristic's, [n].
    """

    dictated: int
    middle: float
    sizes: FloatArray

    @property
    def larger(self) -> int:
        """Seeds with larger batches than the heuristic's."""
        return int((self.sizes > self.dictated).sum())

    @property
    def smaller(self) -> int:
        """Seeds with smaller batches than the heuristic's."""
        return int((self.sizes < self.dictated).sum())

    @property
    def to_the_middle(self) -> int:
        """Seeds on the middle's side of the heuristic's batch size."""
        return self.larger if self.middle > self.dictated else self.smaller

    @property
    def sentence(self) -> str:
        """The numbers."""
        count = len(self.sizes)
        side = f"larger in {self.larger}" if self.larger >= self.smaller else f"smaller in {self.smaller}"
        return f"{self.dictated}: {number(float(np.median(self.sizes)))}, {side} of {count}."


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains, judges, draws."""
    settings = SETTINGS[scale]
    return findings(settings, train_all(settings.setting, _trainings(settings), output / "trainings", console))


def _trainings(settings: Settings) -> list[Training]:
    """Arbiter and its controls, then each changed agent."""
    (_, start), *later = settings.heuristic
    milestones = [list(pair) for pair in later]
    common = settings.setting, settings.group, settings.learning_rate, start
    planned = family(*common, tuple(METHODS), milestones=milestones)
    for name in settings.variants:
        common = settings.setting, name, settings.learning_rate, start
        planned += family(*common, (ARBITER,), HELPING[name], milestones=milestones)
    return planned


def periods(settings: Settings, seeds: Mapping[int, Trajectory]) -> list[Period]:
    """What one method did between the milestones."""
    middle = (settings.setting.min_batch_size + settings.setting.max_batch_size) / 2
    return [
        Period(dictated, middle, np.array([trajectory.sizes[period][1:].mean() for trajectory in seeds.values()]))
        for period, (_, dictated) in zip(settings.periods, settings.heuristic, strict=True)
    ]


def findings(settings: Settings, trajectories: Trajectories) -> Findings:
    """Verdicts, figure and tables from the trajectories."""
    methods = trajectories[settings.group]
    own = periods(settings, methods[ARBITER])
    accuracy, loss = of_final("test_accuracy", -1.0), of_final("validation_loss")
    judged, by_loss = (judge({settings.group: methods}, difference) for difference in (accuracy, loss))
    varied = judge_variants(trajectories, dict.fromkeys(settings.variants, settings.group), accuracy)
    claim = "Arbiter's schedule gives a higher test accuracy than the fixed heuristic"
    moments = tuple(epoch + 1.0 for epoch, _ in settings.heuristic[1:])
    middle = ((own[0].middle, "middle"),)
    panels = [
        epoch_panel("Batch size", "batch size", methods, lambda trajectory: trajectory.sizes, middle, moments),
        *(
            epoch_panel(title, title.lower(), methods, partial(_series, name=name), (), moments)
            for title, name in (("Validation loss", "validation_loss"), ("Test accuracy", "test_accuracy"))
        ),
    ]
    return Findings(
        settings={**asdict(settings), "methods": list(METHODS)},
        verdicts=(
            _noisier_then_larger(own),
            _towards_the_middle(own),
            *_needed(settings, methods),
            *verdicts(judged, claim, "no control gives as high a test accuracy"),
            variants_verdict(varied, "test accuracy is higher than with the fixed heuristic"),
        ),
        figures=(
            Drawn(
                "heuristic",
                "Batch size, validation loss and test accuracy by epoch",
                draw_panels(panels, columns=3),
                "Medians over seeds; bands are quartiles, of Arbiter and of the heuristic without it. Vertical lines: "
                "the milestones. The dotted line is the middle of the range of batch sizes.",
            ),
        ),
        tables=(
            _period_table(settings, methods),
            table(
                judged,
                "Final test accuracy",
                "Control − Arbiter, paired by seed: negative where Arbiter is better. Nothing was chosen by it.",
            ),
            table(
                by_loss,
                "Final validation loss",
                "Arbiter − control, paired by seed: negative where Arbiter is better.",
            ),
        ),
        numbers=numbers(trajectories),
    )


def _series(trajectory: Trajectory, name: str) -> FloatArray:
    return trajectory.series[name]


def _noisier_then_larger(own: Sequence[Period]) -> Verdict:
    first, *later = own
    holds = [sign_test(first.smaller, len(first.sizes)), *(sign_test(one.larger, len(one.sizes)) for one in later)]
    return Verdict(
        "Arbiter chooses smaller batches than the heuristic at first, and larger ones for the rest.",
        "Between milestones, for each of the heuristic's batch sizes: " + " ".join(one.sentence for one in own),
        all_hold(holds),
    )


def _towards_the_middle(own: Sequence[Period]) -> Verdict:
    middle, count = sum(one.to_the_middle for one in own), sum(len(one.sizes) for one in own)
    off = sign_test(middle, count)
    return Verdict(
        "Beyond the paper: where it goes is not simply towards the middle of its range.",
        f"It went towards the middle ({number(own[0].middle)}) in {middle} of {count} periods and seeds.",
        None if off is None else not off,
    )


def _needed(settings: Settings, methods: Mapping[str, Mapping[int, Trajectory]]) -> list[Verdict]:
    own = periods(settings, methods[ARBITER])
    whats = ("a response that is learned", "validation data for the agent")
    found = []
    for method, what in zip(SHOWN, whats, strict=True):
        other = periods(settings, methods[method])
        same = sum(
            int((np.sign(a.sizes - a.dictated) == np.sign(b.sizes - b.dictated)).sum())
            for a, b in zip(own, other, strict=True)
        )
        count = sum(len(one.sizes) for one in own)
        lost = sign_test(same, count)
        found.append(
            Verdict(
                f"Beyond the paper: to go where it goes, Arbiter needs {what}.",
                f"Without, the batch size went the same way in {same} of {count} periods and seeds: "
                + " ".join(one.sentence for one in other),
                None if lost is None else not lost,
            )
        )
    return found


def _period_table(settings: Settings, methods: Mapping[str, Mapping[int, Trajectory]]) -> Table:
    rows = []
    for method in methods:
        cells = [number(float(np.median(one.sizes))) for one in periods(settings, methods[method])]
        rows.append((METHOD_STYLES[method].label, *cells))
    heads = [f"heuristic {dictated}" for _, dictated in settings.heuristic]
    return Table(
        "Batch size between milestones",
        ("method", *heads),
        tuple(rows),
        "Mean over the epochs of a period but its first, which is the heuristic's; median over seeds.",
    )
