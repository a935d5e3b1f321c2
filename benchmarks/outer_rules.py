"""Outer rules of FDS raced by processor seconds, from short trainings to whole ones.

Every rule learns the same schedules from zero with the same seeds: outer steps over 1/9, 1/9 and 1/3 of the training,
then over all of it, by reverse mode. The table has the lowest validation loss of a whole training so far at each of
``--at`` processor seconds, the number of whole trainings that ended no better than the untrained network, and, of the
values with the lowest loss, the mean of ``--retrainings`` new trainings.

- ``sign``: the paper's rule, retried beyond 1.4 times the best loss, its moves T_0 / T as large over T steps;
- ``sign-unscaled``: the same with moves of γ whatever T; ``sign-root``: √(T_0 / T);
- ``sign-growing``, ``root-growing``: as ``sign`` and ``sign-root``, but from the first whole training on γ doubles
  while a value's sign stays;
- ``sign-strict``: as ``sign-unscaled``, retried unless the loss is a new best;
- ``adam``, ``surrogate``: the other rules;
- ``windows``: ``sign`` over four times as many learning rates, which share their hypergradients in chosen windows;
  ``fine``: the same without sharing.

    python -m benchmarks.outer_rules --problem mnist-5k --epochs 5 --seeds 100 101 102 --rules sign sign-unscaled
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.algorithms import coordinates
from raytune_hyperlearn.algorithms.adam_descent import adam_step
from raytune_hyperlearn.algorithms.sign_descent import OuterState, outer_step
from raytune_hyperlearn.algorithms.surrogate_descent import surrogate_step
from raytune_hyperlearn.algorithms.values import Numbers, Ranges
from raytune_hyperlearn.hyperparameters import LearningRate, Space
from raytune_hyperlearn.problems import Purpose, derived_seed, load
from raytune_hyperlearn.reproductions.fds.sgd_tasks import SGDTask
from raytune_hyperlearn.reproductions.fds.speedup import LADDER, TOLERANCE
from raytune_hyperlearn.tune.fds_updates import with_windows

FINER = 4
WHOLE = len(LADDER) - 1
"""First outer step over the whole training."""


@dataclass(frozen=True)
class Seen:
    """What an outer step was, for a rule.

    Attributes:
        slopes: Its hypergradient.
        loss: Its validation loss.
        comparable: Whether it was over the whole training.
        steps: T.
        scale: T_0 / T of the next one.
    """

    slopes: Numbers
    loss: float
    comparable: bool
    steps: int
    scale: float


Rule = Callable[[Space, OuterState, Seen], OuterState]


def signs(
    power: float, tolerance: float, space: Space, state: OuterState, seen: Seen, growth: float = 1.0
) -> OuterState:
    """The sign rule with moves of γ (T_0 / T)^power; over whole trainings γ grows while the sign stays."""
    scale = seen.scale**power
    growth = growth if seen.comparable else 1.0
    return outer_step(state, seen.slopes, seen.loss, space.ranges(), growth, tolerance, seen.comparable, scale)


def adam(space: Space, state: OuterState, seen: Seen) -> OuterState:
    """Adam's rule."""
    return adam_step(state, seen.slopes, seen.loss, space.ranges(), TOLERANCE, seen.comparable)


def surrogate(space: Space, state: OuterState, seen: Seen) -> OuterState:
    """The Gaussian process."""
    scales = coordinates.apart(space.step_sizes())

    def rule(inside: OuterState, slopes: Numbers, ranges: Ranges) -> OuterState:
        return surrogate_step(inside, slopes, seen.loss, ranges, scales, seen.steps, seen.loss, seen.comparable)

    shapes, axes = space.shapes(), space.axes()
    weights = {name: shapes.weights(name, len(own), seen.steps) for name, own in axes.items()}
    return coordinates.moved(rule, state, seen.slopes, weights, axes)


def windowed(space: Space, state: OuterState, seen: Seen) -> OuterState:
    """The sign rule with chosen windows."""
    state, shared = with_windows(state, seen.slopes, space)
    return signs(1.0, TOLERANCE, space, state, replace(seen, slopes={name: list(own) for name, own in shared.items()}))


RULES: dict[str, Rule] = {
    "sign": partial(signs, 1.0, TOLERANCE),
    "sign-unscaled": partial(signs, 0.0, TOLERANCE),
    "sign-root": partial(signs, 0.5, TOLERANCE),
    "sign-growing": partial(signs, 1.0, TOLERANCE, growth=2.0),
    "root-growing": partial(signs, 0.5, TOLERANCE, growth=2.0),
    "sign-strict": partial(signs, 0.0, math.nextafter(1.0, 2.0)),
    "adam": adam,
    "surrogate": surrogate,
    "windows": windowed,
    "fine": partial(signs, 1.0, TOLERANCE),
}


