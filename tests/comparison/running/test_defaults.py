"""Default settings: complete for every problem, small enough for the digits comparison, overridden by what is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.comparison.reference_record import reference_to_mapping
from raytune_hyperlearn.comparison.running import defaults
from raytune_hyperlearn.comparison.running.defaults import BY_PROBLEM, experiment_from_settings, stored_reference
from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method
from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.problems import PROBLEMS
from tests.comparison.synthetic import make_reference

OWN = """
import torch
from torch import nn
from raytune_hyperlearn import Examples, Problem

part = Examples(torch.zeros(20, 2), torch.zeros(20, dtype=torch.long))
problem = Problem("mine", lambda: nn.Linear(2, 2), part, part, batch_size=4, epochs=4)
"""


def test_nothing_named_is_the_head_to_head_on_digits_in_at_most_twelve_minutes() -> None:
    experiment = experiment_from_settings({})
    assert experiment.problem == "digits"
    assert experiment.methods == ("fds", "hd", "rs", "bo", "hb", "bohb")
    assert len(experiment.seeds) == 3
    runs = len(experiment.methods) * len(experiment.seeds)
    start_up = 8.0  # of a run's first worker on two cores
    assert runs * (experiment.time_limit + start_up) < 12 * 60
    assert SearchSpace.from_mapping(experiment.space) == SearchSpace()


def test_bo_and_bohb_start_modeling_alike_and_within_the_budget_on_digits() -> None:
    experiment = experiment_from_settings({})
    evaluations = 26  # of BO in half a minute on two cores of the slowest machine that was tried
    for method, most in (("bo", evaluations), ("bohb", 2 * evaluations)):
        searcher = setup_method(experiment, method, 0).searcher
        assert searcher is not None
        picks = []
        for index in range(most):
            suggestion = searcher.suggest(f"trial-{index}")
            assert isinstance(suggestion, dict)
            picks.append(suggestion["model_based_pick"])
            searcher.on_trial_complete(trial_id=f"trial-{index}", result={"validation_loss": float(index % 7)})
        assert any(picks), method
    assert METHODS["bo"].defaults["min_points_in_model"] == METHODS["bohb"].defaults["min_points_in_model"]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_problem_has_settings_that_fit_together(problem: str) -> None:
    experiment = experiment_from_settings({"problem": problem})
    assert experiment.name == experiment.problem == problem
    assert experiment.min_epochs <= experiment.epochs
    for method in experiment.methods:
        setup_method(experiment, method, 0)


def test_settings_are_of_problems_and_methods_that_exist() -> None:
    assert set(BY_PROBLEM) <= set(PROBLEMS)
    assert set(defaults.METHODS) <= set(METHODS)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_stored_reference_is_of_its_problem_and_serves_its_defaults(problem: str) -> None:
    found = stored_reference(problem)
    experiment = experiment_from_settings({"problem": problem})
    if found is None:
        assert experiment.reference is None
    else:
        assert experiment.reference == reference_to_mapping(found)
        assert len(found.seeds) > 1
        assert found.how.startswith(f"hyperlearn reference {problem} ")
        assert set(found.hyperparameters) == {"learning_rate", "momentum", "weight_decay"}
        assert experiment_from_settings({"problem": problem, "epochs": found.epochs + 1}).reference is None


def test_digits_and_fashion_mnist_have_a_stored_reference() -> None:
    assert stored_reference("digits") is not None
    assert stored_reference("fashion-mnist") is not None
    assert stored_reference("no such problem") is None


def test_what_is_named_wins() -> None:
    named = {"name": "mine", "epochs": 27, "seeds": [5], "reference": reference_to_mapping(make_reference())}
    experiment = experiment_from_settings({**named, "space": {"momentum": 0.9}})
    assert (experiment.name, experiment.epochs, experiment.seeds) == ("mine", 27.0, (5,))
    assert experiment.reference == reference_to_mapping(make_reference())
    assert experiment.space["momentum"] == 0.9
    assert experiment.space["learning_rate"]["values"] == 7  # the rest of the space is filled in


def test_an_own_problems_epochs_are_the_full_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    own = {"problem": "mine.py:problem"}
    assert (experiment_from_settings(own).epochs, experiment_from_settings(own).min_epochs) == (4.0, 4 / 9)
    assert experiment_from_settings({**own, "epochs": 2.0}).epochs == 2.0
    assert experiment_from_settings({**own, "min_epochs": 3.0}).min_epochs == 3.0


def test_the_smallest_budget_gives_way_to_a_small_full_budget() -> None:
    assert experiment_from_settings({"epochs": 0.2}).min_epochs == 0.2
    with pytest.raises(ValueError, match="min_epochs"):
        experiment_from_settings({"epochs": 0.2, "min_epochs": 0.5})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problem": "cats"}, "problem is 'cats'; it must be one of digits"),
        ({"problem": ["digits"]}, r"problem is \['digits'\]; it must be one of digits"),
        ({"epochs": "many"}, r"epochs is 'many'; it must be a number in \(0, 1000000000\]"),
        ({"speed": 1}, "setting is 'speed'; it must be seeds"),
        ({"space": {"speed": 1}}, "space holds 'speed'"),
        (
            {"reference": reference_to_mapping(make_reference("fashion-mnist"))},
            "reference is for the problem 'fashion-mnist'; it must be for 'digits'",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        experiment_from_settings(settings)
    assert "\n" not in str(refused.value)
