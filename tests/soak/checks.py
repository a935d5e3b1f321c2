"""What must hold after every round, whatever was hit: complaints in words, none where all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_hyperlearn.comparison.records import RECORDS_FILE, RUNS_FILE, Record, read_records, read_runs
from tests.soak.tasks import Task, group_results

RESTART = 15.0
"""Seconds within which a worker is started again; a limit may be passed by so many."""
DETERMINED = ("outer_step", "hypergradient", "mean_batch_size", "largest_batch_size", "updates", "config_id")
"""Entries of a record's info that the seed alone determines."""


def complaints(task: Task, folder: Path, undisturbed: Path | None) -> list[str]:
    """What is wrong with a run that has ended.

    Args:
        task: What was run.
        folder: Its folder.
        undisturbed: The folder of the same run without faults; None where it ends at a limit.
    """
    if not task.method:
        same = undisturbed is None or group_results(folder) == group_results(undisturbed)
        return [] if same else ["the group's results differ from the undisturbed run's"]
    rows, runs = read_records(folder / RECORDS_FILE), read_runs(folder / RUNS_FILE)
    if len(runs) != 1:
        return [f"{len(runs)} summaries; there must be one"]
    found = keys_twice(rows) + steps_lost(rows)
    if runs[0].evaluations != len(rows):
        found.append(f"the summary counts {runs[0].evaluations} results; there are {len(rows)}")
    times = [row.time for row in rows]
    if times != sorted(times):
        found.append("the clock ran backwards")
    if runs[0].wall_seconds > task.limit + RESTART:
        found.append(f"a limit of {task.limit:g} s became {runs[0].wall_seconds:.1f} s")
    if undisturbed is not None and numbers(rows) != numbers(read_records(undisturbed / RECORDS_FILE)):
        found.append("the rows differ from the undisturbed run's")
    return found


def keys_twice(rows: Sequence[Record]) -> list[str]:
    """Results that were recorded more than once."""
    keys = Counter(_key(row) for row in rows if row.status != "crashed")
    return [f"{key} is recorded {count} times" for key, count in keys.items() if count > 1]


def steps_lost(rows: Sequence[Record]) -> list[str]:
    """Outer steps that are missing between the first and the last."""
    steps = [row.info["outer_step"] for row in rows if "outer_step" in row.info]
    return [] if steps == list(range(len(steps))) else [f"outer steps are {steps}"]


def numbers(rows: Sequence[Record]) -> list[Any]:
    """What a seed determines of a run's results, in order."""
    return [
        (
            row.budget,
            row.validation_loss,
            row.test_loss,
            row.hyperparameters,
            [row.info.get(name) for name in DETERMINED],
        )
        for row in rows
        if row.status != "crashed"
    ]


def _key(row: Record) -> tuple[Any, ...]:
    return row.trial, row.budget, row.info.get("outer_step"), row.info.get("config_id")
