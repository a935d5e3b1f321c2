"""Reverse mode gives what forward mode and a graph through the whole training give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from raytune_hyperlearn.algorithms import forward_mode, reverse_mode
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Hats, Shapes, Values, Windows
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep
from raytune_hyperlearn.algorithms.update_maps import SGD, AdamW, GradientUpdate, label_smoothing
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from tests.algorithms.unrolled import training_batches, unrolled_hypergradient, validation_batches
from tests.plain_networks import NETWORKS, cross_entropy

STEPS = 7
SGD_VALUES = {"learning_rate": [0.3, 0.1, 0.2], "momentum": [0.9, 0.5], "weight_decay": [0.03]}
ADAM_VALUES = {"learning_rate": [0.05, 0.02], "beta1": [0.8], "weight_decay": [0.05], "label_smoothing": [0.1, 0.3]}
UNSHARED = {"learning_rate": [0.1 + 0.05 * (t % 3) for t in range(STEPS)], "momentum": [0.6], "weight_decay": [0.0]}


def by_reverse_mode(
    update: Callable[[FunctionalModel], GradientUpdate],
    network: str,
    values: Values,
    shapes: Shapes = EQUAL_WINDOWS,
    steps: int = STEPS,
) -> forward_mode.Hypergradient:
    written = NETWORKS[network]
    model = FunctionalModel(written.build(), cross_entropy)
    batches, held_out = training_batches(written, steps), validation_batches(written)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return reverse_mode.hypergradient(update(model), batches, held_out, values, steps, tuple(values), shapes)


@pytest.mark.parametrize("network", ["mlp", "relu cnn", "batch norm cnn"])
@pytest.mark.parametrize("values", [SGD_VALUES, UNSHARED], ids=["windows", "unshared"])
def test_equals_the_unrolled_graph(network: str, values: Values) -> None:
    found = by_reverse_mode(SGD, network, values)
    loss, expected = unrolled_hypergradient(NETWORKS[network], training_batches(NETWORKS[network], STEPS), values)
    assert found.validation_loss == pytest.approx(loss, rel=1e-10)
    for name, entries in expected.items():
        assert found.values[name] == pytest.approx(entries, rel=1e-8, abs=1e-12)
        assert any(abs(entry) > 1e-6 for entry in entries)


@pytest.mark.parametrize(
    ("update", "values", "shapes", "network"),
    [
        (SGD, SGD_VALUES, Shapes({"learning_rate": Windows(3, (1, 4, 2)), "momentum": Hats(2)}), "dropout"),
        (lambda model: AdamW(model, label_smoothing()), ADAM_VALUES, EQUAL_WINDOWS, "batch norm mlp"),
        (lambda model: SGD(model, nesterov=True), SGD_VALUES, EQUAL_WINDOWS, "tied"),
        (lambda model: SGD(model, gradient_clamp=0.05), SGD_VALUES, EQUAL_WINDOWS, "frozen"),
    ],
    ids=["dropout and windows", "adamw", "tied", "clamped and frozen"],
)
def test_equals_forward_mode(
    update: Callable[[FunctionalModel], GradientUpdate], values: Values, shapes: Shapes, network: str
) -> None:
    found = by_reverse_mode(update, network, values, shapes)
    written = NETWORKS[network]
    inner = GradientStep(update(FunctionalModel(written.build(), cross_entropy)))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = forward_mode.hypergradient(
            inner,
            training_batches(written, STEPS),
            validation_batches(written),
            values,
            STEPS,
            tuple(values),
            shapes,
        )
    assert found.training_loss == pytest.approx(expected.training_loss, rel=1e-10)
    assert torch.allclose(found.statistics, expected.statistics, rtol=1e-10)
    for name, entries in expected.values.items():
        assert found.values[name] == pytest.approx(entries, rel=1e-7, abs=1e-12)


def test_values_that_no_step_uses_get_zero() -> None:
    found = by_reverse_mode(SGD, "mlp", {**SGD_VALUES, "learning_rate": [0.1] * 5}, steps=3)
    assert [entry == 0 for entry in found.values["learning_rate"]] == [False, False, True, False, True]


def test_random_numbers_go_on_after_the_way_back() -> None:
    """The masks are drawn again on the way back; the caller's generator stands where training left it."""
    written = NETWORKS["dropout"]
    model = FunctionalModel(written.build(), cross_entropy)
    drawn = []
    for learned in ((), ("learning_rate",)):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            reverse_mode.hypergradient(
                SGD(model), training_batches(written, 3), validation_batches(written), SGD_VALUES, 3, learned
            )
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


def test_refusals() -> None:
    written = NETWORKS["mlp"]
    update = SGD(FunctionalModel(written.build(), cross_entropy))
    two = training_batches(written, 2)
    with pytest.raises(ValueError, match="batches ended after 2 steps; horizon asks for 3"):
        reverse_mode.hypergradient(update, two, validation_batches(written), SGD_VALUES, 3, ("momentum",))
    with pytest.raises(ValueError, match="values hold 'rate'; they must be of learning_rate"):
        by_reverse_mode(SGD, "mlp", {"rate": [0.1]})
    with pytest.raises(ValueError, match="momentum has 2 values; its shape needs 3"):
        by_reverse_mode(SGD, "mlp", SGD_VALUES, Shapes({"momentum": Windows(3)}))
