from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace, OrdinalHyperparameter
from ray.tune.search import Searcher

from raytune_hyperlearn.baselines import BOHB, BayesianOptimization, Hyperband, RandomSearch
from raytune_hyperlearn.baselines.hpbandster_searcher import HpBandSterSearcher
from tests.baselines.master_run import run_master
from tests.baselines.spaces import loss, mixed_space, unreliable_loss

Suggestions = list[dict[str, Any]]


def drive(
    searcher: HpBandSterSearcher,
    *,
    sign: float = 1.0,
    limit: int = 10_000,
    after_each: Callable[[HpBandSterSearcher], HpBandSterSearcher] = lambda searcher: searcher,
) -> Suggestions:
    """What Tune does with one worker: suggest, train, complete, until finished; a crash is an error."""
    suggestions: Suggestions = []
    while len(suggestions) < limit:
        trial_id = f"trial_{len(suggestions)}"
        suggestion = searcher.suggest(trial_id)
        if suggestion == Searcher.FINISHED:
            break
        assert isinstance(suggestion, dict)
        suggestions.append(suggestion)
        value = unreliable_loss(suggestion["hyperparameters"], suggestion["epochs"])
        if value is None:
            searcher.on_trial_complete(trial_id=trial_id, error=True)
        else:
            searcher.on_trial_complete(trial_id=trial_id, result={searcher.metric: sign * value, "done": True})
        searcher = after_each(searcher)
    return suggestions


@pytest.mark.parametrize(
    ("searcher", "reference", "settings"),
    [
        (RandomSearch, "RandomSearch", {"min_budget": 9, "max_budget": 9, "iterations": 40}),
        (BayesianOptimization, "BOHB", {"min_budget": 9, "max_budget": 9, "iterations": 40}),
        (Hyperband, "HyperBand", {"min_budget": 1, "max_budget": 9, "iterations": 9}),
        (BOHB, "BOHB", {"min_budget": 1, "max_budget": 9, "iterations": 9}),
    ],
    ids=["RandomSearch", "BayesianOptimization", "Hyperband", "BOHB"],
)
def test_suggestions_are_hpbandsters_until_finished(
    searcher: type[HpBandSterSearcher], reference: str, settings: dict[str, Any]
) -> None:
    expected = run_master(reference, mixed_space(), unreliable_loss, eta=3, seed=7, workers=1, **settings)
    if searcher in (RandomSearch, BayesianOptimization):
        settings = {name: value for name, value in settings.items() if name != "min_budget"}

    suggestions = drive(searcher(mixed_space(), seed=7, **settings))

    assert [
        (suggestion["config_id"], suggestion["hyperparameters"], suggestion["epochs"]) for suggestion in suggestions
    ] == [(str(config_id), config, budget) for config_id, config, budget in expected]
    assert {type(suggestion["model_based_pick"]) for suggestion in suggestions} == {
        bool if reference == "BOHB" else type(None)
    }
    assert any(suggestion["model_based_pick"] for suggestion in suggestions) == (reference == "BOHB")


def test_maximizing_is_minimizing_the_negative() -> None:
    settings: dict[str, Any] = {"min_budget": 1, "max_budget": 9, "seed": 2, "iterations": 6}

    maximized = drive(BOHB(mixed_space(), metric="score", mode="max", **settings), sign=-1.0)

    assert maximized == drive(BOHB(mixed_space(), **settings))


def test_names_in_the_trials_config() -> None:
    searcher = RandomSearch(mixed_space(), max_budget=4, seed=0, budget_key="steps", config_key=None)

    suggestion = searcher.suggest("a")

    assert isinstance(suggestion, dict)
    active = set(suggestion) - {"beta"}
    assert active == {
        "learning_rate", "momentum", "width", "layers", "optimizer", "steps", "config_id", "model_based_pick",
    }  # fmt: skip
    assert suggestion["steps"] == 4.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "missing", "error"])
