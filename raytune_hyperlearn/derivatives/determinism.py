"""Which layer of a network gives other results when it is computed twice from the same inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from raytune_hyperlearn.derivatives.column_chunks import random_state, set_random_state
from raytune_hyperlearn.derivatives.functional import FunctionalModel

Results = list[tuple[str, list[Tensor]]]
"""Layers and what they gave, in the order in which they gave it."""


def unsteady_layer(
    model: FunctionalModel, parameters: Tensor, statistics: Tensor, inputs: Tensor, targets: Tensor
) -> str | None:
    """Name and type of the first layer whose outputs, or gradients, differ between two runs on one batch, or None.

    Args:
        model: The functional model.
        parameters: w [D].
        statistics: b [B].
        inputs: Batch inputs [N, …].
        targets: Batch targets [N, …].
    """
    device = parameters.device
    before = random_state(device)
    first = _results(model, parameters, statistics, inputs, targets)
    set_random_state(device, before)
    second = _results(model, parameters, statistics, inputs, targets)
    set_random_state(device, before)
    for (name, one), (_, other) in zip(first, second, strict=False):
        if not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
            return name
    return None


def _results(model: FunctionalModel, w: Tensor, b: Tensor, inputs: Tensor, targets: Tensor) -> Results:
    """Outputs of all layers, then the gradients of their outputs, as they are computed."""
    results: Results = []
    named = {module: f"{name} ({type(module).__name__})" for name, module in model.model.named_modules() if name}

    def keep(module: nn.Module, _arguments: Any, output: Any) -> None:
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        results.append((named[module], [tensor.detach().clone() for tensor in tensors]))
        for tensor in tensors:
            if tensor.requires_grad:
                tensor.register_hook(lambda slope: results.append((named[module], [slope.detach().clone()])))

    handles = [module.register_forward_hook(keep) for module in named]
    try:
        with torch.enable_grad():
            leaf = w.detach().requires_grad_()
            loss, _ = model.training_loss(leaf, b, inputs, targets)
            torch.autograd.grad(loss, leaf)
    finally:
        for handle in handles:
            handle.remove()
    return results
