"""Schedules that are curves: λ_t = f(t / T, θ) for a differentiable f with few parameters θ.

The slopes ∂f/∂θ come from PyTorch's differentiation, so that f may be anyone's own function. Named curves, with
s = t / T the share of training that is over, w the share of the warm-up, and c(x) = (1 + cos π x) / 2, which falls
from 1 to 0:

    cosine         peak · s / w  while s < w,  then  final + (peak − final) c((s − w) / (1 − w))
    one-cycle      peak + (start − peak) c(s / w)  while s < w,  then as the cosine
    polynomial     final + (start − final) (1 − s)^power
    exponential    start^(1 − s) final^s

What a curve's entries are divided by is 1: they are plain derivatives ∂L_val/∂θ (see :mod:`.schedules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:  # search spaces are read by every command, and torch takes seconds to import
    from torch import Tensor

CurveFunction: TypeAlias = "Callable[[float, Tensor], Tensor]"
"""(s ∈ [0, 1], θ [N] float64) ↦ λ []."""


@dataclass(frozen=True)
class Curve:
    """A schedule of any differentiable form.

    Attributes:
        count: Number N of parameters, at least 1.
        function: f.

    Raises:
        ValueError: In one line, if ``count`` is not allowed.
    """

    count: int
    function: CurveFunction

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1:
            raise ValueError(f"count is {self.count!r}; it must be a whole number of at least 1")

    def value(self, parameters: Sequence[float], step: int, horizon: int) -> float:
        """f(t / T, θ)."""
        import torch

        with torch.no_grad():
            return float(self.function(step / horizon, torch.tensor(parameters, dtype=torch.float64)))

    def slopes(self, parameters: Sequence[float], step: int, horizon: int) -> Mapping[int, float]:
        """∂f/∂θ, without the entries that are zero."""
        import torch

        theta = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            value = self.function(step / horizon, theta)
            if not value.requires_grad:
                return {}
            (slopes,) = torch.autograd.grad(value, theta)
        return {index: slope for index, slope in enumerate(slopes.tolist()) if slope != 0}

    def support(self, index: int, horizon: int) -> tuple[int, int]:
        """All steps."""
        return 0, horizon

    def divisor(self, index: int, steps: range, horizon: int) -> float:
        """1: entries are plain derivatives."""
        return 1.0


# ------------------------------------------------------------------------------------------------ named curves

Role = Literal["value", "share", "power"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a named curve.

    Attributes:
        name: Of the parameter.
        role: ``"value"`` of the hyperparameter itself, in its range; ``"share"`` of training; or ``"power"``.
    """

    name: str
    role: Role = "value"


@dataclass(frozen=True)
class NamedCurve:
    """A curve and its parameters in order."""

    function: CurveFunction
    parameters: tuple[Parameter, ...]


def falling(x: Tensor) -> Tensor:
    """c(x) = (1 + cos π x) / 2."""
    return (1 + (math.pi * x).cos()) / 2


def cosine(share: float, theta: Tensor) -> Tensor:
    """θ = (peak, final, warm-up share)."""
    peak, final, warm_up = theta.unbind()
    if share < warm_up:
        return peak * share / warm_up
    return final + (peak - final) * falling((share - warm_up) / (1 - warm_up))


def one_cycle(share: float, theta: Tensor) -> Tensor:
    """θ = (start, peak, final, warm-up share)."""
    start, peak, final, warm_up = theta.unbind()
    if share < warm_up:
        return peak + (start - peak) * falling(share / warm_up)
    return final + (peak - final) * falling((share - warm_up) / (1 - warm_up))


def polynomial(share: float, theta: Tensor) -> Tensor:
    """θ = (start, final, power)."""
    start, final, power = theta.unbind()
    return final + (start - final) * (1 - share) ** power


def exponential(share: float, theta: Tensor) -> Tensor:
    """θ = (start, final), both positive."""
    start, final = theta.log().unbind()
    return ((1 - share) * start + share * final).exp()


WARM_UP = Parameter("warm_up", "share")
CURVES: Mapping[str, NamedCurve] = {
    "cosine": NamedCurve(cosine, (Parameter("peak"), Parameter("final"), WARM_UP)),
    "one-cycle": NamedCurve(one_cycle, (Parameter("start"), Parameter("peak"), Parameter("final"), WARM_UP)),
    "polynomial": NamedCurve(polynomial, (Parameter("start"), Parameter("final"), Parameter("power", "power"))),
    "exponential": NamedCurve(exponential, (Parameter("start"), Parameter("final"))),
}


def named_curve(name: str) -> Curve:
    """The curve of this name.

    Raises:
        ValueError: In one line, if there is none.
    """
    if name not in CURVES:
        raise ValueError(f"shape is {name!r}; it must be one of {', '.join(CURVES)}")
    return Curve(len(CURVES[name].parameters), CURVES[name].function)
