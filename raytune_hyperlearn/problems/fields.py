"""Several inputs of a model, kept together.

A model may take several tensors. Its inputs are then a tuple, and the model is called with ``*inputs``, or a dict, and
it is called with ``**inputs``. :class:`Fields` keeps them together. It is indexed, moved and batched like one tensor,
so nothing between the data and the model needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node

Rows = Tensor | slice


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
