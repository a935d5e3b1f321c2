"""[FDS] figure 4: the schedules that FDS learns from zero, beside those of hypergradient descent.

FDS learns five learning rates, a momentum and a weight decay over ten outer steps, each a training over the full
horizon. Hypergradient descent (HD) learns the three online, greedily, while one network trains. Both start at zero.
The paper does not tell how it chose HD's learning rate for hyperparameters; here several are tried and HD is given the
one with the lowest validation loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.comparison.running.cluster import local_ray
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.problems.references import reference_to
from raytune_hyperlearn.reproductions.fds.learned_values_figure import accuracy_panel, draw_learned, value_panels
from raytune_hyperlearn.reproductions.parts import cifar_images
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict
from raytune_hyperlearn.reproductions.trials import Row, run_trials
from raytune_hyperlearn.tune import FDSTrainable, HypergradientDescentTrainable
from raytune_hyperlearn.tune.retraining import RetrainingTrainable

CIFAR = "cifar10-wrn16-1"
PAPER_ACCURACY = 0.8933
"""Of a WRN-16-1 trained for 50 epochs with what FDS learned, mean of 20."""
AS_GOOD = 0.005
"""A test accuracy so far below the paper's still counts as reached."""
SETTLED = 0.01
"""The last outer step's test accuracy may lie so far below the best one's."""
CLEARLY = 2.0
"""Standard errors by which accuracies must differ."""
KEPT = (
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "hyperparameters",
    "status",
    "training_seconds",
)
SPACE = SearchSpace(
    learning_rate=LearningRate(values=5, step=0.1),
    momentum=Momentum(step=0.3),
    weight_decay=WeightDecay(step=4e-4, range=(0.0, 4e-3)),
)
"""The paper's, for ten outer steps from zero."""


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        problem: Its name or reference.
        epochs: Of every training.
        outer_steps: Of FDS.
        seeds: Of FDS and of each of HD's rates.
        retrainings: Of each schedule that FDS learned.
        hyper_rates: HD's learning rates for hyperparameters, relative to the width of each one's range.
        hypergradient_clamp: Bound on HD's hypergradients.
        product_clamp: Bound on H·Z of FDS.
    """

    problem: str
    epochs: float
    outer_steps: int
    seeds: int
    retrainings: int
    hyper_rates: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    hypergradient_clamp: float = 1.0
    product_clamp: float = 100.0


SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings("digits", 4, 6, 1, 2, hyper_rates=(1e-2, 1e-1)),
    "small": Settings("digits", 12, 10, 2, 5),
    "medium": Settings(reference_to(cifar_images), 6, 10, 3, 5),
    "paper": Settings(CIFAR, 50, 10, 1, 20),
}


@dataclass(frozen=True)
class Outcome:
    """What both methods did.

    Attributes:
        fds: Rows of FDS's outer steps, by seed.
        retrained: Test accuracies of every seed's best outer step, trained again.
        hd: Rows of HD's epochs by hyper rate, each by seed.
    """

    fds: tuple[list[Row], ...]
    retrained: tuple[list[float], ...]
    hd: Mapping[float, tuple[list[Row], ...]]

    @property
    def chosen(self) -> list[Row]:
        """Every seed's outer step with the lowest validation loss."""
        return [best(rows) for rows in self.fds]

    @property
    def hyper_rate(self) -> float:
        """The hyper rate with which HD's final validation loss is lowest on average."""
        return min(self.hd, key=lambda rate: np.mean([rows[-1]["validation_loss"] for rows in self.hd[rate]]))

    @property
    def descent(self) -> tuple[list[Row], ...]:
        """Rows of HD with that rate, by seed."""
        return self.hd[self.hyper_rate]

    def fds_mean(self, name: str) -> list[float]:
        """Mean over seeds of a schedule of the chosen outer steps."""
        return mean_schedule([row["hyperparameters"][name] for row in self.chosen])

    def hd_mean(self, name: str) -> list[float]:
        """Mean over seeds of HD's values by epoch."""
        return mean_schedule([rows[-1]["hyperparameters"][name] for rows in self.descent])


def best(rows: Sequence[Row]) -> Row:
    """The row with the lowest validation loss; a diverged one has an infinite loss."""
    return min(rows, key=lambda row: float(row["validation_loss"]))


