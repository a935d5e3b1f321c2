"""The comparison behind figure 1: settings that fit, a reference at every scale, and verdicts read off the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.analysis.summary import MethodSummary, summarize
from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE
from raytune_hyperlearn.comparison.reference_record import write_reference
from raytune_hyperlearn.comparison.running import cluster, confirmation
from raytune_hyperlearn.comparison.running import run as running
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.methods import setup_method
from raytune_hyperlearn.comparison.running.run import trial_config
from raytune_hyperlearn.problems import Problem
from raytune_hyperlearn.reproductions.fds import figure1 as fds_figure1
from raytune_hyperlearn.reproductions.fds.figure1 import REFERENCE_FILE, SETTINGS, findings, prepared
from raytune_hyperlearn.tune.fds import FDSOptions
from raytune_hyperlearn.tune.trial_settings import TrialSettings
from tests.comparison.synthetic import make_experiment, make_reference, write_folder


def test_the_papers_settings_reach_the_trainable() -> None:
    experiment = experiment_from_settings(SETTINGS["paper"])
    setup = setup_method(experiment, "fds", 0)
    config = trial_config(setup, experiment, 0)
    options, trial = FDSOptions.from_config(config), TrialSettings.from_config(config)
    assert [options.inner_epochs(step, 50.0) for step in (0, 1, 9)] == pytest.approx([1, 10, 10])
    assert options.move_scale(9, 50.0) == 1
    assert (options.product_clamp, options.growth, options.coarse_steps, options.tolerance) == (1.0, 1.0, 0, None)
    assert (trial.gradient_clamp, trial.epochs) == (3.0, 50.0)
    assert {name: schedule.values for name, schedule in trial.space.schedules.items()} == {
        "learning_rate": 7,
        "momentum": 1,
        "weight_decay": 1,
    }
    assert trial.space.step_sizes()["momentum"] == [0.1]
    assert trial.space.step_sizes()["weight_decay"] == [3e-4]


@pytest.mark.parametrize("scale", ["smoke", "small"])
def test_small_scales_have_a_reference(scale: str, tmp_path: Path) -> None:
    experiment = prepared(SETTINGS[scale], tmp_path, Console(quiet=True))  # type: ignore[index]
    assert experiment.reference is not None
    assert list(tmp_path.iterdir()) == []


def test_a_reference_is_found_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def find(problem: str, epochs: float, *_others: object) -> object:
        asked.append((problem, epochs))
        return make_reference(problem, epochs=epochs)

    monkeypatch.setattr(fds_figure1, "find_reference", find)
    monkeypatch.setattr(fds_figure1, "load", lambda _name: None)
    for _ in range(2):
        experiment = prepared(SETTINGS["paper"], tmp_path, Console(quiet=True))
        assert experiment.reference is not None
        assert experiment.reference["problem"] == "cifar10-wrn16-1"
    assert asked == [("cifar10-wrn16-1", 50.0)]
    assert (tmp_path / REFERENCE_FILE).is_file()


def test_missing_data_are_said_before_the_reference_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(_name: str) -> Problem:
        raise ValueError("CIFAR-10 is nowhere")

    monkeypatch.setattr(fds_figure1, "load", missing)
    with pytest.raises(ValueError, match="CIFAR-10 is nowhere"):
        prepared(SETTINGS["paper"], tmp_path, Console(quiet=True))


@pytest.fixture(name="study", scope="module")
def a_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = write_folder(tmp_path_factory.mktemp("results") / "digits", make_experiment(), skill=0.03)
    return load_study(folder)


def test_everything_is_drawn_and_told(study: Study) -> None:
    found = findings(study)
    assert [drawn.name for drawn in found.figures] == ["regret", "schedules"]
    assert [table.title for table in found.tables][:2] == ["Time to reach a validation regret", "At the end"]
    assert len(found.verdicts) == 4
    assert set(found.numbers) == set(study.methods)


def verdicts(
    monkeypatch: pytest.MonkeyPatch, study: Study, times: dict[str, float], regrets: dict[str, float]
) -> list[bool | None]:
    """Of summaries with these seconds to zero regret and these final regrets."""

    def summarized(of: Study) -> dict[str, MethodSummary]:
        place = of.experiment.targets.index(0.0)
        changed = {}
        for method, own in summarize(of).items():
            every = list(own.times)
            every[place] = times.get(method, float("inf"))
            quartiles = replace(own.validation, median=regrets.get(method, 0.1))
            changed[method] = replace(own, times=tuple(every), validation=quartiles, test=quartiles)
        return changed

    monkeypatch.setattr(fds_figure1, "summarize", summarized)
    return [verdict.holds for verdict in findings(study).verdicts]


def test_verdicts(monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    ahead = {"fds": -0.01}
    assert verdicts(monkeypatch, study, {"fds": 2.0, "bohb": 50.0}, ahead) == [True, True, True, True]
    assert verdicts(monkeypatch, study, {"fds": 2.0, "bohb": 30.0}, ahead) == [True, False, True, True]
    assert verdicts(monkeypatch, study, {"fds": 2.0}, ahead)[1] is True, "sixty seconds are thirty times two"
    assert verdicts(monkeypatch, study, {"fds": 20.0}, ahead)[1] is None, "three times at least, perhaps more"
    assert verdicts(monkeypatch, study, {"fds": 20.0, "rs": 10.0}, ahead)[:3] == [False, False, False]
    assert verdicts(monkeypatch, study, {"fds": 2.0, "hd": 2.0}, ahead)[0] is False, "level is not before"
    assert verdicts(monkeypatch, study, {}, {"fds": 0.2}) == [None, None, True, False]


def test_a_stopped_comparison_keeps_its_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its settings are read from the folder, not made anew."""
    experiment = make_experiment(methods=("fds",), seeds=(0,))
    write_folder(tmp_path / "comparison", experiment)
    begun: list[object] = []
    monkeypatch.setattr(cluster, "is_running", lambda: False)
    monkeypatch.setattr(cluster, "start_ray", lambda experiment, _verbose: begun.append(experiment))
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)
    monkeypatch.setattr(running, "run_experiment", lambda run, folder, announce, *_more: begun.append(folder.path))
    monkeypatch.setattr(confirmation, "confirm", lambda *_arguments: None)
    study = fds_figure1.compare({"problem": "digits"}, tmp_path, Console(quiet=True))
    assert begun == [experiment, tmp_path / "comparison"]
    assert study.experiment == experiment
    assert (tmp_path / "comparison" / EXPERIMENT_FILE).is_file()


def test_the_references_file_is_a_reference(tmp_path: Path) -> None:
    write_reference(make_reference("cifar10-wrn16-1", epochs=50.0), tmp_path / REFERENCE_FILE)
    assert experiment_from_settings(SETTINGS["paper"]).reference is None, "none comes with the package"
