"""Both directions behind one call: equal for models of every kind, chosen by cost, the choice kept."""

from __future__ import annotations

import pytest
import torch

from raytune_hyperlearn.algorithms.adjoint_steps import MapAdjoint, SGDAdjoint
from raytune_hyperlearn.algorithms.checkpoints import Keeping
from raytune_hyperlearn.algorithms.fds import Clamps, SGDStep
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient
from raytune_hyperlearn.algorithms.hypergradients import Hypergradients, adjoint_of
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, MapStep
from raytune_hyperlearn.algorithms.update_maps import SGD, AdamW
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from tests.algorithms.test_kinds_of_models import KINDS, STEPS, VALUES, Kind
from tests.algorithms.unrolled import training_batches, validation_batches
from tests.plain_networks import NETWORKS, cross_entropy

ADAMW = {"learning_rate": [0.05, 0.02], "beta1": [0.8], "weight_decay": [0.05]}


def step(kind: Kind, adamw: bool = False) -> SGDStep | GradientStep:
    model = FunctionalModel(kind.build(), kind.loss)
    return GradientStep(AdamW(model)) if adamw else SGDStep(model, HessianProducts(model))


def found(run: Hypergradients, kind: Kind, values: Values = VALUES) -> Hypergradient:
    batches, held_out = [kind.batch(6, step) for step in range(STEPS)], [kind.batch(9, 100)]
    return run(batches, held_out, values, STEPS, list(values))


@pytest.mark.parametrize(
    ("name", "adamw"), [*((name, False) for name in KINDS), ("regression", True), ("lstm", True), ("transformer", True)]
)
def test_directions_agree_for_models_of_every_kind(name: str, adamw: bool) -> None:
    kind, values = KINDS[name], ADAMW if adamw else VALUES
    forward, reverse = (found(Hypergradients(step(kind, adamw), way), kind, values) for way in ("forward", "reverse"))
    assert (forward.differentiation, reverse.differentiation) == ("forward", "reverse")
    assert reverse.validation_loss == pytest.approx(forward.validation_loss, rel=1e-12)
    for hyperparameter, entries in forward.values.items():
        assert reverse.values[hyperparameter] == pytest.approx(entries, rel=1e-10, abs=1e-12)


def test_auto_takes_the_cheaper_direction_and_says_why() -> None:
    kind = KINDS["regression"]
    run = Hypergradients(step(kind))
    run.take_choices({"costs": {"forward": 0.5, "reverse": 2.0}})
    few = found(run, kind, {"learning_rate": [0.1]})
    many = found(run, kind, {"learning_rate": [0.1] * 4, "momentum": [0.5] * 4, "weight_decay": [0.0] * 4})
    assert (few.differentiation, many.differentiation) == ("forward", "reverse")
    assert few.why == "K = 1, T = 4: 1.5 plain trainings forward, 3.0 in reverse"
    assert many.why == "K = 12, T = 4: 4.8 plain trainings forward, 3.0 in reverse"
    assert run.choices() == {"costs": {"forward": 0.5, "reverse": 2.0}}


def test_costs_are_counted_once_and_leave_no_trace() -> None:
    written = NETWORKS["dropout"]
    model = FunctionalModel(written.build(), cross_entropy)
    run = Hypergradients(SGDStep(model, HessianProducts(model)))
    entries = []
    for chosen in (run, Hypergradients(SGDStep(model, HessianProducts(model)), "forward"), run):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            one = chosen(training_batches(written, 5), validation_batches(written), VALUES, 5, list(VALUES))
        entries.append(one.values["momentum"][0])
        counted = dict(run.costs)
    assert entries == pytest.approx([entries[0]] * 3, rel=1e-10)
    again = Hypergradients(SGDStep(model, HessianProducts(model)))
    again(training_batches(written, 5), validation_batches(written), VALUES, 5, list(VALUES))
    assert counted == run.costs == again.costs
    assert 1 < counted["forward"] < counted["reverse"] < 4


def test_what_reverse_mode_cannot_do_goes_forward() -> None:
    kind = KINDS["regression"]
    model = FunctionalModel(kind.build(), kind.loss)
    clamped = SGDStep(model, HessianProducts(model), Clamps(product=1.0))
    partly = SGDStep(model, HessianProducts(model, HessianProductOptions(fraction=0.5)))
    for inner, reason in (
        (clamped, "product_clamp is 1.0 and bounds tangents"),
        (partly, "taken on 0.5 of each batch"),
    ):
        with pytest.raises(ValueError, match=f"differentiation is 'reverse'; it must be 'forward', because .*{reason}"):
            Hypergradients(inner, "reverse")
        one = found(Hypergradients(inner), kind)
        assert one.differentiation == "forward"
        assert reason in one.why
    short = Hypergradients(step(kind), keeping=Keeping(memory_limit=10))
    assert "memory_limit is 10; it must be at least" in found(short, kind).why
    shard = Hypergradients(step(kind), "reverse")
    batches, held_out = [kind.batch(6, step) for step in range(STEPS)], [kind.batch(9, 100)]
    part = shard(batches, held_out, VALUES, STEPS, list(VALUES), part=slice(0, 2))
    assert part.differentiation == "forward"
    with pytest.raises(ValueError, match="differentiation is 'back'; it must be one of auto, forward, reverse"):
        Hypergradients(clamped, "back")  # type: ignore[arg-type]


def test_every_step_has_its_counterpart() -> None:
    model = FunctionalModel(KINDS["regression"].build(), cross_entropy)
    by_hand = adjoint_of(SGDStep(model, HessianProducts(model), Clamps(gradient=ElementBound(0.5))))
    assert isinstance(by_hand, SGDAdjoint)
    assert by_hand.bound == ElementBound(0.5)
    for inner in (GradientStep(SGD(model)), MapStep(SGD(model))):
        assert isinstance(adjoint_of(inner), MapAdjoint)
