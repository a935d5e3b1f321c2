"""Projections of per-instance gradients against one backward pass per instance, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives.projections import (
    METHODS,
    Instances,
    choose_method,
    inner_product,
    layers_cover,
    summed_gradient,
    trainable,
)
from tests.derivatives.networks import CASES, build, cross_entropy, explicit_gradients, flat, plain_losses

PAIRS = [(name, method) for name, case in CASES.items() for method in case.methods]


def random_direction(model: nn.Module) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(9)
    return tuple(torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in trainable(model).values())


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_every_method_agrees_with_explicit_gradients(name: str, method: str) -> None:
    model, batch = build(CASES[name])
    gradients = explicit_gradients(model, batch)
    linearization = METHODS[method](model, cross_entropy, batch)
    torch.testing.assert_close(flat(linearization.gradient), gradients.sum(0), rtol=1e-9, atol=1e-11)
    mean = tuple(g / len(batch) for g in linearization.gradient)
    for direction in (mean, random_direction(model), mean):  # again and again from the same linearization
        projections = linearization.project(direction)
        torch.testing.assert_close(projections, gradients @ flat(direction), rtol=1e-9, atol=1e-11)
    along_mean = linearization.project(mean)
    torch.testing.assert_close(along_mean.mean(), inner_product(mean, mean), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("method", ["layers", "double-backward", "forward-mode"])
def test_the_memory_format_changes_no_projection(method: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)
        images = torch.randn(5, 3, 7, 7, dtype=torch.float64)
    model = nn.Sequential(*layers).double().to(memory_format=torch.channels_last)
    batch = Instances(images, torch.tensor([0, 1, 2, 0, 1]), seed=0)
    gradients = explicit_gradients(model, batch)
    linearization = METHODS[method](model, cross_entropy, batch)
    for direction in (linearization.gradient, random_direction(model)):  # channels last, and first
        expected = gradients @ torch.cat([d.flatten() for d in direction])
        torch.testing.assert_close(linearization.project(direction), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_losses_are_those_of_the_same_dropout_masks(name: str, method: str) -> None:
    model, batch = build(CASES[name])
    expected = plain_losses(model, batch)
    torch.testing.assert_close(METHODS[method](model, cross_entropy, batch).losses, expected.detach())


@pytest.mark.parametrize("name", CASES)
def test_the_chosen_method_is_the_cheapest_right_one(name: str) -> None:
    model, batch = build(CASES[name])
    assert choose_method(model, cross_entropy, batch) == CASES[name].chosen


def test_float32_lstm_kernels_without_forward_derivative_are_served_by_double_backward() -> None:
    model, batch = build(CASES["lstm"])
    model = model.float()
    assert choose_method(model, cross_entropy, batch) == "double-backward"
    gradients = explicit_gradients(model, batch)
    linearization = METHODS["double-backward"](model, cross_entropy, batch)
    direction = random_direction(model)
    torch.testing.assert_close(linearization.project(direction), gradients @ flat(direction), rtol=1e-4, atol=1e-5)


def test_layers_alone_would_be_wrong_where_instances_meet() -> None:
    model, batch = build(CASES["mixing"])
    assert layers_cover(model)
    gradients = explicit_gradients(model, batch)
    direction = random_direction(model)
    projections = METHODS["layers"](model, cross_entropy, batch).project(direction)
    assert (projections - gradients @ flat(direction)).abs().max() > 1e-3


def test_batch_norm_in_evaluation_mode_is_a_linear_layer() -> None:
    model, batch = build(CASES["batch norm"])
    model.eval()
    assert choose_method(model, cross_entropy, batch) == "layers"


@pytest.mark.parametrize("method", CASES["batch norm"].methods)
def test_buffers_move_exactly_as_in_one_plain_forward_pass(method: str) -> None:
    model, batch = build(CASES["batch norm"])
    twin, _ = build(CASES["batch norm"])
    plain_losses(twin, batch)
    linearization = METHODS[method](model, cross_entropy, batch)
    linearization.project(random_direction(model))
    for (name, buffer), (_, expected) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=name)


def test_choosing_leaves_buffers_and_generators_alone() -> None:
    model, batch = build(CASES["batch norm"])
    before = [buffer.clone() for buffer in model.buffers()]
    state = torch.get_rng_state()
    choose_method(model, cross_entropy, batch)
    for buffer, kept in zip(model.buffers(), before, strict=True):
        assert torch.equal(buffer, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_recording_leaves_no_hook_behind() -> None:
    model, batch = build(CASES["cnn with dropout"])
    METHODS["layers"](model, cross_entropy, batch)
    assert not any(module._forward_hooks for module in model.modules())


class Opaque(torch.autograd.Function):
    """A kernel with a first derivative and nothing else."""

    @staticmethod
    def forward(ctx, inputs):  # type: ignore[no-untyped-def]
        return inputs * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient * 2


class WithOpaqueKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return Opaque.apply(self.layer(inputs) * self.scale)


def test_a_model_without_any_second_derivative_is_refused_in_one_line() -> None:
    batch = Instances(torch.randn(4, 5), torch.zeros(4, dtype=torch.long), seed=0)
    with pytest.raises(RuntimeError, match=r"WithOpaqueKernel.*covariance='diagonal'") as error:
        choose_method(WithOpaqueKernel(), cross_entropy, batch)
    assert "\n" not in str(error.value)


def test_a_loss_that_is_already_averaged_is_refused() -> None:
    model, batch = build(CASES["mlp"])
    with pytest.raises(ValueError, match=r"loss returned shape \(\); it must be one value per instance, \(6,\)"):
        summed_gradient(model, lambda outputs, targets: cross_entropy(outputs, targets).mean(), batch)