def test_a_bad_trial_is_never_promoted(bad: float | str | None) -> None:
    searcher = Hyperband(mixed_space(), min_budget=1, max_budget=9, seed=1, iterations=1)
    first = [searcher.suggest(f"trial_{index}") for index in range(9)]
    # The sixth would be the best of all: an ignored failure would show.
    for index in range(9):
        if index != 5:
            searcher.on_trial_complete(trial_id=f"trial_{index}", result={"validation_loss": float(index + 1)})
        elif bad == "error":
            searcher.on_trial_complete(trial_id="trial_5", result={"validation_loss": 0.0}, error=True)
        else:
            searcher.on_trial_complete(trial_id="trial_5", result={} if bad == "missing" else {"validation_loss": bad})

    promoted = [searcher.suggest(f"promoted_{index}") for index in range(3)]

    assert (
        [suggestion["hyperparameters"] for suggestion in promoted]
        == [  # type: ignore[index]
            suggestion["hyperparameters"]  # type: ignore[index]
            for suggestion in first[:3]
        ]
    )
    assert searcher.suggest("further") is None


def test_concurrency_limit_is_kept_and_freed() -> None:
    searcher = Hyperband(mixed_space(), min_budget=1, max_budget=9, seed=1)
    assert searcher.set_max_concurrency(2) is True

    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("unknown", result={"validation_loss": 0.0})
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", result={"validation_loss": 0.0})
    assert isinstance(searcher.suggest("c"), dict)


def test_save_and_restore_continue_an_open_bracket(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"min_budget": 1, "max_budget": 9, "seed": 4, "iterations": 6}

    def through_a_file(searcher: HpBandSterSearcher) -> HpBandSterSearcher:
        searcher.save(str(tmp_path / "state.pkl"))
        fresh = BOHB(mixed_space(), **settings)
        fresh.restore(str(tmp_path / "state.pkl"))
        return fresh

    restored = drive(BOHB(mixed_space(), **settings), after_each=through_a_file)

    assert restored == drive(BOHB(mixed_space(), **settings))


def test_pickled_searcher_knows_its_live_trials() -> None:
    searcher = Hyperband(mixed_space(), min_budget=1, max_budget=3, seed=4, iterations=1)
    suggestions = {name: searcher.suggest(name) for name in "abc"}
    copy: Hyperband = pickle.loads(pickle.dumps(searcher))
    for name, value in zip("abc", (2.0, 1.0, 3.0), strict=True):
        copy.on_trial_complete(name, result={"validation_loss": value})

    promoted = copy.suggest("d")

    assert isinstance(promoted, dict)
    assert promoted == {**suggestions["b"], "epochs": 3.0}  # type: ignore[dict-item]
    assert copy.optimizer_seconds > searcher.optimizer_seconds > 0.0


def test_state_of_another_searcher_is_refused(tmp_path: Path) -> None:
    BOHB(mixed_space(), min_budget=1, max_budget=9, seed=4).save(str(tmp_path / "state.pkl"))

    with pytest.raises(ValueError, match="checkpoint_path must hold a state of Hyperband, got one of BOHB"):
        Hyperband(mixed_space(), min_budget=1, max_budget=9, seed=4).restore(str(tmp_path / "state.pkl"))


