"""The trainable of a training function: results under everybody's names, means over replicates, seeds, divergence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from raytune_hyperlearn import Schedule, TrainingFunction
from raytune_hyperlearn.problems.training_function import Reported
from raytune_hyperlearn.tune import TrainingFunctionTrainable

SEEDS: list[int] = []


def train(config: dict[str, Any], report: Reported) -> None:
    """The loss is the rate, NaN above 0.8; the accuracy is a draw of the seed."""
    SEEDS.append(config["seed"])
    report(config["rate"] if config["rate"] < 0.8 else math.nan, validation_accuracy=config["seed"] / 2**32)


FUNCTION = TrainingFunction("mine", train, {"rate": Schedule(init=0.25), "fixed": 7.0}, epochs=9)


def evaluated(**config: Any) -> dict[str, Any]:
    SEEDS.clear()
    return TrainingFunctionTrainable({"problem": FUNCTION, "_mark": 1, **config}).train()


def test_a_result_has_the_names_that_every_method_uses() -> None:
    result = evaluated(hyperparameters={"rate_0": 0.5}, epochs=3.0, config_id="7")
    assert result["hyperparameters"] == {"rate": [0.5], "fixed": [7.0]}
    assert (result["validation_loss"], result["epochs"], result["status"], result["done"]) == (
        0.5,
        3,
        "completed",
        True,
    )
    assert math.isnan(result["test_loss"])
    assert result["training_seconds"] > 0
    assert evaluated()["hyperparameters"]["rate"] == [0.25]


def test_replicates_are_means_over_seeds_that_are_repeated_with_the_evaluation() -> None:
    result = evaluated(rate_0=0.5, replicates=3)
    seeds = list(SEEDS)
    assert len(set(seeds)) == 3
    assert result["validation_accuracy"] == pytest.approx(sum(seeds) / 3 / 2**32)
    evaluated(rate_0=0.5, replicates=3)
    assert seeds == SEEDS
    evaluated(rate_0=0.6, replicates=3)
    assert not set(seeds) & set(SEEDS)


def test_trainings_again_have_the_same_seeds_for_whatever_was_found() -> None:
    result = evaluated(rate_0=0.5, retrainings=2)
    seeds = list(SEEDS)
    assert [scores["validation_accuracy"] for scores in result["scores"]] == [seed / 2**32 for seed in seeds]
    evaluated(rate_0=0.6, retrainings=2)
    assert seeds == SEEDS


def test_nan_is_a_divergence_with_the_worst_scores() -> None:
    result = evaluated(rate_0=0.9)
    assert (result["status"], result["validation_loss"], result["validation_accuracy"]) == ("diverged", math.inf, 0)


def test_unknown_keys_and_values_beyond_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"config key is 'speed'; it must be "):
        evaluated(speed=1)
    with pytest.raises(ValueError, match=r"rate is 2; it must lie in \[0, 1\]"):
        evaluated(rate_0=2.0)
