"""Networks that benchmarks train, and noise to train them on: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytune_hyperlearn.problems.models import MLP, LeNet, WideResNet

Batch = tuple[Tensor, Tensor]
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp": (lambda: MLP(784, (256, 128)), (784,), 128),
    "lenet": (LeNet, (1, 28, 28), 128),
    "wrn16-1": (lambda: WideResNet(16, 1), (3, 32, 32), 32),
}
"""Name → module, shape of an input, batch size."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """One loss per example."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def random_batch(shape: tuple[int, ...], size: int, device: torch.device) -> Batch:
    """Synthetic inputs [size, …] and targets [size]."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, *shape, generator=generator)
    return inputs.to(device), torch.randint(10, (size,), generator=generator).to(device)
