from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Categorical

from raytune_hyperlearn.baselines.ask_tell import AskTellOptimizer, Evaluation
from tests.baselines.master_run import Objective, run_master
from tests.baselines.spaces import loss, mixed_space, unreliable_loss

BRACKETS: dict[str, Any] = {"min_budget": 1, "max_budget": 9, "eta": 3, "seed": 3, "iterations": 9}
FULL_BUDGET: dict[str, Any] = {"min_budget": 9, "max_budget": 9, "eta": 3, "seed": 3, "iterations": 35}
FRACTIONAL: dict[str, Any] = {"min_budget": 1, "max_budget": 10, "eta": 3, "seed": 8, "iterations": 6}


def tell(optimizer: AskTellOptimizer, evaluation: Evaluation, objective: Objective) -> None:
    value = objective(evaluation.hyperparameters, evaluation.budget)
    if value is None:
        optimizer.tell_crash(evaluation.config_id, "crashed")
    else:
        optimizer.tell(evaluation.config_id, value)


def run(
    optimizer: AskTellOptimizer, objective: Objective, workers: int = 1, pickled_each_time: bool = False
) -> list[Evaluation]:
    """Every evaluation asked for, in order; the oldest of `workers` running ones ends first."""
    asked: list[Evaluation] = []
    running: list[Evaluation] = []
    while True:
        if pickled_each_time:
            optimizer = pickle.loads(pickle.dumps(optimizer))
        evaluation = optimizer.ask() if len(running) < workers else None
        if evaluation is not None:
            asked.append(evaluation)
            running.append(evaluation)
        elif running:
            tell(optimizer, running.pop(0), objective)
        else:
            return asked


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("RandomSearch", FULL_BUDGET),
        ("BOHB", FULL_BUDGET),
        ("HyperBand", BRACKETS),
        ("BOHB", BRACKETS),
        ("HyperBand", FRACTIONAL),
    ],
    ids=["RandomSearch", "BayesianOptimization", "Hyperband", "BOHB", "fractional-budgets"],
)
def test_same_evaluations_as_hpbandsters_own_loop(optimizer: str, settings: dict[str, Any], workers: int) -> None:
    space = mixed_space()
    expected = run_master(optimizer, space, unreliable_loss, workers=workers, **settings)

    asked = run(AskTellOptimizer(optimizer, space, **settings), unreliable_loss, workers)

    assert [evaluation.config_id for evaluation in asked] == [config_id for config_id, _, _ in expected]
    assert [evaluation.hyperparameters for evaluation in asked] == [config for _, config, _ in expected]
    np.testing.assert_allclose(
        [evaluation.budget for evaluation in asked], [budget for _, _, budget in expected], rtol=1e-12
    )
    assert any("beta" in evaluation.hyperparameters for evaluation in asked)
    assert any("beta" not in evaluation.hyperparameters for evaluation in asked)
    assert any(unreliable_loss(evaluation.hyperparameters, evaluation.budget) is None for evaluation in asked)
    if optimizer == "BOHB":
        assert sum(evaluation.model_based_pick for evaluation in asked) >= 5
    else:
        assert not any(evaluation.model_based_pick for evaluation in asked)


@pytest.mark.parametrize("optimizer", ["HyperBand", "BOHB"])
def test_pickling_at_every_step_changes_nothing(optimizer: str) -> None:
    uninterrupted = run(AskTellOptimizer(optimizer, mixed_space(), **BRACKETS), loss, workers=2)

    pickled = run(AskTellOptimizer(optimizer, mixed_space(), **BRACKETS), loss, 2, pickled_each_time=True)

    assert pickled == uninterrupted


def test_values_are_plain_python() -> None:
    asked = run(AskTellOptimizer("BOHB", mixed_space(), **BRACKETS), loss)

    types = {
        name: {type(evaluation.hyperparameters[name]) for evaluation in asked if name in evaluation.hyperparameters}
        for name in mixed_space()
    }

    assert types == {
        "learning_rate": {float},
        "momentum": {float},
        "width": {int},
        "layers": {int},
        "optimizer": {str},
        "beta": {float},
    }
    assert {type(evaluation.budget) for evaluation in asked} == {float}


