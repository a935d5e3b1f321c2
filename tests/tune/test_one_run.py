"""One training by an optimizer that needs no tuning, against a loop written out with the optimizer's own package."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune import OneRunTrainable, ProdigyOptions
from tests.tune.small import scores_of, small_problem

pytest.importorskip("schedulefree")
pytest.importorskip("prodigyopt")

OPTIONS = {
    "schedule-free": {"learning_rate": 0.01, "weight_decay": 0.1, "warmup_fraction": 0.1},
    "prodigy": {"learning_rate": 1.0, "weight_decay": 0.1},
}
SEED = derived_seed(derived_seed(3, Purpose.TRIAL), Purpose.REPLICATE, 0)
STEPS = 16  # two epochs of 160 examples


def trainable(name: str, **changes: Any) -> OneRunTrainable:
    config = {"problem": small_problem, "space": SearchSpace(), "seed": 3, "optimizer": name, "options": OPTIONS[name]}
    return OneRunTrainable({**config, **changes})


def train(model: nn.Module, optimizer: torch.optim.Optimizer, after: Callable[[], None] = lambda: None) -> None:
    problem = small_problem()
    model.train()
    for inputs, targets in batches(problem.split(3).train, problem.batch_size, STEPS, SEED):
        optimizer.zero_grad()
        problem.loss(model(inputs), targets).mean().backward()
        optimizer.step()
        after()


def test_schedule_free_is_scored_at_its_average_with_statistics_of_that_average() -> None:
    from schedulefree import AdamWScheduleFree

    model = initialize(small_problem().model, SEED)
    optimizer = AdamWScheduleFree(model.parameters(), lr=0.01, weight_decay=0.1, warmup_steps=2)
    optimizer.train()
    train(model, optimizer)
    optimizer.eval()
    problem = small_problem()
    with torch.no_grad():
        for inputs, _ in batches(problem.split(3).train, problem.batch_size, STEPS, SEED):
            model(inputs)
    tested = trainable("schedule-free")
    model.eval()
    assert scores_of(tested.train()) == tested.score(model)


def test_prodigy_is_annealed_by_half_a_cosine_of_the_whole_training() -> None:
    from prodigyopt import Prodigy

    model = initialize(small_problem().model, SEED)
    optimizer = Prodigy(model.parameters(), weight_decay=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    train(model, optimizer, cosine.step)
    tested = trainable("prodigy")
    model.eval()
    expected = tested.score(model)
    assert scores_of(tested.train()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_training_is_recorded_once_and_its_options_are_the_hyperparameters(name: str) -> None:
    result = trainable(name, replicates=2).train()
    assert result["done"]
    assert result["status"] == "completed"
    assert result["epochs"] == 2.0
    assert result["instances"] == 2 * STEPS * 20
    assert result["hyperparameters"] == {option: [value] for option, value in OPTIONS[name].items()}
    assert math.isfinite(result["validation_loss"])


def test_the_gradient_clamp_holds_for_these_optimizers_too() -> None:
    free, clamped = trainable("prodigy"), trainable("prodigy", gradient_clamp=1e-3)
    assert scores_of(free.train()) != scores_of(clamped.train())


def test_options_may_be_a_record() -> None:
    assert trainable("prodigy", options=ProdigyOptions(weight_decay=0.1)).options == trainable("prodigy").options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be 'schedule-free' or 'prodigy'"),
        ({"options": {"warmup_fraction": 0.1}}, "option of prodigy is 'warmup_fraction'; it must be learning_rate or"),
        ({"options": {"learning_rate": 0.0}}, "learning_rate is 0.0; it must be a positive number"),
    ],
)
def test_what_is_not_allowed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainable("prodigy", **changes)
