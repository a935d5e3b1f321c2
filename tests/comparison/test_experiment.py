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
    "no seeds": ({"seeds": ()}, "seeds is (); it must be a list of 1 to 10,000, without repetitions"),
    "repeated seed": ({"seeds": (1, 1)}, "seeds is (1, 1); it must be a list of 1 to 10,000, without repetitions"),
    "negative seed": ({"seeds": (-1,)}, "seeds[0] is -1; it must be a whole number in [0, 4294967295]"),
    "fractional seed": ({"seeds": (0.5,)}, "seeds[0] is 0.5; it must be a whole number in [0, 4294967295]"),
    "truth as seed": ({"seeds": (True,)}, "seeds[0] is True; it must be a whole number in [0, 4294967295]"),
    "no methods": ({"methods": ()}, "methods is (); it must be a list of 1 to 10,000, without repetitions"),
    "methods as text": ({"methods": "fds"}, "methods is 'fds'; it must be a list, each text of one line"),
    "no time": ({"time_limit": 0}, "time_limit is 0; it must be a number in (0, 1000000000]"),
    "endless": ({"time_limit": float("inf")}, "time_limit is inf; it must be a number in (0, 1000000000]"),
    "unknown limit": ({"time_limit": float("nan")}, "time_limit is nan; it must be a number in (0, 1000000000]"),
    "time as text": ({"time_limit": "60"}, "time_limit is '60'; it must be a number in (0, 1000000000]"),
    "no epochs": ({"epochs": 0, "reference": None}, "epochs is 0; it must be a number in (0, 1000000000]"),
    "min over full": ({"min_epochs": 28}, "min_epochs is 28; it must be at most epochs (27)"),
    "no workers": ({"workers": 0}, "workers is 0; it must be a whole number in [1, 100000]"),
    "two bounds on gradients": (
        {"gradient_clamp": 1.0, "gradient_norm": 1.0},
        "gradient_norm is 1 beside gradient_clamp; one of them must be None",
    ),
    "concurrent runs through the client": (
        {"concurrent": 2, "address": "ray://head:10001"},
        "concurrent is 2; through Ray's client (ray://head:10001) it must be 1",
    ),
    "relative storage": (
        {"storage": "runs"},
        "storage is 'runs'; it must be a URI, such as s3://bucket/folder, or a whole path",
    ),
    "storage through the client": (
        {"storage": "s3://runs", "address": "ray://head:10001"},
        "storage is 's3://runs'; through Ray's client (ray://head:10001) it must be None",
    ),
    "negative GPUs": ({"gpus_per_trial": -1}, "gpus_per_trial is -1; it must be a number in [0, 10000]"),
    "clamped to nothing": ({"gradient_clamp": 0}, "gradient_clamp is 0; it must be a positive number or None"),
    "other metric": (
        {"metric": "test_loss"},
        "metric is 'test_loss'; it must be 'validation_loss' or 'validation_accuracy'",
    ),
    "options for nobody": (
        {"methods": ("fds",), "method_options": {"fsd": {}}},
        "method_options is for 'fsd'; it must be for fds",
    ),
    "space entry": (
        {"space": {"momentum": "0.9"}},
        "space.momentum is '0.9'; it must be a mapping of a schedule's settings, or a number",
    ),
    "infinite target": ({"targets": (float("inf"),)}, "targets[0] is inf; it must be a finite number"),
    "empty name": ({"name": " "}, "name is ' '; it must be text of one line"),
    "two lines": (
        {"name": "n", "problem": "a\nb", "reference": None},
        "problem is 'a\\nb'; it must be text of one line",
    ),
    "other problem's reference": (
        {"reference": reference_to_mapping(make_reference("cifar10"))},
        "reference is for the problem 'cifar10'; it must be for 'digits'",
    ),
    "other training's reference": (
        {"reference": reference_to_mapping(make_reference(epochs=9))},
        "reference is for 9 epochs; it must be for 27, as the experiment",
    ),
    "unheard-of numbers": (
        {"workers": 10**20, "seeds": [10**20], "time_limit": 1e20},
        "seeds[0] is 100000000000000000000; it must be a whole number in [0, 4294967295]; "
        "also time_limit is 1e+20; it must be a number in (0, 1000000000]; "
        "also workers is 100000000000000000000; it must be a whole number in [1, 100000]",
    ),
    "focus on nobody": ({"methods": ("fds",), "focus": "fsd"}, "focus is 'fsd'; it must be None or one of fds"),
}


def test_every_missing_entry_of_a_reference_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^reference: epochs is missing; it must be a positive number; also batch_size"
    ):
        make_experiment(reference={"problem": "digits"})


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_experiment(**changes)
    assert str(caught.value) == message


def test_refuses_unknown_and_missing_names() -> None:
    settings = {field.name: getattr(make_experiment(), field.name) for field in dataclasses.fields(Experiment)}
    with pytest.raises(
        ValueError, match=r"^file: setting is 'seed'; it must be seeds \(the closest\), address, .*"
    ) as caught:
        experiment_from_mapping({**settings, "seed": 3}, "file")
    assert "\n" not in str(caught.value)
    del settings["epochs"]
    with pytest.raises(ValueError, match=r"^experiment: epochs is missing; it must be a number in \(0, 1000000000\]$"):
        experiment_from_mapping(settings)
    with pytest.raises(ValueError, match=r"^experiment: setting is \[1\]; it must be a mapping of name, problem, "):
        experiment_from_mapping([1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1\nb: 2", "not YAML"),
        ("- 1\n- 2\n", r"it holds \[1, 2\]; it must be a mapping of settings"),
        ("seeds: [1]\nseeds: [2]\n", "'seeds' is given twice"),
        ("name: 2026-13-40\n", "not YAML"),
        ("a: " + "[" * 3000, "not YAML"),
        ("", "it holds None; it must be a mapping of settings"),
    ],
)
def test_refuses_other_files_naming_them(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_settings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
