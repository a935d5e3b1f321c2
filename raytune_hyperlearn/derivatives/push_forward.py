"""Tangents of any map, many at once: ``vmap`` over columns of ``torch.func.jvp``.

For y = f(x) and K tangents Ẋ of x, :class:`PushForward` gives y and the K tangents ∂f/∂x Ẋ of y. After some uses
with the same shapes the operations are recorded once and replayed without the transformations' own overhead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

Tree = Mapping[str, Mapping[str, Tensor]]
"""Named tensors in named groups."""

TreeMap = Callable[[Tree, Tree], tuple[Tree, Tree]]
"""As :data:`Map`, from and to named tensors."""

Layout = tuple[tuple[str, tuple[str, ...]], ...]
"""Groups and the names in each, in order."""


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


class TreePushForward:
    """:class:`PushForward` for a map between named tensors.

    Args:
        function: A pure function of named tensors; its results have the same names whenever its arguments have.
        options: In which chunks, recorded or not.
    """

    def __init__(self, function: TreeMap, options: PushForwardOptions | None = None) -> None:
        self.function = function
        self.options = options
        self._pushes: dict[tuple[Layout, Layout], PushForward] = {}
        self._results: dict[tuple[Layout, Layout], tuple[Layout, Layout]] = {}

    def __call__(self, point: Tree, tangents: Tree, constants: Tree) -> tuple[Tree, Tree, Tree]:
        """y, its tangents and the further results.

        Args:
            point: x, floating-point tensors.
            tangents: Ẋ, one [K, …] under each name of ``point``, K ≥ 1.
            constants: What the function needs besides x.
        """
        key = layout(point), layout(constants)
        if key not in self._pushes:
            self._pushes[key] = PushForward(partial(self._flat, key), self.options)
        values, pushed, further = self._pushes[key](
            leaves(point, key[0]), leaves(tangents, key[0]), leaves(constants, key[1])
        )
        results, more = self._results[key]
        return tree(results, values), tree(results, pushed), tree(more, further)

    def _flat(self, key: tuple[Layout, Layout], point: Tensors, constants: Tensors) -> tuple[Tensors, Tensors]:
        """The function of leaves; the layouts of its results are noted, since a replay has leaves alone."""
        results = self.function(tree(key[0], point), tree(key[1], constants))
        self._results[key] = layout(results[0]), layout(results[1])
        return leaves(results[0], self._results[key][0]), leaves(results[1], self._results[key][1])


def layout(named: Tree) -> Layout:
    """Groups and names of a tree."""
    return tuple((group, tuple(entries)) for group, entries in named.items())


def leaves(named: Tree, order: Layout) -> Tensors:
    """The tensors of a tree in the order of a layout."""
    return tuple(named[group][name] for group, names in order for name in names)


def tree(order: Layout, tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """The tree of a layout from its leaves."""
    remaining = iter(tensors)
    return {group: {name: next(remaining) for name in names} for group, names in order}


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