def test_callers_random_state_neither_used_nor_moved() -> None:
    undisturbed = run(AskTellOptimizer("BOHB", mixed_space(), **BRACKETS), loss)
    assert any(evaluation.model_based_pick for evaluation in undisturbed)
    optimizer = AskTellOptimizer("BOHB", mixed_space(), **BRACKETS)
    asked = []
    for step in range(len(undisturbed)):
        np.random.seed(step)
        before = np.random.get_state(legacy=False)
        evaluation = optimizer.ask()
        assert evaluation is not None
        asked.append(evaluation)
        tell(optimizer, evaluation, loss)
        after = np.random.get_state(legacy=False)
        assert before["state"]["pos"] == after["state"]["pos"]
        np.testing.assert_array_equal(before["state"]["key"], after["state"]["key"])

    assert asked == undisturbed


def test_one_space_serves_two_optimizers() -> None:
    space = mixed_space()
    first = AskTellOptimizer("RandomSearch", space, **FULL_BUDGET)
    second = AskTellOptimizer("RandomSearch", space, **FULL_BUDGET)

    assert [first.ask() for _ in range(5)] == [second.ask() for _ in range(5)]


def test_seeds_differ() -> None:
    settings = {**FULL_BUDGET, "seed": FULL_BUDGET["seed"] + 1}

    other = run(AskTellOptimizer("RandomSearch", mixed_space(), **settings), loss)

    assert other != run(AskTellOptimizer("RandomSearch", mixed_space(), **FULL_BUDGET), loss)


def test_waits_only_while_something_runs_and_only_at_the_end() -> None:
    optimizer = AskTellOptimizer("HyperBand", mixed_space(), **{**BRACKETS, "iterations": 3})
    running = []
    while (evaluation := optimizer.ask()) is not None:
        running.append(evaluation)

    # Nothing has ended, so exactly the first rungs of the three brackets are out.
    assert [evaluation.budget for evaluation in running] == [1.0] * 9 + [3.0] * 3 + [9.0] * 3
    for evaluation in running[:8]:
        tell(optimizer, evaluation, loss)
        assert optimizer.ask() is None
    tell(optimizer, running[8], loss)
    promoted = optimizer.ask()
    assert promoted is not None
    assert promoted.budget == 3.0
    best = min(running[:9], key=lambda evaluation: loss(evaluation.hyperparameters, 1.0))
    assert best.config_id in {promoted.config_id, *(rest.config_id for rest in iter(optimizer.ask, None))}


def test_without_a_limit_a_further_bracket_opens() -> None:
    optimizer = AskTellOptimizer("HyperBand", mixed_space(), **{**BRACKETS, "iterations": None})

    assert all(optimizer.ask() is not None for _ in range(100))


@pytest.mark.parametrize(
    ("min_budget", "max_budget", "eta", "budgets"),
    [
        (1, 27, 3, (1.0, 3.0, 9.0, 27.0)),
        (1, 10, 3, (10 / 9, 10 / 3, 10.0)),
        (0.5, 8, 2, (0.5, 1.0, 2.0, 4.0, 8.0)),
        (7, 7, 3, (7.0,)),
    ],
)
def test_budgets(min_budget: float, max_budget: float, eta: float, budgets: tuple[float, ...]) -> None:
    optimizer = AskTellOptimizer(
        "HyperBand", mixed_space(), min_budget=min_budget, max_budget=max_budget, eta=eta, seed=0, iterations=1
    )

    assert optimizer.budgets == pytest.approx(budgets, rel=1e-12)


def test_whole_budgets_are_exactly_whole() -> None:
    for eta in (3, 5, 7, 10):
        optimizer = AskTellOptimizer(
            "HyperBand", mixed_space(), min_budget=1, max_budget=eta**5, eta=eta, seed=0, iterations=1
        )

        assert all(budget.is_integer() for budget in optimizer.budgets)


def test_time_inside_hpbandster_is_counted() -> None:
    optimizer = AskTellOptimizer("BOHB", mixed_space(), **{**BRACKETS, "iterations": None})
    seconds = [optimizer.seconds]
    for _ in range(3):
        evaluation = optimizer.ask()
        assert evaluation is not None
        tell(optimizer, evaluation, loss)
        seconds.append(optimizer.seconds)

    assert seconds == sorted(set(seconds))


def test_no_warning_escapes() -> None:
    space = mixed_space()
    space.add(Categorical("flag", [True, False]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        asked = run(AskTellOptimizer("BOHB", space, **BRACKETS), loss)

    assert any(evaluation.model_based_pick for evaluation in asked)
