"""Methods of other packages: a tiny package on the path is found by its metadata; a bad one spoils nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from raytune_hyperlearn.cli import app
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method

CODE = """
from raytune_hyperlearn.comparison.running.method import Method, MethodSetup
from raytune_hyperlearn.tune import SGDTrainable


def zeros(arguments):
    hyperparameters = {name: 0.0 for name in arguments.space.flat_names()}
    return MethodSetup(SGDTrainable, {"hyperparameters": hyperparameters, "trial_seed": arguments.options["start"]})


METHOD = Method("Trains with zeros", zeros, {"start": 7}, reference="Nobody, 2026")
NO_METHOD = "text"
"""
ENTRY_POINTS = """[raytune_hyperlearn.methods]
zeros = tiny_method_package:METHOD
absent = tiny_method_package:ABSENT
text = tiny_method_package:NO_METHOD
fds = tiny_method_package:METHOD
"""


@pytest.fixture
def tiny_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed as pip would do it: a module, and metadata beside it."""
    (tmp_path / "tiny_method_package.py").write_text(CODE)
    info = tmp_path / "tiny_method_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-method-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("tiny_package")
def test_an_installed_method_is_listed_and_set_up_with_its_options() -> None:
    listed = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["list"]).output
    assert "Trains with zeros" in listed
    experiment = experiment_from_settings(
        {"methods": ["zeros"], "method_options": {"zeros": {"start": 3}}, "reference": None}
    )
    setup = setup_method(experiment, "zeros", 0)
    assert setup.config["trial_seed"] == 3
    assert set(setup.config["hyperparameters"].values()) == {0.0}


@pytest.mark.usefixtures("tiny_package")
def test_a_method_of_this_package_keeps_its_name() -> None:
    assert METHODS["fds"].description.startswith("FDS")
    assert list(METHODS).count("fds") == 1


@pytest.mark.usefixtures("tiny_package")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "entry point absent = tiny_method_package:ABSENT cannot be loaded: AttributeError"),
        ("text", "entry point text = tiny_method_package:NO_METHOD is of type str; it must be a Method"),
    ],
)
def test_one_that_cannot_be_loaded_is_refused_in_one_line_and_spoils_no_other(name: str, reason: str) -> None:
    assert METHODS["zeros"].reference == "Nobody, 2026"
    experiment = experiment_from_settings({"methods": [name], "reference": None})
    with pytest.raises(ValueError, match=reason) as refusal:
        setup_method(experiment, name, 0)
    assert "\n" not in str(refusal.value)


def test_without_such_a_package_there_are_only_our_own() -> None:
    assert "zeros" not in METHODS
