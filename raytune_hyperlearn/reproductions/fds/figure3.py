"""[FDS] figure 3: what greediness and missing sharing do to the learning rates that are learned.

LeNet trains for one epoch. A learning rate for every step (greedy: from the loss right after the step; unshared: from
the loss at the end) or for every window of steps (FDS) is learned from zero by the same sign updates over the same
number of outer steps, each with a new initialization, data order and split. What each learns is then trained with
again, with seeds that are new to all, beside a cosine from the best of a few usual learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.comparison.reporting.drawing import INK, draw_grid, light_grid
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, MethodStyle
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.training_figures import TrainingLine, TrainingPanel, draw_training
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.fds.lenet_training import LeNetTraining, Setting
from raytune_hyperlearn.reproductions.fds.outer_loops import (
    LEARNED,
    ByMethod,
    Learned,
    Settings,
    learn_all,
    less,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

STYLES: Mapping[str, MethodStyle] = {
    "greedy": MethodStyle("greedy, horizon 1", "greedy", "#CC79A7", (0, (5, 1.5)), "X"),
    "unshared": MethodStyle("non-greedy, unshared", "unshared", "#0072B2", (0, (1, 1.2)), "s"),
    "fds": METHOD_STYLES["fds"],
    "cosine": MethodStyle("cosine", "cosine", "#666666", (0, (6, 1.5, 1, 1.5)), "D"),
}
MUCH = 2.0
"""A mean learning rate so many times another's is much higher."""


SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings((Setting("fashion-mnist", 1_500, 200, 0),), 6, 5, step=0.05, retrainings=2),
    "small": Settings((Setting("fashion-mnist", 8_000, 400, 0), Setting("cifar10", 8_000, 400, 0)), 12, 6),
    "medium": Settings((Setting("fashion-mnist", 0, 1_000, 0), Setting("cifar10", 0, 1_000, 0)), 25, 10),
    "paper": Settings((Setting("mnist", 0, 3_000, 0), Setting("svhn", 0, 3_663, 0)), 50, 10, retrainings=20),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Learns on each set of data what the folder does not hold yet, trains again, judges, draws."""
    settings = SETTINGS[scale]
    trainings = [LeNetTraining(setting) for setting in settings.settings]  # missing data are an error before all else
    by_data = {}
    with Bar(console) as bar:
        for setting, training in zip(settings.settings, trainings, strict=True):
            by_data[setting.data] = learn_all(training, settings, output / f"{setting.data}.jsonl", bar)
    return findings(by_data, settings)


def findings(by_data: Mapping[str, ByMethod], settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    simple, real = next(iter(by_data)), list(by_data)[-1]
    return Findings(
        settings=asdict(settings),
        verdicts=(
            _too_small(by_data),
            _poor(by_data),
            _works(simple, by_data[simple]),
            _degrades(real, by_data[real]),
            _beats_cosine(real, by_data[real]),
        ),
        figures=(
            Drawn(
                "schedules",
                "Learned learning rates",
                draw_schedules(schedule_panels(by_data)),
                "Thin: the schedule of every outer step, the later the darker. Thick: that of the best outer step by "
                "validation loss. Broken: the best cosine.",
            ),
            Drawn(
                "outer-steps",
                "Loss and learning rates over the outer steps",
                draw_training(outer_panels(by_data)),
                "Validation loss of the training that was differentiated, on that outer step's own split, and the mean "
                "of its learning rates. The first outer step trains with learning rates of zero.",
            ),
        ),
        tables=(_table(by_data),),
        numbers={
            data: {
                method: {
                    "rates": own.rates,
                    "losses": own.losses.tolist(),
                    "best": own.best,
                    "retrained": [asdict(scores) for scores in own.retrained],
                }
                for method, own in by_method.items()
            }
            for data, by_method in by_data.items()
        },
    )


def _all(answers: Sequence[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True


def _losses(by_method: ByMethod, *methods: str) -> str:
    return ", ".join(
        f"{STYLES[method].short} {_shown(by_method[method].mean('validation_loss'))}" for method in methods
    )


def _shown(value: tuple[float, float]) -> str:
    mean, error = value
    return "diverged" if math.isinf(mean) else f"{number(mean)} ± {number(error)}"


def _too_small(by_data: Mapping[str, ByMethod]) -> Verdict:
    parts = [
        f"{data}: mean {number(by_method['greedy'].mean_rate)}, FDS {number(by_method['fds'].mean_rate)}, best cosine "
        f"{number(by_method['cosine'].mean_rate)}"
        for data, by_method in by_data.items()
    ]
    smaller = all(
        by_method["greedy"].mean_rate < min(by_method["fds"].mean_rate, by_method["cosine"].mean_rate)
        for by_method in by_data.values()
    )
    return Verdict("Greedy learning rates are always too small.", f"{'; '.join(parts)}.", smaller)


def _poor(by_data: Mapping[str, ByMethod]) -> Verdict:
    parts = [f"{data}: {_losses(by_method, 'greedy', 'fds')}" for data, by_method in by_data.items()]
    return Verdict(
        "Greedy optimization leads to poor solutions.",
        f"Validation losses, trained again: {'; '.join(parts)}.",
        _all([less(by_method["fds"], by_method["greedy"]) for by_method in by_data.values()]),
    )


def _works(data: str, by_method: ByMethod) -> Verdict:
    worse = less(by_method["cosine"], by_method["unshared"])
    return Verdict(
        f"Non-greedy learning without sharing works well on simple data (here {data}).",
        f"Validation losses, trained again: {_losses(by_method, 'unshared', 'cosine', 'fds')}.",
        not worse,
    )


def _degrades(data: str, by_method: ByMethod) -> Verdict:
    unshared, fds = by_method["unshared"], by_method["fds"]
    higher = unshared.mean_rate > MUCH * fds.mean_rate
    return Verdict(
        f"On real-world data (here {data}) it fails, converging to much higher learning rates than FDS.",
        f"Mean learning rates {number(unshared.mean_rate)} and {number(fds.mean_rate)}, highest "
        f"{number(max(unshared.chosen))} and {number(max(fds.chosen))}; validation losses, trained again: "
        f"{_losses(by_method, 'unshared', 'fds')}.",
        _all([higher, less(fds, unshared)]),
    )


def _beats_cosine(data: str, by_method: ByMethod) -> Verdict:
    return Verdict(
        f"FDS outperforms a reasonable cosine on real-world data (here {data}).",
        f"Validation losses, trained again: {_losses(by_method, 'fds', 'cosine')}; test accuracies "
        f"{_percent(by_method['fds'])} and {_percent(by_method['cosine'])}. The cosine is the best of those tried, "
        "chosen by the very losses that it is judged by.",
        less(by_method["fds"], by_method["cosine"]),
    )


def _percent(learned: Learned) -> str:
    mean, error = learned.mean("test_accuracy")
    return f"{100 * mean:.1f} ± {100 * error:.1f} %"


@dataclass(frozen=True)
class SchedulesPanel:
    """What one method learned on one set of data.

    Attributes:
        title: Of which.
        style: The method's.
        rates: Learning rates of every outer step [O][N].
        chosen: Those of the best outer step [N].
        cosine: The best cosine's [T].
        highest: Upper end of the axis, the same for all panels of the data.
    """

    title: str
    style: MethodStyle
    rates: list[list[float]]
    chosen: list[float]
    cosine: list[float]
    highest: float


def schedule_panels(by_data: Mapping[str, ByMethod]) -> list[SchedulesPanel]:
    """A panel per set of data and learning method."""
    panels = []
    for data, by_method in by_data.items():
        cosine_rates = by_method["cosine"].chosen
        highest = max(cosine_rates + [rate for method in LEARNED for rate in by_method[method].chosen])
        for method in LEARNED:
            own, style = by_method[method], STYLES[method]
            title = f"{data}: {style.label}"
            panels.append(SchedulesPanel(title, style, own.rates, own.chosen, cosine_rates, highest))
    return panels


def draw_schedules(panels: Sequence[SchedulesPanel]) -> Figure:
    """Thin: every outer step, the later the darker; thick: the best; broken: the cosine."""
    return draw_grid(panels, _draw_schedules, columns=3, size=(4.3, 3.2), left_margin=0.75, right_margin=0.2)


def _draw_schedules(axes: Axes, panel: SchedulesPanel) -> None:
    light_grid(axes)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel("fraction of the training")
    axes.set_ylabel("learning rate")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.25 * panel.highest or 1.0)
    for index, rates in enumerate(panel.rates, start=1):
        alpha = 0.1 + 0.5 * index / len(panel.rates)
        axes.plot(*_stairs(rates), drawstyle="steps-post", color=panel.style.color, lw=0.7, alpha=alpha)
    axes.plot(*_stairs(panel.chosen), drawstyle="steps-post", color=panel.style.color, lw=2.4, label=panel.style.short)
    axes.plot(*_stairs(panel.cosine), color=INK, ls=(0, (4, 2)), lw=1.2, label="cosine")
    axes.legend(loc="upper right", frameon=False, fontsize=8, ncols=2)


def _stairs(rates: list[float]) -> tuple[FloatArray, list[float]]:
    return np.linspace(0, 1, len(rates) + 1), [*rates, rates[-1]]


def outer_panels(by_data: Mapping[str, ByMethod]) -> list[TrainingPanel]:
    """Validation loss and mean learning rate by outer step."""
    panels = []
    for data, by_method in by_data.items():
        losses, rates = [], []
        for method in LEARNED:
            own, style = by_method[method], STYLES[method]
            steps = 1.0 + np.arange(len(own.losses), dtype=np.float64)
            seen = np.isfinite(own.losses)
            losses.append(TrainingLine(style, steps[seen], own.losses[seen]))
            means = np.array([np.mean(values) for values in own.rates])
            rates.append(TrainingLine(style, steps[means > 0], means[means > 0]))
        panels.append(TrainingPanel(f"{data}: loss", "outer step", "validation loss", tuple(losses)))
        panels.append(TrainingPanel(f"{data}: rates", "outer step", "mean learning rate", tuple(rates)))
    return panels


def _table(by_data: Mapping[str, ByMethod]) -> Table:
    rows = [
        (
            f"{data}: {STYLES[method].label}",
            str(len(own.chosen)),
            "–" if method == "cosine" else f"{own.best + 1} of {len(own.losses)}",
            number(own.mean_rate),
            number(max(own.chosen)),
            _shown(own.mean("validation_loss")),
            _shown(own.mean("test_loss")),
            _percent(own),
        )
        for data, by_method in by_data.items()
        for method, own in by_method.items()
    ]
    columns = (
        "schedule",
        "values",
        "outer step",
        "mean rate",
        "highest",
        "validation loss",
        "test loss",
        "test accuracy",
    )
    return Table(
        "The learned schedules, trained again",
        columns,
        tuple(rows),
        "Means over new seeds ± standard errors. Differences are judged seed by seed, at two standard errors. The "
        "paper shows the schedules in a figure.",
    )
