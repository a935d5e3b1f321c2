from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.reverse_mode import hypergradient
from raytune_hyperlearn.derivatives import functional
from raytune_hyperlearn.derivatives.adjoint_products import double_backward
from raytune_hyperlearn.derivatives.batch_norm import batch_normalized, elementary
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.recording import recorded
from tests.plain_networks import NETWORKS, cross_entropy

EPSILON = 1e-2
SHAPES = [(6, 3), (3, 2, 5), (4, 3, 2, 3)]


def normals(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def leaves(shape: tuple[int, ...]) -> list[Tensor]:
    return [value.requires_grad_() for value in normals(shape, shape[1:2], shape[1:2])]


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    function = partial(batch_normalized, epsilon=EPSILON)
    assert torch.autograd.gradcheck(function, leaves(shape))
    assert torch.autograd.gradgradcheck(function, leaves(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_without_weights_of_its_own(shape: tuple[int, ...]) -> None:
    constant = {"weight": torch.ones(shape[1]).double(), "bias": torch.zeros(shape[1]).double(), "epsilon": EPSILON}
    function = partial(batch_normalized, **constant)
    assert torch.autograd.gradcheck(function, leaves(shape)[:1])
    assert torch.autograd.gradgradcheck(function, leaves(shape)[:1])


@pytest.mark.parametrize(
    ("used", "directions"),
    [
        *[(used, directions) for used in ((0,), (0, 2), (0, 1, 2)) for directions in ((0,), (1,), (2,), (0, 1, 2))],
        *[(used, (0,)) for used in ((1,), (2,))],
    ],
)
def test_derivatives_of_some_outputs_are_those_of_the_elementary_operations(
    used: tuple[int, ...], directions: tuple[int, ...]
) -> None:
    """Slopes by some outputs, multiplied by directions of some inputs; memory is laid out in two ways."""
    x, *parameters = leaves((4, 3, 2, 5))
    weights = normals((4, 3, 2, 5), (3,), (3,), seed=1)
    along = normals((4, 3, 2, 5), (3,), (3,), seed=2)

    def second(function: object, x: Tensor) -> list[Tensor]:
        outputs = function(x, *parameters, EPSILON)
        total = sum((outputs[i] ** 3 * weights[i]).sum() for i in used)
        slopes = torch.autograd.grad(total, (x, *parameters), create_graph=True, materialize_grads=True)
        product = sum((slopes[i] * along[i]).sum() for i in directions)
        return [*slopes, *torch.autograd.grad(product, (x, *parameters), materialize_grads=True)]

    expected = second(elementary, x)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    for found in (second(batch_normalized, x), second(batch_normalized, last)):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_directions_in_a_batch_are_those_one_by_one() -> None:
    """Also where nobody asks for the slope by the inputs, as in a first layer."""
    x, *parameters = leaves((4, 3, 2))
    for of in ((x, *parameters), tuple(parameters)):
        outputs, mean, variance = batch_normalized(x, *parameters, EPSILON)
        total = outputs.pow(3).sum() + (mean + variance).pow(2).sum()
        slopes = torch.autograd.grad(total, of, create_graph=True)
        directions = [torch.stack(normals(*[tuple(slope.shape)] * 2)) for slope in slopes]
        pull = partial(torch.autograd.grad, slopes, (x, *parameters), retain_graph=True)
        together = pull(directions, is_grads_batched=True)
        one_by_one = [pull([direction[i] for direction in directions]) for i in range(2)]
        torch.testing.assert_close(list(together), [torch.stack(pair) for pair in zip(*one_by_one, strict=True)])


@pytest.mark.parametrize("network", ["batch norm mlp", "batch norm cnn"])
def test_hypergradients_are_those_of_the_elementary_operations(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = NETWORKS[network]
    values = {"learning_rate": [0.1, 0.2], "momentum": [0.5], "weight_decay": [0.01]}

    def computed() -> list[float]:
        inner = SGDAdjoint(FunctionalModel(written.build(), cross_entropy))
        batches = [written.examples(8, seed) for seed in range(4)]
        found = hypergradient(inner, batches, [written.examples(8, 9)], values, 4, tuple(values))
        return [found.validation_loss, *(entry for name in values for entry in found.values[name])]

    found = computed()
    monkeypatch.setattr(functional, "batch_normalized", elementary)
    assert found == pytest.approx(computed(), rel=1e-10)


def test_what_is_recorded_is_the_same() -> None:
    written = NETWORKS["batch norm cnn"]
    model = FunctionalModel(written.build(), cross_entropy)
    w, b = model.parameters, model.buffers
    arguments = (w, b, *normals(tuple(w.shape), tuple(b.shape)), *written.examples(8, 0))
    way = partial(double_backward, model, None)
    program = recorded(way, arguments)
    assert program is not None
    torch.testing.assert_close(tuple(program(*arguments)), tuple(way(*arguments)), rtol=1e-10, atol=1e-12)
