"""The command: complete help, every refusal one line with exit status 2 and nothing written, Ctrl-C and resume."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
import typer
import yaml
from rich.console import Console

import raytune_hyperlearn
from raytune_hyperlearn import cli
from raytune_hyperlearn.cli import terminal
from raytune_hyperlearn.cli.results import on_terminal
from raytune_hyperlearn.comparison.analysis.results import study_of_records
from raytune_hyperlearn.comparison.experiment import read_experiment
from raytune_hyperlearn.comparison.records import Confirmation
from raytune_hyperlearn.comparison.reference_record import reference_to_mapping
from raytune_hyperlearn.comparison.reporting import summary_table
from raytune_hyperlearn.comparison.running import cluster, stopping
from raytune_hyperlearn.comparison.running import run as running
from raytune_hyperlearn.comparison.running.methods import METHODS
from raytune_hyperlearn.learned import Learned
from raytune_hyperlearn.problems import PROBLEMS
from raytune_hyperlearn.reproductions import writing
from raytune_hyperlearn.reproductions.reproduction import Findings, Verdict
from tests.comparison.synthetic import make_experiment, make_record, make_reference, write_folder

ROOT = Path(__file__).parents[1]
TINY = ["--epochs", "0.2", "--seeds", "1"]


@dataclass(frozen=True)
class Outcome:
    """What a call of the command did."""

    status: int
    output: str
    errors: str


Hyperlearn = Callable[..., Outcome]


@pytest.fixture
def hyperlearn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Hyperlearn:
    """Calls the entry point as a shell would, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # typer's help
    for shown in (terminal.console, terminal.errors):
        monkeypatch.setattr(shown, "width", 200)  # they read COLUMNS once, when they are made

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["hyperlearn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def result_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One comparison of six methods with three seeds on digits; not to be changed."""
    return write_folder(tmp_path_factory.mktemp("results") / "digits", make_experiment(), skill=0.03)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be started."""

    def started(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("ray.init", started)


def refused(outcome: Outcome, *said: str) -> None:
    """It was one line on standard error that holds what is said, and exit status 2."""
    assert outcome.status == 2, outcome
    assert outcome.output == ""
    assert outcome.errors.startswith("hyperlearn: ")
    assert outcome.errors.count("\n") == 1
    for part in said:
        assert part.lower() in outcome.errors.lower()


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--problem", "cats"], ["problem is 'cats'", "digits, mnist-5k, fashion-mnist"]),
        (["--methods", "fds,luck"], ["method is 'luck'", "fds, fds-forward, hd, rs, bo, hb, bohb"]),
        (["--methods", "rs,rs"], ["methods", "['rs', 'rs']", "without repetitions"]),
        (["--methods", ","], ["methods is []", "a list of 1"]),
        (["--seeds", "0"], ["seeds is '0'", "a number >= 1 of seeds"]),
        (["--seeds", "-3"], ["seeds is '-3'", "a number >= 1 of seeds"]),
        (["--seeds", "few"], ["seeds is 'few'", "separated by commas"]),
        (["--seeds", "1,1"], ["seeds", "[1, 1]", "without repetitions"]),
        (["--seeds", "1,-1"], ["seeds[1] is -1", "a whole number in [0"]),
        (["--time-limit", "0"], ["time_limit is 0.0", "a number in (0"]),
        (["--time-limit", "nan"], ["time_limit is nan"]),
        (["--time-limit", "soon"], ["--time-limit", "'soon'", "a number"]),
        (["--epochs", "-1"], ["epochs is -1.0", "a number in (0"]),
        (["--epochs", "inf"], ["epochs is inf"]),
        (["--workers", "0"], ["workers is 0", "in [1"]),
        (["--workers", "two"], ["--workers", "'two'", "a whole number"]),
        (["--confirm", "-1"], ["confirmations is -1", "in [0"]),
        (["--confirm", "some"], ["--confirm", "'some'", "a whole number"]),
        (["--concurrent", "0"], ["concurrent is 0", "in [1"]),
        (["--cpus-per-trial", "0"], ["cpus_per_trial is 0", "in [1"]),
        (["--cpus-per-trial", "9999"], ["cpus_per_trial is 9999; "]),
        (["--gpus-per-trial", "-1"], ["gpus_per_trial is -1.0", "in [0"]),
        (["--gradient-norm", "0"], ["gradient_norm is 0.0", "a positive number or None"]),
        (["--gradient-norm", "short"], ["--gradient-norm", "'short'", "a number"]),
        (["--precision", "half"], ["precision is 'half'", "full", "bf16-mixed"]),
        (["--address", "127.0.0.1:1"], ["address is '127.0.0.1:1'", "HOST:PORT"]),
        (["--address", "nowhere"], ["address is 'nowhere'", "HOST:PORT"]),
        (["--address", "127.0.0.1:99999999"], ["address is '127.0.0.1:99999999'", "HOST:PORT"]),
        (["--config", "missing.yaml"], ["config is missing.yaml", "YAML file"]),
        (["--resume", "missing"], ["resume is missing", "experiment.yaml"]),
        (["--resume", "missing", "--workers", "2"], ["workers is given beside resume"]),
        (["--resume", "missing", "--output", "x"], ["output is given beside resume"]),
        (["--speed", "9"], ["--speed"]),
        (["now"], ["now"]),
    ],
)
def test_compare_refuses_bad_arguments(
    hyperlearn: Hyperlearn, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    refused(hyperlearn("compare", *arguments), *said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"space": {"learning_rate": {"range": [1, 0]}}}, ["LearningRate range", "(1, 0)", "lower bound"]),
        ({"space": {"learning_rate": {"range": 3}}}, ["range"]),
        ({"space": {"learning_rate": {"values": 0}}}, ["values is 0"]),
        ({"space": {"speed": 1.0}}, ["'speed'", "learning_rate, momentum, weight_decay"]),
        ({"space": 3}, ["space is 3"]),
        ({"speed": 9}, ["setting is 'speed'", "address, concurrent, confirmations"]),
        ({"problem": ["digits"]}, ["problem is ['digits']", "digits, mnist-5k, fashion-mnist"]),
        ({"epochs": "many"}, ["epochs", "'many'", "a number"]),
        ({"min_epochs": 50.0}, ["min_epochs is 50", "at most epochs"]),
        ({"seeds": []}, ["seeds is []", "a list of 1"]),
        ({"seeds": 3}, ["seeds is 3", "a list"]),
        ({"metric": "test_loss"}, ["metric", "'test_loss'", "'validation_loss' or 'validation_accuracy'"]),
        ({"method_options": {"fds": {"speed": 1}}}, ["option of fds is 'speed'", "growth"]),
        ({"method_options": {"fds": {"growth": 0.5}}}, ["growth is 0.5", "at least 1"]),
        (
            {"method_options": {"fds": {"growth": "fast"}}},
            ["method fds", "growth is 'fast'; it must be a number"],
        ),
        ({"method_options": {"fds": {"hessian": {"speed": 1}}}}, ["fds", "speed"]),
        ({"method_options": {"hb": {"eta": 1}}}, ["eta", "got 1"]),
        ({"method_options": {"rs": {"eta": 3}}}, ["option of rs is 'eta'", "none"]),
        ({"reference": reference_to_mapping(make_reference("fashion-mnist"))}, ["reference", "'fashion-mnist'"]),
        ({"reference": reference_to_mapping(make_reference()), "epochs": 3}, ["reference is for 27 epochs", "for 3"]),
        ({"reference": {"problem": "digits"}}, ["reference", "missing"]),
    ],
)
def test_compare_refuses_bad_settings(
    hyperlearn: Hyperlearn, tmp_path: Path, settings: dict[str, Any], said: list[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings))
    refused(hyperlearn("compare", "--config", config), *said)
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "epochs: 3\nepochs: 4\n", ""])
def test_compare_refuses_a_file_that_holds_no_settings(hyperlearn: Hyperlearn, tmp_path: Path, text: str) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(text)
    refused(hyperlearn("compare", "--config", config), "settings.yaml")


@pytest.mark.usefixtures("no_ray")
def test_compare_refuses_a_problem_whose_data_are_missing(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("no network, as asked")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", unreachable)
    monkeypatch.setenv("HYPERLEARN_DATA", str(tmp_path / "data"))
    refused(hyperlearn("compare", "--problem", "cifar10-wrn16-1"), "CIFAR-10 is not in", "HYPERLEARN_DATA")
    assert not (tmp_path / "results").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_ray")
def test_compare_refuses_a_folder_that_holds_something_else(
    hyperlearn: Hyperlearn, tmp_path: Path, result_folder: Path
) -> None:
    another = tmp_path / "another"
    shutil.copytree(result_folder, another)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    before = contents(tmp_path)
    refused(hyperlearn("compare", *TINY, "--output", another), f"output is {another}", "holds another experiment")
    refused(hyperlearn("compare", *TINY, "--output", other), f"output is {other}", "neither empty nor")
    refused(hyperlearn("compare", *TINY, "--output", other / "cat.jpg"), "cat.jpg", "must be a folder")
    refused(hyperlearn("reference", "digits", "--output", other / "cat.jpg"), "cat.jpg", "exists already")
    refused(hyperlearn("reference", "digits", "--output", tmp_path / "no" / "r.json"), "its folder does not exist")
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("no_ray")
def test_records_of_the_same_experiment_are_not_begun_again_unasked(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"methods": ["rs"], "seeds": [0], "epochs": 0.2, "reference": None}))
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cluster, "is_running", lambda: False)
        patched.setattr(cluster, "start_ray", lambda *_: None)
        patched.setattr(cluster, "stop_ray", lambda: None)
        patched.setattr(running, "run_experiment", interrupt)
        assert hyperlearn("compare", "--config", config, "--output", folder).status == 130
    before = contents(folder)
    refused(
        hyperlearn("compare", "--config", config, "--output", folder), f"--resume {folder}", "--overwrite", "report"
    )
    assert contents(folder) == before


@pytest.mark.usefixtures("no_ray")
def test_overwrite_keeps_what_was_there(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "is_running", lambda: False)
    monkeypatch.setattr(cluster, "start_ray", lambda *_: None)
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)
    monkeypatch.setattr(running, "run_experiment", interrupt)
    folder = write_folder(tmp_path / "mine", make_experiment())
    before = contents(folder)
    arguments = ["compare", *TINY, "--methods", "rs", "--time-limit", "3", "--output", folder, "--overwrite"]
    refused(hyperlearn(*arguments, "--workers", "0"), "workers is 0")
    assert contents(folder) == before
    outcome = hyperlearn(*arguments)
    assert outcome.status == 130
    assert "1 run of at most 3 s, 1 trial at a time" in outcome.output
    assert contents(tmp_path / "mine.1") == before
    assert read_experiment(folder / "experiment.yaml").methods == ("rs",)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cat.jpg").touch()
    refused(hyperlearn("compare", "--output", tmp_path / "other", "--overwrite"), "an experiment's folder")


@pytest.mark.usefixtures("no_ray")
def test_the_printed_settings_are_all_there_are_and_can_be_read_back(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    given = ("--methods", "rs,fds", "--epochs", "2", "--gradient-norm", "0.5", "--precision", "bf16-mixed")
    outcome = hyperlearn("compare", *given, "--print-config")
    assert (outcome.status, outcome.errors) == (0, "")
    (tmp_path / "settings.yaml").write_text(outcome.output)
    read = read_experiment(tmp_path / "settings.yaml")
    assert (read.methods, read.epochs, read.problem) == (("rs", "fds"), 2, "digits")
    assert (read.gradient_norm, read.precision) == (0.5, "bf16-mixed")
    lines = outcome.output.splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"\w+:", line)]
    assert [lines[number].partition(":")[0] for number in settings] == [entry.name for entry in fields(read)]
    assert all(lines[number - 1].startswith("# ") for number in settings)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.yaml"]


OWN = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from raytune_hyperlearn import Problem

X, Y = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2


def problem(size: int = 40, **changes):
    data = TensorDataset(X[:size], Y[:size])
    return Problem.from_datasets("mine", **{"model": model, "train": data, "test": data, "batch_size": 8, **changes})


def model():
    return nn.Linear(2, 2)


def raising():
    raise OSError("no such disk")


def scalar():
    return problem(loss=F.cross_entropy)


def frozen():
    return problem(model=lambda: nn.Linear(2, 2).requires_grad_(False))


def unequal():
    return problem(collate=lambda items: (X[: len(items)], Y[: len(items) - 1]))


def regression():
    first = lambda items: (X[: len(items)], X[: len(items), 0])
    return problem(model=lambda: nn.Linear(2, 1), loss="mse", collate=first)


def elsewhere():
    return problem(collate=lambda items: (X[: len(items)], Y[: len(items)].to("meta")))
"""


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nowhere.py:problem", [], "there is no file nowhere.py"),
        ("own.py:nothing", [], "there is no 'nothing' in it, only problem, model, raising"),
        ("own.py:raising", [], "it raises OSError: no such disk"),
        ("own.py:scalar", [], "loss returns shape [] for 2 examples; it must return one number per example"),
        ("own.py:frozen", [], "model has no parameter that requires a gradient"),
        ("own.py:problem", ["--problem-args", "size=0"], "train is of length 0; it must hold examples"),
        ("own.py:unequal", [], "targets has 15 rows; it must have as many as inputs, 16"),
        ("own.py:elsewhere", [], "targets is on meta; it must be where inputs is, cpu"),
        ("own.py:problem", ["--problem-args", "batch_size=33"], "batch_size is 33; mine allows 1 to 32"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "check"])