@dataclass
class Search:
    """One search.

    Attributes:
        seconds: On the clock after each outer step.
        losses: Validation loss of each; infinite where training diverged.
        retrained: Mean loss of new trainings with the best values; one that diverges counts as the untrained network.
        windows: Number of windows of the learning rate, where they are chosen.
    """

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    retrained: float = math.nan
    windows: list[int] = field(default_factory=list)

    def best(self, at: float) -> float:
        """Lowest loss of a whole training by then."""
        whole = zip(self.seconds[WHOLE:], self.losses[WHOLE:], strict=True)
        return min((loss for seconds, loss in whole if seconds <= at), default=math.inf)

    @property
    def dead(self) -> int:
        """Whole trainings that ended no better than the untrained network's loss, which is the first outer step's."""
        return sum(not loss < 0.95 * self.losses[0] for loss in self.losses[WHOLE:])


def share(outer_step: int) -> float:
    """Of the whole training."""
    return LADDER[min(outer_step, WHOLE)]


def searched(task: SGDTask, rule: str, seed: int, limit: float, retrainings: int) -> Search:
    """Outer steps until the seconds are over; then the best values again."""
    space, found = task.space, Search()
    state = OuterState.start(space.initial(), space.step_sizes())
    best: tuple[float, Numbers] = math.inf, dict(state.values)
    while not found.seconds or found.seconds[-1] < limit:
        index, begun = state.index, time.process_time()
        trained = task.differentiate(
            dict(state.values), share(index), seed, derived_seed(seed, Purpose.EVALUATION, index)
        )
        loss = trained.validation_loss if math.isfinite(trained.validation_loss) else math.inf
        scale = share(0) / share(index + 1)
        steps = max(1, round(share(index) * task.steps))
        if index >= WHOLE and loss < best[0]:
            best = loss, dict(state.values)
        state = RULES[rule](space, state, Seen(trained.hypergradient, loss, index >= WHOLE, steps, scale))
        found.seconds.append((found.seconds[-1] if found.seconds else 0.0) + time.process_time() - begun)
        found.losses.append(loss)
        found.windows.append(len(state.windows.get("learning_rate", ())))
    untrained = found.losses[0]
    seeds = [derived_seed(seed, Purpose.RETRAINING, index) for index in range(retrainings)]
    again = [task.train(best[1], 1.0, seed, own).validation_loss for own in seeds]
    found.retrained = statistics.fmean(loss if loss < untrained else untrained for loss in again)
    return found


def table(found: dict[str, list[Search]], at: Sequence[float], title: str) -> Table:
    """One row per rule: every seed's number."""
    shown = Table("rule", *(f"by {seconds:g} s" for seconds in at), "dead", "trained again", title=title)
    for rule, searches in found.items():
        cells = [", ".join(f"{search.best(seconds):.3f}" for search in searches) for seconds in at]
        dead = ", ".join(f"{search.dead} of {len(search.losses[WHOLE:])}" for search in searches)
        shown.add_row(rule, *cells, dead, ", ".join(f"{search.retrained:.3f}" for search in searches))
    return shown


def main() -> None:
    """Every rule with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="mnist-5k", help="name of a problem")
    parser.add_argument("--epochs", type=float, default=5.0, help="epochs of the whole training")
    parser.add_argument("--values", type=int, default=7, help="number of learning rates")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=["sign", "sign-unscaled"], help="what races")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102], help="seeds")
    parser.add_argument("--at", type=float, nargs="+", default=[15, 30], help="processor seconds; the last end it")
    parser.add_argument("--retrainings", type=int, default=3, help="new trainings with the best values")
    parser.add_argument("--output", type=Path, help="file that gets all losses as JSON")
    smallest: dict[str, Any] = {"problem": "digits", "epochs": 0.5, "seeds": [0], "at": [0.1], "retrainings": 1}
    asked = parse_sizes(parser, sys.argv[1:], **smallest)
    torch.set_num_threads(1)
    console, problem = Console(), load(asked.problem)
    found: dict[str, list[Search]] = {rule: [] for rule in asked.rules}
    for seed in asked.seeds:
        for rule in asked.rules:
            values = asked.values * FINER if rule in ("windows", "fine") else asked.values
            task = SGDTask(problem, asked.epochs, LearningRate(values))
            search = searched(task, rule, seed, asked.at[-1], asked.retrainings)
            found[rule].append(search)
            text = " ".join(
                f"{seconds:.0f}:{loss:.3f}" for seconds, loss in zip(search.seconds, search.losses, strict=True)
            )
            console.print(f"{rule}, seed {seed}: {text}; again {search.retrained:.3f}", highlight=False)
            if asked.output:
                asked.output.write_text(
                    json.dumps({name: [own.__dict__ for own in all_] for name, all_ in found.items()})
                )
    console.print(table(found, asked.at, f"{asked.problem}, {asked.epochs:g} epochs, seeds {asked.seeds}"))


if __name__ == "__main__":
    main()
