"""Bounds on a batch's gradient g [D], and the derivative of the bounded gradient g̃.

    element by element, [−c, c]    g̃ = min(max(g, −c), c)        dg̃ = dg where |g| ≤ c, elsewhere 0
    norm, c                        g̃ = s g,  s = c / (‖g‖ + ε)    dg̃ = s (dg − ‖g‖ / (‖g‖ + ε) n (n · dg)),  n = g / ‖g‖

The second line is where s < 1; elsewhere g̃ = g. ε = 1e-6 is that of ``torch.nn.utils.clip_grad_norm_``. Both
derivatives are symmetric matrices: the way back takes an adjoint through the same function as a tangent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

EPSILON = 1e-6


@dataclass(frozen=True)
class GradientBound(ABC):
    """What a bound does to a gradient, in training and in differentiation.

    Attributes:
        largest: c > 0.
    """

    largest: float
    setting: ClassVar[str]

    def __post_init__(self) -> None:
        if not self.largest > 0:
            raise ValueError(f"{self}; it must be positive or None")

    def __str__(self) -> str:
        return f"{self.setting} is {self.largest}"

    @abstractmethod
    def apply(self, gradient: Tensor) -> Tensor:
        """The bounded gradient [D]."""

    @abstractmethod
    def derivative(self, gradient: Tensor, moved: Tensor) -> Tensor:
        """Tangents or adjoints [..., D] of the bounded gradient from those of the gradient [D] as it is."""

    @abstractmethod
    def apply_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Bound the parameters' ``grad`` in place."""


class ElementBound(GradientBound):
    """Every element of a gradient in [−c, c]."""

    setting = "gradient_clamp"

    def apply(self, gradient: Tensor) -> Tensor:
        """The bounded gradient [D]."""
        return gradient.clamp(-self.largest, self.largest)

    def derivative(self, gradient: Tensor, moved: Tensor) -> Tensor:
        """Tangents or adjoints [..., D] of the bounded gradient from those of the gradient [D] as it is."""
        return moved.masked_fill(gradient.abs() > self.largest, 0.0)

    def apply_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Bound the parameters' ``grad`` in place."""
        nn.utils.clip_grad_value_(parameters, self.largest)


class NormBound(GradientBound):
    """The Euclidean norm of all parameters' gradient at most c: a longer one is shortened."""

    setting = "gradient_norm"

    def apply(self, gradient: Tensor) -> Tensor:
        """The bounded gradient [D]."""
        norm: Tensor = torch.linalg.vector_norm(gradient)
        return gradient * (self.largest / (norm + EPSILON)).clamp(max=1.0)

    def derivative(self, gradient: Tensor, moved: Tensor) -> Tensor:
        """Tangents or adjoints [..., D] of the bounded gradient from those of the gradient [D] as it is."""
        norm = torch.linalg.vector_norm(gradient)
        scale = self.largest / (norm + EPSILON)
        along = (moved @ gradient) / (norm * (norm + EPSILON))
        # Chosen on the device: nothing is read back. A gradient of 0 has no direction, and is not bounded.
        return torch.where(scale < 1, scale * (moved - along[..., None] * gradient), moved)

    def apply_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Bound the parameters' ``grad`` in place."""
        nn.utils.clip_grad_norm_(parameters, self.largest)


def gradient_bound(clamp: float | None, norm: float | None) -> GradientBound | None:
    """The bound that two settings make.

    Args:
        clamp: Bound on every element, or None.
        norm: Bound on the norm, or None.

    Raises:
        ValueError: In one line, if both are given or one is not positive.
    """
    if clamp is not None and norm is not None:
        raise ValueError(f"gradient_norm is {norm:g} beside gradient_clamp; only one may bound gradients")
    if norm is not None:
        return NormBound(norm)
    return None if clamp is None else ElementBound(clamp)
