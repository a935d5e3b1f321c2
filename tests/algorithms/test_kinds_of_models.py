"""Hypergradients of models of every kind, against reverse mode through the unrolled run; refusals by layer's name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from raytune_hyperlearn.algorithms.fds import SGDStep
from raytune_hyperlearn.algorithms.forward_mode import hypergradient
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, MapStep
from raytune_hyperlearn.algorithms.update_maps import SGD, Batch
from raytune_hyperlearn.derivatives.differentiability import undifferentiable_layer
from raytune_hyperlearn.derivatives.functional import FunctionalModel, LossFunction
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from tests.plain_networks import cross_entropy

STEPS, CLASSES, WORDS = 4, 3, 12
VALUES = {"learning_rate": [0.3, 0.2], "momentum": [0.7], "weight_decay": [0.01]}


class Recurrent(nn.Module):
    """Labels sequences of tokens, all in one or token by token."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, every_token: bool = False, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 4)
        self.cell = kind(4, 3, batch_first=True, **options)
        self.output = nn.Linear(6 if options.get("bidirectional") else 3, CLASSES)
        self.every_token = every_token

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.cell(self.embedding(tokens))
        return self.output(states).transpose(1, 2) if self.every_token else self.output(states.mean(dim=1))


class Attentive(nn.Module):
    """A transformer's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.output = nn.Linear(4, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.layer(self.embedding(tokens)).mean(dim=1))


class LanguageModel(nn.Module):
    """Predicts a token from the one before it; input and output share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 5)
        self.mixing = nn.Linear(5, 5)
        self.output = nn.Linear(5, WORDS)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.mixing(self.embedding(tokens)).tanh()).transpose(1, 2)


