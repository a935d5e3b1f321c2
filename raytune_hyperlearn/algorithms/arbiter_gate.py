"""Features gated on their way into one layer of a network that notices nothing of it.

The response of [Arbiter] (equation 4) multiplies the high-level features h of a network by 1 + Φ(s). Here
this is done to any ``nn.Module`` from outside, for the length of one evaluation: a forward pre-hook on the
layer that the features enter. Parameters, their gradients, the statistics of BatchNorm and the modes of the
modules are afterwards what they were before; in evaluation mode dropout draws no random numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MeanLoss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of (outputs, targets), a scalar."""

GatedLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def feature_layer(model: nn.Module, name: str | None) -> GatedLayer:
    """The layer that the high-level features enter.

    Args:
        model: the inner network.
        name: the layer's name in ``model.named_modules()``; None is the Linear layer that was registered
            last.

    Raises:
        ValueError: if there is no such layer, or if it is neither linear nor a convolution.
    """
    layers = dict(model.named_modules())
    if name is None:
        linear = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
        if not linear:
            raise ValueError(f"layer must be named for {type(model).__name__}, which has no Linear layer, got None")
        return linear[-1]
    found = layers.get(name)
    if not isinstance(found, GatedLayer):
        fit = [key for key, layer in layers.items() if isinstance(layer, GatedLayer)]
        raise ValueError(f"layer must be one of the model's linear or convolution layers {fit}, got {name!r}")
    return found


def feature_count(layer: GatedLayer) -> int:
    """f, the number of features (of a Linear layer) or channels (of a convolution) that enter the layer."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def along_features(layer: GatedLayer, response: Tensor) -> Tensor:
    """Φ(s) [f] shaped to broadcast over the layer's input: last dimension, or a convolution's channels."""
    return response.reshape(-1, *(1 for _ in getattr(layer, "kernel_size", ())))


def gate(features: Tensor, response: Tensor) -> Tensor:
    """ĥ = h + sg(h) ⊙ Φ(s) (equation 4).

    Args:
        features: h, [B, f] or with more dimensions.
        response: Φ(s), of a shape that broadcasts against h.
    """
    return features + features.detach() * response


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the body; afterwards every module has the mode it had, also where they differed."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def outer_loss(
    model: nn.Module, layer: GatedLayer, response: Tensor, inputs: Tensor, targets: Tensor, loss: MeanLoss
) -> Tensor:
    """F: the loss of the network in evaluation mode whose ``layer`` receives gated features.

    Differentiable in ``response`` alone. The part of the network before the layer records no graph, so the
    backward pass goes through the layers from ``layer`` on and no further.

    Args:
        model: the inner network.
        layer: the layer of it that the features enter.
        response: Φ(s), [f].
        inputs: validation inputs, [B, ...].
        targets: their targets, [B, ...].
        loss: mean loss of outputs and targets.

    Returns:
        F, a scalar.

    Raises:
        RuntimeError: if the network's output does not depend on the layer.
    """
    shaped = along_features(layer, response)

    def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # The graph begins here; no_grad below puts the mode back when the forward pass is over.
        torch.set_grad_enabled(True)
        return (gate(args[0], shaped), *args[1:])

    hook = layer.register_forward_pre_hook(enter)
    try:
        with evaluation_mode(model), torch.no_grad():
            outer = loss(model(inputs), targets)
    finally:
        hook.remove()
    if not outer.requires_grad:
        raise RuntimeError(f"the outer loss of {type(model).__name__} does not depend on its layer {layer}")
    return outer
