"""Groups of parameters: the same by hand, by any update map, backwards, and in plain training with param groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn.algorithms import forward_mode, reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import MapAdjoint, SGDAdjoint
from raytune_hyperlearn.algorithms.fds import SGDStep, parts
from raytune_hyperlearn.algorithms.groups import grouped, layers, names_in_use, ungrouped
from raytune_hyperlearn.algorithms.schedules import Hats, Shapes
from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep
from raytune_hyperlearn.algorithms.update_maps import SGD
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from tests.algorithms.unrolled import training_batches, validation_batches
from tests.plain_networks import NETWORKS, cross_entropy

NETWORK, STEPS = NETWORKS["cnn"], 6
GROUPS = {
    "learning_rate": {"ends": ["0.*", "6.*"], "middle": ["4.*"]},
    "weight_decay": {"0": ["0.*"], "rest": ["[46].*"]},
}
VALUES = {
    "learning_rate@ends": [0.2, 0.1, 0.3],
    "learning_rate@middle": [0.3, 0.05, 0.1],
    "momentum": [0.8, 0.5],
    "weight_decay@0": [0.02],
    "weight_decay@rest": [0.01, 0.05],
}
SHAPES = Shapes({"learning_rate@ends": Hats(3)})


def trained(values: dict[str, list[float]]) -> nn.Module:
    model = NETWORK.build()
    train(model, cross_entropy, training_batches(NETWORK, STEPS), values, STEPS, shapes=SHAPES, groups=GROUPS)
    return model.eval()


@torch.no_grad()
def loss(model: nn.Module) -> float:
    return float(torch.cat([cross_entropy(model(x), y) for x, y in validation_batches(NETWORK)]).mean())


def arguments() -> tuple[Any, ...]:
    return training_batches(NETWORK, STEPS), validation_batches(NETWORK), VALUES, STEPS, list(VALUES), SHAPES


def test_hypergradients_of_groups_are_finite_differences_of_plain_training() -> None:
    model = FunctionalModel(NETWORK.build(), cross_entropy)
    by_hand = forward_mode.hypergradient(SGDStep(model, HessianProducts(model), groups=GROUPS), *arguments())
    general = forward_mode.hypergradient(GradientStep(SGD(model, groups=GROUPS)), *arguments())
    backwards = reverse_mode.hypergradient(SGDAdjoint(model, groups=GROUPS), *arguments())
    mapped = reverse_mode.hypergradient(MapAdjoint(SGD(model, groups=GROUPS)), *arguments())
    assert by_hand.validation_loss == pytest.approx(loss(trained(VALUES)), rel=1e-10)
    for name, entries in VALUES.items():
        divisors = SHAPES.divisors(name, len(entries), range(STEPS), STEPS)
        for index, divisor in enumerate(divisors):
            up, down = (
                {**VALUES, name: [v + by * (i == index) for i, v in enumerate(entries)]} for by in (1e-5, -1e-5)
            )
            expected = (loss(trained(up)) - loss(trained(down))) / 2e-5 / divisor
            assert by_hand.values[name][index] == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert general.values[name] == pytest.approx(by_hand.values[name], rel=1e-9)
        assert backwards.values[name] == pytest.approx(by_hand.values[name], rel=1e-9)
        assert mapped.values[name] == pytest.approx(by_hand.values[name], rel=1e-9)


def test_groups_that_are_all_alike_are_no_groups() -> None:
    model = FunctionalModel(NETWORK.build(), cross_entropy)
    own = layers(list(model.unflatten(model.parameters)))
    batches, held_out = training_batches(NETWORK, STEPS), validation_batches(NETWORK)
    apart = {f"learning_rate@{name}": [0.2, 0.1] for name in own} | {"momentum": [0.8]}
    together = {"learning_rate": [0.2, 0.1], "momentum": [0.8]}
    found, expected = (
        forward_mode.hypergradient(
            SGDStep(model, HessianProducts(model), groups=groups), batches, held_out, values, STEPS, list(values)
        )
        for groups, values in (({"learning_rate": own}, apart), ({}, together))
    )
    assert found.values["momentum"] == pytest.approx(expected.values["momentum"], rel=1e-10)
    for index in range(2):
        total = sum(found.values[f"learning_rate@{name}"][index] for name in own)
        assert total == pytest.approx(expected.values["learning_rate"][index], rel=1e-10)


def test_neighbors_with_the_same_hyperparameters_are_one_part() -> None:
    model = FunctionalModel(NETWORK.build(), cross_entropy)
    found = parts(model, {"learning_rate": {"a": ["0.*", "4.*"], "b": ["6.*"]}})
    assert [part.names for part in found] == [
        ("learning_rate@a", "momentum", "weight_decay"),
        ("learning_rate@b", "momentum", "weight_decay"),
    ]
    assert found[0].where.stop == found[1].where.start
    assert found[1].where.stop == len(model.parameters)


def test_layers_are_the_modules_that_own_parameters() -> None:
    names = ["scale", "features.0.weight", "features.0.bias", "head.weight"]
    assert layers(names) == {
        "scale": ["scale"],
        "features.0": ["features.0.weight", "features.0.bias"],
        "head": ["head.weight"],
    }
    assert names_in_use({"momentum": layers(names)}, "momentum", names) == [
        "momentum@scale",
        "momentum@features.0",
        "momentum@features.0",
        "momentum@head",
    ]
    assert (grouped("momentum", "head"), ungrouped("momentum@head"), ungrouped("momentum")) == (
        "momentum@head",
        "momentum",
        "momentum",
    )


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"a": ["0.*"]}, "4.weight is in no group of momentum; it must be in exactly one group"),
        ({"a": ["*"], "b": ["4.*"]}, "4.weight is in 'a' and 'b' of momentum; it must be in exactly one group"),
        (
            {"a": ["*"], "b": ["head.*"]},
            r"group 'b' of momentum holds 'head.\*'; it must fit one of 0.weight, 4.weight",
        ),
    ],
)
def test_groups_that_do_not_fit_are_refused_in_one_line(own: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        names_in_use({"momentum": own}, "momentum", ["0.weight", "4.weight"])
    if "head" not in message:
        with pytest.raises(ValueError, match=r"in exactly one group$"):
            SGDStep(
                model := FunctionalModel(NETWORK.build(), cross_entropy),
                HessianProducts(model),
                groups={"momentum": own},
            )


def test_unknown_hyperparameters_are_refused() -> None:
    model = FunctionalModel(NETWORK.build(), cross_entropy)
    with pytest.raises(
        ValueError, match=r"^groups hold 'rate'; they must be of learning_rate, momentum, weight_decay$"
    ):
        SGDStep(model, HessianProducts(model), groups={"rate": {"all": ["*"]}})
