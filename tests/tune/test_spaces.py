"""Trainables train with what any space's schedules give at every step, and FDS differentiates just that."""

from __future__ import annotations

from typing import Any

import pytest

from raytune_hyperlearn.algorithms.schedules import fold
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.tune import FDSTrainable, SGDTrainable
from tests.tune.small import scores_of, small_problem

SPACES: dict[str, SearchSpace] = {
    "cosine, logarithmic": SearchSpace(
        LearningRate(shape="cosine", scale="log", range=(1e-3, 1.0), init=[0.3, 0.02, 0.1]), Momentum(init=0.5)
    ),
    "straight lines": SearchSpace(
        LearningRate(values=4, shape="linear", init=[0.1, 0.3, 0.2, 0.0]), Momentum(init=0.5), WeightDecay(init=1e-3)
    ),
    "windows of given lengths": SearchSpace(LearningRate(values=3, lengths=(1, 2, 9), init=[0.1, 0.3, 0.05]), 0.9, 0.0),
    "effective": SearchSpace(
        LearningRate(values=2, init=[0.5, 0.3]), Momentum(values=2, init=[0.5, 0.8]), coordinates="effective"
    ),
}
CONFIG: dict[str, Any] = {"problem": small_problem, "seed": 5, "epochs": 2}


def unshared(space: SearchSpace, horizon: int) -> SearchSpace:
    """T windows that hold what the space's start values give at every step."""
    steps = [space.at_step(space.initial(), step, horizon) for step in range(horizon)]
    kinds = {"learning_rate": LearningRate, "momentum": Momentum, "weight_decay": WeightDecay}
    return SearchSpace(
        **{name: kind(values=horizon, init=[now[name] for now in steps]) for name, kind in kinds.items()}
    )


@pytest.mark.parametrize("name", SPACES)
def test_plain_training_uses_the_schedules_values_at_every_step(name: str) -> None:
    space = SPACES[name]
    shaped = SGDTrainable({**CONFIG, "space": space, "hyperparameters": space.initial(), "trial_seed": 1})
    other = unshared(space, shaped.horizon)
    apart = SGDTrainable({**CONFIG, "space": other, "hyperparameters": other.initial(), "trial_seed": 1})
    assert scores_of(shaped.step()) == scores_of(apart.step())


@pytest.mark.parametrize("name", SPACES)
def test_fds_differentiates_with_respect_to_the_schedules_parameters(name: str) -> None:
    space = SPACES[name]
    found = FDSTrainable({**CONFIG, "space": space}).step()
    apart = FDSTrainable({**CONFIG, "space": unshared(space, found["inner_steps"])}).step()
    assert found["inner_validation_loss"] == pytest.approx(apart["inner_validation_loss"], rel=1e-4)
    expected = fold(apart["hypergradient"], space.initial(), space.learned, space.shapes())
    for key, entries in found["hypergradient"].items():
        assert entries == pytest.approx(expected[key], rel=2e-2, abs=1e-4)
        assert any(abs(entry) > 1e-6 for entry in entries)


@pytest.mark.parametrize("rule", ["sign", "surrogate"])
@pytest.mark.parametrize("name", SPACES)
def test_outer_steps_move_the_parameters_inside_their_ranges(name: str, rule: str) -> None:
    space = SPACES[name]
    trainable = FDSTrainable({**CONFIG, "space": space, "outer_optimizer": rule, "coarse_steps": 1})
    values = [trainable.step()["hyperparameters"] for _ in range(3)]
    assert values[0] == space.initial()
    assert values[2] != values[1] != values[0]
    for one in values:
        space.check(one)
