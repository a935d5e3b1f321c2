"""Training functions in a comparison: their settings, which methods can search them, and a whole run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raytune_hyperlearn import compare
from raytune_hyperlearn.cli import app
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.run import check_experiment
from raytune_hyperlearn.learned import Learned
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.problems.references import reference_to

MINE = """
from raytune_hyperlearn import Schedule, TrainingFunction


def train(config, report):
    report((config["depth"] - 4) ** 2 + 1 / config["epochs"])


parabola = TrainingFunction("parabola", train, {"depth": Schedule(range=(1, 6)), "b": 2.0}, epochs=18)
failing = TrainingFunction("failing", lambda config, report: report(1 / 0), {"depth": Schedule()})
"""
SPACE = {"depth": {"values": 1, "init": 1.0, "step": 0.1, "range": [1.0, 6.0]}, "b": 2.0}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with mine.py, which can be imported while the test runs and is forgotten after it."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_function_brings_its_hyperparameters_and_budget() -> None:
    experiment = experiment_from_settings({"problem": "mine.py:parabola"})
    assert experiment.optimizer == "own"
    assert experiment.space == SPACE
    assert (experiment.epochs, experiment.min_epochs) == (18, 2)
    assert experiment.reference is None
    for name, other in (("optimizer", "sgd"), ("space", {"depth": 3})):
        with pytest.raises(ValueError, match=rf"^{name} is .*; parabola brings its own: leave {name} out"):
            experiment_from_settings({"problem": "mine.py:parabola", name: other})


@pytest.mark.parametrize("method", ["rs", "bo", "hb", "bohb", "tpe", "gp", "cma-es", "smac", "dehb"])
def test_methods_that_only_ask_for_scores_search_it(method: str) -> None:
    options = {"method_options": {"tpe": {"pruning": False}}} if method == "tpe" else {}
    check_experiment(experiment_from_settings({"problem": "mine.py:parabola", "methods": [method], **options}))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        *((name, "problem mine.py:parabola is a training function") for name in ("fds", "hd", "arbiter", "pbt")),
        ("tpe", "the method stops trainings on their way, .*pruning: false"),
    ],
)
def test_methods_that_train_by_themselves_refuse_it(method: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^method {method}: {message}") as refused:
        check_experiment(experiment_from_settings({"problem": "mine.py:parabola", "methods": [method]}))
    assert "\n" not in str(refused.value)


def test_what_needs_a_network_says_so() -> None:
    with pytest.raises(ValueError, match=r"problem is the training function parabola; .* needs a Problem"):
        load("mine.py:parabola")
    for bound in ("gradient_clamp", "gradient_norm"):
        experiment = experiment_from_settings({"problem": "mine.py:parabola", "methods": ["rs"], bound: 1.0})
        with pytest.raises(ValueError, match=rf"{bound} is 1.0; with a training function it must be None"):
            check_experiment(experiment)
    done = CliRunner().invoke(app, ["reference", "mine.py:parabola"])
    assert done.exit_code == 2
    assert "a training function has none" in done.output


def test_check_calls_the_function_once() -> None:
    done = CliRunner().invoke(app, ["check", "--problem", "mine.py:parabola", "--methods", "rs"])
    assert done.exit_code == 0
    assert "validation_loss 9.5" in done.output
    done = CliRunner().invoke(app, ["check", "--problem", "mine.py:failing", "--methods", "rs"])
    assert "train of failing raises ZeroDivisionError: division by zero" in done.output


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_comparison_of_a_function_goes_all_the_way(folder: Path) -> None:
    import mine  # type: ignore[import-not-found]

    assert reference_to(mine.parabola) == "mine:parabola"
    study = compare(mine.parabola, ["rs"], seeds=1, time_limit=1.0, confirmations=2, output=folder / "out")
    (run,) = study.runs.values()
    assert run.incumbent is not None
    assert run.incumbent.validation_loss == (run.incumbent.hyperparameters["depth"][0] - 4) ** 2 + 1 / 18
    assert run.confirmation is not None
    assert run.confirmation.validation_loss == [run.incumbent.validation_loss] * 2
    learned = Learned.load(folder / "out" / "best.json")
    assert learned.hyperparameters == run.incumbent.hyperparameters
    assert not learned.is_for_torch
    assert CliRunner().invoke(app, ["report", str(folder / "out")]).exit_code == 0
