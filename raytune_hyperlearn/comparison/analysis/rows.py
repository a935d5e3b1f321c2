"""A run's records as columns: the numbers that are wanted of every row in arrays, whole records on demand.

A million records as objects take gigabytes. A row here takes about a hundred bytes; the rest of it, hyperparameters
above all, is read again from its place in the file for those rows that are asked for.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args, overload

import numpy as np
import numpy.typing as npt

from raytune_hyperlearn.checked import read_json
from raytune_hyperlearn.comparison.json_lines import whole_lines
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.results import Status

Run = tuple[str, int]
STATUSES: tuple[Status, ...] = get_args(Status)
COMPLETED = STATUSES.index("completed")
AT_ONCE = 4096
"""Rows that are put into arrays together."""

FROM_RECORD = ("time", "budget", "validation_loss", "validation_accuracy", "training_seconds", "worker_seconds")
FROM_INFO = ("inner_epochs", "training_loss", "mean_batch_size")
COLUMNS = np.dtype(
    [
        *((name, np.float64) for name in FROM_RECORD),
        *((name, np.float64) for name in FROM_INFO),  # NaN where a record does not tell
        ("trial", np.int64),  # equal for rows of one trial
        ("setting", np.int64),  # equal for the same hyperparameters
        ("start", np.int64),  # where the record stands in its source
        ("size", np.int32),
        ("run", np.int32),
        ("error", np.int32),  # place among the texts
        ("status", np.int8),  # place in STATUSES
        ("model_pick", np.int8),  # whether a model chose the setting; -1 where the method has none
        ("has_setting", np.bool_),
        ("has_config_id", np.bool_),
        ("has_hypergradient", np.bool_),
    ]
)


class Source(Protocol):
    """Where whole records come from."""

    def record(self, start: int, size: int) -> Record:
        """The record at a place."""


class Rows(Sequence[Record]):
    """Records in the order of observation.

    A sequence of records, each made when it is asked for; ``column`` and ``only`` need none of them.

    Args:
        table: numbers of every row, of type ``COLUMNS``, shape [R].
        errors: the distinct texts of errors; the first is empty.
        source: where the records are.
    """

    def __init__(self, table: npt.NDArray[Any], errors: Sequence[str], source: Source) -> None:
        self._table, self._errors, self._source = table, errors, source

    def column(self, name: str) -> npt.NDArray[Any]:
        """One entry of every row, shape [R]."""
        return self._table[name]

    @property
    def is_completed(self) -> npt.NDArray[np.bool_]:
        """Whether each row's evaluation completed, shape [R]."""
        return np.asarray(self.column("status") == COMPLETED)

    def only(self, places: npt.ArrayLike) -> Rows:
        """Some of the rows: by a mask [R], or by places in any order."""
        return Rows(self._table[np.asarray(places)], self._errors, self._source)

    def statuses(self) -> dict[Status, int]:
        """How many rows ended how, in the order of their first appearance."""
        return {STATUSES[code]: count for code, count in _counts(self.column("status"))}

    def errors(self) -> dict[str, int]:
        """How many rows have each text as their error, in the order of their first appearance; empty texts too."""
        return {self._errors[code]: count for code, count in _counts(self.column("error"))}

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Rows: ...

    def __getitem__(self, place: int | slice) -> Record | Rows:
        if isinstance(place, slice):
            return Rows(self._table[place], self._errors, self._source)
        row = self._table[place]
        return self._source.record(int(row["start"]), int(row["size"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == its for one, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return rows_of, (tuple(self),)


def rows_of(records: Iterable[Record]) -> Rows:
    """Records in memory as columns."""
    if isinstance(records, Rows):
        return records
    kept = tuple(records)
    runs = _by_run(((record, place, 1) for place, record in enumerate(kept)), _Memory(kept), {})
    table = np.concatenate([np.empty(0, COLUMNS), *(rows._table for rows in runs.values())])
    errors = next((rows._errors for rows in runs.values()), ("",))
    return Rows(table[np.argsort(table["start"], kind="stable")], errors, _Memory(kept))


def rows_by_run(records: Iterable[Record]) -> dict[Run, Rows]:
    """Records in memory as columns, by method and seed."""
    kept = tuple(records)
    return _by_run(((record, place, 1) for place, record in enumerate(kept)), _Memory(kept), {})


def read_rows(path: Path) -> tuple[dict[Run, Rows], tuple[tuple[str, str], ...]]:
    """Reads a file of records once, and by method and seed returns their columns; a torn last line is left out.

    Args:
        path: the file. It stays open as long as the rows are there.

    Returns:
        The rows by method and seed, and the distinct pairs of experiment and problem that they name.

    Raises:
        ValueError: if another line is not a record, naming file and line.
    """
    while True:
        owners: dict[tuple[str, str], None] = {}
        source = _File(path)
        runs = _by_run(_places(path), source, owners)
        if source.is_of(path):  # else it was replaced just now, and places are those of the other
            return runs, tuple(owners)


def thinned(count: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Places of all rows in order, or of ``most`` of them drawn at random without replacement.

    Args:
        count: rows in all.
        most: rows wanted at most.
        seed: of the draw. Evenly spaced rows would go in step with a bracket's rungs.
    """
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def evenly(count: int, most: int) -> npt.NDArray[np.intp]:
    """Places of at most ``most`` rows in order, evenly spaced from the first to the last: for what is one line."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


class _Memory:
    def __init__(self, records: tuple[Record, ...]) -> None:
        self._records = records

    def record(self, start: int, _size: int) -> Record:
        return self._records[start]


class _File:
    """Reads lines of a file that is appended to, or replaced by another of its name, but not written over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def is_of(self, path: Path) -> bool:
        """Whether the file is still the one of that path."""
        return os.path.samestat(os.fstat(self._descriptor), path.stat())

    def record(self, start: int, size: int) -> Record:
        return read_json(Record, os.pread(self._descriptor, size, start), str(self._path), "entry")


def _places(path: Path) -> Iterator[tuple[Record, int, int]]:
    start = 0
    for where, line in whole_lines(path):
        yield read_json(Record, line, where, "entry"), start, len(line)
        start += len(line) + 1


def _by_run(
    records: Iterable[tuple[Record, int, int]], source: Source, owners: dict[tuple[str, str], None]
) -> dict[Run, Rows]:
    runs: dict[Run, int] = {}
    errors: dict[str, int] = {"": 0}
    parts, part = [np.empty(0, COLUMNS)], []
    for record, start, size in records:
        owners.setdefault((record.experiment, record.problem))
        run = runs.setdefault((record.method, record.seed), len(runs))
        part.append(_row(record, start, size, run, errors.setdefault(record.error, len(errors))))
        if len(part) == AT_ONCE:
            parts.append(np.array(part, COLUMNS))
            part.clear()
    table = np.concatenate([*parts, np.array(part, COLUMNS)])
    parts.clear()
    ends = np.cumsum(np.bincount(table["run"], minlength=len(runs)))
    table = table[np.argsort(table["run"], kind="stable")]
    texts = tuple(errors)
    return {pair: Rows(own, texts, source) for pair, own in zip(runs, np.split(table, ends[:-1]), strict=False)}


def _row(record: Record, start: int, size: int, run: int, error: int) -> tuple[Any, ...]:
    info = record.info
    pick = info.get("model_based_pick")
    return (
        record.time,
        record.budget,
        record.validation_loss,
        record.validation_accuracy,
        record.training_seconds,
        record.worker_seconds,
        *((_number(info.get(name)) for name in FROM_INFO) if info else _UNTOLD),
        hash(record.trial),
        _setting(record.hyperparameters),
        start,
        size,
        run,
        error,
        _STATUS_CODES[record.status],
        -1 if pick is None else bool(pick),
        bool(record.hyperparameters),
        "config_id" in info,
        "hypergradient" in info,
    )


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else np.nan
    except OverflowError:  # a whole number of hundreds of digits
        return np.nan


def _setting(hyperparameters: Mapping[str, Sequence[float]]) -> int:
    """A number for the hyperparameters, the same for the same: 64 bits of a digest, so that none two meet by chance."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(hyperparameters):
        values = array("d", hyperparameters[name])
        digest.update(f"{name} {len(values)} ".encode())
        digest.update(values)
    return int.from_bytes(digest.digest(), "little", signed=True)


def _counts(codes: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Each code and how often it occurs, in the order of first appearance."""
    found, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return [(int(found[i]), int(counts[i])) for i in np.argsort(first)]


_STATUS_CODES = {status: code for code, status in enumerate(STATUSES)}
_UNTOLD = (np.nan,) * len(FROM_INFO)
