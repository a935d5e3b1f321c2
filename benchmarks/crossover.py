"""Where gradient-based search overtakes black-box search: horizons T by numbers K of learned values.

In every cell FDS, random search and Hyperband search the same space of schedules on digits: K − 2 learning rates, a
momentum and a weight decay. Beside them Hyperband searches what a practitioner would, the peak of a cosine, momentum
and weight decay. All get the same processor seconds of one core and take turns, so a busy machine slows all alike. A
cell shows the median over seeds of the lowest validation loss of FDS and of the better black-box method, and in how
many seeds FDS ended lower; every network counts, however long it was trained.

    python -m benchmarks.crossover --output results/crossover
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.hyperparameters import LearningRate
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.reproductions.fds.races import FDS, Run, Task, best_loss, race
from raytune_hyperlearn.reproductions.fds.sgd_tasks import HALF_COSINE, SGDTask
from raytune_hyperlearn.reproductions.fds.speedup import begun

BLACK_BOX = ("rs", "hb")
Runs = Mapping[str, Sequence[Run]]
"""Method → one run per seed."""
OTHERS = 2
"""Learned values that are no learning rates: momentum and weight decay."""


def runs_of(task: Task, methods: Sequence[str], seeds: int, folder: Path) -> Runs:
    """A run for each method and seed; what the folder holds is continued."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        method: [
            Run(task, partial(begun, "sign", method, task.space, seed), seed, folder / f"{method}-{seed}.jsonl")
            for seed in range(seeds)
        ]
        for method in methods
    }


def text(losses: Mapping[str, list[float]]) -> str:
    """FDS's median, the better black-box method's, and how often FDS ended below that."""
    medians = {method: statistics.median(losses[method]) for method in losses}
    best = min(BLACK_BOX, key=lambda method: medians[method])
    wins = sum(ours < theirs for ours, theirs in zip(losses[FDS], losses[best], strict=True))
    return f"{medians[FDS]:.3f} / {medians[best]:.3f} {best}, {wins} of {len(losses[best])}"


def losses_of(found: Runs) -> dict[str, list[float]]:
    """The lowest validation loss of every seed by method."""
    return {method: [best_loss(run.rows) for run in runs] for method, runs in found.items()}


def numbers(
    horizons: Mapping[float, int], cells: Mapping[tuple[float, int], Runs], cosines: Mapping[float, Runs]
) -> Any:
    """Every seed's loss, as plain data."""
    return {
        "cells": [
            {"horizon": horizons[epochs], "values": values, **losses_of(runs)}
            for (epochs, values), runs in cells.items()
        ],
        "cosine": {str(horizons[epochs]): losses_of(runs)["hb"] for epochs, runs in cosines.items()},
    }


def table(
    horizons: Mapping[float, int],
    counts: Sequence[int],
    cells: Mapping[tuple[float, int], Runs],
    cosines: Mapping[float, Runs],
) -> Table:
    """A row per horizon, a column per number of values, and the cosine."""
    columns = ("T", *(f"K = {count}" for count in counts), "3 of a cosine, hb")
    shown = Table(*columns, title="lowest validation loss: FDS / best black box, seeds in which FDS is lower")
    for epochs, horizon in horizons.items():
        row = [text(losses_of(cells[epochs, count])) if (epochs, count) in cells else "—" for count in counts]
        shown.add_row(str(horizon), *row, f"{statistics.median(losses_of(cosines[epochs])['hb']):.3f}")
    return shown


def main() -> None:
    """Run all cells; an earlier run in the same folder is continued."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, nargs="+", default=[3, 9, 27], help="full trainings, in epochs")
    parser.add_argument("--values", type=int, nargs="+", default=[3, 9, 33, 100, 300], help="numbers K of values")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per cell")
    parser.add_argument("--seconds", type=float, default=10.0, help="processor seconds per run")
    parser.add_argument("--output", type=Path, default=Path("results/crossover"), help="folder of results")
    arguments = parse_sizes(parser, sys.argv[1:], epochs=[0.2], values=[3], seeds=1, seconds=1.0)
    torch.set_num_threads(1)
    console, problem = Console(), load("digits")
    horizons = {epochs: problem.horizon(epochs) for epochs in arguments.epochs}
    cells: dict[tuple[float, int], Runs] = {}
    cosines: dict[float, Runs] = {}
    for epochs, horizon in horizons.items():
        one = SGDTask(problem, epochs, HALF_COSINE)
        cosines[epochs] = runs_of(one, ("hb",), arguments.seeds, arguments.output / f"{horizon}-cosine")
        for values in arguments.values:
            if values - OTHERS <= horizon:
                task = SGDTask(problem, epochs, LearningRate(values - OTHERS))
                folder = arguments.output / f"{horizon}-{values}"
                cells[epochs, values] = runs_of(task, (FDS, *BLACK_BOX), arguments.seeds, folder)
    every = {
        str(run.file): run for found in [*cells.values(), *cosines.values()] for runs in found.values() for run in runs
    }
    with Bar(console) as bar:
        race(every, dict.fromkeys(every, arguments.seconds), bar, "processor seconds")
    (arguments.output / "crossover.json").write_text(json.dumps(numbers(horizons, cells, cosines), indent=1) + "\n")
    console.print(table(horizons, arguments.values, cells, cosines))


if __name__ == "__main__":
    main()
