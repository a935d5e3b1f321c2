"""Examples: tensors with one row each, in memory or read from a data set when they are needed.

A model may take several tensors. Its inputs are then a tuple, and the model is called with ``*inputs``, or a dict, and
it is called with ``**inputs``. :class:`Fields` keeps them together. It is indexed, moved and batched like one tensor,
so nothing between the data and the model needs to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node
from torch.utils.data import Dataset

Inputs = Any
"""A tensor [N, …], or :class:`Fields`: the operations that are used on the way to the model are the same."""
Rows = Tensor | slice
READERS = 4
"""Threads that read ahead, a batch each: decoding images and reading files leave Python's lock."""


class Fields:
    """Several tensors of one length that are indexed together.

    Args:
        given: Name → tensor [N, …] for a model with keyword arguments, or a tuple of tensors for one with positional.

    Raises:
        ValueError: If there is none, or they differ in length or device.
    """

    def __init__(self, given: Mapping[str, Tensor] | tuple[Tensor, ...]) -> None:
        named = given.items() if isinstance(given, Mapping) else enumerate(given)
        self.tensors: dict[str | int, Tensor] = dict(named)
        if not self.tensors:
            raise ValueError("inputs is empty; it must hold at least one tensor")
        first = next(iter(self.tensors.values()))
        for name, tensor in self.tensors.items():
            check_rows(f"inputs[{name!r}]", tensor)
            if len(tensor) != len(first):
                raise ValueError(
                    f"inputs[{name!r}] has {len(tensor)} rows; it must have as many as others, {len(first)}"
                )
            if tensor.device != first.device:
                raise ValueError(f"inputs[{name!r}] is on {tensor.device}; it must be where others are, {first.device}")

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Rows) -> Fields:
        return self.map(lambda tensor: tensor[rows])

    @property
    def device(self) -> torch.device:
        """Where all tensors are."""
        return next(iter(self.tensors.values())).device

    @property
    def shape(self) -> dict[str | int, list[int]]:
        """The shape of every tensor, for messages."""
        return {name: list(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def dtype(self) -> str:
        """All types, for messages."""
        return ", ".join(str(tensor.dtype) for tensor in self.tensors.values())

    def is_floating_point(self) -> bool:
        """False: several tensors are neither a vector nor an image, whatever their types."""
        return False

    def clone(self) -> Fields:
        """A copy."""
        return self.map(torch.clone)

    def unsqueeze(self, dim: int) -> Fields:
        """Every tensor with a further dimension.

        Args:
            dim: Position of the new dimension, of length 1.
        """
        return self.map(lambda tensor: tensor.unsqueeze(dim))

    def map(self, change: Callable[[Tensor], Tensor]) -> Fields:
        """The same names with changed tensors.

        Args:
            change: Called with every tensor.
        """
        return _rebuilt([change(tensor) for tensor in self.tensors.values()], list(self.tensors))


def _rebuilt(tensors: Iterable[Any], names: Any) -> Fields:
    """Without checks: transformations of torch put objects of their own where the tensors were."""
    fields = object.__new__(Fields)
    fields.tensors = dict(zip(names, tensors, strict=True))
    return fields


register_pytree_node(
    Fields,
    lambda fields: (list(fields.tensors.values()), list(fields.tensors)),
    _rebuilt,
    serialized_type_name="Fields",
)


def unpack(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Hook of a module: called with :class:`Fields` it takes them as its arguments."""
    if len(arguments) != 1 or not isinstance(arguments[0], Fields):
        return arguments, named
    tensors = arguments[0].tensors
    positional = tuple(value for name, value in tensors.items() if isinstance(name, int))
    return positional, {name: value for name, value in tensors.items() if isinstance(name, str)}


@dataclass(frozen=True)
class TakesFields:
    """Builds a model that can be called with :class:`Fields`; its parameters keep their names."""

    build: Callable[[], nn.Module]

    def __call__(self) -> nn.Module:
        """A new model."""
        model = self.build()
        if isinstance(model, nn.Module):
            model.register_forward_pre_hook(unpack, with_kwargs=True)
        return model


def check_rows(name: str, values: object) -> None:
    """Refuse what is no tensor with rows."""
    if not isinstance(values, Tensor) or values.ndim == 0:
        found = "a number" if isinstance(values, Tensor) else f"of type {type(values).__name__}"
        raise ValueError(f"{name} is {found}; it must be a tensor with one row per example")


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
