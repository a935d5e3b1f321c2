"""Tensor operations of a function, recorded once for given shapes and replayed without what surrounded them.

PyTorch's function transformations decide, at every call and for every operation, how it is differentiated and batched.
A recorded program is what they decided on: a flat list of tensor operations, cheaper to run.

It also shows what could not be seen operation by operation. Tangents that are zero whatever the numbers (of inputs,
of statistics, of piecewise linear layers' slopes) are made, multiplied, convolved and added all the same: products
with such zeros are zeros and sums with them are the other term, so both are taken out. And tensors are copied into
layouts that what follows does not need. Masks are not laid on what pooling drops (:mod:`.pooling`).
"""

from __future__ import annotations

import operator
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from raytune_hyperlearn.derivatives.pooling import mask_after_pooling

aten = torch.ops.aten

VIEWS = (
    aten.alias.default,
    aten.detach.default,
    aten.expand.default,
    aten.permute.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
)
"""Operations that look at their first argument in another way."""

SOURCES = (
    aten.new_zeros.default,
    aten.zeros.default,
    aten.zeros_like.default,
    aten._efficientzerotensor.default,
    aten._new_zeros_with_same_feature_meta.default,
)
"""Operations whose result is zero."""

LINEAR = (
    *VIEWS,
    aten._to_copy.default,
    aten._unsafe_view.default,
    aten.clone.default,
    aten.div.Scalar,
    aten.div.Tensor,
    aten.gather.default,
    aten.max_pool2d_with_indices_backward.default,
    aten.mean.default,
    aten.mean.dim,
    aten.mul.Scalar,
    aten.neg.default,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.threshold_backward.default,
)
"""Operations that are linear in their first argument: zero where it is."""

PRODUCTS = (aten.bmm.default, aten.mm.default, aten.mul.Tensor)
"""Operations that are zero where one of their first two arguments is."""

SUMS = (aten.add.Tensor, aten.sub.Tensor)

RELAXED = (aten.alias.default, aten.clone.default, aten.view.default, aten._unsafe_view.default)


def recorded(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any] | None:
    """The function's tensor operations for arguments of these shapes, or None if they cannot be recorded.

    Args:
        function: Maps tensors, or tuples of them, to nested tuples of tensors.
        arguments: What it is recorded with. Random numbers are drawn from torch's generators, which are put back.

    Returns:
        The same function for these shapes, for use without autograd, equal up to rounding. Where a factor is not
        finite, its product with a zero of the above kind is zero, not NaN.
    """
    device = next(a.device for a in torch.utils._pytree.tree_leaves(arguments))
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = make_fx(function)(*arguments)
    except (RuntimeError, TypeError, ValueError, NotImplementedError, KeyError, AttributeError):
        return None  # control flow that depends on values: the transformations themselves still work
    program.graph.eliminate_dead_code()
    simplify(program.graph)
    program.recompile()
    return program


def simplify(graph: fx.Graph) -> None:
    """Take zeros, needless copies and needless passes over memory out of a recorded graph, in place."""
    _without_copies_into_zeros(graph)
    written = _written(graph)
    zeros: set[fx.Node] = set()
    for node in graph.nodes:
        if _owner(node) in written:
            continue
        if _is_zero(node, zeros):
            zeros.add(node)
        elif node.target in SUMS:
            _drop_zero_term(node, zeros, written)
        elif node.target in RELAXED:
            _relax(node, written)
    mask_after_pooling(graph, lambda node: _owner(node) not in written)
    graph.eliminate_dead_code()


def _is_zero(node: fx.Node, zeros: set[fx.Node]) -> bool:
    """Whether a node is zero given the zeros among the nodes before it."""
    arguments: Any = node.args
    if node.target in SOURCES:
        return True
    if node.target in LINEAR:
        return arguments[0] in zeros
    if node.target in PRODUCTS:
        return arguments[0] in zeros or arguments[1] in zeros
    if node.target in SUMS:
        return arguments[0] in zeros and arguments[1] in zeros
    if node.target is aten.convolution.default:
        return (arguments[0] in zeros or arguments[1] in zeros) and (arguments[2] is None or arguments[2] in zeros)
    if node.target is operator.getitem and arguments[0].target is aten.convolution_backward.default:
        slope, inputs, weight = arguments[0].args[:3]
        factors = {0: (slope, weight), 1: (slope, inputs), 2: (slope,)}[arguments[1]]
        return any(factor in zeros for factor in factors)
    return False


def _drop_zero_term(node: fx.Node, zeros: set[fx.Node], written: Mapping[fx.Node, int]) -> None:
    """Replace a sum with a zero by its other term, where that has the sum's shape and type."""
    first, second = node.args[:2]
    if second in zeros:
        _replace(node, first, written)
    elif first in zeros and node.target is aten.add.Tensor and not node.kwargs:
        _replace(node, second, written)


def _relax(node: fx.Node, written: Mapping[fx.Node, int]) -> None:
    """Copy only if the layout asks for it: what an argument has been replaced by may have another layout."""
    source = node.all_input_nodes[0]
    if node.target is aten.alias.default:
        node.replace_all_uses_with(source)
    elif node.target is not aten.clone.default:
        node.target = aten.reshape.default
    elif node.kwargs == {"memory_format": torch.contiguous_format} and _owner(source) not in written:
        node.target, node.kwargs = aten.contiguous.default, {}


def _without_copies_into_zeros(graph: fx.Graph) -> None:
    """Use what was copied into fresh zeros itself, where nothing else is written there."""
    written = _written(graph)
    for node in graph.nodes:
        if node.target is aten.copy_.default:
            into, source = node.args[:2]
            if into.target in SOURCES and written[into] == 1 and len(into.users) == 1:
                _replace(node, source, written)
                if not node.users:
                    graph.erase_node(node)


def _replace(node: fx.Node, by: Any, written: Mapping[fx.Node, int]) -> None:
    """Use another node in place of one, if it is known to have its shape and type and stays as it is."""
    if not isinstance(by, fx.Node) or _owner(by) in written:
        return
    mine, its = by.meta.get("tensor_meta"), node.meta.get("tensor_meta")  # a module's own tensors have none
    if mine is not None and its is not None and mine.shape == its.shape and mine.dtype == its.dtype:
        node.replace_all_uses_with(by)


def _written(graph: fx.Graph) -> Counter[fx.Node]:
    """How many operations write to the memory that a node owns."""
    return Counter(_owner(argument) for node in graph.nodes for argument in _targets(node))


def _targets(node: fx.Node) -> list[fx.Node]:
    """Arguments that an operation writes to."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    written = [
        argument
        for argument, place in zip(node.args, node.target._schema.arguments, strict=False)
        if place.alias_info is not None and place.alias_info.is_write
    ]
    return [argument for argument in written if isinstance(argument, fx.Node)]


def _owner(node: fx.Node) -> fx.Node:
    """The node that made the memory a node's result lies in."""
    while _shares(node):
        node = node.all_input_nodes[0]
    return node


def _shares(node: fx.Node) -> bool:
    """Whether a result may lie in its first argument's memory."""
    if node.target is operator.getitem:
        return _shares(node.all_input_nodes[0])
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    aliases = any(result.alias_info is not None for result in node.target._schema.returns)
    return bool(node.all_input_nodes) and (aliases or node.target is aten._unsafe_view.default)
