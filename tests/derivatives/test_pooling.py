"""Masks behind maximum pooling: the same numbers, bit for bit, and fewer operations at full resolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from raytune_hyperlearn.derivatives import recording
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import forward_over_reverse
from raytune_hyperlearn.derivatives.recording import recorded
from tests.plain_networks import cross_entropy

K = 3
SIZE = 9


class Branches(nn.Module):
    """Uses what is rectified beside its pooling as well, and pools what is not rectified."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rectified, other = F.relu(self.first(x)), self.second(x)
        pooled = F.max_pool2d(rectified, 3) + F.max_pool2d(other, 3)
        return pooled + F.avg_pool2d(rectified * other, 3)


class PooledTwice(nn.Module):
    """One rectified tensor, two poolings, one of them masked by the other branch's rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rectified = F.relu(self.convolution(x))
        return F.max_pool2d(rectified, 3) + F.max_pool2d(F.relu(rectified - 0.1), 3, stride=3)


def layers(*pooled: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *pooled)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "windows side by side": (lambda: layers(nn.ReLU(), nn.MaxPool2d(3)), True),
    "overlapping windows": (lambda: layers(nn.ReLU(), nn.MaxPool2d(3, stride=2)), True),
    "padding": (lambda: layers(nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)), True),
    "dilation": (lambda: layers(nn.ReLU(), nn.MaxPool2d(2, stride=2, dilation=2)), True),
    "a rest that is not pooled": (lambda: layers(nn.ReLU(), nn.MaxPool2d(2)), True),
    "twice": (lambda: layers(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), True),
    "pooled first": (lambda: layers(nn.MaxPool2d(3), nn.ReLU()), False),
    "leaky": (lambda: layers(nn.LeakyReLU(), nn.MaxPool2d(3)), False),
    "another threshold": (lambda: layers(nn.Threshold(0.1, 0.0), nn.MaxPool2d(3)), False),
    "batch normalization": (lambda: layers(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(3)), True),
    "branches": (Branches, False),
    "pooled twice": (PooledTwice, True),
}
"""How a network is made, and whether it masks what it pools."""


def case(make: Callable[[], nn.Module]) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """A network's Hessian products and arguments for them."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 2, SIZE, SIZE, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = make().double()
        with torch.no_grad():
            width = body(images).flatten(1).shape[1]
        model = FunctionalModel(nn.Sequential(body, nn.Flatten(), nn.Linear(width, 3)).double(), cross_entropy)
    w, b = model.parameters, model.buffers
    Z = torch.randn(K, len(w), generator=generator, dtype=torch.float64)
    B = torch.zeros(K, len(b), dtype=torch.float64)
    arguments = (w, b, Z, B, images, torch.tensor([0, 1, 2, 0]))
    return lambda *tensors: forward_over_reverse(model, *tensors), arguments


def masked(program: Any, arguments: tuple[Tensor, ...]) -> int:
    """Numbers on which rectifiers' masks are laid."""
    assert isinstance(program, fx.GraphModule)
    sizes: list[int] = []

    class Watched(fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if target is torch.ops.aten.threshold_backward.default:
                sizes.append(args[0].numel())
            return super().call_function(target, args, kwargs)

    with torch.no_grad():
        Watched(program).run(*arguments)
    return sum(sizes)


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_are_the_same_and_the_masks_smaller(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, smaller = NETWORKS[name]
    function, arguments = case(make)
    found = recorded(function, arguments)
    monkeypatch.setattr(recording, "mask_after_pooling", lambda graph, steady: None)
    before = recorded(function, arguments)
    assert found is not None
    assert before is not None
    others = tuple(-a if a.is_floating_point() else a.flip(0) for a in arguments)
    for given in (arguments, others):
        with torch.no_grad():
            torch.testing.assert_close(found(*given), before(*given), rtol=0, atol=0)
        torch.testing.assert_close(found(*given), function(*given), rtol=1e-10, atol=1e-12)
    if smaller:
        assert masked(found, arguments) < masked(before, arguments)
    else:
        assert masked(found, arguments) == masked(before, arguments)
