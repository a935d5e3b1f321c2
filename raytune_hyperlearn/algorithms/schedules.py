"""Schedules of hyperparameter values over a training run of T steps, with sharing windows.

A schedule of N values over a horizon of T steps uses value ⌊N t / T⌋ at step t = 0 … T − 1, so every value is
shared by a window of contiguous steps and the same N values can be replayed over any horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Mapping[str, Sequence[float]]
"""Hyperparameter name → its schedule of N values, for example ``{"learning_rate": [0.1, 0.01], …}``."""


def window_index(step: int, values: int, horizon: int) -> int:
    """Index ⌊N t / T⌋ of the value that step t ∈ [0, T) uses."""
    return values * step // horizon


def window_bounds(index: int, values: int, horizon: int) -> tuple[int, int]:
    """Steps [first, end) that share value ``index``; empty (first = end) where N > T skips the value."""
    return -(-index * horizon // values), -(-(index + 1) * horizon // values)


def at_step(values: Values, step: int, horizon: int) -> dict[str, float]:
    """The value of every hyperparameter in use at ``step``."""
    return {name: schedule[window_index(step, len(schedule), horizon)] for name, schedule in values.items()}


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


def columns(values: Values, learned: Sequence[str], horizon: int) -> list[Column]:
    """The K columns of the learned hyperparameters, by the beginning of their windows.

    In this order the columns that have begun are always a prefix, so those that have not cost nothing.
    """
    found = [
        Column(name, index, *window_bounds(index, len(values[name]), horizon))
        for name in learned
        for index in range(len(values[name]))
    ]
    return sorted(found, key=lambda column: column.first)
