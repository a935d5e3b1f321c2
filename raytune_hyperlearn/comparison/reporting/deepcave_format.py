"""A comparison's runs as tables that DeepCAVE opens: a folder per run with ``configspace.csv`` and ``trials.csv``.

DeepCAVE's own form (``history.jsonl``) is no choice: its release 1.4 cannot read what it writes, and of older files it
takes start for processor time. The tables are read by the converter that it calls DataFrame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raytune_hyperlearn.comparison.analysis.curves import is_usable
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reporting.figure_data import Cell, csv_text
from raytune_hyperlearn.comparison.reporting.takeaway import slug
from raytune_hyperlearn.results import COMPLETED, CRASHED, DIVERGED, OUT_OF_MEMORY, Status

SPACE_FILE, TRIALS_FILE = "configspace.csv", "trials.csv"
SPACE_COLUMNS = ("name", "type", "lower", "upper", "distribution", "log", "default")
STATUSES: Mapping[Status, str] = {
    COMPLETED: "success",
    DIVERGED: "failed",
    CRASHED: "crashed",
    OUT_OF_MEMORY: "memoryout",
}
"""DeepCAVE's words."""


class Bounds(NamedTuple):
    """Where a value may lie."""

    low: float
    high: float
    is_log: bool


def write_deepcave(studies: Sequence[Study], folder: Path) -> None:
    """Writes a folder per run; runs without an evaluated setting are left out.

    Settings and scores have the same bounds in all runs on one problem, so that DeepCAVE can group them.

    Args:
        studies: One per problem.
        folder: To make.
    """
    for study in studies:
        rows = {pair: _evaluated(study, result) for pair, result in study.runs.items()}
        every = [row for own in rows.values() for row in own]
        bounds, metric = _bounds(study, every), _metric_column(study, every)
        for (method, seed), own in rows.items():
            shared = {name: ends for name, ends in bounds.items() if all(name in _flat(row) for row in own)}
            if own and shared:
                _write_run(
                    study, own, shared, metric, folder / slug(f"{study.experiment.problem}-{method}-seed-{seed}")
                )


def _write_run(study: Study, rows: Sequence[Record], bounds: Mapping[str, Bounds], metric: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    space = [(name, "float", ends.low, ends.high, "uniform", str(ends.is_log), "") for name, ends in bounds.items()]
    (folder / SPACE_FILE).write_text(csv_text(SPACE_COLUMNS, space), encoding="utf-8")
    columns = ("config_id", "budget", "seed", metric, "start_time", "end_time", "status", "trial", "error", *bounds)
    (folder / TRIALS_FILE).write_text(csv_text(columns, _trials(study, rows, list(bounds))), encoding="utf-8")


def _evaluated(study: Study, result: RunResult) -> list[Record]:
    return [row for row in study.records_in_time(result) if row.hyperparameters]


def _trials(study: Study, rows: Sequence[Record], names: Sequence[str]) -> list[tuple[Cell, ...]]:
    numbers: dict[tuple[float, ...], int] = {}
    trials: list[tuple[Cell, ...]] = []
    for row in rows:
        flat = _flat(row)
        setting = tuple(flat[name] for name in names)
        number = numbers.setdefault(setting, len(numbers))
        usable = is_usable(row, study.metric)
        status = STATUSES[row.status] if usable or row.status != COMPLETED else "failed"
        value = getattr(row, study.metric) if usable else math.nan
        took = row.training_seconds if math.isfinite(row.training_seconds) else 0.0
        begun = max(row.time - took, 0.0)
        trials.append((number, row.budget, row.seed, value, begun, row.time, status, row.trial, row.error, *setting))
    return trials


def _bounds(study: Study, rows: Sequence[Record]) -> dict[str, Bounds]:
    """Of every value that has a range or was moved: its range in the space, widened to what was tried."""
    axes = {
        _value_name(name, i, len(own)): Bounds(axis.low, axis.high, axis.scale == "log")
        for name, own in study.experiment.searched.axes().items()
        for i, axis in enumerate(own)
    }
    seen: dict[str, list[float]] = {}
    for row in rows:
        for name, value in _flat(row).items():
            seen.setdefault(name, []).append(value)
    known = {name: axes.get(name, Bounds(values[0], values[0], is_log=False)) for name, values in seen.items()}
    wide = {name: (min(known[name].low, *values), max(known[name].high, *values)) for name, values in seen.items()}
    return {n: Bounds(low, high, known[n].is_log and low > 0) for n, (low, high) in wide.items() if low < high}


def _metric_column(study: Study, rows: Sequence[Record]) -> str:
    """The score's name with its bounds, as decimal fractions, and its direction."""
    values = [getattr(row, study.metric) for row in rows if is_usable(row, study.metric)] or [0.0]
    low, high = math.floor(min(values) * 1e6) / 1e6, math.ceil(max(values) * 1e6) / 1e6
    direction = "minimize" if study.metric == "validation_loss" else "maximize"
    return f"metric:{study.metric} [{low:.6f}; {high:.6f}] ({direction})"


def _flat(row: Record) -> dict[str, float]:
    return {
        _value_name(name, i, len(values)): float(value)
        for name, values in row.hyperparameters.items()
        for i, value in enumerate(values)
    }


def _value_name(name: str, place: int, size: int) -> str:
    return name if size == 1 else f"{name}_{place}"