def mean_schedule(schedules: Sequence[Sequence[float]]) -> list[float]:
    """Value by value, over as many as all of them have."""
    return [float(np.mean(values)) for values in zip(*schedules, strict=False)]


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Runs both methods, trains again with what FDS learned, compares, draws."""
    settings = SETTINGS[scale]
    load(settings.problem)  # missing data are an error before anything starts
    with local_ray():
        outcome = learn(settings, output, console)
    return findings(outcome, settings)


def learn(settings: Settings, output: Path, console: Console) -> Outcome:
    """Everything that is trained."""
    shared = {"problem": settings.problem, "epochs": settings.epochs, "space": SPACE.to_mapping()}
    options = {
        "outer_steps": settings.outer_steps,
        "product_clamp": settings.product_clamp,
        "stop_when_converged": False,
    }
    seeds = {f"seed {seed}": {"seed": seed} for seed in range(settings.seeds)}
    steps, epochs = settings.outer_steps, math.ceil(settings.epochs)
    fds = run_trials(FDSTrainable, shared | options, seeds, KEPT, steps, output / "fds", console, checkpoint_every=1)
    descents = {
        f"{rate:g}, {name}": {**seed, "hyper_rates": hyper_rates(rate, settings.hypergradient_clamp)}
        for rate in settings.hyper_rates
        for name, seed in seeds.items()
    }
    hd = run_trials(
        HypergradientDescentTrainable, shared, descents, KEPT, epochs, output / "hd", console, checkpoint_every=1
    )
    schedules = {name: {**seed, "hyperparameters": best(fds[name])["hyperparameters"]} for name, seed in seeds.items()}
    again = run_trials(
        RetrainingTrainable,
        shared | {"retrainings": settings.retrainings, "resplit": True},
        schedules,
        ("scores",),
        1,
        output / "retraining",
        console,
    )
    return Outcome(
        tuple(fds[name] for name in seeds),
        tuple([scores["test_accuracy"] for scores in again[name][-1]["scores"]] for name in seeds),
        {rate: tuple(hd[f"{rate:g}, {name}"] for name in seeds) for rate in settings.hyper_rates},
    )


def hyper_rates(rate: float, clamp: float) -> dict[str, float]:
    """HD's rates: a hyperparameter's is relative to the width of its range."""
    widths = {name: high - low for name, (low, high) in SPACE.ranges().items()}
    return {**{name: rate * widths[name] for name in HYPERPARAMETERS}, "hypergradient_clamp": clamp}


def findings(outcome: Outcome, settings: Settings) -> Findings:
    """Verdicts, figures and tables."""
    verdicts = [
        _converges(outcome, settings),
        _different(outcome),
        _better(outcome),
        _one_cycle(outcome),
    ]
    if settings.problem == CIFAR:
        verdicts.append(_level(outcome, settings))
    chosen = [row["hyperparameters"] for row in outcome.chosen]
    last = [rows[-1]["hyperparameters"] for rows in outcome.descent]
    outer = [[row["hyperparameters"] for row in rows] for rows in outcome.fds]
    panels = [
        *value_panels(HYPERPARAMETERS, outer, chosen, last),
        accuracy_panel(
            [[row["test_accuracy"] for row in rows] for rows in outcome.fds],
            float(np.mean([rows[-1]["test_accuracy"] for rows in outcome.descent])),
        ),
    ]
    return Findings(
        settings={**asdict(settings), "space": SPACE.to_mapping()},
        verdicts=tuple(verdicts),
        figures=(
            Drawn(
                "learned",
                "Learned hyperparameters, and accuracy by outer step",
                draw_learned(panels),
                "FDS: thin the values of every outer step, the later the darker, thick those of the best one by "
                f"validation loss. HD: the mean of every epoch, with its best hyper rate {outcome.hyper_rate:g}. One "
                "line per seed. Last panel: test accuracy of the training that was differentiated, and HD's at its "
                "end (broken).",
            ),
        ),
        tables=(_table(outcome, settings), _rates_table(outcome)),
        numbers={
            "fds": [[{key: row[key] for key in KEPT} for row in rows] for rows in outcome.fds],
            "retrained_test_accuracies": [list(own) for own in outcome.retrained],
            "hd": {f"{rate:g}": [rows[-1] for rows in by_seed] for rate, by_seed in outcome.hd.items()},
        },
    )


def _converges(outcome: Outcome, settings: Settings) -> Verdict:
    """Is the last outer step as good as the best?"""
    gaps = [best(rows)["test_accuracy"] - rows[-1]["test_accuracy"] for rows in outcome.fds]
    places = [rows.index(best(rows)) + 1 for rows in outcome.fds]
    return Verdict(
        "FDS converges in just ten outer steps.",
        f"Best outer step by validation: {', '.join(map(str, places))} of {settings.outer_steps}; the last one's test "
        f"accuracy is {', '.join(number(100 * gap) for gap in gaps)} points below the best one's (by seed).",
        float(np.median(gaps)) <= SETTLED,
    )


def _different(outcome: Outcome) -> Verdict:
    """Other values than HD's?"""
    rates = [float(np.mean(own)) for own in (outcome.fds_mean("learning_rate"), outcome.hd_mean("learning_rate"))]
    momenta = outcome.fds_mean("momentum")[0], outcome.hd_mean("momentum")[-1]
    decays = outcome.fds_mean("weight_decay")[0], outcome.hd_mean("weight_decay")[-1]
    apart = max(rates) > 2 * max(min(rates), 0.0) or abs(momenta[0] - momenta[1]) > 0.2
    return Verdict(
        "The hyperparameters that FDS learns are very different from those of online greedy differentiation.",
        f"Means over seeds, FDS and HD: learning rate over the training {number(rates[0])} and {number(rates[1])}, "
        f"momentum {number(momenta[0])} and {number(momenta[1])} (HD's last epoch), weight decay {number(decays[0])} "
        f"and {number(decays[1])}.",
        apart,
    )


