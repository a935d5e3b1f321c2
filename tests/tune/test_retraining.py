"""Retraining with given schedules: one training per seed, the mean and every seed's own scores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.problems import Purpose, batches, derived_seed, evaluate
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune.fds import FDSTrainable
from raytune_hyperlearn.tune.retraining import RetrainingTrainable
from tests.tune.small import SPACE, small_model, small_problem

LEARNED = {"learning_rate": [0.0, 0.4, 0.3, 0.2, 0.1], "momentum": [0.9, 0.5], "weight_decay": [2e-3]}
CONFIG: dict[str, Any] = {
    "problem": small_problem,
    "space": SPACE,
    "seed": 5,
    "epochs": 2,
    "hyperparameters": LEARNED,
    "retrainings": 3,
}


def validation_loss(seed: int, split_seed: int) -> float:
    """Of one training, outside of any trainable."""
    problem = small_problem()
    split = problem.split(split_seed)
    model = initialize(problem.model, seed)
    train(model, problem.loss, batches(split.train, 20, 16, seed), LEARNED, 16)
    model.eval()
    return evaluate(model, problem, split.validation)[0]


@pytest.mark.parametrize("resplit", [False, True])
def test_every_seed_has_its_own_training(resplit: bool) -> None:
    result = RetrainingTrainable({**CONFIG, "resplit": resplit}).step()
    seeds = [derived_seed(5, Purpose.RETRAINING, index) for index in range(3)]
    expected = [validation_loss(seed, seed if resplit else 5) for seed in seeds]
    assert [scores["validation_loss"] for scores in result["scores"]] == pytest.approx(expected)
    assert len(set(expected)) == 3
    assert result["validation_loss"] == pytest.approx(sum(expected) / 3)
    assert result["done"]
    assert result["hyperparameters"] == LEARNED
    assert result["instances"] == 3 * 16 * 20


class SeedsOfReplays(FDSTrainable):
    """FDS that notes the seeds of its replays."""

    def train_and_score(self, values: Numbers, epochs: float, seed: int) -> dict[str, float]:
        """As ever."""
        self.replayed = [*getattr(self, "replayed", []), seed]
        return super().train_and_score(values, epochs, seed)


def test_no_training_of_a_search_is_repeated_as_a_confirmation() -> None:
    search = SeedsOfReplays({**{key: CONFIG[key] for key in ("problem", "space", "seed", "epochs")}, "replicates": 2})
    for _ in range(4):
        search.step()
    confirmations = {derived_seed(5, Purpose.RETRAINING, index) for index in range(20)}
    assert len(set(search.replayed)) == len(search.replayed) >= 6
    assert confirmations.isdisjoint(search.replayed)


def test_schedules_need_not_fit_the_space() -> None:
    beyond = {"learning_rate": [2.0] * 60, "momentum": [0.99, 0.5], "weight_decay": [0.01, 0.0, 0.01]}
    result = RetrainingTrainable({**CONFIG, "hyperparameters": beyond, "retrainings": 1}).step()
    assert result["hyperparameters"] == beyond
    assert result["validation_loss"] == result["scores"][0]["validation_loss"]


class Fragile(nn.Module):
    """The small network, unless its first drawn weight is negative: then its outputs are not numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small_model()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layers(inputs)
        first = next(self.parameters()).detach().reshape(-1)[0]
        return outputs * (math.nan if first < 0 else 1.0)


def test_one_diverged_training_makes_the_mean_diverge() -> None:
    still = {"learning_rate": [0.0], "momentum": [0.0], "weight_decay": [0.0]}
    problem = replace(small_problem(), model=Fragile)
    result = RetrainingTrainable(
        {**CONFIG, "problem": problem, "hyperparameters": still, "retrainings": 8, "epochs": 0.125}
    ).step()
    finite = [math.isfinite(scores["validation_loss"]) for scores in result["scores"]]
    assert any(finite)
    assert not all(finite)
    assert result["status"] == "diverged"
    assert result["validation_loss"] == math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyperparameters": {"learning_rate": [0.1]}}, "it must hold schedules of learning_rate, momentum"),
        (
            {"hyperparameters": {**LEARNED, "momentum": []}},
            r"hyperparameters.momentum is \[\]; it must be a list",
        ),
        ({"hyperparameters": {**LEARNED, "lr": [1.0]}}, "it must hold schedules of"),
        ({"retrainings": 0}, "retrainings is 0"),
        ({"retrainings": 1.5}, "retrainings is 1.5"),
    ],
)
def test_bad_config_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        RetrainingTrainable({**CONFIG, **changes})
    assert "\n" not in str(refused.value)
