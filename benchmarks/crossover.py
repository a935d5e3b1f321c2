"""Where gradient-based search overtakes black-box search: a grid over the horizon T and the number of hyperparameters.

Every cell is a comparison of its own on digits: FDS, random search and Hyperband with the same space, budgets and
wall-clock limit per run. A cell shows the median final validation loss over seeds of FDS and of the better
black-box method, and which is ahead.

    python benchmarks/crossover.py --output results/crossover
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.comparison import head_to_head
from raytune_hyperlearn.comparison.analysis.results import load_study
from raytune_hyperlearn.comparison.analysis.summary import final_by_seed
from raytune_hyperlearn.comparison.running.cluster import start_ray, stop_ray
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.folder import prepare_folder
from raytune_hyperlearn.hyperparameters import LearningRate, SearchSpace
from raytune_hyperlearn.problems import load

BLACK_BOX = ("rs", "hb")


def cell(epochs: float, values: int, seeds: int, time_limit: float, output: Path, console: Console) -> dict[str, float]:
    """Median final validation loss by method for one horizon and one number of learning rates."""
    experiment = experiment_from_settings(
        {
            "name": f"crossover-{epochs:g}-{values}",
            "problem": "digits",
            "methods": ["fds", *BLACK_BOX],
            "seeds": list(range(seeds)),
            "epochs": epochs,
            "time_limit": time_limit,
            "space": SearchSpace(learning_rate=LearningRate(values=values)).to_mapping(),
            "reference": None,
        }
    )
    folder = prepare_folder(experiment, output / experiment.name, resume=True)
    head_to_head.run(experiment, folder, console)
    finals = final_by_seed(load_study(folder.path))
    return {method: statistics.median(by_seed.values()) for method, by_seed in finals.items()}


def main() -> None:
    """Run all cells; an earlier run in the same folder is continued."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, nargs="+", default=[3, 9, 27], help="full budgets, in epochs")
    parser.add_argument("--values", type=int, nargs="+", default=[1, 7, 31], help="numbers of learning rates")
    parser.add_argument("--seeds", type=int, default=2, help="seeds per cell")
    parser.add_argument("--time-limit", type=float, default=15.0, help="wall-clock seconds per run")
    parser.add_argument("--output", type=Path, default=Path("results/crossover"), help="folder of results")
    arguments = parse_sizes(parser, sys.argv[1:], epochs=[0.2], values=[1], seeds=1, time_limit=2.0)
    console = Console()
    problem = load("digits")
    table = Table(
        "T (steps)", *(f"K = {n + 2}" for n in arguments.values), title="validation loss: FDS / best black box"
    )
    cells = []
    start_ray(experiment_from_settings({"problem": "digits"}))
    try:
        for epochs in arguments.epochs:
            row = []
            for values in arguments.values:
                found = cell(epochs, values, arguments.seeds, arguments.time_limit, arguments.output, console)
                best = min(BLACK_BOX, key=lambda method: found[method])
                ahead = "FDS" if found["fds"] <= found[best] else best.upper()
                cells.append({"epochs": epochs, "horizon": problem.horizon(epochs), "dimensions": values + 2, **found})
                row.append(f"{found['fds']:.3f} / {found[best]:.3f} {ahead}")
            table.add_row(str(problem.horizon(epochs)), *row)
    finally:
        stop_ray()
    (arguments.output / "crossover.json").write_text(json.dumps(cells, indent=1) + "\n")
    console.print(table)


if __name__ == "__main__":
    main()
