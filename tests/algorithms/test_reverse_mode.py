"""Reverse mode gives what forward mode and a graph through the whole training give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from raytune_hyperlearn.algorithms import forward_mode, reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import AdjointStep, ExampleWeights, MapAdjoint, SGDAdjoint, Slices
from raytune_hyperlearn.algorithms.checkpoints import Keeping
from raytune_hyperlearn.algorithms.fds import Clamps, SGDStep
from raytune_hyperlearn.algorithms.groups import layers
from raytune_hyperlearn.algorithms.objectives import label_smoothing
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Hats, Shapes, Windows
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep
from raytune_hyperlearn.algorithms.update_maps import SGD, Adam, AdamW, GradientUpdate
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.adjoint_products import AdjointProductOptions
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound, NormBound
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from tests.algorithms.unrolled import training_batches, unrolled_hypergradient, validation_batches
from tests.plain_networks import NETWORKS, cross_entropy

STEPS = 7
SGD_VALUES = {"learning_rate": [0.3, 0.1, 0.2], "momentum": [0.9, 0.5], "weight_decay": [0.03]}
ADAM_VALUES = {"learning_rate": [0.05, 0.02], "beta1": [0.8], "weight_decay": [0.05], "label_smoothing": [0.1, 0.3]}
UNSHARED = {"learning_rate": [0.1 + 0.05 * (t % 3) for t in range(STEPS)], "momentum": [0.6], "weight_decay": [0.0]}


def by_reverse_mode(
    inner: Callable[[FunctionalModel], AdjointStep],
    network: str,
    values: Values,
    shapes: Shapes = EQUAL_WINDOWS,
    steps: int = STEPS,
    keeping: Keeping | None = None,
) -> reverse_mode.ReverseHypergradient:
    written = NETWORKS[network]
    model = FunctionalModel(written.build(), cross_entropy)
    batches, held_out = training_batches(written, steps), validation_batches(written)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return reverse_mode.hypergradient(
            inner(model), batches, held_out, values, steps, tuple(values), shapes, keeping=keeping
        )


def recorded(model: FunctionalModel) -> SGDAdjoint:
    return SGDAdjoint(model, options=AdjointProductOptions(record_from=1))


INNER: dict[str, Callable[[FunctionalModel], AdjointStep]] = {
    "by hand": SGDAdjoint,
    "recorded": recorded,
    "forward over reverse": lambda model: SGDAdjoint(model, options=AdjointProductOptions("forward_over_reverse")),
    "whole map": lambda model: MapAdjoint(SGD(model)),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize(
    ("network", "values"),
    [
        ("mlp", UNSHARED),
        ("relu cnn", SGD_VALUES),
        ("batch norm mlp", SGD_VALUES),
        ("batch norm mlp", UNSHARED),
        ("tied", SGD_VALUES),
        ("frozen", SGD_VALUES),
    ],
)
def test_equals_the_unrolled_graph(network: str, values: Values, inner: str) -> None:
    found = by_reverse_mode(INNER[inner], network, values)
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
        (lambda model: SGD(model, bound=ElementBound(0.05)), SGD_VALUES, EQUAL_WINDOWS, "frozen"),
        (lambda model: SGD(model, bound=NormBound(0.2)), SGD_VALUES, EQUAL_WINDOWS, "frozen"),
        (lambda model: Adam(model, bound=NormBound(0.2)), {"learning_rate": [0.01, 0.02]}, EQUAL_WINDOWS, "frozen"),
    ],
    ids=["dropout and windows", "adamw", "tied", "clamped and frozen", "norm", "adam and norm"],
)
def test_equals_forward_mode(
    update: Callable[[FunctionalModel], GradientUpdate], values: Values, shapes: Shapes, network: str
) -> None:
    found = by_reverse_mode(lambda model: MapAdjoint(update(model)), network, values, shapes)
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
    found = by_reverse_mode(SGDAdjoint, "mlp", {**SGD_VALUES, "learning_rate": [0.1] * 5}, steps=3)
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
                SGDAdjoint(model), training_batches(written, 3), validation_batches(written), SGD_VALUES, 3, learned
            )
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


def test_refusals() -> None:
    written = NETWORKS["mlp"]
    update = SGDAdjoint(FunctionalModel(written.build(), cross_entropy))
    two = training_batches(written, 2)
    with pytest.raises(ValueError, match="batches ended after 2 steps; horizon asks for 3"):
        reverse_mode.hypergradient(update, two, validation_batches(written), SGD_VALUES, 3, ("momentum",))
    with pytest.raises(ValueError, match="values hold 'rate'; they must be of learning_rate"):
        by_reverse_mode(SGDAdjoint, "mlp", {"rate": [0.1]})
    with pytest.raises(ValueError, match="momentum has 2 values; its shape needs 3"):
        by_reverse_mode(SGDAdjoint, "mlp", SGD_VALUES, Shapes({"momentum": Windows(3)}))
    with pytest.raises(ValueError, match="horizon is 0; it must be at least 1"):
        by_reverse_mode(SGDAdjoint, "mlp", SGD_VALUES, steps=0)
    with pytest.raises(ValueError, match="groups hold 'rate'; they must be of learning_rate"):
        SGDAdjoint(update.model, groups={"rate": {}})
    with pytest.raises(ValueError, match="slices hold 3 parameters; they must hold all"):
        SGDAdjoint(update.model, slices=Slices(("a",), (3,)))
    with pytest.raises(ValueError, match="way is 'fast'; it must be one of double_backward, forward_over_reverse"):
        AdjointProductOptions("fast")


@pytest.mark.parametrize("bound", [ElementBound(0.05), NormBound(0.3)], ids=str)
@pytest.mark.parametrize("way", ["double_backward", "forward_over_reverse"])
@pytest.mark.parametrize("network", ["dropout", "batch norm cnn"])
def test_by_hand_equals_forward_mode_with_dropout_and_bounds(network: str, way: str, bound: GradientBound) -> None:
    written = NETWORKS[network]
    found = by_reverse_mode(
        lambda model: SGDAdjoint(model, bound, options=AdjointProductOptions(way)), network, SGD_VALUES
    )
    model = FunctionalModel(written.build(), cross_entropy)
    inner = SGDStep(model, HessianProducts(model), Clamps(gradient=bound))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        batches, held_out = training_batches(written, STEPS), validation_batches(written)
        expected = forward_mode.hypergradient(inner, batches, held_out, SGD_VALUES, STEPS, tuple(SGD_VALUES))
    assert found.validation_loss == pytest.approx(expected.validation_loss, rel=1e-12)
    assert torch.allclose(found.parameters, expected.parameters, rtol=1e-12)
    for name, entries in expected.values.items():
        assert found.values[name] == pytest.approx(entries, rel=1e-10, abs=1e-13)


def test_layers_have_entries_and_values_of_their_own() -> None:
    """Equal values in every layer train as one value does; the entries of the layers add up to its entry."""
    model = FunctionalModel(NETWORKS["mlp"].build(), cross_entropy)
    groups = {"learning_rate": layers(list(model.unflatten(model.parameters)))}
    names = [f"learning_rate@{layer}" for layer in groups["learning_rate"]]
    values = {**dict.fromkeys(names, SGD_VALUES["learning_rate"]), "momentum": [0.9, 0.5], "weight_decay": [0.03]}
    apart = by_reverse_mode(lambda model: SGDAdjoint(model, groups=groups), "mlp", values)
    whole = by_reverse_mode(SGDAdjoint, "mlp", SGD_VALUES)
    sliced = by_reverse_mode(lambda model: SGDAdjoint(model, slices=Slices.layers(model)), "mlp", SGD_VALUES)
    entries = torch.stack([apart.per_step[name] for name in names], dim=1)
    assert torch.allclose(entries.sum(dim=1), whole.per_step["learning_rate"], rtol=1e-12)
    assert torch.allclose(sliced.per_step["learning_rate"], entries, rtol=1e-12)
    assert sliced.per_step["momentum"].shape == (STEPS, len(names))
    for name, own in whole.values.items():
        assert sliced.values[name] == pytest.approx(own, rel=1e-12)

    def loss(rate: float) -> float:
        moved = {**values, names[-1]: [rate, *SGD_VALUES["learning_rate"][1:]]}
        return by_reverse_mode(lambda model: SGDAdjoint(model, groups=groups), "mlp", moved).validation_loss

    difference = (loss(0.3 + 1e-5) - loss(0.3 - 1e-5)) / 2e-5
    assert apart.values[names[-1]][0] * 3 == pytest.approx(difference, rel=1e-7)


@pytest.mark.parametrize("way", ["double_backward", "forward_over_reverse"])
@pytest.mark.parametrize("record_from", [1, 100])
def test_weights_of_examples_have_entries(way: str, record_from: int) -> None:
    """Against finite differences of each weight, with rows that come again and rows that never come."""
    written = NETWORKS["batch norm mlp"]
    inputs, targets = written.examples(12, 3)
    order = [torch.randperm(10, generator=torch.Generator().manual_seed(step))[:6] for step in range(4)]
    generator = torch.Generator().manual_seed(1)
    weights = 0.5 + torch.rand(12, dtype=torch.float64, generator=generator)

    examples = ExampleWeights(weights.clone(), lambda step: order[step])
    model = FunctionalModel(written.build(), cross_entropy)
    inner = SGDAdjoint(model, examples=examples, options=AdjointProductOptions(way, record_from=record_from))

    def found(weights: torch.Tensor) -> reverse_mode.ReverseHypergradient:
        examples.values.copy_(weights)
        batches = [(inputs[rows], targets[rows]) for rows in order]
        return reverse_mode.hypergradient(inner, batches, validation_batches(written), SGD_VALUES, 4, ())

    entries = found(weights).per_example
    for row in (0, 4, 9, 11):
        step = torch.zeros_like(weights)
        step[row] = 1e-5
        difference = (found(weights + step).validation_loss - found(weights - step).validation_loss) / 2e-5
        assert entries[row].item() == pytest.approx(difference, rel=1e-6, abs=1e-10)
    assert entries[10:].tolist() == [0.0, 0.0]
    assert bool(entries[:10].abs().min() > 1e-8)
