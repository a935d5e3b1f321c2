"""What the harness takes beyond a training function's own time.

The function sleeps, so all processor time is the harness's: the driver's, Ray's and the worker's. Random search and
BOHB run it through a whole comparison; "beyond" is the mean time from one evaluation's end to the next less what the
function took, "processor" the seconds of all processes meanwhile. The goal is 5 % of evaluations of a second.

    python -m benchmarks.overhead --seconds 1 --evaluations 20
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from ray import tune
from rich.console import Console
from rich.table import Table

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn import compare

SLEEPING = """
import time

from raytune_hyperlearn import Schedule, TrainingFunction


def train(config, report):
    time.sleep(config["seconds"])
    report(sum(value for name, value in config.items() if name.startswith("value")))


values = {f"value{index}": Schedule() for index in range(9)}  # as many as FDS's learning rates, momentum and decay


def sleeping(seconds):
    return TrainingFunction("sleeping", train, {**values, "seconds": seconds}, epochs=9)
"""


class Ends(tune.Callback):
    """When evaluations ended, and the processor seconds of this process and its children until then."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note both, and what the function itself took."""
        self.rows.append((time.perf_counter(), processor_seconds(), result["training_seconds"]))


def processor_seconds() -> float:
    """Of this process and all its descendants, Ray's among them."""
    total = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total


def measure(method: str, seconds: float, evaluations: int, folder: Path) -> tuple[int, float, float]:
    """Evaluations, and means per evaluation of the seconds beyond the function's own and of processor seconds."""
    ends = Ends()
    compare(
        f"{folder / 'sleeping.py'}:sleeping",
        [method],
        seeds=1,
        problem_args={"seconds": seconds},
        time_limit=1.2 * seconds * (evaluations + 1),
        confirmations=0,
        callbacks=[ends],
        output=folder / method,
    )
    if len(ends.rows) < 2:
        raise RuntimeError(f"{len(ends.rows)} evaluations ended; at least 2 are needed, allow more time")
    (begun, before, _), (ended, after, _) = ends.rows[0], ends.rows[-1]
    count = len(ends.rows) - 1
    own = sum(row[2] for row in ends.rows[1:])
    return count, (ended - begun - own) / count, (after - before) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Overhead of the harness per evaluation of a training function.")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one evaluation (default: 1)")
    parser.add_argument("--evaluations", type=int, default=20, help="about so many per method (default: 20)")
    arguments = parse_sizes(parser, sys.argv[1:], seconds=0.2, evaluations=8)
    table = Table("method", "evaluations", "beyond", "of the function's time", "processor", caption="seconds, means")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sleeping.py").write_text(SLEEPING, encoding="utf-8")
        for method in ("rs", "bohb"):
            count, beyond, used = measure(method, arguments.seconds, arguments.evaluations, folder)
            share = f"{beyond / arguments.seconds:.1%}"
            table.add_row(method, str(count), f"{beyond:.4f}", share, f"{used:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