def test_what_is_wrong_with_an_own_problem_is_one_line_before_anything_starts(
    hyperlearn: Hyperlearn, tmp_path: Path, command: str, name: str, arguments: list[str], said: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    outcome = hyperlearn(command, "--problem", name, *arguments)
    assert (outcome.status, outcome.output) == (2, "")
    (line,) = [line for line in outcome.errors.splitlines() if line.startswith("hyperlearn: ")]
    assert said in line
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("no_ray")
def test_a_problem_without_an_accuracy_is_not_chosen_by_it(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "settings.yaml").write_text("metric: validation_accuracy\n")
    outcome = hyperlearn("compare", "--problem", "own.py:regression", "--config", "settings.yaml")
    refused(outcome, "metric is 'validation_accuracy'; mine has no accuracy, it must be 'validation_loss'")


@pytest.mark.usefixtures("no_ray")
def test_check_says_what_a_comparison_would_cost(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    outcome = hyperlearn("check", "--problem", "own.py:problem", "--seeds", "2", "--methods", "fds,rs", "--epochs", "5")
    assert outcome.status == 0, outcome.errors
    found = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in outcome.output.splitlines())
    assert found["model, loss, data"] == "fit together; 6 parameters"
    assert found["examples"] == "32 training, 8 validation, 40 test; in memory"
    assert found["twice differentiable"] == "every layer"
    assert re.fullmatch(r"[\d.]+ m?s: 5 epochs, 20 steps", found["one training"])
    # A state is w and v in 32 bits and torch's generator; 9 values have a tangent each.
    assert re.fullmatch(r"[\d.]+ m?s, [\d.]+ kB for 9 values' tangents", found["outer step, forward mode"])
    assert re.fullmatch(r"[\d.]+ m?s, [\d.]+ kB for 19 states", found["outer step, reverse mode"])
    assert found["compare"].startswith(
        "4 runs (2 methods × 2 seeds) of at most 10 min, one after the other: up to 40 min, "
        "beside the runs' start-up (5 to 10 s each); 1 trial at a time"
    )


ONCE = """
import torch
from torch import nn
from raytune_hyperlearn import Examples, Problem


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


class Doubled(nn.Linear):
    def forward(self, x):
        return Once.apply(super().forward(x))


part = Examples(torch.randn(40, 2), torch.zeros(40, dtype=torch.long))
problem = Problem("once", lambda: Doubled(2, 2), part, part, batch_size=8)
"""


@pytest.mark.usefixtures("no_ray")
def test_check_names_the_methods_that_cannot_train_a_problem(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(ONCE)
    output = hyperlearn("check", "--problem", "own.py:problem", "--methods", "fds,rs,hb").output
    said = " ".join(output.split())
    assert "no: Doubled is not; methods that differentiate cannot train it" in said
    assert "fds would be refused, since Doubled is not twice differentiable; with --methods rs,hb: 6 runs" in said
    alone = " ".join(hyperlearn("check", "--problem", "own.py:problem", "--methods", "fds").output.split())
    assert alone.endswith("fds would be refused, since Doubled is not twice differentiable")
    outcome = hyperlearn("compare", "--problem", "own.py:problem", "--methods", "rs,fds")
    refused(outcome, "method fds: model has Doubled; no way can differentiate it twice")
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("no_ray")
def test_a_plan_of_runs_at_the_same_time_says_when_they_slow_each_other_down(
    hyperlearn: Hyperlearn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    asked = ["compare", "--methods", "fds,rs", "--seeds", "4", "--time-limit", "60", "--dry-run"]
    enough = hyperlearn(*asked, "--concurrent", "3").output
    assert "8 runs (2 methods × 4 seeds) of at most 60 s, 3 at a time: up to 3 min" in enough
    assert "slow" not in enough
    crowded = hyperlearn(*asked, "--concurrent", "3", "--cpus-per-trial", "2").output
    assert "They slow each other down: they use 6 processors and this machine has 4" in crowded
    asked[2] = "pbt,rs"
    alone = hyperlearn(*asked, "--concurrent", "4").output
    assert "of at most 60 s, 4 at a time, those of pbt one by one: up to 5 min" in alone


def interrupt(*_arguments: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_says_how_to_go_on_in_one_line_that_a_shell_takes(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(cluster, "is_running", lambda: False)
    monkeypatch.setattr(cluster, "start_ray", lambda *_: None)
    monkeypatch.setattr(cluster, "stop_ray", lambda: stopped.append(True))
    monkeypatch.setattr(running, "run_experiment", interrupt)
    folder = tmp_path / ("a folder [of] my own " + "x" * 100)
    outcome = hyperlearn("compare", *TINY, "--output", folder)
    assert outcome.status == 130
    assert stopped == [True]
    assert outcome.errors.count("\n") == 1
    assert outcome.errors.strip().endswith(f"hyperlearn compare --resume '{folder}'")
    assert read_experiment(folder / "experiment.yaml").epochs == 0.2


def test_sigterm_is_as_ctrl_c_with_a_status_of_its_own(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_arguments: Any) -> None:
        with stopping.keeping_sigterm():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(6))  # as ray.init does

    def terminate(*_arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cluster, "is_running", lambda: False)
    monkeypatch.setattr(cluster, "start_ray", start)
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)
    monkeypatch.setattr(running, "run_experiment", terminate)
    outcome = hyperlearn("compare", *TINY, "--output", tmp_path / "run")
    assert outcome.status == 143
    assert outcome.errors.count("\n") == 1
    assert outcome.errors.strip().endswith(f"continue with: hyperlearn compare --resume {tmp_path / 'run'}")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_one_line_and_the_lock_is_released(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "records.jsonl")

    monkeypatch.setattr(cluster, "is_running", lambda: False)
    monkeypatch.setattr(cluster, "start_ray", lambda *_: None)
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)
    monkeypatch.setattr(running, "run_experiment", fill)
    folder = tmp_path / "run"
    outcome = hyperlearn("compare", *TINY, "--output", folder)
    assert outcome.status == 1
    assert outcome.errors.count("\n") == 1
    assert "No space left on device: 'records.jsonl'" in outcome.errors
    assert outcome.errors.strip().endswith(f"continue with: hyperlearn compare --resume {folder}")
    assert not (folder / ".lock").exists()
    (folder / "experiment.yaml").chmod(0o666)
    refused(hyperlearn("compare", "--resume", folder), "experiment.yaml is writable by others", "--trust")
    assert hyperlearn("compare", "--resume", folder, "--trust").status == 1  # the disk is still full


def test_options_win_over_the_file_and_the_file_over_the_defaults(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def note(experiment: Any, *_arguments: Any) -> None:
        asked.append(experiment)
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "is_running", lambda: False)
    monkeypatch.setattr(cluster, "start_ray", lambda *_: None)
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)
    monkeypatch.setattr(running, "run_experiment", note)
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"methods": ["rs", "hb"], "epochs": 2, "time_limit": 7, "gradient_clamp": 3}))
    hyperlearn("compare", "--config", config, "--seeds", "4,7", "--time-limit", "9", "--workers", "2")
    (experiment,) = asked
    assert experiment.methods == ("rs", "hb")
    assert experiment.seeds == (4, 7)
    assert (experiment.epochs, experiment.time_limit, experiment.workers) == (2, 9, 2)
    assert experiment.gradient_clamp == 3
    assert experiment.problem == "digits"
    assert (tmp_path / "results" / "digits" / "experiment.yaml").is_file()


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cats"], ["problem is 'cats'", "digits"]),
        ([], ["problem", "issing"]),
        (["digits", "--seeds", "0"], ["seeds is 0", "at least 1"]),
        (["digits", "--seeds", "few"], ["--seeds", "'few'", "a whole number"]),
        (["digits", "--epochs", "0"], ["epochs is 0.0", "a number in (0"]),
        (["digits", "--epochs", "many"], ["--epochs", "'many'", "a number"]),
        (["digits", "--workers", "0"], ["workers is 0", "in [1"]),
        (["digits", "--gpus-per-trial", "-1"], ["gpus_per_trial is -1.0", "in [0"]),
    ],
)
def test_reference_refuses_bad_arguments(
    hyperlearn: Hyperlearn, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    refused(hyperlearn("reference", *arguments), *said)
    assert list(tmp_path.iterdir()) == []


def test_tune_searches_and_shows_what_was_found_and_how_to_use_it(
    hyperlearn: Hyperlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: str
) -> None:
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)  # the session's other tests need it
    folder = tmp_path / "found"
    outcome = hyperlearn(
        "tune", "--outer-steps", "3", "--epochs", "1", "--time-limit", "120", "--seed", "4", "--output", folder
    )
    assert (outcome.status, outcome.errors) == (0, "")
    learned = Learned.load(folder / "best.json")
    assert learned.found["method"] == "fds"
    assert learned.found["seed"] == 4
    assert "ended: last outer step" in outcome.output
    assert learned.to_yaml() in outcome.output
    assert f"learned = Learned.load({str(folder / 'best.json')!r})" in outcome.output
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=9.0)
    learned.to_torch(optimizer, 10)
    assert optimizer.param_groups[0]["lr"] == learned.hyperparameters["learning_rate"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "fdss"], "method is 'fdss'; it must be one of"),
        (["--method", "rs", "--outer-steps", "3"], "option of rs is 'outer_steps'; allowed: none"),
        (["--time-limit", "-1"], "time_limit is -1"),
        (["--seed", "-1"], "seeds"),
        (["--gradient-norm", "-1"], "gradient_norm is -1.0"),
        (["--precision", "half"], "precision is 'half'"),
    ],
)
def test_tune_refuses_bad_arguments(hyperlearn: Hyperlearn, tmp_path: Path, arguments: list[str], message: str) -> None:
    outcome = hyperlearn("tune", *arguments)
    assert outcome.status == 2
    assert outcome.errors.count("\n") == 1
    assert message in outcome.errors
    assert list(tmp_path.iterdir()) == []


