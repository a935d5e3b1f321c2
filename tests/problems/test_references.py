"""An own problem is found by ``file.py:name`` or ``package.module:name``, in this process and in any other."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn import Examples, Problem, compare
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.method import problem_source
from raytune_hyperlearn.comparison.running.run import check_experiment
from raytune_hyperlearn.problems import ProblemSource, load, source_of
from raytune_hyperlearn.problems.references import reference_to, short_name

MINE = """
import torch
from torch import nn

from raytune_hyperlearn import Examples, Problem
from beside import CLASSES


def problem(count: int = 40, name: str = "mine") -> Problem:
    inputs = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    examples = Examples(inputs, (inputs[:, 0] > 0).long())
    return Problem(name, lambda: nn.Linear(2, CLASSES), examples, examples, batch_size=5)


READY = problem(20, "ready")


def broken() -> Problem:
    raise OSError("no data")


def number() -> int:
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one file of a problem and a module beside it."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("CLASSES = 2\n")
    (tmp_path / "wrong.py").write_text("import nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("mine", "beside", "wrong", "alone"):
        sys.modules.pop(name, None)


def test_a_file_and_a_module_name_a_problem(folder: Path) -> None:
    assert load("mine.py:problem").name == "mine"
    assert load(f"{folder}/mine.py:READY").name == "ready"
    assert len(load("mine:problem").train) == 40
    source = source_of("mine.py:problem", {"count": 12, "name": "small"})
    assert isinstance(source, ProblemSource)
    assert (load(source).name, len(load(source).train)) == ("small", 12)
    assert pickle.loads(pickle.dumps(source)) == source
    assert source != source_of("mine.py:problem")


def test_another_process_elsewhere_builds_it_from_the_code_alone(folder: Path, tmp_path: Path) -> None:
    """As a worker on another machine does, which does not have the file."""
    (folder / "alone.py").write_text(MINE.replace("from beside import CLASSES", "CLASSES = 2"))
    packed = pickle.dumps(source_of("alone.py:problem", {"count": 8}))
    (folder / "alone.py").unlink()
    program = f"import pickle; print(len(pickle.loads({packed!r})().train))"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=elsewhere, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "8"


@pytest.mark.parametrize(
    ("reference", "arguments", "message"),
    [
        ("missing.py:problem", {}, r"problem is 'missing.py:problem'; there is no file missing.py"),
        ("mine.py", {}, r"problem is 'mine.py'; it must be one of digits, .*, or path/to/file.py:name or package"),
        ("mine.py:", {}, r"problem is 'mine.py:'; it must be one of digits"),
        ("no_such_module:x", {}, r"problem is 'no_such_module:x'; there is no module no_such_module"),
        ("no.such:x", {}, r"problem is 'no.such:x'; module no.such cannot be found: ModuleNotFoundError"),
        (
            "mine.py:other",
            {},
            r"problem is 'mine.py:other'; there is no 'other' in it, only problem, READY, broken, number",
        ),
        ("mine.py:broken", {}, r"problem is 'mine.py:broken'; it raises OSError: no data"),
        ("mine.py:number", {}, r"problem is 'mine.py:number'; it must return a Problem, not int"),
        ("mine.py:CLASSES", {}, r"problem is 'mine.py:CLASSES'; it must be a Problem or return one, not int"),
        ("mine.py:problem", {"size": 3}, r"problem is 'mine.py:problem'; it raises TypeError: .*'size'"),
        ("mine.py:READY", {"count": 3}, r"problem_args is {'count': 3}; mine.py:READY is a Problem and takes none"),
        ("digits", {"count": 3}, r"problem_args is {'count': 3}; digits takes none"),
        ("wrong.py:problem", {}, r"problem is 'wrong.py:problem'; wrong.py cannot be run: ModuleNotFoundError"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_no_problem_is_refused_in_one_line(reference: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        load(source_of(reference, arguments))
    assert "\n" not in str(refused.value)


def test_an_experiment_holds_the_reference_and_refuses_a_changed_file(folder: Path) -> None:
    experiment = experiment_from_settings({"problem": "mine.py:problem", "problem_args": {"count": 30}})
    assert (experiment.name, experiment.problem) == ("mine", "mine.py:problem")
    assert len(load(problem_source(experiment)).train) == 30
    (folder / "mine.py").write_text(MINE + "\n")
    with pytest.raises(ValueError, match="its file has changed since the comparison began"):
        problem_source(experiment)


def test_the_checks_of_a_comparison_build_a_problem_once(folder: Path) -> None:
    (folder / "mine.py").write_text(
        MINE.replace("    inputs =", '    open(f"built-{count}", "a").write(".")\n    inputs =')
    )
    settings = {"problem": "mine.py:problem", "methods": ["fds", "rs", "ba-sgd"], "problem_args": {"count": 60}}
    experiment = experiment_from_settings({**settings, "epochs": 1.0})
    check_experiment(experiment)
    assert (folder / "built-60").read_text() == "."
    load(problem_source(experiment))
    assert (folder / "built-60").read_text() == "..", "nothing is kept when the checks are over"


def own(count: int = 30) -> Problem:
    """A problem at the top level of this file."""
    inputs = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    examples = Examples(inputs, (inputs[:, 0] > 0).long())
    return Problem("own", lambda: nn.Linear(2, 2), examples, examples, batch_size=5)


def test_names_of_functions_and_folders() -> None:
    assert reference_to(own) == f"{__name__}:own"
    assert load(reference_to(own)).name == "own"
    with pytest.raises(ValueError, match="it must be a function at the top level of a file"):
        reference_to(lambda: own())
    names = [short_name(name) for name in ("digits", "a/mine.py:problem", "mine.py:small", "package.deep:problem")]
    assert names == ["digits", "mine", "mine-small", "deep"]


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_comparison_trains_an_own_problem_from_its_file(folder: Path) -> None:
    study = compare(
        "mine.py:problem",
        ["rs"],
        seeds=1,
        problem_args={"count": 60},
        time_limit=1.5,
        epochs=1.0,
        min_epochs=0.5,
    )
    assert study.experiment.problem_digest
    (run,) = study.runs.values()
    assert run.chosen
    assert (folder / "results" / "mine" / "records.jsonl").exists()
