"""Arbiter and its controls as methods of the comparison: their configs, refusals, and runs on Ray Tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.comparison.records import read_records
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.running.folder import prepare_folder
from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method
from raytune_hyperlearn.comparison.running.run import run_experiment
from raytune_hyperlearn.tune import ArbiterTrainable
from raytune_hyperlearn.tune.arbiter_training import TrainingOptions
from tests.comparison.synthetic import make_experiment

CHOSEN_BY = {
    "arbiter": "arbiter",
    "arbiter-frozen": "arbiter",
    "arbiter-noise": "arbiter",
    "arbiter-constant": "heuristic",
    "arbiter-constant-mean": "mean",
    "arbiter-replay": "replay",
    "arbiter-random-walk": "random-walk",
}


def experiment(**changes: Any) -> Any:
    settings = {"methods": tuple(CHOSEN_BY), "epochs": 8.0, "min_epochs": 1.0, "reference": None}
    return make_experiment(**{**settings, **changes})


@pytest.mark.parametrize("name", CHOSEN_BY)
def test_setup_of_every_method(name: str) -> None:
    setup = setup_method(experiment(), name, seed=0)
    options = TrainingOptions.from_config(setup.config)
    assert setup.trainable is ArbiterTrainable
    assert options.chosen_by == CHOSEN_BY[name]
    assert (options.arbiter.response == "frozen") is (name == "arbiter-frozen")
    assert (options.arbiter.agent_input == "noise") is (name == "arbiter-noise")
    assert options.arbiter.max_batch_size == 269  # a quarter of digits' 1,078 training examples
    assert METHOD_STYLES[name].short


def test_every_control_that_learns_first_says_so() -> None:
    for name, chosen_by in CHOSEN_BY.items():
        learns = chosen_by in ("mean", "replay", "random-walk")
        assert ("learned first, in the same trial and from the same seed" in METHODS[name].description) is learns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_batch_size": 40, "max_batch_size": 40}, "max_batch_size must be an integer of at least 41"),
        ({"max_batch_size": 5000}, "max_batch_size is 5000; digits has 1078 training examples"),
        ({"batch_size": 4}, r"batch_size is 4; it must lie in \[8, 269\]"),
        ({"milestones": [[2, 600]]}, r"a milestone's batch size is 600; it must lie in \[8, 269\]"),
        ({"optimizer": "adam"}, "optimizer is 'adam'"),
        ({"memory_limit": -1}, "memory_limit is -1"),
        ({"speed": 1}, "option of arbiter is 'speed'"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        setup_method(experiment(method_options={"arbiter": options}), "arbiter", 0)


def test_a_part_of_an_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^epochs is 2.5; Arbiter and its controls need a whole number$"):
        setup_method(experiment(epochs=2.5), "arbiter-replay", 0)


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_runs_of_arbiter_and_of_a_control_that_learns_first(tmp_path: Path) -> None:
    fast = {"min_batch_size": 32, "batch_size": 64, "agent_lr": 1e-3}
    methods = ("arbiter", "arbiter-replay")
    small = experiment(
        methods=methods,
        seeds=(0,),
        epochs=2.0,
        workers=1,
        time_limit=60.0,
        replicates=1,
        method_options=dict.fromkeys(methods, fast),
    )
    folder = prepare_folder(small, tmp_path / "run", resume=False)
    run_experiment(small, folder, lambda method, seed: None)
    records = read_records(folder.records)
    assert [(record.method, record.budget) for record in records] == [
        ("arbiter", 1.0),
        ("arbiter", 2.0),
        ("arbiter-replay", 1.0),
        ("arbiter-replay", 2.0),
    ]
    learned, replayed = records[1], records[3]
    assert learned.hyperparameters["batch_size"] == replayed.hyperparameters["batch_size"]
    assert learned.hyperparameters["batch_size"][0] == 64
    assert learned.validation_loss != replayed.validation_loss
    assert all(0 < record.info["training_loss"] < 3 for record in records)
