"""A member of a population: what it reports as its schedules is the course that its weights have taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.tune import PopulationTrainable, SGDTrainable
from tests.tune.small import scores_of, small_problem

SPACE = SearchSpace(LearningRate(), Momentum(), WeightDecay())
FIRST = {"learning_rate": 0.3, "momentum": 0.5, "weight_decay": 1e-3}
SECOND = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.0}
INTERVALS = 3


def config(values: dict[str, float], **changes: Any) -> dict[str, Any]:
    return {"problem": small_problem, "space": SPACE, "seed": 1, "intervals": INTERVALS, **values, **changes}


def test_a_member_that_copies_another_goes_on_with_the_others_past_and_its_own_values(tmp_path: Path) -> None:
    good, bad = PopulationTrainable(config(FIRST)), PopulationTrainable(config(SECOND))
    for member in (good, bad):
        member.train()
    first = good.train()
    good.save_checkpoint(str(tmp_path))
    assert bad.reset_config(config({**FIRST, "learning_rate": 0.1}))
    bad.load_checkpoint(str(tmp_path))
    last = bad.train()

    assert first["hyperparameters"]["learning_rate"] == [0.3, 0.3, 0.3]
    assert first["epochs"] == pytest.approx(2 * 11 / 16)  # windows of 16 steps in three: 6, 5, 5
    assert not first["done"]
    assert last["hyperparameters"] == {
        "learning_rate": [0.3, 0.3, 0.1],
        "momentum": [0.5] * 3,
        "weight_decay": [1e-3] * 3,
    }
    assert last["epochs"] == 2.0
    assert last["done"]


def test_replaying_the_schedules_by_plain_training_gives_the_same_network() -> None:
    member = PopulationTrainable(config(FIRST, trial_seed=4, replicates=2))
    member.train()
    member.present = SECOND
    member.train()
    last = member.train()

    thrice = SearchSpace(LearningRate(values=3), Momentum(values=3), WeightDecay(values=3))
    plain = SGDTrainable(
        {
            "problem": small_problem,
            "space": thrice,
            "seed": 1,
            "replicates": 2,
            "trial_seed": 4,
            "hyperparameters": last["hyperparameters"],
        }
    )
    assert scores_of(plain.train()) == scores_of(last)
    assert last["hyperparameters"]["momentum"] == [0.5, 0.9, 0.9]


def test_fixed_hyperparameters_are_the_spaces_and_a_diverged_member_goes_on() -> None:
    fixed = SearchSpace(LearningRate(range=(0.0, 1e38)), momentum=0.99, weight_decay=0.0)
    member = PopulationTrainable({"problem": small_problem, "space": fixed, "intervals": 2, "learning_rate": 1e38})
    result = member.train()
    assert result["status"] == "diverged"
    assert not result["done"]
    assert result["hyperparameters"]["momentum"] == [0.99, 0.99]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intervals": 0}, "intervals is 0; it must be a whole number of at least 1"),
        ({"intervals": 17}, "intervals is 17; it must be at most 16"),
        ({"learning_rate": "high"}, "learning_rate is 'high'; it must be a finite number"),
        ({"learning_rate": 3.0}, r"learning_rate is 3.0; it must be a number in \[0, 1\]"),
        ({"momentum": None}, r"momentum is None; it must be a number in \[0, 1\]"),
    ],
)
def test_bad_configs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PopulationTrainable(config(FIRST, **changes))
