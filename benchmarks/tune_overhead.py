"""What one evaluation costs when the evaluation itself costs nothing.

A trainable that returns at once is run through the random-search and BOHB searchers by one reused worker, with and
without Tune's default loggers (JSON, CSV, TensorBoard). "start" lasts until the first evaluation has ended: a new
worker process and, in the first run with loggers, TensorBoard's imports. "evaluation" is the mean time from one
end to the next; "optimizer" is the part of it spent inside HpBandSter.

    python benchmarks/tune_overhead.py --evaluations 60 --output tune_overhead.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray listens on every network interface

import ray
from ConfigSpace import ConfigurationSpace
from ray import tune
from rich.console import Console
from rich.table import Table

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.baselines import BOHB, RandomSearch
from raytune_hyperlearn.baselines.hpbandster_searcher import HpBandSterSearcher

HYPERPARAMETERS = 9  # as many as FDS's seven learning rates, momentum and weight decay
MAX_BUDGET = 9
SEED = 0
LOGGERS_OFF = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"


@dataclass(frozen=True)
class Overhead:
    """Seconds of one run; `evaluation_seconds` contains `optimizer_seconds`, both are means over evaluations."""

    searcher: str
    loggers: bool
    evaluations: int
    model_based_picks: int
    start_seconds: float
    evaluation_seconds: float
    optimizer_seconds: float
    total_seconds: float


class NoOperation(tune.Trainable):
    """Returns a loss at once, whatever the budget."""

    def setup(self, config: dict[str, Any]) -> None:
        """Need nothing."""

    def step(self) -> dict[str, Any]:
        """Report the sum of the hyperparameters, so that a density model has something to learn."""
        return {"validation_loss": sum(self.config["hyperparameters"].values()), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing; Tune asks for a checkpoint at the end of every trial."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Load nothing."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Let the worker be reused."""
        return True


class Ends(tune.Callback):
    """The times at which trials ended, in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        """Begin with none."""
        self.times: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())


def measure(searcher: HpBandSterSearcher, evaluations: int, *, loggers: bool) -> Overhead:
    """Run one experiment in a temporary folder."""
    ends = Ends()
    seconds_before = searcher.optimizer_seconds
    with tempfile.TemporaryDirectory() as storage, patch.dict(os.environ, {LOGGERS_OFF: "0" if loggers else "1"}):
        start = time.perf_counter()
        results = tune.Tuner(
            NoOperation,
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=evaluations, reuse_actors=True, max_concurrent_trials=1
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[ends]),
        ).fit()
        total = time.perf_counter() - start
    if results.num_errors or len(ends.times) != evaluations:
        raise RuntimeError(f"{results.num_errors} trials failed, {len(ends.times)} of {evaluations} ended")
    return Overhead(
        searcher=type(searcher).__name__,
        loggers=loggers,
        evaluations=evaluations,
        model_based_picks=sum(bool(result.config["model_based_pick"]) for result in results),
        start_seconds=ends.times[0] - start,
        evaluation_seconds=(ends.times[-1] - ends.times[0]) / (evaluations - 1),
        optimizer_seconds=(searcher.optimizer_seconds - seconds_before) / evaluations,
        total_seconds=total,
    )


def searchers() -> list[HpBandSterSearcher]:
    """New ones, each with its state at the beginning."""
    space = ConfigurationSpace({f"hyperparameter_{index}": (0.0, 1.0) for index in range(HYPERPARAMETERS)})
    return [
        RandomSearch(space, max_budget=MAX_BUDGET, seed=SEED),
        BOHB(space, min_budget=1, max_budget=MAX_BUDGET, seed=SEED),
    ]


def table_of(rows: list[Overhead]) -> Table:
    """One line per run."""
    table = Table("searcher", "loggers", caption="seconds; an evaluation contains its optimizer part")
    for column in ("start", "evaluation", "optimizer", "by model", "total"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.searcher,
            "on" if row.loggers else "off",
            f"{row.start_seconds:.1f}",
            f"{row.evaluation_seconds:.4f}",
            f"{row.optimizer_seconds:.4f}",
            f"{row.model_based_picks} of {row.evaluations}",
            f"{row.total_seconds:.1f}",
        )
    return table


def parse_arguments() -> argparse.Namespace:
    """Read the command line; a bad value ends with status 2."""
    parser = argparse.ArgumentParser(description="Seconds per evaluation of a no-op objective through Ray Tune.")
    parser.add_argument("--evaluations", type=int, default=60, metavar="N", help="per run, >= 2 (default: 60)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the rows as JSON")
    arguments = parse_sizes(parser, sys.argv[1:], evaluations=2)
    if arguments.evaluations < 2:
        parser.error(f"--evaluations must be an integer >= 2, got {arguments.evaluations}")
    if arguments.output is not None and not arguments.output.parent.is_dir():
        parser.error(f"--output must be in an existing folder, got {arguments.output}")
    return arguments


def main() -> None:
    """Measure the four runs, print them, and write them if asked."""
    arguments = parse_arguments()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    rows = [
        measure(searcher, arguments.evaluations, loggers=loggers)
        for loggers in (False, True)
        for searcher in searchers()
    ]
    ray.shutdown()
    Console().print(table_of(rows))
    if arguments.output is not None:
        machine = {"ray": ray.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
        arguments.output.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
