"""Tangents of any map, many at once: ``vmap`` over columns of ``torch.func.jvp``.

For y = f(x) and K tangents Ẋ of x, :class:`PushForward` gives y and the K tangents ∂f/∂x Ẋ of y. After some uses
with the same shapes the operations are recorded once and replayed without the transformations' own overhead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap

from raytune_hyperlearn.derivatives.column_chunks import ColumnChunks
from raytune_hyperlearn.derivatives.recording import recorded

Tensors = tuple[Tensor, ...]
Map = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]
"""(x, constants) ↦ (y, further results that need no tangents)."""

Pushed = tuple[Tensors, Tensors, Tensors]
"""(y, its tangents [K, …], further results)."""


@dataclass(frozen=True)
class PushForwardOptions:
    """How tangents are computed.

    Attributes:
        chunk: Columns per pass, or None for all at once; fewer where memory is short.
        recorded: Replay recorded operations (falls back where the map cannot be recorded); the same up to rounding.
        record_after: Uses of the same shapes before they are recorded.
    """

    chunk: int | None = None
    recorded: bool = True
    record_after: int = 200

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it must be at least 1 or None")


class PushForward:
    """One map, and its tangents for any number of columns.

    Args:
        function: A pure function; random layers in it draw from torch's default generators, the same masks for
            every column.
        options: In which chunks, recorded or not.
    """

    def __init__(self, function: Map, options: PushForwardOptions | None = None) -> None:
        self.function = function
        self.options = options or PushForwardOptions()
        self._chunks = ColumnChunks(self.options.chunk)
        self._uses: dict[tuple[object, ...], int] = {}
        self._recorded: dict[tuple[object, ...], Callable[..., Pushed] | None] = {}

    def __call__(self, point: Tensors, tangents: Tensors, constants: Tensors) -> Pushed:
        """y, its tangents and the further results.

        Args:
            point: x, floating-point tensors.
            tangents: Ẋ, one [K, …] for each of ``point``, K ≥ 1.
            constants: What the function needs besides x.
        """

        def push(part: slice) -> Pushed:
            return self._push(point, tuple(tangent[part] for tangent in tangents), constants)

        parts = self._chunks(push, len(tangents[0]), point[0].device)
        values, pushed, further = parts[-1]
        if len(parts) > 1:
            pushed = tuple(torch.cat(columns) for columns in zip(*(part[1] for part in parts), strict=True))
        return values, pushed, further

    def _push(self, *arguments: Tensors) -> Pushed:
        if not self.options.recorded:
            return push_forward(self.function, *arguments)
        key = tuple((a.shape, a.dtype, a.device) for group in arguments for a in group)
        self._uses[key] = self._uses.get(key, 0) + 1
        if key not in self._recorded and self._uses[key] > self.options.record_after:
            self._recorded[key] = recorded(partial(push_forward, self.function), arguments)
        replay = self._recorded.get(key)
        if replay is None:
            return push_forward(self.function, *arguments)
        with torch.no_grad():
            return replay(*arguments)


def push_forward(function: Map, point: Tensors, tangents: Tensors, constants: Tensors) -> Pushed:
    """y, its tangents and the further results; arguments as in :class:`PushForward`.

    Raises:
        RuntimeError: If an operation has no forward-mode derivative.
    """

    def column(*directions: Tensor) -> Pushed:
        pushed: Any = jvp(lambda *x: function(x, constants), point, directions, has_aux=True)
        return pushed  # type: ignore[no-any-return]

    shared_then_columns: Any = (None, 0, None)
    batched: Callable[..., Pushed] = vmap(column, out_dims=shared_then_columns, randomness="same")
    return batched(*tangents)
