"""A problem that trains in milliseconds."""

from __future__ import annotations

import torch
from torch import nn

from raytune_hyperlearn.problems import Examples, Problem


def small_problem() -> Problem:
    """Three classes with a few wrong labels, so that gradients are noisy."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(340, 4, generator=generator)
    targets = (inputs @ torch.randn(4, 3, generator=generator)).argmax(dim=1)
    targets[::7] = 0
    return Problem(
        name="small",
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)),
        train=Examples(inputs[:300], targets[:300]),
        test=Examples(inputs[300:], targets[300:]),
        batch_size=20,
        epochs=3,
    )
