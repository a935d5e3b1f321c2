"""Maximum pooling in a recorded graph: what need not be computed at every pixel before most of them are dropped.

A network pools after its rectifiers; the mask of a rectifier R (where R > 0) and the indices that pooling chose from R
then meet in tangents and in gradients, for all K columns at full resolution. R at a chosen index is what pooling
returned, P. So the mask of what is gathered from, or scattered to, chosen indices is that of P:

    gather(X · 1[R > 0]) = gather(X) · 1[P > 0]          scatter(G) · 1[R > 0] = scatter(G · 1[P > 0])

a quarter of the work for windows of 2×2. Exact, for overlapping windows as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

Steady = Callable[[fx.Node], bool]
"""Whether nothing writes to a node's memory."""

RESHAPES = (aten.reshape.default, aten.view.default, aten._unsafe_view.default)
COPIES = (aten.clone.default, aten.contiguous.default, aten.alias.default)


def mask_after_pooling(graph: fx.Graph, steady: Steady) -> None:
    """Apply both equations, in place; pooling's backward pass gets a shape where it reads a shape alone."""
    for node in list(graph.nodes):
        if node.target is aten.max_pool2d_with_indices_backward.default:
            _pass_a_shape_alone(node)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.target is aten.gather.default:
            _mask_what_is_gathered(node, steady)
        elif node.target is aten.threshold_backward.default:
            _mask_what_is_scattered(node, steady)


def _mask_what_is_gathered(gather: fx.Node, steady: Steady) -> None:
    source, dim, index = _arguments(gather)[:3]
    mask = _arguments(source)[0] if _is(source, RESHAPES) else source
    if not _is(mask, (aten.threshold_backward.default,)) or _arguments(mask)[2] != 0:
        return
    if len(mask.users) != 1 or len(source.users) != 1:
        return
    tangent, rectified = _arguments(mask)[:2]
    pooled = _pooled(index, rectified)
    if pooled is None or not steady(tangent):
        return
    *lead, n, c, height, width = _shape(mask)
    h, w = _shape(pooled)[-2:]
    rows = (*lead, n, c)
    if dim not in (-1, len(rows)) or _shape(source) != (*rows, height * width) or _shape(gather) != (*rows, h * w):
        return
    graph = gather.graph
    with graph.inserting_before(gather):
        pixels = graph.call_function(aten.reshape.default, (tangent, list(_shape(source))))
        chosen = graph.call_function(aten.gather.default, (pixels, dim, index))
        of_pooled = graph.call_function(aten.reshape.default, (pooled, [n, c, h * w]))
        masked = graph.call_function(aten.threshold_backward.default, (chosen, of_pooled, 0))
    masked.meta = dict(gather.meta)
    gather.replace_all_uses_with(masked)


def _mask_what_is_scattered(mask: fx.Node, steady: Steady) -> None:
    slope, rectified, threshold = _arguments(mask)[:3]
    scatter = _arguments(slope)[0] if _is(slope, RESHAPES) else slope
    if threshold != 0 or not _is(scatter, (aten.max_pool2d_with_indices_backward.default,)):
        return
    if len(scatter.users) != 1 or len(slope.users) != 1:
        return
    given, index = _arguments(scatter)[0], _arguments(scatter)[7]
    pooled = _pooled(index, rectified)
    if pooled is None or not steady(given) or not steady(scatter):
        return
    *lead, n, c, height, width = _shape(mask)
    h, w = _shape(pooled)[-2:]
    if _shape(slope) != _shape(mask) or _shape(scatter)[-2:] != (height, width) or _shape(given)[-2:] != (h, w):
        return
    graph = mask.graph
    with graph.inserting_before(scatter):
        apart = graph.call_function(aten.reshape.default, (given, [*lead, n, c, h, w]))
        masked = graph.call_function(aten.threshold_backward.default, (apart, pooled, 0))
        together = graph.call_function(aten.reshape.default, (masked, list(_shape(given))))
    scatter.update_arg(0, together)
    mask.replace_all_uses_with(slope)


def _pass_a_shape_alone(scatter: fx.Node) -> None:
    """An empty number, expanded, in place of a reordered copy of what was pooled."""
    pooled = _arguments(scatter)[1]
    if _is(pooled, (*RESHAPES, *COPIES)):
        with scatter.graph.inserting_before(scatter):
            number = scatter.graph.call_function(aten.new_empty.default, (_arguments(scatter)[0], []))
            like = scatter.graph.call_function(aten.expand.default, (number, list(_shape(pooled))))
        scatter.update_arg(1, like)


def _pooled(index: Any, rectified: Any) -> fx.Node | None:
    """What pooling ``rectified`` [N, C, H, W] returned, [N, C, h, w], if an index is this pooling's, repeated K times.

    Reshaping keeps the order of the numbers, and repeating all of them at the front keeps it K times.
    """
    node = index
    while _is(node, (*RESHAPES, *COPIES, aten.expand.default, aten.permute.default)):
        source = _arguments(node)[0]
        if node.target is aten.permute.default and list(_arguments(node)[1]) != list(range(len(_arguments(node)[1]))):
            return None
        if node.target is aten.expand.default and _shape(node)[-len(_shape(source)) :] != _shape(source):
            return None
        node = source
    if node.target is not operator.getitem or _arguments(node)[1] != 1:
        return None
    pool = _arguments(node)[0]
    if pool.target is not aten.max_pool2d_with_indices.default or _arguments(pool)[0] is not rectified:
        return None
    pooled = [user for user in pool.users if user.target is operator.getitem and _arguments(user)[1] == 0]
    return pooled[0] if pooled and len(_shape(rectified)) == 4 else None


def _is(node: Any, targets: tuple[object, ...]) -> bool:
    return isinstance(node, fx.Node) and node.target in targets


def _arguments(node: fx.Node) -> Any:
    return node.args


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)
