"""FDS on Ray Tune: scheduler and trainable agree, survive restores, and refuse bad config."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune

from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.sign_descent import OuterState
from raytune_hyperlearn.hyperparameters import LearningRate, SearchSpace
from raytune_hyperlearn.problems import batches, derived_seed
from raytune_hyperlearn.problems.models import initialise
from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable
from tests.tune.small import SPACE, small_problem

CONFIG: dict[str, Any] = {"problem": small_problem, "space": SPACE, "seed": 5, "epochs": 2, "outer_steps": 4}


@pytest.fixture
def trainable(tmp_path: Path) -> FDSTrainable:
    return FDSTrainable(dict(CONFIG))


def run(tmp_path: Path, scheduler: FDSScheduler | None, **config: Any) -> tune.ResultGrid:
    return tune.Tuner(
        FDSTrainable,
        param_space={**CONFIG, **config},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    "options",
    [
        {"horizons": [1.0, 2.0], "growth": 1.5, "coarse_steps": 2, "tolerance": 1.01},
        {"horizons": {"first": 1.0, "factor": 1.5}, "coarse_steps": 2, "outer_optimizer": "secant"},
    ],
)
def test_scheduler_and_trainable_give_the_same_schedule(tmp_path: Path, options: dict[str, Any]) -> None:
    alone = run(tmp_path / "alone", None, **options)
    scheduled = run(tmp_path / "scheduled", FDSScheduler(), **options)
    assert alone.num_errors == scheduled.num_errors == 0
    assert alone[0].metrics is not None
    assert scheduled[0].metrics is not None
    assert alone[0].metrics["training_iteration"] == 4
    for key in ("outer_state", "hypergradient", "validation_loss"):
        assert alone[0].metrics[key] == scheduled[0].metrics[key]
    assert alone[0].metrics["hyperparameters"]["learning_rate"] != [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("ray_session")
def test_tune_run_takes_trainable_and_scheduler(tmp_path: Path) -> None:
    analysis = tune.run(FDSTrainable, config=CONFIG, scheduler=FDSScheduler(), storage_path=str(tmp_path), verbose=0)
    (trial,) = analysis.trials
    assert trial.status == "TERMINATED"
    assert trial.last_result["outer_step"] == 3
    assert trial.config["outer_state"]["index"] == 3


def test_reported_loss_is_that_of_training_with_the_reported_values(trainable: FDSTrainable) -> None:
    trainable.step()
    second = trainable.step()
    seed = derived_seed(5, 1)
    problem = small_problem()
    split = problem.split(5)
    model = initialise(problem.model, seed)
    horizon = problem.horizon(2)
    train(model, problem.loss, batches(split.train, 20, horizon, seed), second["hyperparameters"], horizon)
    model.eval()
    with torch.no_grad():
        loss = problem.loss(model(split.validation.inputs), split.validation.targets).mean().item()
    assert second["validation_loss"] == pytest.approx(loss, rel=1e-4)


def test_replay_scores_at_the_full_budget() -> None:
    trainable = FDSTrainable({**CONFIG, "horizons": [0.5]})
    first, second = trainable.step(), trainable.step()
    assert first["epochs"] == 0.5  # all learning rates are zero: there is nothing to train
    assert second["epochs"] == 2
    assert second["inner_epochs"] == 0.5
    assert second["inner_validation_loss"] != second["validation_loss"]


def test_checkpoint_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = FDSTrainable(dict(CONFIG))
    expected = [whole.step() for _ in range(4)][-1]
    broken = FDSTrainable(dict(CONFIG))
    broken.step()
    broken.step()
    broken.save_checkpoint(str(tmp_path))
    restored = FDSTrainable(dict(CONFIG))
    restored.load_checkpoint(str(tmp_path))
    restored.step()
    found = restored.step()
    for key in ("outer_state", "hypergradient", "validation_loss", "done"):
        assert found[key] == expected[key]


def test_config_of_a_scheduler_wins_over_an_older_checkpoint(tmp_path: Path) -> None:
    old = FDSTrainable(dict(CONFIG))
    old.save_checkpoint(str(tmp_path))
    newer = OuterState(3, {**SPACE.initial(), "learning_rate": [0.1, 0.2, 0.3]}, SPACE.step_sizes(), SPACE.step_sizes())
    restarted = FDSTrainable({**CONFIG, "outer_state": newer.to_mapping(), "updated_by": "scheduler"})
    restarted.load_checkpoint(str(tmp_path))
    assert restarted.outer == newer


def test_reset_starts_another_search_from_the_beginning(trainable: FDSTrainable) -> None:
    first = trainable.step()
    trainable.step()
    assert trainable.reset_config({**CONFIG, "seed": 5})
    again = trainable.step()
    assert again["hypergradient"] == first["hypergradient"]
    assert again["outer_step"] == 0


def test_divergence_is_a_result_not_a_crash() -> None:
    space = SearchSpace(LearningRate(values=2, init=1e30, range=(0, 1e38)), 0.0, 0.0)
    result = FDSTrainable({**CONFIG, "space": space}).step()
    assert result["status"] == "diverged"
    assert result["validation_loss"] == math.inf
    assert result["validation_accuracy"] == 0


def test_scheduler_stops_a_converged_search() -> None:
    resting = OuterState(
        3,
        {"learning_rate": [0.5] * 3, "momentum": [0.5], "weight_decay": [1e-3]},
        {"learning_rate": [1e-3] * 3, "momentum": [1e-3], "weight_decay": [1e-6]},
        {"learning_rate": [1.0] * 3, "momentum": [1.0], "weight_decay": [1.0]},
    )
    flat = {
        f"outer_state/{part}/{name}": values
        for part in ("values", "step_sizes", "signs")
        for name, values in resting.to_mapping()[part].items()
    }
    flat |= {
        "outer_state/index": 3,
        "outer_state/best_loss": 0.1,
        "epochs": 2,
        "full_epochs": 2,
        "validation_loss": 0.2,
        **{f"hypergradient/{name}": [1.0] * len(v) for name, v in resting.values.items()},
    }
    trial = SimpleNamespace(config=CONFIG)
    assert FDSScheduler().update(trial, flat) is None
    further = {**CONFIG, "stop_when_converged": False}
    assert FDSScheduler().update(SimpleNamespace(config=further), flat) is None  # it was the last outer step
    goes_on = FDSScheduler().update(SimpleNamespace(config={**further, "outer_steps": 5}), flat)
    assert goes_on is not None
    assert goes_on["outer_state"]["index"] == 4


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("growth", 0.5, "growth is 0.5"),
        ("outer_optimizer", "adam", "outer_optimizer is 'adam'; it must be 'sign' or 'secant'"),
        ("horizons", {"first": 1, "factor": 0.5}, "horizons is {'first': 1, 'factor': 0.5}"),
        ("optimizer", "lion", "optimizer is 'lion'; it must be sgd, adam, adamw or a function of the model"),
        ("optimizer", "adamw", "space holds 'momentum'; the optimizer has learning_rate, beta1"),
        ("member", {"replica": 0}, "member is {'replica': 0}; it must be one of scheduler.members()"),
        ("member", {"replica": 2, "ensemble": 2, "shard": 0, "shards": 1}, "replica of the member is 2"),
        ("member", {"replica": 0, "ensemble": 2, "shard": 0, "shards": 1}, "it needs the FDSScheduler that made it"),
        ("horizons", [1, -1], "horizons is"),
        ("outer_steps", 0, "outer_steps is 0"),
        ("clamp_product", -1.0, "product clamp is -1.0"),
        ("hessian", {"way": "backwards"}, "way is 'backwards'"),
        ("hessian", {"fraction": 0.0}, "fraction is 0.0"),
        ("seed", -1, "seed is -1"),
        ("epochs", 0, "epochs is 0"),
        ("problem", "cat pictures", "problem is 'cat pictures'"),
        ("gradient_clamp", 0.0, "gradient_clamp is 0.0"),
    ],
)
def test_bad_config_is_refused_in_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        FDSTrainable({**CONFIG, key: value})
    assert "\n" not in str(refused.value)
