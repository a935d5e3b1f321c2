"""Hypergradient descent on Ray Tune: a hand-written loop gives the same, and so does a run that was interrupted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from torch import Tensor

from raytune_hyperlearn.algorithms import HyperRates
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune import HypergradientDescentOptions, HypergradientDescentTrainable
from tests.tune.small import SPACE, scores_of, small_problem

START = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 1e-3}
RATES = {"learning_rate": 1e-2, "momentum": 1e-2, "weight_decay": 1e-5}
CONFIG: dict[str, Any] = {
    "problem": small_problem,
    "space": SPACE,
    "seed": 5,
    "epochs": 2,
    "start": START,
    "hyper_rates": RATES,
}


def learned_by_hand(steps: int, split_seed: int, seed: int) -> tuple[list[dict[str, float]], float]:
    """α, μ and ξ after every step and the validation loss at the end, from a loop over one flat vector."""
    problem = small_problem()
    split = problem.split(split_seed)
    model = initialize(problem.model, seed)
    parameters = list(model.parameters())

    def flat(tensors: list[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])

    values = dict(START)
    weights = flat(parameters)
    velocity = torch.zeros_like(weights)
    last: tuple[Tensor, Tensor, Tensor] | None = None
    history = []
    model.train()
    for inputs, targets in batches(split.train, 20, steps, seed):
        torch.nn.utils.vector_to_parameters(weights.float(), parameters)
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        gradient = flat(list(torch.autograd.grad(loss, parameters)))
        if last is not None:
            direction, old_velocity, old_weights = last
            regularized = gradient + values["weight_decay"] * weights
            rate = values["learning_rate"]
            values = {
                "learning_rate": rate + RATES["learning_rate"] * float(regularized @ direction),
                "momentum": values["momentum"] + RATES["momentum"] * rate * float(regularized @ old_velocity),
                "weight_decay": values["weight_decay"]
                + RATES["weight_decay"] * rate * float(regularized @ old_weights),
            }
        updated = values["momentum"] * velocity + gradient + values["weight_decay"] * weights
        last = (updated, velocity, weights)
        weights, velocity = weights - values["learning_rate"] * updated, updated
        history.append(values)
    torch.nn.utils.vector_to_parameters(weights.float(), parameters)
    model.eval()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(split.validation.inputs), split.validation.targets)
    return history, loss.item()


def mean_values(history: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(values[name] for values in history) / len(history) for name in START}


def test_what_is_learned_is_what_a_hand_written_loop_learns() -> None:
    trainable = HypergradientDescentTrainable({**CONFIG, "trial_seed": 7})
    first, second = trainable.step(), trainable.step()
    history, loss = learned_by_hand(16, 5, derived_seed(7, Purpose.REPLICATE, 0))
    assert second["validation_loss"] == pytest.approx(loss, rel=1e-4)
    for epoch in range(2):
        expected = mean_values(history[8 * epoch : 8 * epoch + 8])
        found = {name: values[epoch] for name, values in second["hyperparameters"].items()}
        assert found == pytest.approx(expected, rel=1e-4)
    assert first["hyperparameters"]["learning_rate"] == second["hyperparameters"]["learning_rate"][:1]
    assert abs(history[-1]["learning_rate"] - 0.1) > 1e-3  # something was learned
    assert (first["done"], second["done"]) == (False, True)
    assert (first["instances"], second["epochs"]) == (8 * 20, 2)


@pytest.mark.parametrize(("epochs", "reported"), [(2.25, [1, 2.25]), (1.75, [1, 1.75]), (0.5, [0.5])])
def test_a_short_rest_joins_the_last_epoch(epochs: float, reported: list[float]) -> None:
    trainable = HypergradientDescentTrainable({**CONFIG, "epochs": epochs})
    results = [trainable.step()]
    while not results[-1]["done"]:
        results.append(trainable.step())
    assert [result["epochs"] for result in results] == pytest.approx(reported)
    assert sum(result["instances"] for result in results) == 20 * round(8 * epochs)


def test_what_a_searcher_draws_is_where_a_trial_starts() -> None:
    drawn = {f"start/{name}": value for name, value in START.items()}
    drawn |= {f"rate/{name}": value for name, value in RATES.items()}
    base = {key: value for key, value in CONFIG.items() if key not in ("start", "hyper_rates")}
    given = HypergradientDescentTrainable(dict(CONFIG)).step()
    found = HypergradientDescentTrainable({**base, "drawn": drawn}).step()
    other = HypergradientDescentTrainable({**base, "drawn": {**drawn, "start/momentum": 0.6}}).step()
    assert scores_of(found) == scores_of(given)
    assert found["hyperparameters"] == given["hyperparameters"]
    assert other["hyperparameters"]["momentum"][0] == pytest.approx(0.6, abs=0.05)
    assert scores_of(other) != scores_of(given)


def test_start_values_that_are_not_given_are_those_of_the_space() -> None:
    space = SearchSpace(LearningRate(values=3, init=0.2), Momentum(init=0.4), 5e-4)
    rates = {"learning_rate": 0.0}
    trainable = HypergradientDescentTrainable({**CONFIG, "space": space, "start": {}, "hyper_rates": rates})
    assert trainable.step()["hyperparameters"] == {
        "learning_rate": [pytest.approx(0.2)],
        "momentum": [pytest.approx(0.4)],
        "weight_decay": [pytest.approx(5e-4)],
    }


def test_rates_may_be_a_record_or_a_mapping() -> None:
    by_record = HypergradientDescentOptions(hyper_rates=HyperRates(**RATES), drawn={"rate/momentum": 0.5})
    assert by_record.rates() == HyperRates(**{**RATES, "momentum": 0.5})
    assert HypergradientDescentOptions.from_config({"hyper_rates": RATES}).rates() == HyperRates(**RATES)


def test_bounds_keep_the_values_inside_the_ranges() -> None:
    wild = {**CONFIG, "hyper_rates": {"learning_rate": 100.0}, "epochs": 1}
    free = HypergradientDescentTrainable(wild).step()
    bounded = HypergradientDescentTrainable({**wild, "bounded": True}).step()
    assert free["status"] == "diverged" or not 0 <= free["hyperparameters"]["learning_rate"][0] <= 1
    assert 0 <= bounded["hyperparameters"]["learning_rate"][0] <= 1


def test_replicates_learn_apart_and_their_means_are_reported() -> None:
    config = {**CONFIG, "epochs": 1, "trial_seed": 7}
    result = HypergradientDescentTrainable({**config, "replicates": 2}).step()
    alone = [learned_by_hand(8, 5, derived_seed(7, Purpose.REPLICATE, index)) for index in range(2)]
    assert result["validation_loss"] == pytest.approx((alone[0][1] + alone[1][1]) / 2, rel=1e-4)
    means = [mean_values(history) for history, _ in alone]
    for name, values in result["hyperparameters"].items():
        assert values == [pytest.approx((means[0][name] + means[1][name]) / 2, rel=1e-4)]
    assert result["instances"] == 2 * 8 * 20


def test_divergence_ends_the_trial() -> None:
    config = {**CONFIG, "start": {"learning_rate": 1e30, "momentum": 0.9, "weight_decay": 1.0}}
    result = HypergradientDescentTrainable(config).step()
    assert result["status"] == "diverged"
    assert result["validation_loss"] == math.inf
    assert result["done"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": {"lr": 0.1}}, "start holds 'lr'; it must be learning_rate, momentum, weight_decay"),
        ({"start": {"momentum": math.nan}}, "start.momentum is nan; it must be a finite number"),
        ({"hyper_rates": {"learning_rate": -1.0}}, "hyper rate of learning_rate is -1.0"),
        ({"hyper_rates": {"lr": 1.0}}, "option of hyper_rates is 'lr'; it must be hypergradient_clamp, learning_rate"),
        ({"hyper_rates": {"hypergradient_clamp": 0.0}}, "hypergradient_clamp is 0.0"),
        ({"drawn": {"begin/momentum": 0.1}}, "drawn holds 'begin/momentum'"),
        ({"drawn": {"start/lr": 0.1}}, "start holds 'lr'"),
        ({"drawn": {"rate/lr": 0.1}}, "option of hyper_rates is 'lr'"),
        ({"bounded": "yes"}, "bounded is 'yes'; it must be true or false"),
    ],
)
def test_bad_config_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        HypergradientDescentTrainable({**CONFIG, **changes})
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("ray_session")
def test_tune_runs_trials_one_after_the_other_in_one_worker(tmp_path: Path) -> None:
    problem = replace(small_problem(), epochs=2)
    starts = [{"start/learning_rate": 0.1}, {"start/learning_rate": 0.3}]
    results = tune.Tuner(
        HypergradientDescentTrainable,
        param_space={**CONFIG, "problem": problem, "epochs": None, "drawn": tune.grid_search(starts)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()

    assert results.num_errors == 0
    for result, drawn in zip(results, starts, strict=True):
        alone = HypergradientDescentTrainable({**CONFIG, "drawn": drawn})
        alone.step()
        assert result.metrics is not None
        assert scores_of(result.metrics) == scores_of(alone.step())
        assert result.metrics["training_iteration"] == 2
