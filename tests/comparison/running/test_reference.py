"""The reference of a problem: the best of a grid by mean validation loss, from real trainings."""

from __future__ import annotations

import io
import math
import statistics
from pathlib import Path

import pytest
from rich.console import Console

from raytune_hyperlearn.baselines import grid
from raytune_hyperlearn.comparison.reference_record import read_reference, reference_to_mapping, write_reference
from raytune_hyperlearn.comparison.running import reference, retraining
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.methods import setup_method
from raytune_hyperlearn.comparison.running.reference import find_reference
from raytune_hyperlearn.comparison.running.run import trial_config
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.results import SCORES
from raytune_hyperlearn.tune.retraining import RetrainingTrainable


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "LEARNING_RATES", (0.4, 0.01))
    monkeypatch.setattr(grid, "MOMENTA", (0.9,))
    monkeypatch.setattr(grid, "WEIGHT_DECAYS", (5e-4,))
    monkeypatch.setattr(grid, "DECAYS", {"constant": grid.constant, "cosine": grid.cosine})
    # The tests' own Ray is up already, and stays.
    monkeypatch.setattr(reference, "start_ray", lambda _experiment: None)
    monkeypatch.setattr(reference, "stop_ray", lambda: None)


@pytest.mark.usefixtures("ray_session", "small_grid")
def test_the_best_setting_of_the_grid_becomes_the_reference(tmp_path: Path) -> None:
    pipe = io.StringIO()
    found = find_reference("digits", 0.2, seeds=2, workers=1, gpus_per_trial=0.0, console=Console(file=pipe))
    assert pipe.getvalue() == "settings of the grid: 4 of 4\n"

    # The same trainings without Tune: the best mean validation loss, and what that setting scored.
    asked = experiment_from_settings({"methods": ["rs"], "epochs": 0.2, "reference": None})
    shared = {**trial_config(setup_method(asked, "rs", 0), asked, 0), "retrainings": 2, "resplit": True}
    every = [RetrainingTrainable({**shared, "hyperparameters": setting}).step() for setting in grid.settings()]
    best = min(every, key=lambda result: result["validation_loss"])
    for name in SCORES:
        assert getattr(found, name) == best[name]
        assert found.deviations[name] == statistics.stdev(scores[name] for scores in best["scores"])
    assert found.hyperparameters == best["hyperparameters"]
    assert found.grid == {
        "learning_rate": [0.4, 0.01],
        "momentum": [0.9],
        "weight_decay": [5e-4],
        "decay": ["constant", "cosine"],
        "settings": 4,
    }
    assert (found.problem, found.epochs, found.seeds) == ("digits", 0.2, (0, 1))
    assert found.batch_size == load("digits").batch_size
    assert found.how == "hyperlearn reference digits --epochs 0.2 --seeds 2"

    write_reference(found, tmp_path / "reference.json")
    assert read_reference(tmp_path / "reference.json") == found
    used = experiment_from_settings({"epochs": 0.2, "reference": reference_to_mapping(found)})
    assert used.reference == reference_to_mapping(found)


@pytest.mark.usefixtures("small_grid")
def test_a_grid_that_diverges_everywhere_has_no_best(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"validation_loss": math.inf, "scores": []}, None]
    monkeypatch.setattr(retraining, "retrain", lambda *_arguments: rows)
    with pytest.raises(ValueError, match=r"epochs is 0\.2; every setting of the grid diverged"):
        find_reference("digits", 0.2, 2, 1, 0.0, Console(file=io.StringIO()))
