"""Bounds of gradients agree with PyTorch's, and their derivatives with its automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound, NormBound, gradient_bound

BOUNDS = [ElementBound(0.5), NormBound(0.7), NormBound(50.0)]


def gradient() -> Tensor:
    return torch.tensor([0.3, -1.2, 0.0, 0.8, 0.49], dtype=torch.float64)


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bounded_gradient_is_that_of_torch(bound: GradientBound) -> None:
    parameters = [nn.Parameter(torch.zeros(2, dtype=torch.float64)), nn.Parameter(torch.zeros(3, dtype=torch.float64))]
    for parameter, part in zip(parameters, gradient().split([2, 3]), strict=True):
        parameter.grad = part.clone()
    bound.apply_to(parameters)
    expected = torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None])
    torch.testing.assert_close(bound.apply(gradient()), expected, rtol=1e-14, atol=0)
    assert torch.equal(expected, gradient()) == (bound == NormBound(50.0))


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_its_derivative_is_that_of_automatic_differentiation_both_ways(bound: GradientBound) -> None:
    jacobian = jacrev(bound.apply)(gradient())
    rows = bound.derivative(gradient(), torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(rows, jacobian, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(rows.T, jacobian, rtol=1e-12, atol=1e-15)
    one = bound.derivative(gradient(), torch.arange(5, dtype=torch.float64))
    torch.testing.assert_close(one, jacobian @ torch.arange(5, dtype=torch.float64), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_gradient_of_zero_is_not_bounded(bound: GradientBound) -> None:
    none, moved = torch.zeros(5, dtype=torch.float64), gradient()
    assert torch.equal(bound.apply(none), none)
    assert torch.equal(bound.derivative(none, moved), moved)
    assert torch.equal(torch.func.jvp(bound.apply, (none,), (moved,))[1], moved)
    assert torch.equal(torch.func.vjp(bound.apply, none)[1](moved)[0], moved)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"^gradient_norm is 1 beside gradient_clamp; only one may bound gradients$"):
        gradient_bound(2.0, 1.0)
    for kind, name in ((ElementBound, "gradient_clamp"), (NormBound, "gradient_norm")):
        for wrong in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match=rf"^{name} is {wrong}; it must be positive or None$"):
                kind(wrong)
    assert gradient_bound(None, None) is None
