from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.sgd import sgd_optimizer, sgd_step, train
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound, NormBound
from tests.algorithms.unrolled import training_batches, unrolled_training
from tests.plain_networks import NETWORKS, cross_entropy

HORIZON = 9


def trained(name: str, values: dict[str, list[float]], bound: GradientBound | None = None) -> nn.Module:
    network = NETWORKS[name]
    model = network.build()
    train(model, cross_entropy, training_batches(network, HORIZON), values, HORIZON, bound)
    return model


@pytest.mark.parametrize(
    ("momentum", "weight_decay", "name"),
    list(itertools.product([0.0, 0.5, 0.95], [0.0, 0.02], ["mlp", "batch norm cnn"])),
)
def test_constant_hyperparameters_give_the_trajectory_of_torch_sgd(
    momentum: float, weight_decay: float, name: str
) -> None:
    network = NETWORKS[name]
    found = trained(name, {"learning_rate": [0.1], "momentum": [momentum], "weight_decay": [weight_decay]})
    model = network.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    for inputs, targets in training_batches(network, HORIZON):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("bound", [None, ElementBound(0.02), NormBound(0.3)], ids=str)
@pytest.mark.parametrize("name", ["mlp", "batch norm mlp", "frozen"])
def test_schedules_follow_the_update_rule(name: str, bound: GradientBound | None) -> None:
    """v ← μ v + g + ξ w, w ← w − α v written out, through windows of zero momentum too."""
    values = {"learning_rate": [0.2, 0.0, 0.1], "momentum": [0.9, 0.0, 0.8, 0.4], "weight_decay": [0.01, 0.0]}
    model = trained(name, values, bound)
    exact = {key: torch.tensor(schedule, dtype=torch.float64) for key, schedule in values.items()}
    network = NETWORKS[name]
    weights, statistics = unrolled_training(network, training_batches(network, HORIZON), exact, bound)
    for key, value in {**weights, **statistics}.items():
        torch.testing.assert_close(model.state_dict()[key], value.detach(), rtol=1e-11, atol=1e-13)


def product(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs * targets).sum(dim=1)


def test_zero_momentum_in_single_precision_keeps_the_last_gradient_alone() -> None:
    """The number that stands for 0 must not let anything of an old velocity through."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = sgd_optimizer(model)

    def velocity(slope: float, momentum: float) -> float:
        batch = torch.tensor([[1.0]]), torch.tensor([[slope]])
        sgd_step(model, optimizer, product, batch, {"learning_rate": 0.0, "momentum": momentum, "weight_decay": 0.0})
        return float(optimizer.state[model.weight]["momentum_buffer"])

    assert velocity(1e30, 0.9) == pytest.approx(1e30)
    assert velocity(1e-30, 0.0) == pytest.approx(1e-30)
    assert velocity(2.0, 0.5) == 2.0


def test_a_step_returns_the_loss_before_it_and_trains_nothing_that_is_frozen() -> None:
    network = NETWORKS["frozen"]
    model = network.build()
    batch = network.examples(8, seed=1)
    expected = cross_entropy(network.build()(batch[0]), batch[1]).mean()
    optimizer = sgd_optimizer(model)
    hyperparameters = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    value = sgd_step(model, optimizer, cross_entropy, batch, hyperparameters)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-14, atol=0)
    assert not value.requires_grad
    before = network.build()
    assert torch.equal(model.get_parameter("first.weight"), before.get_parameter("first.weight"))
    assert not torch.equal(model.get_parameter("second.weight"), before.get_parameter("second.weight"))


def test_training_puts_the_model_into_training_mode() -> None:
    network = NETWORKS["batch norm mlp"]
    model = network.build().eval()
    values = {"learning_rate": [0.1], "momentum": [0.0], "weight_decay": [0.0]}
    train(model, cross_entropy, training_batches(network, 1), values, 1)
    assert model.training
    assert int(model.get_buffer("1.num_batches_tracked")) == 1
