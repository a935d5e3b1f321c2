"""What the gradients of a training run have been like lately: an agent's input that shows the run's dynamics.

After an update with the batch gradient g_t, three numbers that a change of the batch size, or of the learning
rate, moves:

    log10 |g_t|        g_t·g_{t−1} / (|g_t| |g_{t−1}|)        |ḡ_t|² / mean |g|²

ḡ_t and the mean of |g|² are running averages with the same weights; their ratio is near 1 where gradients agree and
near 0 where noise hides what they have in common.
"""

from typing import Any

import torch
from torch import Tensor, nn

FEATURES = 3
DECAY = 0.9
"""Weight of the past in the running averages: about ten updates, fewer than an epoch has."""
SMALLEST = 1e-30


class GradientStatistics:
    """Statistics of a model's last gradients, read from its parameters' ``.grad``, which are left as they are.

    Args:
        model: The network in training.
        history: How many updates are remembered, ≥ 1.
    """

    def __init__(self, model: nn.Module, history: int = 32) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._history = history
        start = self._parameters[0].detach()
        size = sum(parameter.numel() for parameter in self._parameters)
        self._last = start.new_zeros(size)
        self._mean = start.new_zeros(size)
        self._mean_square = start.new_zeros(())
        self._rows = start.new_zeros(0, FEATURES)

    @torch.no_grad()
    def add(self) -> None:
        """Takes in the gradients of the update just made; none at all, or one that is not finite, are left out."""
        if all(parameter.grad is None for parameter in self._parameters):
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        gradient = torch.cat([part.flatten() for part in parts])
        square = gradient @ gradient
        if not torch.isfinite(square):
            return
        self._mean.lerp_(gradient, 1 - DECAY)
        self._mean_square.lerp_(square, 1 - DECAY)
        norm = square.sqrt().clamp_min(SMALLEST)
        cosine = (gradient @ self._last) / (norm * self._last.norm().clamp_min(SMALLEST))
        agreement = (self._mean @ self._mean) / self._mean_square.clamp_min(SMALLEST)
        row = torch.stack([norm.log10(), cosine, agreement])
        self._rows = torch.cat([self._rows, row[None]])[-self._history :]
        self._last = gradient

    @property
    def rows(self) -> Tensor:
        """The statistics of the last updates, oldest first, [n, 3] with n ≤ history; a row of zeros before any."""
        return self._rows if len(self._rows) else self._rows.new_zeros(1, FEATURES)

    def state_dict(self) -> dict[str, Any]:
        """Averages, last gradient and rows."""
        return {
            "last": self._last.clone(),
            "mean": self._mean.clone(),
            "mean_square": self._mean_square.clone(),
            "rows": self._rows.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        for name, value in state.items():
            setattr(self, f"_{name}", value.to(self._last).clone())
