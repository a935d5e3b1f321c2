"""The table of methods: each gets the same problem, space, split and budget, and its options are checked."""

from __future__ import annotations

from typing import Any

import pytest
import scipy
import torch

from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.running import methods
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup
from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method
from raytune_hyperlearn.comparison.running.run import trial_config
from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, HyperLearningTrainable, SGDTrainable
from tests.tune.small import SCORES

SEARCHES = ("fds", "hd", "rs", "bo", "hb", "bohb")
SPACE = {"learning_rate": {"values": 3, "range": [0, 0.5]}, "momentum": {"range": [0, 0.9]}, "weight_decay": 5e-4}


def experiment(**changes: Any) -> Experiment:
    settings = {"methods": list(SEARCHES), "epochs": 1.0, "min_epochs": 1 / 9, "space": SPACE, "replicates": 1}
    return experiment_from_settings({**settings, "reference": None, **changes})


def first_trial(name: str, seed: int = 4, **changes: Any) -> tuple[MethodSetup, HyperLearningTrainable, dict[str, Any]]:
    """What a run of the method starts with: its setup, the trainable of its first trial and the trial's config."""
    asked = experiment(**changes)
    setup = setup_method(asked, name, seed)
    config = trial_config(setup, asked, seed)
    if setup.searcher is not None:
        suggestion = setup.searcher.suggest("first")
        assert isinstance(suggestion, dict)
        config = {**config, **suggestion}
    return setup, setup.trainable(config), config


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_trains_on_the_same_split_and_reports_the_same_names(name: str) -> None:
    setup, trainable, _ = first_trial(name)
    expected = trainable.problem.split(4)
    assert torch.equal(trainable.split.train.inputs, expected.train.inputs)
    assert torch.equal(trainable.split.validation.inputs, expected.validation.inputs)
    assert trainable.settings.space == SearchSpace.from_mapping(SPACE)
    result = trainable.step()
    assert {*SCORES, "status", "hyperparameters", "epochs", "instances", "training_seconds", "test_seconds"} <= {
        *result
    }
    assert result["status"] == "completed"
    assert set(result["hyperparameters"]) == {"learning_rate", "momentum", "weight_decay"}
    assert setup.checkpoint_frequency == (1 if name == "fds" else 0)


@pytest.mark.parametrize("name", ["rs", "bo", "hb", "bohb"])
def test_black_box_searches_draw_from_the_shared_space(name: str) -> None:
    asked = experiment()
    searcher = setup_method(asked, name, 0).searcher
    assert searcher is not None
    space = SearchSpace.from_mapping(SPACE)
    for index in range(5):
        suggestion = searcher.suggest(f"t{index}")
        assert isinstance(suggestion, dict)
        values = space.from_flat(suggestion["hyperparameters"])
        assert values["weight_decay"] == [5e-4]
        assert space.check(values) == values
        assert suggestion["epochs"] == pytest.approx(1 / 9 if name in ("hb", "bohb") else 1)


@pytest.mark.parametrize("name", ["rs", "fds"])
def test_values_of_layers_are_searched_by_every_method(name: str) -> None:
    layered = {**SPACE, "learning_rate": {"values": 10, "range": [0, 0.5], "init": 0.05, "groups": "layers"}}
    _, trainable, config = first_trial(name, space=layered)
    names = [key for key in trainable.settings.space.learned if key.startswith("learning_rate@")]
    assert len(names) == len({key.rpartition(".")[0] for key in trainable.new_model(0).state_dict() if "weight" in key})
    assert trainable.settings.space.dimensions == 10 * len(names) + 1
    if name == "rs":
        assert set(config["hyperparameters"]) == set(trainable.settings.space.flat_names())
    assert {f"{key}_9" for key in names} <= set(trainable.settings.space.flat_names())


def test_brackets_go_from_the_smallest_budget_to_the_full_one_by_eta() -> None:
    options = {"hb": {"eta": 3}, "bohb": {"eta": 9}}
    asked = experiment(method_options=options)
    budgets = {name: setup_method(asked, name, 0).searcher.budgets for name in ("hb", "bohb")}  # type: ignore[union-attr]
    assert budgets["hb"] == pytest.approx((1 / 9, 1 / 3, 1))
    assert budgets["bohb"] == pytest.approx((1 / 9, 1))


def test_trials_of_hypergradient_descent_start_from_what_was_drawn() -> None:
    asked = experiment()
    setup = setup_method(asked, "hd", 0)
    assert setup.searcher is not None
    starts, rates = [], []
    for index in range(4):
        suggestion = setup.searcher.suggest(f"t{index}")
        assert isinstance(suggestion, dict)
        trainable = setup.trainable({**trial_config(setup, asked, 0), **suggestion})
        learner = trainable.optimizers[0]
        starts.append({name: float(value) for name, value in learner.hyperparameters.items()})
        rates.append((learner.rates.learning_rate, learner.rates.momentum, learner.rates.weight_decay))
    assert len({str(start) for start in starts}) == 4
    assert len(set(rates)) == 4
    for start, (rate, momentum_rate, decay_rate) in zip(starts, rates, strict=True):
        assert 0 <= start["learning_rate"] <= 0.5
        assert 0 <= start["momentum"] <= 0.9
        assert start["weight_decay"] == pytest.approx(5e-4)
        assert 1e-5 * 0.5 <= rate <= 1e-1 * 0.5
        assert 1e-5 * 0.9 <= momentum_rate <= 1e-1 * 0.9
        assert decay_rate == 0  # a fixed hyperparameter is not learned


