"""Hypergradients the slow, plain way: reverse-mode differentiation through the whole unrolled training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound, NormBound
from tests.plain_networks import Network, State, plain_cross_entropy

Batches = Sequence[tuple[Tensor, Tensor]]


def training_batches(network: Network, steps: int, size: int = 8, seed: int = 10) -> Batches:
    return [network.examples(size, seed + step) for step in range(steps)]


def validation_batches(network: Network) -> Batches:
    """Two batches of different sizes: the mean is over examples, not over batches."""
    return [network.examples(7, 1), network.examples(4, 2)]


def unrolled_training(
    network: Network,
    batches: Batches,
    values: Mapping[str, Tensor],
    bound: GradientBound | None = None,
) -> tuple[State, State]:
    """Parameters and running statistics after training, with the graph of every step attached.

    Args:
        network: Starts at its own initial state.
        batches: One per step; their number is the horizon.
        values: learning_rate, momentum and weight_decay, each one-dimensional, that gradients shall flow to.
        bound: On batch gradients.
    """
    trainable, frozen, statistics = network.initial()
    weights = {name: value.requires_grad_() for name, value in trainable.items()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    horizon = len(batches)
    for step, (inputs, targets) in enumerate(batches):
        rate, momentum, decay = (
            values[name][len(values[name]) * step // horizon] for name in ("learning_rate", "momentum", "weight_decay")
        )
        outputs, statistics = network.forward({**weights, **frozen}, statistics, inputs, True)
        loss = plain_cross_entropy(outputs, targets).mean()
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        if isinstance(bound, ElementBound):
            slopes = tuple(slope.clamp(-bound.largest, bound.largest) for slope in slopes)
        if isinstance(bound, NormBound):
            norm = torch.stack([(slope**2).sum() for slope in slopes]).sum().sqrt()
            slopes = (
                tuple(slope * (bound.largest / (norm + 1e-6)) for slope in slopes) if norm > bound.largest else slopes
            )
        gradients = dict(zip(weights, slopes, strict=True))
        velocity = {n: momentum * velocity[n] + gradients[n] + decay * weights[n] for n in weights}
        weights = {n: weights[n] - rate * velocity[n] for n in weights}
    return {**weights, **frozen}, statistics


def validation_loss(network: Network, weights: State, statistics: State) -> Tensor:
    """Mean loss over the validation examples in evaluation mode."""
    parts = [
        plain_cross_entropy(network.forward(weights, statistics, inputs, False)[0], targets)
        for inputs, targets in validation_batches(network)
    ]
    return torch.cat(parts).mean()


def unrolled_hypergradient(
    network: Network, batches: Batches, values: Values, bound: GradientBound | None = None
) -> tuple[float, dict[str, list[float]]]:
    """Validation loss after training, and its derivative divided by the number of steps that shared each value."""
    leaves = {name: torch.tensor(v, dtype=torch.float64, requires_grad=True) for name, v in values.items()}
    weights, statistics = unrolled_training(network, batches, leaves, bound)
    loss = validation_loss(network, weights, statistics)
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    return loss.item(), {
        name: (slope / window_lengths(len(values[name]), len(batches)).clamp(min=1)).tolist()
        for name, slope in zip(values, slopes, strict=True)
    }


def window_lengths(count: int, horizon: int) -> Tensor:
    """How many steps use each of ``count`` values, counted one by one."""
    lengths = torch.zeros(count, dtype=torch.float64)
    for step in range(horizon):
        lengths[count * step // horizon] += 1
    return lengths
