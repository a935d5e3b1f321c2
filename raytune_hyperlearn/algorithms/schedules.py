"""Schedules of hyperparameter values over a training run of T steps, with sharing windows.

A schedule of N values over a horizon of T steps uses value ⌊N t / T⌋ at step t = 0 … T − 1, so every value is
shared by a window of contiguous steps and the same N values can be replayed over any horizon.

Windows need not be equal: with lengths l_0 … l_{N−1} and c_i = l_0 + … + l_{i−1}, value i serves the steps
t ∈ [c_i T / c_N, c_{i+1} T / c_N). At T = c_N these are l_i steps; another horizon keeps the proportions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

Values = Mapping[str, Sequence[float]]
"""Hyperparameter name → its schedule of N values, for example ``{"learning_rate": [0.1, 0.01], …}``."""

Windows = Mapping[str, Sequence[int]]
"""Hyperparameter name → the N lengths of its windows, whole and positive; equal ones for names that are not there."""


def window_index(step: int, values: int, horizon: int, lengths: Sequence[int] | None = None) -> int:
    """Index of the value that step t ∈ [0, T) uses: ⌊N t / T⌋ where no lengths are given."""
    if lengths is None:
        return values * step // horizon
    ends = list(accumulate(lengths))
    return bisect_right(ends, ends[-1] * step // horizon)


def window_bounds(index: int, values: int, horizon: int, lengths: Sequence[int] | None = None) -> tuple[int, int]:
    """Steps [first, end) that share value ``index``; empty (first = end) where a short horizon skips the value."""
    if lengths is None:
        return -(-index * horizon // values), -(-(index + 1) * horizon // values)
    starts = [0, *accumulate(lengths)]
    return -(-starts[index] * horizon // starts[-1]), -(-starts[index + 1] * horizon // starts[-1])


def at_step(values: Values, step: int, horizon: int, windows: Windows | None = None) -> dict[str, float]:
    """The value of every hyperparameter in use at ``step``."""
    lengths = windows or {}
    return {
        name: schedule[window_index(step, len(schedule), horizon, lengths.get(name))]
        for name, schedule in values.items()
    }


def check_windows(values: Values, windows: Windows) -> None:
    """Refuse windows that do not fit the values.

    Raises:
        ValueError: If a name is unknown, or its lengths are not N positive whole numbers.
    """
    for name, lengths in windows.items():
        if name not in values:
            raise ValueError(f"windows hold {name!r}; they must be of {', '.join(values)}")
        if len(lengths) != len(values[name]):
            raise ValueError(f"windows of {name} are {len(lengths)}; its schedule has {len(values[name])} values")
        if any(not isinstance(length, int) or length < 1 for length in lengths):
            raise ValueError(f"windows of {name} are {list(lengths)}; they must be positive whole numbers")


@dataclass(frozen=True)
class Column:
    """One learnable value and the steps [first, end) that share it.

    Attributes:
        name: Hyperparameter, for example ``"learning_rate"``.
        index: Which of its values.
        first: First step of its window.
        end: First step after its window.
    """

    name: str
    index: int
    first: int
    end: int

    @property
    def steps(self) -> int:
        """Window length W, the number of steps that share the value."""
        return self.end - self.first


def columns(values: Values, learned: Sequence[str], horizon: int, windows: Windows | None = None) -> list[Column]:
    """The K columns of the learned hyperparameters, by the beginning of their windows.

    In this order the columns that have begun are always a prefix, so those that have not cost nothing.
    """
    lengths = windows or {}
    found = [
        Column(name, index, *window_bounds(index, len(values[name]), horizon, lengths.get(name)))
        for name in learned
        for index in range(len(values[name]))
    ]
    return sorted(found, key=lambda column: column.first)


def within(learnable: Sequence[Column], first: int, end: int) -> list[Column]:
    """The parts of the columns' windows in the steps [first, end), in the same order; those without any left out."""
    parts = [replace(column, first=max(column.first, first), end=min(column.end, end)) for column in learnable]
    return [part for part in parts if part.steps > 0]
