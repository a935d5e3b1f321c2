"""Batch normalization whose second derivative is written by hand, with the batch's mean and variance as outputs.

With z = (x − mean) s, s = (variance + ε)^(−1/2) and n values per channel, the outputs are y = γ z + β, the mean and the
variance, and slopes ȳ, m̄, v̄ by them come back as

    x̄ = γ s (ȳ − A/n − z B/n) + m̄/n + (2 v̄/n) z/s        γ̄ = B = Σ ȳ z        β̄ = A = Σ ȳ

Sums are over a channel's values. With the directions u, p, q that x̄, γ̄, β̄ are multiplied by, the derivatives of
Σ u x̄ + Σ p γ̄ + Σ q β̄, where c = 2 v̄/(n s) − γ s B/n and p' = p − γ s Σ u z/n, are

    by ȳ: γ s (u − Σ u/n − z Σ u z/n) + p z + q        by m̄: Σ u/n        by v̄: (2/n) Σ u z/s
    by γ: s (Σ u ȳ − (A Σ u + B Σ u z)/n) = S        by x: s (G − Σ G/n − z Σ G z/n) − s² D z/n
    with G = c u + p' ȳ        and        D = γ S/s − (2 v̄/(n s²)) Σ u z

PyTorch's kernel for the first derivative makes these sums two at a time, and the first lines. From the elementary
operations, autograd takes five times as long for first derivatives of wide layers on a CPU and twice for second ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Moments = tuple[Tensor, Tensor, Tensor]
"""Outputs [N, C, …], mean [C] and variance [C] (divided by the number of values) of a batch."""


def batch_normalized(inputs: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Moments:
    """A batch normalized by its own mean and variance, twice differentiable in all outputs.

    On a CPU, outside of function transformations, by the formulas above; else by elementary operations.

    Args:
        inputs: x [N, C, …], with means that are small against the deviations, else digits are lost.
        weight: γ [C].
        bias: β [C].
        epsilon: ε ≥ 0.
    """
    if inputs.device.type != "cpu" or torch._C._are_functorch_transforms_active():
        return elementary(inputs, weight, bias, epsilon)
    normalized: Moments = _Normalization.apply(inputs, weight, bias, epsilon)
    return normalized


def elementary(inputs: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Moments:
    """As :func:`batch_normalized`, in operations that PyTorch differentiates itself, in every mode.

    y = scale x + shift goes through memory less often than differences from the mean do, in every derivative.
    """
    variance, mean = torch.var_mean(inputs, dim=[0, *range(2, inputs.dim())], correction=0)
    scale = (variance + epsilon).rsqrt() * weight
    return inputs * _along(scale, inputs) + _along(bias - mean * scale, inputs), mean, variance


class _Normalization(Function):
    """(x, γ, β) ↦ (y, mean, variance)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Moments:
        n = _count(x)
        squares, total = _sums(x, x)
        mean = total / n
        variance = squares / n - mean * mean
        s = (variance + epsilon).rsqrt()
        scale = s * weight
        ctx.save_for_backward(x, weight, mean, s)
        ctx.set_materialize_grads(False)
        return (x * _along(scale, x)).add_(_along(bias - mean * scale, x)), mean, variance

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean, s = ctx.saved_tensors
        by_outputs, by_mean, by_variance = slopes
        by_outputs = torch.zeros_like(x) if by_outputs is None else by_outputs
        return *_Pulled.apply(by_outputs, by_mean, by_variance, x, weight, mean, s), None


class _Pulled(Function):
    """(ȳ, m̄, v̄, x, γ) ↦ (x̄, γ̄, β̄), where mean and s count as functions of x."""

    @staticmethod
    def forward(
        ctx: Any,
        by_outputs: Tensor,
        by_mean: Tensor | None,
        by_variance: Tensor | None,
        x: Tensor,
        weight: Tensor,
        mean: Tensor,
        s: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n = _count(x)
        by_inputs, B, A = _kernel(by_outputs, x, weight, mean, s)
        ctx.save_for_backward(by_outputs, by_variance, x, weight, mean, s, A, B)
        ctx.set_materialize_grads(False)
        if by_variance is not None:
            rate = by_variance * (2 / n)
            by_inputs = by_inputs + x * _along(rate, x) - _along(rate * mean, x)
        if by_mean is not None:
            by_inputs = by_inputs + _along(by_mean / n, x)
        return by_inputs, B, A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, p: Tensor | None, q: Tensor | None) -> tuple[Tensor | None, ...]:
        slope, slope_by_variance, x, weight, mean, s, A, B = ctx.saved_tensors
        n = _count(x)
        u = torch.zeros_like(x) if u is None else u
        p, q = (torch.zeros_like(mean) if t is None else t for t in (p, q))
        rate = torch.zeros_like(mean) if slope_by_variance is None else slope_by_variance * (2 / n)

        by_slope, sum_uz, sum_u = _kernel(u, x, weight, mean, s)
        by_slope = by_slope + x * _along(p * s, x) + _along(q - p * s * mean, x)
        by_mean = sum_u / n if ctx.needs_input_grad[1] else None
        by_variance = 2 / n * sum_uz / s if ctx.needs_input_grad[2] else None

        sum_u_slope, _ = _sums(u, slope)
        S = s * (sum_u_slope - (A * sum_u + B * sum_uz) / n)
        D = weight * S / s - rate / s**2 * sum_uz
        c = rate / s - weight * s * B / n
        p_prime = p - weight * s * sum_uz / n
        of_z = -s * (c * sum_uz + p_prime * B) / n - s**2 * D / n
        constant = -s * (c * sum_u + p_prime * A) / n - of_z * s * mean
        by_x = (slope * _along(s * p_prime, x)).add_(u * _along(s * c, x))
        by_x.add_(x * _along(of_z * s, x)).add_(_along(constant, x))
        return by_slope, by_mean, by_variance, by_x, S, None, None


def _kernel(slope: Tensor, x: Tensor, weight: Tensor, mean: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """γ s (slope − Σ slope/n − z Σ slope z/n), Σ slope z and Σ slope."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        slope, x, weight, None, None, mean, s, True, 0.0, [True, True, True]
    )
    return found


def _sums(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Σ left · right and Σ left, per channel [C]."""
    zero, one = right.new_zeros(right.shape[1]), right.new_ones(right.shape[1])
    _, products, total = torch.ops.aten.native_batch_norm_backward(
        left, right, None, None, None, zero, one, True, 0.0, [False, True, True]
    )
    return products, total


def _count(x: Tensor) -> int:
    """Values per channel."""
    return x.numel() // x.shape[1]


def _along(per_channel: Tensor, x: Tensor) -> Tensor:
    """[C] as [1, C, 1, …], for products with x [N, C, …]."""
    return per_channel.view(1, -1, *(1,) * (x.dim() - 2))
