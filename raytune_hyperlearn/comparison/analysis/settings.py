"""What was tried, one number at a time: the values of evaluated settings and where they may lie."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.records import Record


class Value(NamedTuple):
    """One value of a schedule: the hyperparameter, the value's place in it, and how many it has."""

    name: str
    place: int
    size: int


class Bounds(NamedTuple):
    """Where a value may lie."""

    low: float
    high: float
    is_log: bool


def values_of(row: Record) -> dict[Value, float]:
    """Every value of the row's setting."""
    return {
        Value(name, i, len(values)): float(value)
        for name, values in row.hyperparameters.items()
        for i, value in enumerate(values)
    }


def bounds_of(study: Study, rows: Iterable[Record]) -> dict[Value, Bounds]:
    """Of every value that has a range or was moved: its range in the space, widened to what was tried."""
    axes = {
        Value(name, i, len(own)): Bounds(axis.low, axis.high, axis.scale == "log")
        for name, own in study.experiment.searched.axes().items()
        for i, axis in enumerate(own)
    }
    tried: dict[Value, list[float]] = {}
    for row in rows:
        for value, number in values_of(row).items():
            tried.setdefault(value, []).append(number)
    found = {}
    for value, numbers in tried.items():
        known = axes.get(value, Bounds(numbers[0], numbers[0], is_log=False))
        low, high = min(known.low, *numbers), max(known.high, *numbers)
        if low < high:
            found[value] = Bounds(low, high, known.is_log and low > 0)
    return found
