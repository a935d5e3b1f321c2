from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.memory import LiveTensors
from raytune_hyperlearn.algorithms.fds import Clamps, Hypergradient, hypergradient
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS, train
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound, NormBound
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from tests.algorithms.unrolled import (
    training_batches,
    unrolled_hypergradient,
    unrolled_training,
    validation_batches,
    window_lengths,
)
from tests.plain_networks import NETWORKS, Network, cross_entropy

BATCHED = HessianProductOptions()
MASKS = 7
"""Seed of the dropout masks, the same in every way of computing a hypergradient."""


@dataclass(frozen=True)
class Run:
    """Hyperparameters and options of one training run.

    Attributes:
        learning_rate: Its schedule.
        momentum: Its schedule.
        weight_decay: Its schedule.
        horizon: Steps.
        learned: What is differentiated.
        bound: On batch gradients.
        hessian: How Hessian products are computed.
    """

    learning_rate: Sequence[float] = (0.3, 0.1, 0.2)
    momentum: Sequence[float] = (0.9, 0.5)
    weight_decay: Sequence[float] = (0.03, 0.01)
    horizon: int = 11
    learned: Sequence[str] = HYPERPARAMETERS
    bound: GradientBound | None = None
    hessian: HessianProductOptions = BATCHED

    @property
    def values(self) -> dict[str, list[float]]:
        return {name: list(getattr(self, name)) for name in HYPERPARAMETERS}


RUNS = {
    "windows of unequal length": Run(),
    "gradient clamp": Run(bound=ElementBound(0.02)),
    "gradient norm": Run(bound=NormBound(0.3)),
    "one learned": Run(learned=("momentum",), learning_rate=(0.2,)),
    "two learned": Run(learned=("weight_decay", "learning_rate")),
    "more values than steps": Run(
        learning_rate=(0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.2), momentum=(0.5, 0.9, 0.1, 0.3, 0.6), horizon=4
    ),
    "zero values": Run(learning_rate=(0.0, 0.3, 0.1), momentum=(0.8, 0.0, 0.9), weight_decay=(0.0, 0.0)),
}
WAYS = {
    "recorded": Run(
        learning_rate=(0.2,), momentum=(0.7,), weight_decay=(0.02,), hessian=HessianProductOptions(record_after=0)
    ),
    "not recorded": Run(hessian=HessianProductOptions(recorded=False)),
    "reverse over reverse": Run(hessian=HessianProductOptions(way="reverse_over_reverse")),
    "column by column": Run(hessian=HessianProductOptions(way="sequential"), bound=ElementBound(0.02)),
    "chunks": Run(hessian=HessianProductOptions(chunk=2), bound=ElementBound(0.02)),
}


@cache
def differentiable(name: str, options: HessianProductOptions) -> tuple[FunctionalModel, HessianProducts]:
    """A network's functional model and its products; what is recorded serves all runs."""
    model = FunctionalModel(NETWORKS[name].build(), cross_entropy)
    return model, HessianProducts(model, options)


def forward_mode(name: str, run: Run) -> Hypergradient:
    network = NETWORKS[name]
    model, products = differentiable(name, run.hessian)
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        return hypergradient(
            model,
            products,
            training_batches(network, run.horizon),
            validation_batches(network),
            run.values,
            run.horizon,
            run.learned,
            Clamps(gradient=run.bound),
        )


def trained(network: Network, values: Mapping[str, Sequence[float]], run: Run) -> nn.Module:
    """The module after plain training."""
    model = network.build()
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        train(model, cross_entropy, training_batches(network, run.horizon), values, run.horizon, run.bound)
    return model.eval()


@torch.no_grad()
def score(network: Network, model: nn.Module) -> float:
    losses = [cross_entropy(model(inputs), targets) for inputs, targets in validation_batches(network)]
    return float(torch.cat(losses).mean())


