"""Experiments: exact round trip through YAML, and one-line refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.comparison.experiment import (
    Experiment,
    experiment_from_mapping,
    experiment_to_yaml,
    read_experiment,
    read_settings,
    write_experiment,
)
from raytune_hyperlearn.comparison.reference_record import reference_to_mapping
from tests.comparison.synthetic import make_experiment, make_reference

EXPERIMENTS = {
    "complete": make_experiment(),
    "smallest": Experiment(name="n", problem="p", methods=("m",), seeds=(0,), time_limit=1, epochs=3, min_epochs=1),
    "awkward": make_experiment(
        name="Größe: 'yes' # no comment",
        address="ray://head:10001",
        metric="validation_accuracy",
        time_limit=1e-5,
        gpus_per_trial=0.25,
        targets=(-0.01, 0.0, 1e-7),
        method_options={"fds": {"text": "3e-4", "number": 3e-4, "nested": {"on": [True, None, "no", "12"]}}},
        space={"learning_rate": {"values": 5, "range": (0, 1e-3)}, "weight_decay": 5e-4},
    ),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_yaml_round_trip_is_exact(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    write_experiment(experiment, path)
    read = read_experiment(path)
    assert read == experiment
    assert experiment_to_yaml(read) == path.read_text(encoding="utf-8")


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("step: 3e-4\nlimit: 1E3\ntext: '3e-4'\n")
    assert read_settings(path) == {"step": 3e-4, "limit": 1000.0, "text": "3e-4"}


def test_values_take_their_declared_types() -> None:
    experiment = make_experiment(seeds=[np.int64(3), 4], epochs=np.float32(27), space={"momentum": {"range": (0, 1)}})
    assert experiment.seeds == (3, 4)
    assert type(experiment.seeds[0]) is int
    assert type(experiment.epochs) is float
    assert experiment.space == {"momentum": {"range": [0, 1]}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no seeds": ({"seeds": ()}, "seeds must be a list of at least one, not ()"),
    "repeated seed": ({"seeds": (1, 1)}, "seeds must be a list without repetitions, not (1, 1)"),
    "negative seed": ({"seeds": (-1,)}, "seeds must be whole numbers >= 0, not (-1,)"),
    "fractional seed": ({"seeds": (0.5,)}, "seeds[0] must be a whole number, not 0.5"),
    "truth as seed": ({"seeds": (True,)}, "seeds[0] must be a whole number, not True"),
    "no methods": ({"methods": ()}, "methods must be a list of at least one, not ()"),
    "methods as text": ({"methods": "fds"}, "methods must be a list, each item text, not 'fds'"),
    "no time": ({"time_limit": 0}, "time_limit must be a number of seconds > 0, not 0.0"),
    "endless": ({"time_limit": float("inf")}, "time_limit must be a number of seconds > 0, not inf"),
    "unknown limit": ({"time_limit": float("nan")}, "time_limit must be a number of seconds > 0, not nan"),
    "time as text": ({"time_limit": "60"}, "time_limit must be a number, not '60'"),
    "no epochs": ({"epochs": 0, "reference": None}, "epochs must be a number > 0, not 0.0"),
    "min over full": ({"min_epochs": 28}, "min_epochs must be > 0 and <= epochs (27), not 28.0"),
    "no workers": ({"workers": 0}, "workers must be a whole number >= 1, not 0"),
    "negative GPUs": ({"gpus_per_trial": -1}, "gpus_per_trial must be a number >= 0, not -1.0"),
    "clamped to nothing": ({"gradient_clamp": 0}, "gradient_clamp must be a number > 0 or null, not 0.0"),
    "other metric": (
        {"metric": "test_loss"},
        "metric must be one of validation_loss, validation_accuracy, not 'test_loss'",
    ),
    "options for nobody": (
        {"methods": ("fds",), "method_options": {"fsd": {}}},
        "method_options must be for one of fds, not 'fsd'",
    ),
    "space entry": ({"space": {"momentum": "0.9"}}, "space.momentum must be names with values or a number, not '0.9'"),
    "infinite target": ({"targets": (float("inf"),)}, "targets must be finite numbers, not (inf,)"),
    "empty name": ({"name": " "}, "name must be text of one line, not ' '"),
    "two lines": ({"name": "n", "problem": "a\nb", "reference": None}, "problem must be text of one line, not 'a\\nb'"),
    "other problem's reference": (
        {"reference": reference_to_mapping(make_reference("cifar10"))},
        "reference must be for the problem 'digits', not for 'cifar10'",
    ),
    "other training's reference": (
        {"reference": reference_to_mapping(make_reference(epochs=9))},
        "reference must be for 27 epochs of 'digits', not for 9",
    ),
    "half a reference": ({"reference": {"problem": "digits"}}, "reference: epochs is missing"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_experiment(**changes)
    assert str(caught.value) == message


def test_refuses_unknown_and_missing_names() -> None:
    settings = {field.name: getattr(make_experiment(), field.name) for field in dataclasses.fields(Experiment)}
    with pytest.raises(ValueError, match=r"^file: unknown name 'seed'; allowed are name, problem, .*") as caught:
        experiment_from_mapping({**settings, "seed": 3}, "file")
    assert "\n" not in str(caught.value)
    del settings["epochs"]
    with pytest.raises(ValueError, match=r"^experiment: epochs is missing$"):
        experiment_from_mapping(settings)
    with pytest.raises(ValueError, match=r"^experiment: expected names with values, not \[1\]$"):
        experiment_from_mapping([1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1\nb: 2", "not YAML"),
        ("- 1\n- 2\n", "expected names with values, not list"),
        ("seeds: [1]\nseeds: [2]\n", "'seeds' is given twice"),
        ("", "expected names with values, not NoneType"),
    ],
)
def test_refuses_other_files_naming_them(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_settings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