def test_fds_is_one_trial_whose_scheduler_makes_the_updates() -> None:
    options = {"fds": {"horizon_fractions": [0.25, 0.5, 1.0], "growth": 1.2}}
    setup, trainable, config = first_trial("fds", epochs=2.0, method_options=options)
    assert setup.searcher is None
    assert isinstance(setup.scheduler, FDSScheduler)
    assert isinstance(trainable, FDSTrainable)
    assert config["horizons"] == [0.5, 1.0, 2.0]
    assert trainable.options.growth == 1.2
    assert [trainable.options.inner_epochs(step, 2.0) for step in range(5)] == [0.5, 1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("method", "options", "growth"),
    [("fds", {}, 2.0), ("fds", {"outer_optimizer": "adam"}, 1.0), ("fds-forward", {}, 1.0)],
)
def test_moves_grow_where_the_sign_rule_makes_them(method: str, options: dict[str, Any], growth: float) -> None:
    _, trainable, _ = first_trial(method, methods=[method], method_options={method: options})
    assert isinstance(trainable, FDSTrainable)
    assert trainable.options.growth == growth


def test_seeds_give_other_draws_and_the_same_seed_the_same() -> None:
    def drawn(seed: int) -> Any:
        searcher = setup_method(experiment(), "rs", seed).searcher
        assert searcher is not None
        return searcher.suggest("first")

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize(("metric", "mode"), [("validation_loss", "min"), ("validation_accuracy", "max")])
def test_losses_are_minimized_and_accuracies_maximized(metric: str, mode: str) -> None:
    for name in ("hd", "rs", "bo", "hb", "bohb"):
        searcher = setup_method(experiment(metric=metric), name, 0).searcher
        assert searcher is not None
        assert (searcher.metric, searcher.mode) == (metric, mode)


def test_a_method_is_added_by_a_function_and_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def usual(arguments: MethodArguments) -> MethodSetup:
        values = {"learning_rate": [arguments.options["rate"]] * 3, "momentum": [0.5], "weight_decay": [5e-4]}
        return MethodSetup(SGDTrainable, {"hyperparameters": values})

    added = {**METHODS, "usual": Method("The usual setting", usual, {"rate": 0.1})}
    monkeypatch.setattr(methods, "METHODS", added)
    _, trainable, _ = first_trial("usual", methods=["usual"], method_options={"usual": {"rate": 0.3}})
    assert trainable.step()["hyperparameters"]["learning_rate"] == [0.3] * 3


def test_every_method_has_a_line_for_the_list_and_plain_defaults() -> None:
    for method in METHODS.values():
        assert 5 < len(method.description) < 200
        assert "\n" not in method.description
        assert Experiment(**{**vars(experiment()), "methods": ("rs",), "method_options": {"rs": dict(method.defaults)}})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("luck", {}, "method is 'luck'; it must be one of fds, fds-forward, hd, rs"),
        ("rs", {"eta": 3}, "option of rs is 'eta'; allowed: none"),
        ("hb", {"growth": 1}, "option of hb is 'growth'; allowed: eta"),
        ("hb", {"eta": 1}, "eta must be a finite number >= 2"),
        ("fds", {"growth": 0.5}, "growth is 0.5"),
        ("fds", {"outer_optimizer": "luck"}, "outer_optimizer is 'luck'; it must be 'sign', 'adam' or 'surrogate'"),
        ("fds", {"horizon_fractions": []}, "horizons is"),
        ("hd", {"hyper_rate_range": [0.1]}, r"hyper_rate_range is \[0.1\]; it must be"),
        ("hd", {"hyper_rate_range": [0.1, 0.01]}, r"hyper_rate_range is \[0.1, 0.01\]"),
        ("hd", {"hyper_rate_range": [0, 0.01]}, r"hyper_rate_range is \[0, 0.01\]"),
    ],
)
def test_bad_options_are_refused_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    asked = experiment(methods=[name], method_options={name: options})
    with pytest.raises(ValueError, match=message) as refused:
        setup_method(asked, name, 0)
    assert "\n" not in str(refused.value)


def test_a_method_whose_package_is_missing_is_refused_in_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = Method("", METHODS["rs"].setup, packages=("scipy", "no-such-package"), extra="peers")
    monkeypatch.setattr(methods, "METHODS", {"lost": method})
    with pytest.raises(ImportError) as refusal:
        setup_method(experiment(methods=["lost"]), "lost", 0)
    expected = "method lost needs no-such-package; install by: pip install 'raytune_hyperlearn[peers]'"
    assert str(refusal.value) == expected
    assert method.implementation == f"scipy {scipy.__version__}, no-such-package not installed"
