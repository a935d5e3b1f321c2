"""PyTorch's optimizers under scheduled hyperparameters train as the pure functions that FDS differentiates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn.algorithms.optimizer_defaults import DEFAULTS, OptimizerName
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS
from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.update_maps import SGD, Adam, AdamW, GradientUpdate
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound
from raytune_hyperlearn.problems import cross_entropy

STEPS = 9
VALUES: dict[OptimizerName, dict[str, list[float]]] = {
    "sgd": {"learning_rate": [0.1, 0.05, 0.2], "momentum": [0.8], "weight_decay": [0.01]},
    "adam": {"learning_rate": [0.01, 0.05, 0.02], "beta1": [0.9, 0.5], "weight_decay": [0.1]},
    "adamw": {"learning_rate": [0.01, 0.05, 0.02], "beta2": [0.99], "weight_decay": [0.1, 0.3]},
}
MAPS: dict[OptimizerName, type[GradientUpdate]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 3, generator=generator, dtype=torch.float64), torch.randint(2, (8,), generator=generator))
        for _ in range(STEPS)
    ]


@pytest.mark.parametrize("bound", [None, ElementBound(0.05)])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_scheduled_training_ends_with_the_weights_of_the_differentiated_one(
    name: OptimizerName, bound: GradientBound | None
) -> None:
    model = network()
    train(model, cross_entropy, batches(), VALUES[name], STEPS, bound, optimizer=name)
    more: dict[str, Any] = {"bound": bound}
    update = MAPS[name](FunctionalModel(network(), cross_entropy), **more)
    weights, state = update.model.parameters, update.initial_state()
    for step, batch in enumerate(batches()):
        now = {**update.defaults, **EQUAL_WINDOWS.at_step(VALUES[name], step, STEPS)}
        given = {key: torch.tensor(value, dtype=torch.float64) for key, value in now.items()}
        weights, state, _ = update(weights, state, given, batch)
    found = torch.cat([part.detach().flatten() for part in model.parameters()])
    torch.testing.assert_close(found, weights.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_values_that_are_not_given_are_pytorchs(name: OptimizerName) -> None:
    update = MAPS[name](FunctionalModel(network(), cross_entropy))
    assert update.defaults == DEFAULTS[name]
    made = (torch.optim.Adam if name == "adam" else torch.optim.AdamW)(network().parameters()).defaults
    ours = DEFAULTS[name]
    assert (made["lr"], made["betas"]) == (ours["learning_rate"], (ours["beta1"], ours["beta2"]))
    assert (made["eps"], made["weight_decay"]) == (ours["epsilon"], ours["weight_decay"])