class Mixed(nn.Module):
    """A frozen single-precision layer, an integer and a half-precision buffer, in front of trainable double ones."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(4, 6).requires_grad_(False)
        self.register_buffer("shift", torch.tensor(2))
        self.register_buffer("scale", torch.tensor([0.5, 1.5, 2.0, 1.0, 0.25, 1.0]))
        self.head = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))

    def _apply(self, function: Any, recurse: bool = True) -> Mixed:
        super()._apply(function, recurse)
        self.features.float()
        self.scale = self.scale.to(torch.bfloat16)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = (self.features(inputs.float()) * self.scale + self.shift).to(self.head[0].weight.dtype)
        return self.head(hidden.tanh())


def tokens(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(WORDS, (count, 5), generator=generator)


def vectors(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 4, generator=generator, dtype=torch.float64)


def labels(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(CLASSES, (len(inputs),), generator=generator)


def token_labels(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(CLASSES, inputs.shape, generator=generator)


def next_tokens(inputs: Tensor, _generator: torch.Generator) -> Tensor:
    return inputs.roll(-1, dims=1)


def numbers(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs.sin().sum(dim=1, keepdim=True).repeat(1, 2) + torch.randn(len(inputs), 2, generator=generator)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(dim=1)


@dataclass(frozen=True)
class Kind:
    """A model with data for it.

    Attributes:
        model: Builds it.
        inputs: Draws inputs.
        targets: Draws targets for inputs.
        loss: One loss per example, or per token.
    """

    model: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor] = tokens
    targets: Callable[[Tensor, torch.Generator], Tensor] = labels
    loss: LossFunction = cross_entropy

    def build(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.model().to(dtype).train()

    def batch(self, count: int, seed: int, dtype: torch.dtype = torch.float64) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        inputs = self.inputs(count, generator)
        targets = self.targets(inputs, generator)
        return tuple(t.to(dtype) if t.is_floating_point() else t for t in (inputs, targets))  # type: ignore[return-value]


KINDS = {
    "regression": Kind(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)),
        vectors,
        numbers,
        squared_error,
    ),
    "lstm": Kind(Recurrent),
    "deep lstm, token by token": Kind(
        lambda: Recurrent(every_token=True, bidirectional=True, num_layers=2), targets=token_labels
    ),
    "gru": Kind(lambda: Recurrent(nn.GRU)),
    "transformer": Kind(Attentive),
    "language model": Kind(LanguageModel, targets=next_tokens),
    "mixed types": Kind(Mixed, vectors),
}
WAYS = {
    "by hand": lambda model: SGDStep(model, HessianProducts(model)),
    "by hand, reverse over reverse": lambda model: SGDStep(
        model, HessianProducts(model, HessianProductOptions(way="reverse_over_reverse"))
    ),
    "gradient first": lambda model: GradientStep(SGD(model)),
    "whole map": lambda model: MapStep(SGD(model)),
}


def unrolled(kind: Kind) -> tuple[float, dict[str, list[float]]]:
    """Reverse mode through SGD on the module's own forward pass, with plain attention."""
    module = kind.build()
    leaves = {name: torch.tensor(v, dtype=torch.float64, requires_grad=True) for name, v in VALUES.items()}
    weights = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters() if p.requires_grad}
    velocity = {name: torch.zeros_like(w) for name, w in weights.items()}
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for step in range(STEPS):
            inputs, targets = kind.batch(6, step)
            rate = leaves["learning_rate"][step // 2]
            loss = kind.loss(functional_call(module, weights, (inputs,)), targets).mean()
            slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            velocity = {
                n: leaves["momentum"] * velocity[n] + g + leaves["weight_decay"] * weights[n]
                for n, g in zip(weights, slopes, strict=True)
            }
            weights = {n: w - rate * velocity[n] for n, w in weights.items()}
        module.eval()
        inputs, targets = kind.batch(9, 100)
        loss = kind.loss(functional_call(module, weights, (inputs,)), targets).mean()
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    return loss.item(), {
        name: (slope * len(slope) / STEPS).tolist() for name, slope in zip(leaves, slopes, strict=True)
    }


def found_by(kind: Kind, way: str, dtype: torch.dtype = torch.float64) -> tuple[float, dict[str, list[float]]]:
    model = FunctionalModel(kind.build(dtype), kind.loss)
    batches, held_out = [kind.batch(6, step, dtype) for step in range(STEPS)], [kind.batch(9, 100, dtype)]
    found = hypergradient(WAYS[way](model), batches, held_out, VALUES, STEPS, list(VALUES))
    return found.validation_loss, found.values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", KINDS)
def test_hypergradients_are_those_of_reverse_mode(name: str, way: str) -> None:
    (loss, values), (expected_loss, expected) = found_by(KINDS[name], way), unrolled(KINDS[name])
    assert loss == pytest.approx(expected_loss, rel=1e-10)
    for hyperparameter, schedule in expected.items():
        assert values[hyperparameter] == pytest.approx(schedule, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("way", ["by hand", "by hand, reverse over reverse", "gradient first"])
@pytest.mark.parametrize("name", ["lstm", "deep lstm, token by token", "transformer", "regression"])
def test_fused_kernels_of_single_precision_give_way(name: str, way: str) -> None:
    """The CPU's fused LSTM has no forward-mode derivative, fused attention no second derivative at all."""
    values, (_, expected) = found_by(KINDS[name], way, torch.float32)[1], unrolled(KINDS[name])
    for hyperparameter, schedule in expected.items():
        assert values[hyperparameter] == pytest.approx(schedule, rel=1e-3, abs=1e-5)


class Autocast(nn.Module):
    """Computes in bfloat16 with parameters in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.layers(inputs)


@pytest.mark.parametrize("way", ["by hand", "whole map"])
def test_autocast_is_differentiated_to_its_own_precision(way: str) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs.float(), targets)

    values = found_by(Kind(Autocast, vectors, loss=loss), way, torch.float32)[1]
    exact = unrolled(Kind(lambda: Autocast().layers, vectors))[1]
    for hyperparameter, schedule in exact.items():
        assert values[hyperparameter] == pytest.approx(schedule, rel=0.1, abs=2e-3)
        assert values[hyperparameter] != pytest.approx(schedule, rel=1e-5)


# -------------------------------------------------------------------------------------- what is refused


class Averaging(nn.Module):
    """Keeps a running average of its inputs in a buffer of its own."""

    average: Tensor

    def __init__(self, replace: bool) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(4, dtype=torch.float64))
        self.replace = replace

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                fresh = 0.9 * self.average + 0.1 * inputs.mean(dim=0)
                if self.replace:
                    self.average = fresh
                else:
                    self.average.copy_(fresh)
        return inputs - self.average


class Cube(torch.autograd.Function):
    """x³; function transformations refuse it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * slope


class OnceOnly(Cube):
    """The same with a backward pass that cannot be differentiated."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return Cube.backward(ctx, slope)


class Cubic(nn.Module):
    """A cube without parameters."""

    def __init__(self, cube: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.cube = cube

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cube.apply(inputs)


def nested(layer: nn.Module) -> Kind:
    return Kind(lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), layer), nn.Linear(4, CLASSES)), vectors)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_buffer_that_training_changes_is_refused_by_name(way: str, replace: bool) -> None:
    kind = nested(Averaging(replace))
    with pytest.raises(ValueError, match=r"^1\.1\.average of Averaging changes in a training step; only BatchNorm's"):
        found_by(kind, way)


def test_a_buffer_that_stays_is_fine() -> None:
    kind = nested(Averaging(replace=False))
    module = kind.build()
    module[1][1].eval()
    model = FunctionalModel(module, cross_entropy)
    inputs, targets = kind.batch(6, 0)
    loss, _ = model.training_loss(model.parameters, model.buffers, inputs, targets)
    assert float(loss) == pytest.approx(F.cross_entropy(module(inputs), targets).item(), rel=1e-12)


@pytest.mark.parametrize("way", ["by hand", "gradient first"])
def test_a_layer_that_function_transformations_refuse_is_served_by_reverse_mode(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = nested(Cubic(Cube))
    with caplog.at_level(logging.WARNING):
        _, values = found_by(kind, way)
    assert "forward_over_reverse does not serve this model, reverse_over_reverse takes its place" in caplog.text
    for hyperparameter, schedule in unrolled(kind)[1].items():
        assert values[hyperparameter] == pytest.approx(schedule, rel=1e-8, abs=1e-12)


def test_a_layer_without_second_derivative_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^model has 1\.1 \(Cubic\); no way can differentiate it twice$"):
        found_by(nested(Cubic(OnceOnly)), "by hand")
    with pytest.raises(ValueError, match=r"^1\.1 \(Cubic\) has no forward-mode derivative; .*$"):
        found_by(nested(Cubic(Cube)), "whole map")


def test_a_wrong_shape_is_reported_as_what_it_is() -> None:
    kind = Kind(lambda: nn.Linear(7, CLASSES), vectors)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        found_by(kind, "by hand")


def test_looking_for_a_layer_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert undifferentiable_layer(model, torch.randn(6, 4, generator=torch.Generator().manual_seed(0))) is None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert undifferentiable_layer(nested(Cubic(OnceOnly)).build(), torch.ones(2, 4).double()) == "1.1 (Cubic)"
    assert undifferentiable_layer(Attentive(), torch.zeros(2, 5, dtype=torch.int64)) is None


def test_losses_per_token_count_every_token() -> None:
    """The validation loss is the mean over tokens, as the training loss is."""
    kind = KINDS["language model"]
    inputs, targets = kind.batch(9, 100)
    module = kind.build()
    model = FunctionalModel(module, kind.loss)
    found = hypergradient(
        SGDStep(model, HessianProducts(model)),
        [kind.batch(6, 0)],
        [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])],
        {"learning_rate": [0.0]},
        1,
        ["learning_rate"],
    )
    assert found.validation_loss == pytest.approx(F.cross_entropy(module(inputs), targets).item(), rel=1e-12)
