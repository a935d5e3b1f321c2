"""A comparison's runs as tables that DeepCAVE opens: a folder per run with ``configspace.csv`` and ``trials.csv``.

DeepCAVE's own form (``history.jsonl``) is no choice: its release 1.4 cannot read what it writes, and of older files it
takes start for processor time. The tables are read by the converter that it calls DataFrame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from raytune_hyperlearn.comparison.analysis.curves import is_usable
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.analysis.settings import Bounds, Value, bounds_of, values_of
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
        bounds, metric = bounds_of(study, every), _metric_column(study, every)
        for (method, seed), own in rows.items():
            shared = {value: ends for value, ends in bounds.items() if all(value in values_of(row) for row in own)}
            if own and shared:
                _write_run(
                    study, own, shared, metric, folder / slug(f"{study.experiment.problem}-{method}-seed-{seed}")
                )


def _write_run(study: Study, rows: Sequence[Record], bounds: Mapping[Value, Bounds], metric: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    space = [(_text(at), "float", ends.low, ends.high, "uniform", str(ends.is_log), "") for at, ends in bounds.items()]
    (folder / SPACE_FILE).write_text(csv_text(SPACE_COLUMNS, space), encoding="utf-8")
    columns = ("config_id", "budget", "seed", metric, "start_time", "end_time", "status", "trial", "error")
    (folder / TRIALS_FILE).write_text(
        csv_text((*columns, *map(_text, bounds)), _trials(study, rows, list(bounds))), encoding="utf-8"
    )


def _evaluated(study: Study, result: RunResult) -> list[Record]:
    return [row for row in study.records_in_time(result) if row.hyperparameters]


def _trials(study: Study, rows: Sequence[Record], shown: Sequence[Value]) -> list[tuple[Cell, ...]]:
    numbers: dict[tuple[float, ...], int] = {}
    trials: list[tuple[Cell, ...]] = []
    for row in rows:
        own = values_of(row)
        setting = tuple(own[value] for value in shown)
        number = numbers.setdefault(setting, len(numbers))
        usable = is_usable(row, study.metric)
        status = STATUSES[row.status] if usable or row.status != COMPLETED else "failed"
        scored = getattr(row, study.metric) if usable else math.nan
        took = row.training_seconds if math.isfinite(row.training_seconds) else 0.0
        begun = max(row.time - took, 0.0)
        trials.append((number, row.budget, row.seed, scored, begun, row.time, status, row.trial, row.error, *setting))
    return trials


def _metric_column(study: Study, rows: Sequence[Record]) -> str:
    """The score's name with its bounds, as decimal fractions, and its direction."""
    values = [getattr(row, study.metric) for row in rows if is_usable(row, study.metric)] or [0.0]
    low, high = math.floor(min(values) * 1e6) / 1e6, math.ceil(max(values) * 1e6) / 1e6
    direction = "minimize" if study.metric == "validation_loss" else "maximize"
    return f"metric:{study.metric} [{low:.6f}; {high:.6f}] ({direction})"


def _text(value: Value) -> str:
    return value.name if value.size == 1 else f"{value.name}_{value.place}"