def accuracies(outcome: Outcome) -> tuple[tuple[float, float], tuple[float, float]]:
    """Test accuracy and its standard error, of FDS trained again and of HD.

    Where HD has one run its spread is taken to be that of FDS's trainings.
    """
    fds = np.concatenate(outcome.retrained)
    hd = np.array([rows[-1]["test_accuracy"] for rows in outcome.descent])
    spread = float(fds.std(ddof=1))
    other = float(hd.std(ddof=1)) if len(hd) > 1 else spread
    return (float(fds.mean()), spread / math.sqrt(len(fds))), (float(hd.mean()), other / math.sqrt(len(hd)))


def _better(outcome: Outcome) -> Verdict:
    """Test accuracy against HD's."""
    (fds, fds_error), (hd, hd_error) = accuracies(outcome)
    gap, error = fds - hd, math.hypot(fds_error, hd_error)
    return Verdict(
        "They give significantly better test accuracies than HD's.",
        f"FDS, trained again: {100 * fds:.2f} ± {100 * fds_error:.2f} %; HD with its best hyper rate: {100 * hd:.2f} ± "
        f"{100 * hd_error:.2f} %, with rates chosen by validation loss.",
        None if abs(gap) <= CLEARLY * error else gap > 0,
    )


def _one_cycle(outcome: Outcome) -> Verdict:
    """Is the largest learning rate in the middle?"""
    rates = outcome.fds_mean("learning_rate")
    peak = int(np.argmax(rates))
    return Verdict(
        "The largest learning rate comes half way during training, reminiscent of the one-cycle schedule.",
        f"Learning rates, mean over seeds: {', '.join(map(number, rates))}; the largest is number {peak + 1}.",
        0 < peak < len(rates) - 1,
    )


def _level(outcome: Outcome, settings: Settings) -> Verdict:
    """The paper's accuracy, on the paper's data."""
    (fds, error), _ = accuracies(outcome)
    return Verdict(
        f"A WRN-16-1 trained for 50 epochs reaches {100 * PAPER_ACCURACY:.2f} % test accuracy, mean of 20.",
        f"{100 * fds:.2f} ± {100 * error:.2f} %, mean of {settings.seeds * settings.retrainings}, {settings.epochs:g} "
        "epochs.",
        fds >= PAPER_ACCURACY - AS_GOOD,
    )


def _table(outcome: Outcome, settings: Settings) -> Table:
    (fds, fds_error), (hd, hd_error) = accuracies(outcome)
    rows = []
    for name, accuracy, error, source in (("FDS", fds, fds_error, "fds"), ("HD", hd, hd_error, "hd")):
        values = [outcome.fds_mean(kind) if source == "fds" else outcome.hd_mean(kind) for kind in HYPERPARAMETERS]
        ends = values[1][-1], values[2][-1]
        rows.append(
            (
                name,
                ", ".join(map(number, values[0] if source == "fds" else _fifths(values[0]))),
                number(ends[0]),
                number(ends[1]),
                f"{100 * accuracy:.2f} ± {100 * error:.2f} %",
                f"{100 * PAPER_ACCURACY:.2f} %" if source == "fds" else "–",
            )
        )
    columns = ("method", "learning rates", "momentum", "weight decay", "test accuracy", "paper, on CIFAR-10")
    return Table(
        "What was learned",
        columns,
        tuple(rows),
        f"Means over seeds ({settings.seeds}); FDS's test accuracy is of {settings.retrainings} new trainings each, "
        "HD's of its own. HD: means of each fifth of the training, and the last epoch.",
    )


def _fifths(values: Sequence[float]) -> list[float]:
    """Means of five parts of nearly equal length."""
    return [float(part.mean()) for part in np.array_split(np.asarray(values), 5) if part.size]


def _rates_table(outcome: Outcome) -> Table:
    rows = tuple(
        (
            f"{rate:g}",
            number(float(np.mean([own[-1]["validation_loss"] for own in by_seed]))),
            f"{100 * np.mean([own[-1]['test_accuracy'] for own in by_seed]):.2f} %",
            str(sum(own[-1]["status"] != "completed" for own in by_seed)),
        )
        for rate, by_seed in outcome.hd.items()
    )
    columns = ("hyper rate", "validation loss", "test accuracy", "diverged")
    return Table("Hypergradient descent", columns, rows, "Means over seeds at the end; relative to each range's width.")
