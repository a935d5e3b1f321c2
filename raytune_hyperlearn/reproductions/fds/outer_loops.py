"""Learns learning rates of short trainings in three ways by the same outer loop, and trains again with what it learned.

A learning rate for every step (*greedy*: from the loss right after the step; *unshared*: from the loss at the end) or
for every window of steps (*fds*) starts at zero and is moved by sign updates over so many outer steps, each with its
own initialization, data order and split ([FDS] section 5.2). Every outer step is a line of a file; a run that was
stopped goes on after the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hyperlearn.algorithms.sign_descent import OuterState, outer_step
from raytune_hyperlearn.baselines.grid import cosine
from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.json_lines import LineWriter, read_lines
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.reproductions.fds.lenet_training import LeNetTraining, Scores, Setting

LEARNED = ("greedy", "unshared", "fds")
CLEARLY = 2.0
"""Standard errors by which means over retrainings must differ to be told apart."""
Row = dict[str, Any]
Advance = Callable[[], None]
"""Tells the progress bar of one more training."""


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        settings: Data and inner loop; the first are the simple data, the last the real-world ones.
        outer_steps: Of every method.
        windows: N, the learning rates of FDS.
        step: γ_0.
        highest: Upper end of the learning rates' range, which begins at 0.
        retrainings: Of every schedule.
        cosines: Learning rates that the cosine is tried from.
    """

    settings: tuple[Setting, ...]
    outer_steps: int
    windows: int
    step: float = 0.02
    highest: float = 1.0
    retrainings: int = 5
    cosines: tuple[float, ...] = (0.01, 0.03, 0.1)


@dataclass(frozen=True)
class Learned:
    """What a method learned on one set of data.

    Attributes:
        rates: Learning rates of every outer step, [O][N].
        losses: Validation losses there [O]; infinite where training diverged.
        accuracies: Validation accuracies there [O].
        retrained: Scores of the best outer step's schedule, each from new seeds.
    """

    rates: list[list[float]]
    losses: FloatArray
    accuracies: FloatArray
    retrained: tuple[Scores, ...]

    @property
    def best(self) -> int:
        """Outer step with the lowest validation loss."""
        return int(self.losses.argmin())

    @property
    def chosen(self) -> list[float]:
        """Its schedule [N]."""
        return self.rates[self.best]

    @property
    def mean_rate(self) -> float:
        """Mean of the chosen schedule over the training."""
        return float(np.mean(self.chosen))

    def mean(self, name: str) -> tuple[float, float]:
        """Mean of a score over the retrainings and its standard error."""
        return mean_and_error([getattr(scores, name) for scores in self.retrained])


ByMethod = dict[str, Learned]
"""What every method learned on one set of data, the cosine among them."""


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; infinite where a value is."""
    if not all(map(math.isfinite, values)):
        return math.inf, math.nan
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def learn_all(training: LeNetTraining, settings: Settings, file: Path, bar: Bar) -> ByMethod:
    """All methods on one set of data."""
    every = {
        method: learn(training, method, settings, file.with_name(f"{file.stem}-{method}.jsonl"), bar)
        for method in LEARNED
    }
    total = settings.retrainings * (len(LEARNED) + len(settings.cosines))
    advance = partial(bar.advance, bar.add_task(f"{file.stem}, trained again", total=total))
    found = {method: _learned(training, settings, rows, advance) for method, rows in every.items()}
    found["cosine"] = _best_cosine(training, settings, advance)
    return found


def learn(training: LeNetTraining, method: str, settings: Settings, file: Path, bar: Bar) -> list[Row]:
    """One row per outer step; those that are in the file already are taken from it."""
    count = settings.windows if method == "fds" else training.steps
    state = OuterState.start({"learning_rate": [0.0] * count}, {"learning_rate": [settings.step] * count})
    with LineWriter(file) as lines:
        rows: list[Row] = [row for _, row in read_lines(file)]
        task = bar.add_task(f"{file.stem}, outer steps", total=settings.outer_steps, completed=len(rows))
        for index in range(len(rows), settings.outer_steps):
            if rows:
                state = OuterState.from_mapping(rows[-1]["next"])
            rows.append(_outer_step(training, method, settings, state, index))
            lines.append_row(rows[-1])
            bar.advance(task)
    return rows


def _outer_step(training: LeNetTraining, method: str, settings: Settings, state: OuterState, index: int) -> Row:
    """What was learned so far, how it trains, and the state after the move."""
    seed = derived_seed(3, Purpose.OUTER_STEP, index)
    split = training.split(seed)
    differentiate = training.greedy if method == "greedy" else training.non_greedy
    found = differentiate(state.values["learning_rate"], split, seed)
    scores = training.scores(found, split)
    moved = outer_step(state, found.values, found.validation_loss, {"learning_rate": (0.0, settings.highest)})
    return {
        "rates": state.values["learning_rate"],
        "hypergradient": [_finite(entry) for entry in found.values["learning_rate"]],
        "validation_loss": _finite(scores.validation_loss),
        "validation_accuracy": scores.validation_accuracy,
        "next": moved.to_mapping(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _learned(training: LeNetTraining, settings: Settings, rows: Sequence[Row], advance: Advance) -> Learned:
    losses = np.array([math.inf if row["validation_loss"] is None else row["validation_loss"] for row in rows])
    rates = [row["rates"] for row in rows]
    accuracies = np.array([row["validation_accuracy"] for row in rows])
    return Learned(rates, losses, accuracies, _retrained(training, settings, rates[int(losses.argmin())], advance))


def _retrained(
    training: LeNetTraining, settings: Settings, rates: Sequence[float], advance: Advance
) -> tuple[Scores, ...]:
    """Scores with seeds that no outer step used; the same seeds for every schedule."""
    scores = []
    for index in range(settings.retrainings):
        seed = derived_seed(3, Purpose.RETRAINING, index)
        scores.append(training.train_and_score(rates, training.split(seed), seed))
        advance()
    return tuple(scores)


def _best_cosine(training: LeNetTraining, settings: Settings, advance: Advance) -> Learned:
    """The cosine with the lowest validation loss over the retrainings."""
    schedules = [[cosine(rate, step / training.steps) for step in range(training.steps)] for rate in settings.cosines]
    scored = [_retrained(training, settings, schedule, advance) for schedule in schedules]
    losses = np.array([mean_and_error([s.validation_loss for s in scores])[0] for scores in scored])
    accuracies = np.array([np.mean([s.validation_accuracy for s in scores]) for scores in scored])
    return Learned(schedules, losses, accuracies, scored[int(losses.argmin())])


def less(first: Learned, second: Learned, name: str = "validation_loss") -> bool | None:
    """Whether the first's mean over the retrainings is lower; None where the difference may be noise."""
    pairs = zip(first.retrained, second.retrained, strict=True)
    differences = [getattr(b, name) - getattr(a, name) for a, b in pairs]
    if not all(map(math.isfinite, differences)):
        return math.isfinite(first.mean(name)[0])
    mean, error = mean_and_error(differences)
    return None if abs(mean) <= CLEARLY * error else mean > 0