def finite_difference(network: Network, run: Run, name: str, index: int, change: float = 1e-5) -> float:
    """Central difference of the validation loss after plain training, over the number of steps that share the value."""

    def loss(sign: int) -> float:
        values = run.values
        values[name][index] += sign * change
        return score(network, trained(network, values, run))

    steps = window_lengths(len(run.values[name]), run.horizon)[index].item()
    return (loss(1) - loss(-1)) / (2 * change * max(steps, 1))


@pytest.mark.parametrize("kind", [*RUNS, *WAYS])
@pytest.mark.parametrize("name", NETWORKS)
def test_hypergradients_are_those_of_reverse_mode_through_the_unrolled_run(name: str, kind: str) -> None:
    network, run = NETWORKS[name], (RUNS | WAYS)[kind]
    found = forward_mode(name, run)
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        batches = training_batches(network, run.horizon)
        loss, expected = unrolled_hypergradient(network, batches, run.values, run.bound)
    assert found.validation_loss == pytest.approx(loss, rel=1e-12)
    assert list(found.values) == list(run.learned)
    for hyperparameter, entries in found.values.items():
        assert entries == pytest.approx(expected[hyperparameter], rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("name", NETWORKS)
def test_hypergradients_are_finite_differences_of_plain_training(name: str, kind: str) -> None:
    network, run = NETWORKS[name], RUNS[kind]
    for hyperparameter, entries in forward_mode(name, run).values.items():
        differences = [finite_difference(network, run, hyperparameter, i) for i in range(len(entries))]
        assert entries == pytest.approx(differences, rel=1e-4, abs=1e-10)


@pytest.mark.parametrize("kind", ["gradient clamp", "gradient norm"])
def test_a_bound_that_runs_use_does_bound_something(kind: str) -> None:
    clamped, free = (forward_mode("mlp", run).values for run in (RUNS[kind], Run()))
    assert clamped["learning_rate"] != pytest.approx(free["learning_rate"], rel=1e-2)
    assert max(abs(entry) for entry in clamped["learning_rate"]) > 1e-3


@pytest.mark.parametrize("kind", ["windows of unequal length", "gradient clamp", "zero values"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_inner_loop_is_plain_training(name: str, kind: str) -> None:
    network, run = NETWORKS[name], RUNS[kind]
    found = forward_mode(name, run)
    model, _ = differentiable(name, run.hessian)
    plain = FunctionalModel(trained(network, run.values, run), cross_entropy)
    torch.testing.assert_close(found.parameters, plain.parameters, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.statistics, plain.buffers, rtol=1e-10, atol=1e-12)
    assert not torch.equal(found.parameters, model.parameters)


def test_the_training_loss_is_the_mean_over_the_steps() -> None:
    network, horizon = NETWORKS["mlp"], 4
    run = Run(learning_rate=(0.0,), horizon=horizon)
    model = network.build()
    losses = [cross_entropy(model(x), y).mean().item() for x, y in training_batches(network, horizon)]
    assert forward_mode("mlp", run).training_loss == pytest.approx(sum(losses) / horizon, rel=1e-12)


def test_sharing_one_value_averages_the_hypergradients_of_its_steps() -> None:
    horizon = 6
    shared = forward_mode("mlp", Run((0.2,), (0.8,), (0.01,), horizon=horizon))
    unshared = forward_mode("mlp", Run((0.2,) * horizon, (0.8,) * horizon, (0.01,) * horizon, horizon=horizon))
    for name in HYPERPARAMETERS:
        mean = sum(unshared.values[name]) / horizon
        assert shared.values[name] == pytest.approx([mean], rel=1e-10)


# ------------------------------------------------------------------------------------- closed forms

CURVATURES = np.array([1.3, 0.4])
TARGET, HELD_OUT = np.array([0.7, -0.2]), np.array([0.5, 0.3])
START = np.array([1.5, -1.0])


class Point(nn.Module):
    """A point in the plane; every example asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.tensor(START))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.position.expand(len(inputs), 2)


def quadratic(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ Σ a (w − t)² for every example."""
    return (torch.tensor(CURVATURES) * (outputs - targets) ** 2).sum(dim=1) / 2


def on_quadratic(values: Mapping[str, Sequence[float]], horizon: int, clamps: Clamps | None = None) -> Hypergradient:
    model = FunctionalModel(Point(), quadratic)
    train_batch, held_out = (
        (torch.zeros(3, 1), torch.tensor(np.broadcast_to(t, (3, 2)).copy())) for t in (TARGET, HELD_OUT)
    )
    batches = itertools.repeat(train_batch)
    return hypergradient(model, HessianProducts(model), batches, [held_out], values, horizon, clamps=clamps)


def test_learning_rates_of_gradient_descent_on_a_quadratic_have_the_closed_form() -> None:
    """w_T − t = ∏ᵢ (1 − αᵢ a)^Wᵢ (w_0 − t), so dL_val/dαᵢ / Wᵢ = −a² / (1 − αᵢ a) · (w_T − t)(w_T − s)."""
    rates, horizon = [0.2, 0.05, 0.4], 10
    found = on_quadratic({"learning_rate": rates, "momentum": [0.0], "weight_decay": [0.0]}, horizon)
    factors = 1 - np.outer(rates, CURVATURES)
    last = TARGET + np.prod(factors ** np.array([[4], [3], [3]]), axis=0) * (START - TARGET)
    expected = (-(CURVATURES**2) / factors * (last - TARGET) * (last - HELD_OUT)).sum(axis=1)
    np.testing.assert_allclose(found.parameters.numpy(), last, rtol=1e-12)
    assert found.values["learning_rate"] == pytest.approx(list(expected), rel=1e-12)
    assert found.validation_loss == pytest.approx((CURVATURES * (last - HELD_OUT) ** 2).sum() / 2, rel=1e-12)


def closed_form_loss(rate: complex, momentum: complex, decay: complex, horizon: int) -> complex:
    """L_val after ``horizon`` steps: with e = w − a t / (a + ξ), (e, v) ↦ M (e, v) at every step.

    The determinant of M is μ and its trace 1 − α (a + ξ) + μ, so M^T = U_T M − μ U_{T−1} with
    U_n = (λ₁ⁿ − λ₂ⁿ) / (λ₁ − λ₂) of its eigenvalues. Analytic, so it takes complex arguments.
    """
    stiffness = CURVATURES + decay
    center = CURVATURES * TARGET / stiffness
    trace = 1 - rate * stiffness + momentum
    root = np.sqrt(trace**2 - 4 * momentum + 0j)
    larger, smaller = (trace + root) / 2, (trace - root) / 2
    power, lower = ((larger**n - smaller**n) / root for n in (horizon, horizon - 1))
    last = center + (power * (1 - rate * stiffness) - momentum * lower) * (START - center)
    return complex((CURVATURES * (last - HELD_OUT) ** 2).sum() / 2)


def test_all_hyperparameters_at_once_on_a_quadratic_have_the_closed_form() -> None:
    """The closed form's derivatives by a complex step, exact to rounding."""
    arguments, horizon, change = (0.05, 0.3, 0.1), 40, 1e-30
    found = on_quadratic(dict(zip(HYPERPARAMETERS, ([a] for a in arguments), strict=True)), horizon)
    assert found.validation_loss == pytest.approx(closed_form_loss(*arguments, horizon).real, rel=1e-12)
    for index, name in enumerate(HYPERPARAMETERS):
        moved = [a + 1j * change * (index == i) for i, a in enumerate(arguments)]
        expected = closed_form_loss(*moved, horizon).imag / change / horizon
        assert found.values[name] == pytest.approx([expected], rel=1e-10)


def test_clamped_hessian_products_follow_the_recursion() -> None:
    """Equation 4 written out for the quadratic's diagonal Hessian."""
    rate, momentum, decay, horizon, bound = 0.05, 0.3, 0.1, 12, 0.2
    values = {"learning_rate": [rate], "momentum": [momentum], "weight_decay": [decay]}
    w, v = START.copy(), np.zeros(2)
    Z, C = {name: np.zeros(2) for name in HYPERPARAMETERS}, {name: np.zeros(2) for name in HYPERPARAMETERS}
    largest = 0.0
    for _ in range(horizon):
        for name in HYPERPARAMETERS:
            direct = {"learning_rate": np.zeros(2), "momentum": v, "weight_decay": w}[name]
            product = CURVATURES * Z[name]
            largest = max(largest, float(np.abs(product).max()))
            C[name] = momentum * C[name] + np.clip(product, -bound, bound) + decay * Z[name] + direct
        v = momentum * v + CURVATURES * (w - TARGET) + decay * w
        for name in HYPERPARAMETERS:
            Z[name] = Z[name] - rate * C[name] - (v if name == "learning_rate" else 0)
        w = w - rate * v
    found = on_quadratic(values, horizon, Clamps(product=bound))
    assert largest > bound
    for name in HYPERPARAMETERS:
        expected = Z[name] @ (CURVATURES * (w - HELD_OUT)) / horizon
        assert found.values[name] == pytest.approx([expected], rel=1e-12)
    wide = on_quadratic(values, horizon, Clamps(product=10 * largest))
    assert wide.values == on_quadratic(values, horizon).values != found.values


# ------------------------------------------------------------------------------------------- memory


def peak_bytes(run: Callable[[], object]) -> int:
    gc.collect()
    with LiveTensors() as counter:
        run()
    return counter.peak


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "horizon"), [(HessianProductOptions(recorded=False), 200), (HessianProductOptions(record_after=0), 60)]
)
def test_memory_does_not_grow_with_the_horizon(options: HessianProductOptions, horizon: int) -> None:
    network = NETWORKS["batch norm mlp"]
    model = FunctionalModel(network.build(), cross_entropy)
    products = HessianProducts(model, options)
    batch = network.examples(16, seed=0)
    values = {"learning_rate": [0.1, 0.01], "momentum": [0.9], "weight_decay": [0.01]}

    def forward(steps: int) -> Callable[[], object]:
        return lambda: hypergradient(model, products, itertools.repeat(batch), [batch], values, steps)

    def backward(steps: int) -> Callable[[], object]:
        leaves = {name: torch.tensor(v, dtype=torch.float64, requires_grad=True) for name, v in values.items()}
        return lambda: unrolled_training(network, [batch] * steps, leaves)

    forward(20)()  # what is recorded is kept and does not count
    assert peak_bytes(forward(horizon)) == peak_bytes(forward(20))
    assert peak_bytes(backward(20)) > 1.8 * peak_bytes(backward(10))  # so the counter sees what a graph holds


# -------------------------------------------------------------------------------------------- errors


def test_batches_must_last_through_the_horizon() -> None:
    network = NETWORKS["mlp"]
    model, products = differentiable("mlp", BATCHED)
    batches = training_batches(network, 3)
    with pytest.raises(ValueError, match=r"^batches ended after 3 steps; horizon asks for 4$"):
        hypergradient(model, products, batches, batches, Run().values, horizon=4)


def test_batches_beyond_the_horizon_are_not_read() -> None:
    batches = iter(training_batches(NETWORKS["mlp"], 4))
    model, products = differentiable("mlp", BATCHED)
    hypergradient(model, products, batches, validation_batches(NETWORKS["mlp"]), Run().values, horizon=3)
    assert len(list(batches)) == 1


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("gradient_clamp", ElementBound),
        ("gradient_norm", NormBound),
        ("product_clamp", lambda bound: Clamps(product=bound)),
    ],
)
def test_clamps_must_be_positive(name: str, make: Callable[[float], object], bound: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {bound}; it must be positive or None$"):
        make(bound)


def test_a_run_that_diverges_is_not_finite() -> None:
    assert forward_mode("mlp", Run()).finite
    assert not on_quadratic({"learning_rate": [1e200], "momentum": [0.0], "weight_decay": [0.0]}, 5).finite
