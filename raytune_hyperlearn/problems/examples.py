"""Examples: tensors with one row each, in memory or read from a data set when they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from raytune_hyperlearn.problems.fields import Fields, Rows, check_rows

Inputs = Any
"""A tensor [N, …], or :class:`Fields`: the operations that are used on the way to the model are the same."""
READERS = 4
"""Threads that read ahead, a batch each: decoding images and reading files leave Python's lock."""


@dataclass(frozen=True)
class Examples:
    """Inputs [N, …] and targets [N, …] of the same length.

    Attributes:
        inputs: A tensor; or a tuple or dict of tensors, which the model is called with as ``*inputs`` or ``**inputs``
            and which is kept as :class:`Fields`.
        targets: A tensor.
    """

    inputs: Inputs
    targets: Tensor

    def __post_init__(self) -> None:
        if isinstance(self.inputs, (Mapping, tuple)):
            object.__setattr__(self, "inputs", Fields(self.inputs))
        if not isinstance(self.inputs, Fields):
            check_rows("inputs", self.inputs)
        check_rows("targets", self.targets)
        if self.inputs.device != self.targets.device:
            raise ValueError(f"targets is on {self.targets.device}; it must be where inputs is, {self.inputs.device}")
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"targets has {len(self.targets)} rows; it must have as many as inputs, {len(self.inputs)}"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: Rows) -> Examples:
        return Examples(self.inputs[rows], self.targets[rows])

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.targets.device

    def read(self) -> Examples:
        """The same examples in memory."""
        return self

    def chosen(self, rows: Tensor) -> Examples:
        """Some of the examples without a copy; batches of them are gathered when they are asked for.

        Args:
            rows: Which, [M].
        """
        return ChosenExamples(self, rows)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Examples:
        """The same examples on ``device``; floating-point inputs (and targets) are cast to ``dtype`` if given.

        Args:
            device: Where the tensors go.
            dtype: New type of floating-point tensors; None keeps theirs.
        """

        def moved(values: Tensor) -> Tensor:
            return values.to(device, dtype if dtype is not None and values.is_floating_point() else None)

        inputs = self.inputs.map(moved) if isinstance(self.inputs, Fields) else moved(self.inputs)
        return Examples(inputs, moved(self.targets))


class ChosenExamples(Examples):
    """Some rows of examples in memory, which are not copied: those of a batch are gathered when it is asked for.

    ``inputs`` and ``targets`` of all of them are copied when they are first used, and kept.

    Args:
        whole: The examples, which may lie in memory that cannot be written to.
        rows: Which of them, [N].
    """

    whole: Examples
    rows: Tensor

    def __init__(self, whole: Examples, rows: Tensor) -> None:
        for name, value in (("whole", whole), ("rows", rows)):
            object.__setattr__(self, name, value)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"ChosenExamples({len(self)} of {len(self.whole)})"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> Examples:
        return self.whole[self.rows[rows]]

    def __getattr__(self, name: str) -> Any:
        if name not in ("inputs", "targets"):
            raise AttributeError(name)
        object.__setattr__(self, name, getattr(self.whole, name)[self.rows])
        return self.__dict__[name]

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.whole.device

    def read(self) -> Examples:
        """A copy of these rows."""
        return self.whole[self.rows]

    def chosen(self, rows: Tensor) -> ChosenExamples:
        """Some of these rows.

        Args:
            rows: Which, [M].
        """
        return ChosenExamples(self.whole, self.rows[rows])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ChosenExamples:
        """The same rows on ``device``, see :meth:`Examples.to`.

        Args:
            device: Where the tensors go.
            dtype: New type of floating-point tensors; None keeps theirs.
        """
        return ChosenExamples(self.whole.to(device, dtype), self.rows.to(device))


Collate = Callable[[list[Any]], Any]
"""Makes a batch of a list of examples, as the one of PyTorch's ``DataLoader``."""


class StoredExamples(Examples):
    """Examples that stay in a data set until a batch needs them.

    Args:
        dataset: Map-style: ``dataset[i]`` is the same example at every call. It is read by several threads.
        collate: Makes examples in memory of a list of what the data set holds.
        rows: Which of the data set, [N].
        device: Where batches go.
        dtype: Type of their floating-point numbers, or None for what collate gives.
    """

    dataset: Dataset[Any]
    collate: Callable[[list[Any]], Examples]
    rows: Tensor
    place: torch.device
    dtype: torch.dtype | None

    def __init__(
        self,
        dataset: Dataset[Any],
        collate: Callable[[list[Any]], Examples],
        rows: Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        own = {"dataset": dataset, "collate": collate, "rows": rows, "place": torch.device(device), "dtype": dtype}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"StoredExamples({len(self)} of {type(self.dataset).__name__})"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> StoredExamples:
        chosen = self.rows[rows.cpu() if isinstance(rows, Tensor) else rows]
        return StoredExamples(self.dataset, self.collate, chosen, self.place, self.dtype)

    def chosen(self, rows: Tensor) -> StoredExamples:
        """Some of the examples.

        Args:
            rows: Which, [M].
        """
        return self[rows]

    def __getattr__(self, name: str) -> Any:
        if name in ("inputs", "targets"):
            raise ValueError(
                f"{name} of {self!r} are not in memory, which this method needs; memory_limit of Problem.from_datasets "
                "must be larger"
            )
        raise AttributeError(name)

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self.place

    def read(self) -> Examples:
        """These examples in memory."""
        return self.collate([self.dataset[row] for row in self.rows.tolist()]).to(self.place, self.dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> StoredExamples:
        """The same examples, whose batches go to ``device``.

        Args:
            device: Where the tensors go.
            dtype: New type of floating-point tensors; None keeps theirs.
        """
        return StoredExamples(self.dataset, self.collate, self.rows, device, dtype or self.dtype)


def read_ahead(parts: Iterable[Examples]) -> Iterator[Examples]:
    """``parts`` in memory and in order; those that are stored are read while earlier ones are used."""
    pool = ThreadPoolExecutor(READERS)
    waiting: deque[Future[Examples]] = deque()
    try:
        for part in parts:
            if not isinstance(part, StoredExamples):
                yield part
                continue
            waiting.append(pool.submit(part.read))
            if len(waiting) > READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


ROWS_AT_ONCE = 2000
STORED_ROWS_AT_ONCE = 256
"""Of data that do not fit in memory, where several parts are there at a time."""


@dataclass(frozen=True)
class InParts:
    """Examples in order, a part at a time, in memory; every pass reads them again.

    Attributes:
        examples: N examples.
        rows: At most so many at a time.
    """

    examples: Examples
    rows: int = ROWS_AT_ONCE

    def __iter__(self) -> Iterator[Examples]:
        rows = min(self.rows, STORED_ROWS_AT_ONCE) if isinstance(self.examples, StoredExamples) else self.rows
        starts = range(0, len(self.examples), rows)
        return read_ahead(self.examples[slice(start, start + rows)] for start in starts)


def validation_batches(examples: Examples, rows: int = ROWS_AT_ONCE) -> Iterable[tuple[Tensor, Tensor]]:
    """The examples in order, at most ``rows`` at a time; what is not in memory is read again in every pass."""
    parts = Batches(InParts(examples, rows))
    return parts if isinstance(examples, StoredExamples) else list(parts)


@dataclass(frozen=True)
class Batches:
    """Parts of examples as pairs of inputs and targets."""

    parts: InParts

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((part.inputs, part.targets) for part in self.parts)