def ordinal_space() -> ConfigurationSpace:
    return ConfigurationSpace({"size": OrdinalHyperparameter("size", ["small", "large"])})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": {"x": (0, 1)}}, "space must be a ConfigSpace.ConfigurationSpace, got dict"),
        ({"space": ConfigurationSpace()}, "space must have at least one hyperparameter, got an empty"),
        ({"space": ordinal_space()}, "space must have no ordinal hyperparameter for a density model"),
        ({"min_budget": 0}, "min_budget must be a finite number > 0, got 0"),
        ({"min_budget": math.nan}, "min_budget must be a finite number > 0, got nan"),
        ({"max_budget": "9"}, "max_budget must be a finite number > 0, got '9'"),
        ({"max_budget": 0.5}, "max_budget must be >= min_budget = 1, got 0.5"),
        ({"eta": 1}, "eta must be a finite number >= 2, got 1"),
        ({"eta": math.inf}, "eta must be a finite number >= 2, got inf"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": None}, "seed must be an integer >= 0, got None"),
        ({"iterations": 0}, "iterations must be an integer >= 1, got 0"),
        ({"iterations": 1.5}, "iterations must be an integer >= 1, got 1.5"),
        ({"metric": ""}, "metric must be the name of a reported value, got ''"),
        ({"mode": "minimize"}, "mode must be 'min' or 'max', got 'minimize'"),
        ({"budget_key": "config_id"}, "budget_key must be a name other than"),
        ({"config_key": "epochs"}, "config_key must be None or a name other than"),
        ({"config_key": None, "budget_key": "width"}, r"config_key must be a name if .* called \['width'\]"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    arguments = {"space": mixed_space(), "min_budget": 1, "max_budget": 9, "seed": 0, **changed}

    with pytest.raises(ValueError, match=f"^{message}") as caught:
        BOHB(**arguments)

    assert "\n" not in str(caught.value)


def test_zero_concurrent_trials_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("max_concurrent must be an integer >= 1, got 0")):
        RandomSearch(mixed_space(), max_budget=1, seed=0).set_max_concurrency(0)


@pytest.mark.parametrize(("points", "first"), [(None, 15), (10, 18)])
def test_the_first_model_based_pick_comes_when_both_groups_are_large_enough(points: int | None, first: int) -> None:
    searcher = BayesianOptimization(mixed_space(), max_budget=9, seed=3, iterations=40, min_points_in_model=points)
    picks = [suggestion["model_based_pick"] for suggestion in drive(searcher)]
    assert not any(picks[: first - 1])
    assert sum(picks[first - 1 :]) > len(picks[first - 1 :]) / 3


@pytest.mark.parametrize(
    ("searcher", "points", "allowed"),
    [
        (BOHB, 6, "it must be None or a whole number from 7 (one more than the space's dimensions) to 10000"),
        (BOHB, 1e20, "it must be None or a whole number from 7"),
        (BOHB, True, "it must be None or a whole number from 7"),
        (Hyperband, 7, "it must be None, HyperBand has no model"),
    ],
)
def test_sizes_that_no_model_can_have_are_refused(
    searcher: type[HpBandSterSearcher], points: Any, allowed: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"min_points_in_model is {points!r}; {allowed}")):
        searcher(mixed_space(), min_budget=1, max_budget=9, seed=0, min_points_in_model=points)


def test_ordinals_need_no_model() -> None:
    suggestion = RandomSearch(ordinal_space(), max_budget=1, seed=0).suggest("a")

    assert isinstance(suggestion, dict)
    assert suggestion["hyperparameters"]["size"] in ("small", "large")


@pytest.mark.parametrize("missing", ["hpbandster", "ConfigSpace"])
def test_only_construction_needs_hpbandster(missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
from raytune_hyperlearn import baselines
assert "ray" not in sys.modules
from raytune_hyperlearn.baselines import BOHB, BayesianOptimization, Hyperband, RandomSearch
try:
    RandomSearch(None, max_budget=1, seed=0)
except ImportError as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert finished.stdout.endswith("pip install 'raytune_hyperlearn[baselines]'\n")
    assert finished.stdout.count("\n") == 1


def test_unknown_name() -> None:
    from raytune_hyperlearn import baselines

    with pytest.raises(AttributeError, match="has no attribute 'GridSearch'"):
        baselines.GridSearch  # noqa: B018


def test_loss_prefers_larger_budgets() -> None:
    """The objective of these tests must reward promotion, or rungs would not be exercised."""
    hyperparameters = {"learning_rate": 0.03, "width": 64, "momentum": 0.5, "optimizer": "sgd"}

    assert loss(hyperparameters, 9) < loss(hyperparameters, 1)
