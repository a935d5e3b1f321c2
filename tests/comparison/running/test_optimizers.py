"""The optimizer of the search: all methods train with it and search its space, or refuse it before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.forecast import forecast
from raytune_hyperlearn.comparison.running.methods import setup_method
from raytune_hyperlearn.comparison.running.run import check_experiment, trial_config
from raytune_hyperlearn.hyperparameters import OptimizerSpace, Schedule
from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.tune import FDSTrainable, RetrainingTrainable, SGDTrainable
from tests.tune.small import small_problem

SPACE = OptimizerSpace(
    {
        "learning_rate": Schedule(values=3, init=[0.02, 0.05, 0.01], range=(0.0, 0.1)),
        "weight_decay": Schedule(init=0.1),
        "beta1": 0.8,
    }
)


@pytest.fixture
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("bounds", [{}, {"gradient_norm": 0.3}], ids=str)
def test_black_box_methods_train_as_fds_does_from_the_same_seed(bounds: dict[str, float]) -> None:
    config: dict[str, Any] = {"problem": small_problem, "space": SPACE, "seed": 5, "epochs": 2.0, "optimizer": "adamw"}
    free, config = FDSTrainable(config).train(), config | bounds
    learned = FDSTrainable(config).train()
    assert (learned["hypergradient"] == free["hypergradient"]) == (not bounds)
    values = SPACE.initial()
    trained = RetrainingTrainable({**config, "hyperparameters": values, "retrainings": 1})
    again = trained.train_and_score(values, 2.0, derived_seed(5, Purpose.OUTER_STEP, 0, 0), "adamw")
    assert learned["hyperparameters"] == values
    # Adam divides tiny gradients by their size: a norm that is summed in another order shows after the tenth digit.
    assert learned["validation_loss"] == pytest.approx(again["validation_loss"], rel=1e-8)
    evaluated = SGDTrainable({**config, "hyperparameters": values, "trial_seed": 3}).train()
    seed = derived_seed(3, Purpose.REPLICATE, 0)
    assert evaluated["validation_loss"] == trained.train_and_score(values, 2.0, seed, "adamw")["validation_loss"]
    assert evaluated["validation_loss"] != trained.train_and_score(values, 2.0, seed, "adam")["validation_loss"]


def test_the_space_is_the_optimizers_own() -> None:
    experiment = experiment_from_settings({"problem": "digits", "optimizer": "adamw", "space": {"beta1": 0.8}})
    assert set(experiment.space) == {"learning_rate", "weight_decay", "beta1", "beta2", "epsilon"}
    assert experiment.space["beta1"] == 0.8
    assert experiment.searched.initial()["learning_rate"] == pytest.approx([1e-3] * 7)
    with pytest.raises(ValueError, match=r"space holds 'momentum'; adamw has learning_rate, weight_decay, beta1"):
        experiment_from_settings({"problem": "digits", "optimizer": "adamw", "space": {"momentum": 0.8}})
    with pytest.raises(ValueError, match=r"optimizer is 'lion'; for a Problem it must be sgd, adam, adamw"):
        experiment_from_settings({"problem": "digits", "optimizer": "lion"})


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_trial_gets_the_space_that_is_read_once(optimizer: str) -> None:
    experiment = experiment_from_settings({"problem": "digits", "optimizer": optimizer, "methods": ["fds"]})
    config = trial_config(setup_method(experiment, "fds", 0), experiment, 0)
    assert config["space"] is experiment.searched
    shorter = replace(experiment, space={**experiment.space, "learning_rate": 0.1})
    assert len(shorter.searched.learned) == len(experiment.searched.learned) - 1


def test_a_forecast_is_of_the_optimizer_that_trains() -> None:
    def kilobytes(optimizer: str) -> float:
        experiment = experiment_from_settings({"problem": "digits", "optimizer": optimizer})
        found = re.search(r"([\d.]+) kB for", forecast(small_problem(), experiment)["outer step, forward mode"])
        assert found is not None
        return float(found[1]) / (1 + experiment.searched.dimensions)

    moment = 4 * sum(parameter.numel() for parameter in small_problem().model().parameters()) / 1000
    assert kilobytes("adamw") - kilobytes("sgd") == pytest.approx(moment, rel=0.1), "two moments in place of a velocity"


@pytest.mark.parametrize("method", ["fds", "rs", "bohb", "asha", "tpe", "pbt", "pb2"])
def test_methods_take_it(method: str) -> None:
    experiment = experiment_from_settings({"problem": "digits", "optimizer": "adamw", "methods": [method]})
    check_experiment(experiment)
    setup = setup_method(experiment, method, 0)
    config = trial_config(setup, experiment, 0)
    assert config["optimizer"] == "adamw"
    assert config["space"] == experiment.searched


@pytest.mark.parametrize("method", ["hd", "ba-sgd", "arbiter", "cosine-rs", "schedule-free"])
def test_others_refuse_it_in_one_line(method: str) -> None:
    experiment = experiment_from_settings({"problem": "digits", "optimizer": "adamw", "methods": [method]})
    with pytest.raises(ValueError, match=rf"^method {method}: optimizer is 'adamw'; it must be sgd$"):
        check_experiment(experiment)


def test_a_trainable_refuses_another_optimizers_space() -> None:
    config: dict[str, Any] = {"problem": small_problem, "epochs": 1.0}
    with pytest.raises(ValueError, match=r"space is of type OptimizerSpace; sgd needs a SearchSpace"):
        SGDTrainable({**config, "space": SPACE})
    with pytest.raises(ValueError, match=r"space is of type SearchSpace; adamw needs a OptimizerSpace"):
        SGDTrainable({**config, "optimizer": "adamw"})
    with pytest.raises(ValueError, match=r"space holds 'rate'; adam has learning_rate, beta1, beta2, epsilon"):
        SGDTrainable({**config, "optimizer": "adam", "space": OptimizerSpace({"rate": Schedule()})})
