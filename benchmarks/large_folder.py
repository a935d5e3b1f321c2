"""What a report costs on a folder with very many rows: processor time and memory.

A comparison of six methods and three seeds is written with so many rows in all, then ``hyperlearn report`` reads it in
a process of its own.

    python benchmarks/large_folder.py --rows 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE, RECORDS_FILE, RUNS_FILE
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings

METHODS, SEEDS, LIMIT = ("fds", "hd", "rs", "bo", "hb", "bohb"), (0, 1, 2), 1000.0


def write_folder(folder: Path, rows: int) -> None:
    """A folder of a comparison whose losses fall at random."""
    experiment = experiment_from_settings({"methods": list(METHODS), "seeds": list(SEEDS), "time_limit": LIMIT})
    folder.mkdir()
    write_experiment(experiment, folder / EXPERIMENT_FILE)
    draw, each = random.Random(0), rows // (len(METHODS) * len(SEEDS))
    with (folder / RECORDS_FILE).open("w") as records, (folder / RUNS_FILE).open("w") as runs:
        for seed in SEEDS:
            for method in METHODS:
                for number in range(each):
                    records.write(json.dumps(_record(experiment.name, method, seed, number, each, draw)) + "\n")
                runs.write(json.dumps(_run(method, seed, each)) + "\n")


def _record(experiment: str, method: str, seed: int, number: int, each: int, draw: random.Random) -> dict[str, Any]:
    loss = 0.1 + draw.random() * (1 - 0.8 * number / each)
    time = LIMIT * (number + 1) / each
    return {
        "experiment": experiment,
        "problem": "digits",
        "method": method,
        "seed": seed,
        "trial": f"{method}{number:x}",
        "time": time,
        "budget": draw.choice((1.0, 3.0, 9.0, 27.0)),
        "validation_loss": loss,
        "validation_accuracy": 1 - loss / 2,
        "test_loss": loss * 1.1,
        "test_accuracy": 1 - loss / 2,
        "hyperparameters": {
            "learning_rate": [draw.random() for _ in range(7)],
            "momentum": [draw.random()],
            "weight_decay": [draw.random()],
        },
        "status": "completed",
        "training_seconds": LIMIT / each,
        "worker_seconds": time,
        "error": "",
        "info": {"config_id": str(number)},
    }


def _run(method: str, seed: int, evaluations: int) -> dict[str, Any]:
    return {
        "method": method,
        "seed": seed,
        "startup_seconds": 5.0,
        "wall_seconds": LIMIT,
        "searcher_seconds": 1.0,
        "evaluations": evaluations,
        "failures": {},
        "finished": "time_limit",
    }


def cost_of_report(folder: Path) -> tuple[float, float]:
    """Processor seconds and the largest resident memory in gigabytes of ``hyperlearn report``."""
    report = subprocess.Popen([sys.executable, "-m", "raytune_hyperlearn.cli", "report", str(folder)])
    _, status, used = os.wait4(report.pid, 0)
    if status:
        raise RuntimeError(f"the report ended with status {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main() -> None:
    """Write, report, print."""
    parser = argparse.ArgumentParser(description="Cost of a report on a folder with many rows.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="rows in all")
    for rows in parse_sizes(parser, sys.argv[1:], rows=[180]).rows:
        with tempfile.TemporaryDirectory() as place:
            write_folder(Path(place) / "folder", rows)
            seconds, gigabytes = cost_of_report(Path(place) / "folder")
        print(f"{rows:>9,} rows: {seconds:.1f} s of processor time, {gigabytes:.2f} GB")


if __name__ == "__main__":
    main()
