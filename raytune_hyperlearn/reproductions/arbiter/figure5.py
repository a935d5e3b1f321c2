"""[Arbiter] figure 5: does Arbiter slow down how hypergradient descent decays the learning rate?

SGD-HD and Adam-HD learn the learning rate greedily, one step ahead, and so lower it early (short-horizon bias). Larger
batches have calmer gradients, which disagree less from step to step: the rate decays less. The paper lets Arbiter
choose the batch sizes and sees less decay and a lower validation error.

Three other explanations must be ruled out. A larger batch makes fewer updates in an epoch, so the rate has fewer
occasions to decay: rates are compared after equally many updates, and after equally many epochs as well. Most of the
decay may come before Arbiter's first decision, where a control that begins with another batch or network differs
without any merit: what is compared is the share of the rate that is kept from the first decision on. And any larger
batch calms the gradients, whoever chose it: the controls show what is left for Arbiter.

At small scale a part of the labels is wrong. Without, a small network fits the training part within a few epochs, the
gradients vanish and the rate stands still before Arbiter has decided anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.arbiter.directions import Direction, Start, sign_test
from raytune_hyperlearn.reproductions.arbiter.judgement import (
    Judged,
    all_hold,
    judge,
    judge_variants,
    of_final,
    table,
    variants_verdict,
    verdicts,
)
from raytune_hyperlearn.reproductions.arbiter.panels import BandPanel, band, draw_panels, epoch_panel, padded
from raytune_hyperlearn.reproductions.arbiter.trainings import (
    ARBITER,
    CIFAR,
    DIGITS,
    HELPING,
    METHODS,
    WITHOUT,
    Setting,
    Training,
    Trajectories,
    Trajectory,
    family,
    numbers,
    train_all,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

OPTIMIZERS = {"sgd-hd": "SGD-HD", "adam-hd": "Adam-HD"}
NEGLIGIBLE = 0.1
"""A learning rate below this share of its start counts as negligible."""
POINTS = 400
"""Drawn of each line at most."""


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        setting: Data and agent.
        learning_rate: η at the start.
        batch_size: B_0.
        hyper_rate: β.
        variants: Names of :data:`HELPING`.
    """

    setting: Setting
    learning_rate: float
    batch_size: int
    hyper_rate: float
    variants: tuple[str, ...] = tuple(HELPING)

    def changed(self) -> dict[str, str]:
        """Each optimizer's group with each changed agent, by its group with the agent as published."""
        return {f"{group}, {name}": group for group in OPTIMIZERS.values() for name in self.variants}


