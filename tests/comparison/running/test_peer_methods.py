"""The peers as methods of the comparison: the shared space and budgets, and whole runs of those that change trials."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from raytune_hyperlearn.comparison.environment import read_environment
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.records import ENVIRONMENT_FILE, read_records, read_runs
from raytune_hyperlearn.comparison.running import run as running
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.folder import prepare_folder
from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method
from raytune_hyperlearn.comparison.running.peer_methods import PEERS
from raytune_hyperlearn.comparison.running.run import run_experiment, trial_config
from raytune_hyperlearn.hyperparameters import SearchSpace

SPACE = {"learning_rate": {"values": 3, "range": [0, 0.5]}, "momentum": {"range": [0, 0.9]}, "weight_decay": 5e-4}
SEARCHES = [name for name in PEERS if name not in ("schedule-free", "prodigy")]
DECAYED = ("cosine-", "one-cycle-")
NINE = pytest.approx([k / 9 for k in range(1, 10)], abs=1 / 16)
"""Reports of a training of 32 steps in nine parts, in epochs."""


def experiment(**changes: Any) -> Experiment:
    settings = {"epochs": 1.0, "min_epochs": 1 / 9, "space": SPACE, "replicates": 1, "reference": None}
    return experiment_from_settings({"methods": list(PEERS), **settings, **changes})


@pytest.mark.parametrize("name", SEARCHES)
def test_a_peer_draws_from_the_shared_space_and_trains_in_the_budgets(name: str) -> None:
    asked = experiment()
    setup = setup_method(asked, name, 0)
    assert setup.searcher is not None
    space = SearchSpace.from_mapping(SPACE)
    for index in range(3):
        suggestion = setup.searcher.suggest(f"t{index}")
        assert isinstance(suggestion, dict)
        trial = setup.trainable({**trial_config(setup, asked, 0), **suggestion})
        if name in ("pbt", "pb2"):
            assert set(suggestion) >= {"learning_rate", "momentum"}
        elif name.startswith(DECAYED):
            assert set(suggestion["hyperparameters"]) == {"learning_rate_0", "momentum_0"}
            assert trial.values["weight_decay"] == [5e-4]
            assert len(trial.values["learning_rate"]) == 60
        else:
            assert space.from_flat(suggestion["hyperparameters"])["weight_decay"] == [5e-4]
        assert trial.epochs == (pytest.approx(1 / 9) if name in ("smac", "dehb") else 1.0)
    reports = [trial.train()]
    while not reports[-1]["done"]:
        reports.append(trial.train())
    assert reports[-1]["epochs"] == pytest.approx(trial.epochs)
    if name in ("asha", "tpe", "tune-bohb", "pbt", "pb2"):
        assert [report["epochs"] for report in reports] == NINE
    else:
        assert len(reports) == 1


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_says_which_version_it_is_and_where_it_was_published(name: str) -> None:
    method = METHODS[name]
    first = method.packages[0]
    assert method.implementation.startswith(f"{first} ")
    assert any(character.isdigit() for character in method.implementation)
    assert any(year in method.reference for year in map(str, range(2011, 2027)))
    assert method.extra in ("", "baselines", "peers")
    assert not method.missing


@pytest.mark.parametrize("name", ["pbt", "pb2", "cosine-tpe", "one-cycle-rs"])
def test_methods_that_make_their_own_schedule_refuse_a_space_of_shapes(name: str) -> None:
    asked = experiment(space={"learning_rate": {"shape": "linear", "values": 3}})
    with pytest.raises(ValueError, match=r"space.learning_rate is of shape 'linear'; it must be equal windows"):
        setup_method(asked, name, 0)


def test_pruning_can_be_left_out() -> None:
    options = {"tpe": {"pruning": False}}
    assert setup_method(experiment(method_options=options), "tpe", 0).scheduler is None
    assert setup_method(experiment(), "tpe", 0).scheduler is not None
    assert setup_method(experiment(), "gp", 0).scheduler is None


def test_the_table_is_read_without_the_peers_packages() -> None:
    source = Path(importlib.util.find_spec("raytune_hyperlearn.comparison.running.peer_methods").origin)  # type: ignore[union-attr, arg-type]
    heads = [line for line in source.read_text().splitlines() if line.startswith(("import ", "from "))]
    assert not any(package in head for head in heads for package in ("optuna", "smac", "dehb", "ray.", "peers"))


def tuned(asked: Experiment, name: str, trials: int, folder: Path) -> list[dict[str, Any]]:
    """The last results of so many trials, run as in a comparison but for its time limit."""
    setup = setup_method(asked, name, 1)
    results = tune.Tuner(
        running.resourced(setup, asked),
        param_space=trial_config(setup, asked, 1),
        tune_config=replace(running.tune_config(setup, asked), num_samples=trials),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()
    assert results.num_errors == 0
    return [result.metrics for result in results if result.metrics is not None]


@pytest.mark.long
@pytest.mark.parametrize("name", ["pbt", "pb2"])
def test_members_of_a_population_copy_others_and_record_the_course_of_their_weights(
    ray_session: str, tmp_path: Path, name: str
) -> None:
    """One worker: the members take turns."""
    asked = experiment(method_options={name: {"population": 4, "intervals": 8}})
    members = tuned(asked, name, 4, tmp_path)
    rates = [member["hyperparameters"]["learning_rate"] for member in members]
    assert all(member["epochs"] == 1.0 and member["done"] for member in members)
    assert any(len(set(schedule)) > 1 for schedule in rates), "no member has copied another"
    # A course begins with the values of the member that the weights come from, so of fewer members than there are.
    assert len({schedule[0] for schedule in rates}) < 4
    assert all(0 <= rate <= 0.5 for schedule in rates for rate in schedule)
    assert len({member["pid"] for member in members}) == 1


@pytest.mark.long
@pytest.mark.parametrize("name", ["asha", "tpe"])
def test_bad_trials_are_stopped_early_and_good_ones_trained_to_the_end(
    ray_session: str, tmp_path: Path, name: str
) -> None:
    trials = tuned(experiment(), name, 8, tmp_path)
    assert {trial["epochs"] == 1.0 for trial in trials} == {True, False}
    assert max(trial["training_iteration"] for trial in trials) == 9


def test_one_training_is_a_whole_run_with_one_record(ray_session: str, tmp_path: Path) -> None:
    asked = experiment(methods=["schedule-free"], seeds=[1], time_limit=300.0)
    folder = prepare_folder(asked, tmp_path / "runs", resume=False)
    run_experiment(asked, folder, lambda method, seed: None)

    (record,) = read_records(folder.records)
    assert (record.status, record.budget) == ("completed", 1.0)
    assert record.hyperparameters["learning_rate"] == [0.0025]
    (run,) = read_runs(folder.runs)
    assert run.finished == "ended"
    assert run.implementation == f"schedulefree {metadata.version('schedulefree')}"
    assert run.reference.startswith("Defazio")
    versions = read_environment(folder.path / ENVIRONMENT_FILE)["versions"]
    assert versions["schedulefree"] == metadata.version("schedulefree")
