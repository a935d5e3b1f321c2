from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from raytune_hyperlearn.problems.models import (
    MLP,
    VGG11,
    LeNet,
    SmallCNN,
    WideResNet,
    count_parameters,
    initialize,
)

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "small cnn": (SmallCNN, (1, 8, 8), 10, 6_138),
    "lenet": (LeNet, (1, 28, 28), 10, 44_426),
    "lenet for color": (partial(LeNet, channels=3, size=32), (3, 32, 32), 10, 62_006),
    "wrn-10-1": (partial(WideResNet, depth=10), (3, 32, 32), 10, 77_850),
    "wrn-16-1": (WideResNet, (3, 32, 32), 10, 175_066),
    "wrn-16-4, 100 classes": (partial(WideResNet, width=4, classes=100), (3, 32, 32), 100, 2_772_020),
    "wrn-16-1 with dropout": (partial(WideResNet, dropout=0.3), (3, 32, 32), 10, 175_066),
    "vgg-11": (VGG11, (3, 32, 32), 10, 9_231_114),
    "mlp": (partial(MLP, 12, (5, 4), 3), (3, 4), 3, 65 + 24 + 15),
    "linear": (partial(MLP, 12, (), 3), (12,), 3, 39),
}
"""Name → (factory, shape of an input, classes, parameters)."""


@pytest.mark.parametrize("name", MODELS)
def test_models_have_their_size_and_one_logit_per_class(name: str) -> None:
    factory, shape, classes, parameters = MODELS[name]
    model = initialize(factory, seed=0)
    assert count_parameters(model) == parameters
    outputs = model(torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
    assert outputs.shape == (2, classes)
    assert outputs.isfinite().all()
    outputs.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_frozen_parameters_do_not_count() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert count_parameters(model) == 6


@pytest.mark.parametrize("depth", [4, 15, 9])
def test_a_wide_resnet_of_an_impossible_depth_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"^depth is {depth}; it must be 6n \+ 4 with n ≥ 1 \(10, 16, 22, 28, …\)$"):
        WideResNet(depth=depth)


def test_dropout_acts_in_training_only() -> None:
    model = initialize(partial(WideResNet, depth=10, dropout=0.5), seed=0)
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        assert not torch.equal(model(inputs), model(inputs))
        model.eval()
        assert torch.equal(model(inputs), model(inputs))


def test_the_seed_alone_decides_an_initialization() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1) for p in initialize(SmallCNN, seed).parameters()])

    first = weights(3)
    with torch.random.fork_rng():
        torch.rand(5)
        assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)


def test_an_initialization_leaves_the_global_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int) -> None:
        raise AssertionError(f"every GPU was seeded with {seed}")

    if not torch.cuda.is_initialized():
        monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    before = torch.get_rng_state()
    initialize(LeNet, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_an_initialization_leaves_the_gpus_generators_alone() -> None:
    torch.rand(1, device="cuda")
    before = torch.cuda.get_rng_state_all()
    drawn = [initialize(partial(nn.Linear, 3, 2, device="cuda"), seed=1).weight for _ in range(2)]
    assert torch.equal(*drawn)
    assert all(torch.equal(one, other) for one, other in zip(torch.cuda.get_rng_state_all(), before, strict=True))