def test_report_refuses_what_is_no_result_folder(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(hyperlearn("report"), "folders", "issing")
    refused(hyperlearn("report", "nowhere"), "folder is nowhere")
    refused(hyperlearn("report", empty), "experiment.yaml", "empty")
    assert list(empty.iterdir()) == []


def test_report_refuses_folders_that_do_not_belong_together(
    hyperlearn: Hyperlearn, tmp_path: Path, result_folder: Path
) -> None:
    longer = write_folder(tmp_path / "longer", replace(make_experiment(), time_limit=90.0, seeds=(7,)))
    refused(hyperlearn("report", result_folder, result_folder), "hold each run once")
    refused(hyperlearn("report", result_folder, longer, "-o", tmp_path / "r.html"), "time_limit must be the same")
    assert not (tmp_path / "r.html").exists()


def test_report_writes_a_page_and_prints_the_table(hyperlearn: Hyperlearn, tmp_path: Path, result_folder: Path) -> None:
    more = write_folder(tmp_path / "more", make_experiment(seeds=(3, 4)))
    outcome = hyperlearn("report", result_folder, more, "--output", tmp_path / "joined.html")
    assert outcome.status == 0, outcome
    page = (tmp_path / "joined.html").read_text()
    assert "<html" in page
    assert f"Report: {tmp_path / 'joined.html'}" in outcome.output
    for name in ("digits: median regret over seeds, 60 s per run", "FDS", "BOHB", "HB"):
        assert name in outcome.output
    assert not (result_folder / "report.html").exists()


class Canary:
    """Leaves a mark where its pickle is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_what_reads_results_never_loads_a_pickle(hyperlearn: Hyperlearn, tmp_path: Path) -> None:
    folder, mark = write_folder(tmp_path / "run", make_experiment(methods=("rs",), seeds=(0,))), tmp_path / "mark"
    planted = pickle.dumps(Canary(mark))
    (folder / "tune" / "rs-0").mkdir(parents=True)
    for name in ("tuner.pkl", "searcher-state.pkl", "experiment_state-1.json"):
        (folder / "tune" / "rs-0" / name).write_bytes(planted)
    for name in ("best.pkl", "records.pkl", "tune/rs-0.pkl"):
        (folder / name).write_bytes(planted)
    with ZipFile(folder / "tune" / "rs-0" / "kept_state.zip", "w") as kept:
        kept.writestr("tuner.pkl", planted)
    assert hyperlearn("report", folder).status == 0
    assert hyperlearn("list").status == 0
    hyperlearn("export", folder)
    assert not mark.exists()
    pickle.loads(planted)
    assert mark.exists()  # the canary sings where it is loaded


def test_the_final_table_breaks_no_word_at_80_columns() -> None:
    methods = ("fds-forward", "tune-bohb", "cosine-tpe", "one-cycle-tpe", "schedule-free", "prodigy", "cma-es", "dehb")
    experiment = make_experiment(methods=methods, seeds=(0,), time_limit=3600.0)
    failed = {"diverged": 16, "crashed": 123, "out_of_memory": 9}
    rows = [
        make_record(method=method, time=i, validation_loss=0.1 - i * 1e-9, test_loss=0.00512, status=status)
        for method in methods
        for i, status in enumerate(["completed"] * 120 + [s for s, count in failed.items() for _ in range(count)])
    ]
    again = Confirmation("dehb", 0, [0.1051], [0.9], [0.1], [0.9])
    summary = summary_table(study_of_records(experiment, rows, confirmations=[again]))
    narrow = Console(width=80, file=StringIO(), legacy_windows=False)
    narrow.print(on_terminal(summary))
    lines = narrow.file.getvalue().splitlines()
    cells = (*summary.columns, *(cell for row in summary.rows for cell in row))
    whole = {word for text in (summary.title, *cells) for word in text.split()}
    assert max(map(len, lines)) <= 80
    assert {word for line in lines for word in line.split()} == whole
    assert {"16", "diverged,", "268", "validation", "FDS"} <= whole


def test_report_tests_the_method_that_is_named(hyperlearn: Hyperlearn, tmp_path: Path, result_folder: Path) -> None:
    outcome = hyperlearn("report", result_folder, "-o", tmp_path / "page.html", "--focus", "hb")
    assert outcome.status == 0
    assert re.search(r"<h\d[^>]*>Hyperband against each other method<", (tmp_path / "page.html").read_text())
    assert "HB − FDS" in (tmp_path / "page.html").read_text()
    refused(hyperlearn("report", result_folder, "--focus", "ba-sgd"), "focus", "'ba-sgd'", "fds")


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "compare --help",
        "report --help",
        "reference --help",
        "reproduce --help",
        "reproduce --list",
        "list",
        "nonsense",
        "compare --problem cats",
        "compare --methods fds,luck",
        "compare --epochs -1",
        "compare --address 127.0.0.1:1",
        "compare --output {folder}",
        "compare --resume nowhere",
        "report nowhere",
        "reference cats",
        "reference digits --output {folder}",
        "reproduce cats",
        "reproduce fds-figure2 --scale huge",
        "reproduce fds-figure2 --output {folder}",
    ],
)
def test_what_runs_nothing_imports_nothing_slow(command: str, result_folder: Path, tmp_path: Path) -> None:
    """These answer in less than a second of processor time: torch, Ray and matplotlib alone take several."""
    program = (
        "import sys\n"
        "from raytune_hyperlearn import cli\n"
        "try:\n"
        "    cli.main()\n"
        "finally:\n"
        "    print(*{'torch', 'ray', 'matplotlib', 'scipy', 'pandas', 'sklearn'} & set(sys.modules))\n"
    )
    arguments = command.format(folder=result_folder).split()
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (0 if arguments[-1] in ("--help", "--list", "list") else 2), done.stderr
    assert done.stdout.splitlines()[-1] == ""


def test_list_shows_every_problem_and_method(hyperlearn: Hyperlearn) -> None:
    outcome = hyperlearn("list")
    assert outcome.status == 0
    for name in (*PROBLEMS, *METHODS):
        assert re.search(rf"^{re.escape(name)}\s+\S", outcome.output, re.MULTILINE), name


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], ["name is missing", "ba-figure1"]),
        (["ba-figure3"], ["name is 'ba-figure3'", "ba-figure1"]),
        (["ba-figure6", "--scale", "huge"], ["scale is 'huge'", "smoke, small, paper"]),
        (["ba-figure6", "--output", "full"], ["output is full", "neither empty nor a reproduction's folder"]),
    ],
)
def test_reproduce_refuses_bad_arguments(
    hyperlearn: Hyperlearn, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "cat.jpg").touch()
    refused(hyperlearn("reproduce", *arguments), *said)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "cat.jpg"]


def test_reproduce_prints_verdicts_as_they_are(hyperlearn: Hyperlearn, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict("BA ends lowest [by the median].", "0.1 [least, largest] over seeds.", False)
    found = Findings({}, (verdict,), (), ())
    monkeypatch.setattr(writing, "reproduce", lambda *arguments: found)
    outcome = hyperlearn("reproduce", "ba-figure6")
    assert outcome.status == 0
    assert f"does not hold: {verdict.claim}\n  {verdict.found}\n" in outcome.output


COMMANDS = {
    "compare": "problem problem-args methods seeds time-limit epochs workers cpus-per-trial gpus-per-trial concurrent "
    "address storage confirm focus optimizer gradient-norm precision output config resume extend dry-run trust "
    "overwrite verbose print-config help",
    "check": "problem problem-args methods seeds time-limit epochs gpu help",
    "report": "output focus explain live help",
    "list": "help",
    "reference": "problem-args epochs seeds workers cpus-per-trial gpus-per-trial output help",
    "reproduce": "scale output list help",
    "tune": "problem problem-args method time-limit outer-steps epochs seed workers cpus-per-trial gpus-per-trial "
    "gradient-norm precision output resume trust verbose help",
}


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_every_command(hyperlearn: Hyperlearn, arguments: list[str]) -> None:
    outcome = hyperlearn(*arguments)
    assert outcome.status == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b +\S", outcome.output), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_says_what_each_option_is(hyperlearn: Hyperlearn, command: str) -> None:
    outcome = hyperlearn(command, "--help")
    assert outcome.status == 0
    lines = [line.strip(" │") for line in outcome.output.splitlines()]
    options = [line for line in lines if re.match(r"--[a-z]", line)]
    names = [line.split()[0].removeprefix("--").rstrip(",") for line in options]
    assert sorted(names) == sorted(COMMANDS[command].split())
    for line in options:
        words = re.sub(r"^(--[a-z-]+,?|-[a-z]\b|[A-Z]+\b|<[^>]*>|\s)+", "", line)
        assert len(words.split()) >= 2, line  # more than a name and a type


@pytest.mark.usefixtures("no_ray")
def test_a_dry_run_says_what_would_run_and_writes_nothing(
    hyperlearn: Hyperlearn, tmp_path: Path, result_folder: Path
) -> None:
    outcome = hyperlearn("compare", "--methods", "fds,rs", "--seeds", "2", "--time-limit", "30", "--dry-run")
    assert outcome.status == 0
    assert "4 runs (2 methods × 2 seeds) of at most 30 s" in outcome.output
    assert "rs: seeds 0, 1\n" in outcome.output
    assert "4 to run, up to 2 min" in outcome.output
    assert os.listdir(tmp_path) == []
    outcome = hyperlearn("compare", "--extend", result_folder, "--seeds", "4", "--methods", "+tpe", "--dry-run")
    assert "fds: seeds 0 (finished), 1 (finished), 2 (finished), 3\n" in outcome.output
    assert "tpe: seeds 0, 1, 2, 3\n" in outcome.output
    assert "10 to run, up to 10 min" in outcome.output
    refused(hyperlearn("compare", "--extend", result_folder, "--workers", "4"), "workers is given beside extend")
    refused(hyperlearn("compare", "--extend", "nowhere", "--seeds", "4"), "extend is nowhere", "experiment.yaml")
    assert not (result_folder / "earlier").exists()


def test_the_version_is_said(hyperlearn: Hyperlearn) -> None:
    outcome = hyperlearn("--version")
    assert (outcome.status, outcome.output) == (0, f"hyperlearn {raytune_hyperlearn.__version__}\n")


def test_a_shell_completes_commands_and_options() -> None:
    def completed(*words: str) -> list[str]:
        asked = {
            "_HYPERLEARN_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        program = "from raytune_hyperlearn import cli; cli.main()"
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True
        )
        return done.stdout.split()

    assert completed("hyperlearn", "comp") == ["compare"]
    assert "--time-limit" in completed("hyperlearn", "compare", "--ti")


def test_help_shows_the_defaults(hyperlearn: Hyperlearn) -> None:
    output = " ".join(hyperlearn("compare", "--help").output.split())
    for default in ("digits", "fds,hd,rs,bo,hb,bohb", "1", "0", "results/PROBLEM"):
        assert f"(default: {default})" in output


def test_a_failed_write_that_tune_wraps_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def wrapped() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "records.jsonl")
        except OSError as error:
            raise RuntimeError("Traceback of Tune's") from error

    with pytest.raises(typer.Exit) as ended, terminal.ways_to_continue("hyperlearn compare --resume here"):
        wrapped()
    assert ended.value.exit_code == 1
    said = "No space left on device: 'records.jsonl'; every record before is kept, continue with"
    assert said in " ".join(capsys.readouterr().err.split())
    with pytest.raises(RuntimeError, match="another"), terminal.ways_to_continue("hyperlearn compare"):
        raise RuntimeError("another")