NOISY_DIGITS = replace(DIGITS, wrong_labels=0.2)
# β on digits is the least of 1e-4, 3e-4 and 1e-3 that lowers the rate of both optimizers without Arbiter.
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(replace(NOISY_DIGITS, epochs=4, seeds=1), 0.1, 32, 3e-4, ("window",)),
    "small": Settings(NOISY_DIGITS, 0.1, 32, 3e-4),
    "paper": Settings(CIFAR, 0.1, 128, 1e-4),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains, judges, draws."""
    settings = SETTINGS[scale]
    return findings(settings, train_all(settings.setting, trainings(settings), output / "trainings", console))


def trainings(settings: Settings) -> list[Training]:
    """Arbiter and its controls with both optimizers, then each changed agent."""
    planned = []
    for optimizer, group in OPTIMIZERS.items():
        variants = {f"{group}, {name}": HELPING[name] for name in settings.variants}
        for name, agent in {group: {}, **variants}.items():
            methods = tuple(METHODS) if name == group else (ARBITER,)
            planned += family(
                settings.setting,
                name,
                settings.learning_rate,
                settings.batch_size,
                methods,
                agent,
                optimizer=optimizer,
                hyper_rate=settings.hyper_rate,
            )
    return planned


def less_kept(arbiter: Trajectory, control: Trajectory) -> float:
    """The control's share of the learning rate kept since the first decision, minus Arbiter's.

    Both from the same update, the end of Arbiter's first epoch, to the last update that both made.
    """
    own, other = finite_rates(arbiter), finite_rates(control)
    last = min(len(own), len(other)) - 1
    first = min(int(arbiter.series["updates"][0]) - 1, last)
    return kept(other, first, last) - kept(own, first, last)


def less_left(arbiter: Trajectory, control: Trajectory) -> float:
    """The same at the end of training, after equally many epochs and so, at other batch sizes, other updates."""
    own, other = finite_rates(arbiter), finite_rates(control)
    first = min(int(arbiter.series["updates"][0]), len(own), len(other)) - 1
    return kept(other, first, len(other) - 1) - kept(own, first, len(own) - 1)


def kept(rates: FloatArray, first: int, last: int) -> float:
    """The learning rate after the update ``last`` as a share of that after ``first``; 0 where nothing was left then."""
    return float(rates[last] / rates[first]) if rates[first] > 0 else 0.0


def finite_rates(trajectory: Trajectory) -> FloatArray:
    """The learning rates up to the first that is not finite, where the training diverged."""
    broken = np.flatnonzero(~np.isfinite(trajectory.learning_rates))
    return trajectory.learning_rates[: broken[0]] if broken.size else trajectory.learning_rates


def findings(settings: Settings, trajectories: Trajectories) -> Findings:
    """Verdicts, figure and tables from the trajectories."""
    main = {group: trajectories[group] for group in OPTIMIZERS.values()}
    error = of_final("validation_accuracy", -1.0)
    by_rate, by_end, by_error = (judge(main, difference) for difference in (less_kept, less_left, error))
    slower = (
        "Once Arbiter chooses, both optimizers' learning rates decay more slowly, update by update, than without it"
    )
    higher = (
        "At the end of training, after equally many epochs, more is left of both learning rates than without Arbiter"
    )
    better = "With both optimizers Arbiter gives a lower validation error than training without it"
    return Findings(
        settings={**asdict(settings), "methods": list(METHODS)},
        verdicts=(
            _decays(settings, main),
            _grows(settings, main),
            *verdicts(by_rate, slower, "no control slows the decay as much"),
            *verdicts(by_end, higher, "no control leaves as much"),
            _fluctuations(by_rate),
            *verdicts(by_error, better, "no control gives as low a validation error"),
            variants_verdict(
                judge_variants(trajectories, settings.changed(), less_kept),
                "the learning rate decays more slowly than without Arbiter",
            ),
            variants_verdict(
                judge_variants(trajectories, settings.changed(), error),
                "validation error is lower than without Arbiter",
            ),
        ),
        figures=(
            Drawn(
                "learning-rates",
                "Learning rate by update, batch size and validation error by epoch",
                draw_panels([panel for group in main for panel in _panels(settings, group, main[group])], columns=3),
                "Medians over seeds; bands are quartiles, of Arbiter and of training without it. The vertical line is "
                "where Arbiter begins to choose; the dotted one the middle of the range of batch sizes. A line of "
                "learning rates ends where half of its seeds have ended.",
            ),
        ),
        tables=(
            _rate_table(main),
            table(
                by_rate,
                "Share of the learning rate kept",
                "Control − Arbiter, paired by seed: from the first decision to the last update that both made.",
            ),
            table(
                by_end, "Share of the learning rate left at the end", "Control − Arbiter, from the first decision on."
            ),
            table(by_error, "Final validation error", "Arbiter − control, paired by seed: a share of the examples."),
            table(
                judge(main, of_final("test_accuracy", -1.0)),
                "Final test error",
                "Arbiter − control, paired by seed: a share of the examples. Test labels are right; nothing was chosen "
                "by them.",
            ),
        ),
        numbers={"series": numbers(trajectories), "learning_rates_by_epoch": _rates_by_epoch(trajectories)},
    )


def _decays(settings: Settings, main: Trajectories) -> Verdict:
    shares, sentences = [], []
    for group, methods in main.items():
        ends = (
            np.array([finite_rates(trajectory)[-1] for trajectory in methods[WITHOUT].values()])
            / settings.learning_rate
        )
        first = (
            np.array([_after_epoch(trajectory, 0) for trajectory in methods[WITHOUT].values()]) / settings.learning_rate
        )
        shares.append(float(np.median(ends)))
        sentences.append(
            f"{group}: {number(100 * float(np.median(first)))} % of its start after one epoch, "
            f"{number(100 * shares[-1])} % at the end."
        )
    return Verdict(
        "Without Arbiter the learning rate decays to near negligible values (below a tenth of its start).",
        " ".join(sentences),
        max(shares) < NEGLIGIBLE,
    )


def _grows(settings: Settings, main: Trajectories) -> Verdict:
    span = settings.setting.min_batch_size, settings.setting.max_batch_size
    directions = [
        Direction.of(Start(group, settings.learning_rate, settings.batch_size, span, grows=True), methods[ARBITER])
        for group, methods in main.items()
    ]
    return Verdict(
        "Arbiter enlarges the batch, which reduces the gradients' variance.",
        " ".join(one.sentence for one in directions)
        + " The start lies below the middle, so this experiment alone cannot tell a wish for larger batches from the "
        "pull towards the middle; figure 3's can.",
        all_hold([sign_test(one.as_expected, one.count) for one in directions]),
    )


def _fluctuations(by_rate: Sequence[Judged]) -> Verdict:
    """A constant batch of the same mean does not fluctuate: where more of its rate is kept, fluctuations cost rate."""
    own = [one for one in by_rate if one.control == "arbiter-constant-mean"]
    slower = [None if one.better is None else not one.better for one in own]
    return Verdict(
        "Fluctuations of the batch size speed up the decay: with a constant batch of the same mean it is slower.",
        " ".join(one.sentence for one in own),
        all_hold(slower),
    )


def _panels(settings: Settings, group: str, methods: Mapping[str, Mapping[int, Trajectory]]) -> list[BandPanel]:
    middle = (settings.setting.min_batch_size + settings.setting.max_batch_size) / 2
    starts = float(np.median([trajectory.series["updates"][0] for trajectory in methods[ARBITER].values()]))
    return [
        _rate_panel(group, methods, starts),
        epoch_panel(
            "Batch size", "batch size", methods, lambda trajectory: trajectory.sizes, ((middle, "middle"),), (2.0,)
        ),
        epoch_panel("Validation error", "validation error", methods, _error, (), (2.0,)),
    ]


def _rate_panel(group: str, methods: Mapping[str, Mapping[int, Trajectory]], starts: float) -> BandPanel:
    lines = []
    for method, seeds in methods.items():
        rows = padded([trajectory.learning_rates for trajectory in seeds.values()])
        rows = rows[:, np.isfinite(rows).mean(axis=0) >= 0.5]
        places = np.unique(np.linspace(0, rows.shape[1] - 1, min(POINTS, rows.shape[1])).astype(int))
        lines.append(band(method, places + 1.0, rows[:, places]))
    return BandPanel(group, "update", "learning rate", tuple(lines), (), (starts,))


def _error(trajectory: Trajectory) -> FloatArray:
    return 1.0 - trajectory.series["validation_accuracy"]


def _after_epoch(trajectory: Trajectory, epoch: int) -> float:
    """The learning rate after an epoch; NaN where the training had diverged."""
    last = int(trajectory.series["updates"][: epoch + 1].sum()) - 1
    return float(trajectory.learning_rates[last]) if last < len(trajectory.learning_rates) else math.nan


def _rates_by_epoch(trajectories: Trajectories) -> dict[str, list[float]]:
    return {
        trajectory.training.name: [_after_epoch(trajectory, epoch) for epoch in range(len(trajectory.sizes))]
        for methods in trajectories.values()
        for seeds in methods.values()
        for trajectory in seeds.values()
    }


def _rate_table(main: Trajectories) -> Table:
    rows = []
    for group, methods in main.items():
        for method, seeds in methods.items():
            ends = [finite_rates(trajectory)[-1] for trajectory in seeds.values()]
            sizes = [trajectory.sizes.mean() for trajectory in seeds.values()]
            updates = [trajectory.series["updates"].sum() for trajectory in seeds.values()]
            errors = [_error(trajectory)[-1] for trajectory in seeds.values()]
            medians = [number(float(np.median(values))) for values in (ends, sizes, updates, errors)]
            rows.append((group, METHOD_STYLES[method].label, *medians))
    return Table(
        "At the end of training",
        ("optimizer", "method", "learning rate", "mean batch size", "updates", "validation error"),
        tuple(rows),
        "Medians over seeds.",
    )
