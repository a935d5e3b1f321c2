"""What the packages offer: every name is there, the top level costs nothing to import, and users' types check."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "raytune_hyperlearn",
    *(
        f"raytune_hyperlearn.{name}"
        for name in (
            "algorithms",
            "baselines",
            "comparison",
            "comparison.analysis",
            "comparison.reporting",
            "comparison.running",
            "derivatives",
            "problems",
            "reproductions",
            "testing",
            "tune",
        )
    ),
)
USER_SCRIPT = """
from torch import Tensor, nn
from torch.nn import functional as F

import raytune_hyperlearn as rh
from raytune_hyperlearn import Examples, FDSTrainable, LearningRate, Problem, SearchSpace, baselines


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets, reduction="none").mean(dim=1)


def problem(inputs: Tensor, targets: Tensor) -> Problem:
    examples = Examples(inputs, targets)
    return Problem("mine", lambda: nn.Linear(3, 2), examples, examples, loss=loss)


def study() -> float:
    space = SearchSpace(learning_rate=LearningRate(values=3))
    found = rh.compare("digits", ["fds", "rs"], seeds=2, space=space, time_limit=9.0, progress=True)
    return found.experiment.time_limit


kind: type[FDSTrainable] = rh.FDSTrainable
searcher = baselines.RandomSearch(SearchSpace().configuration_space(), max_budget=1, seed=0)
"""

MISSPELT = """
import raytune_hyperlearn as rh

rh.Problme
rh.compare("digits", seeds="2")
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) > 2
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Problme'"):
        _ = module.Problme


def test_the_top_level_imports_neither_torch_nor_ray() -> None:
    """Under 0.1 s: nothing is imported but the package itself and what the interpreter has at hand."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import raytune_hyperlearn\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"raytune_hyperlearn"}


MYPY = """
[mypy]
strict = True
disallow_subclassing_any = False
[mypy-torch.*,ray.*,ConfigSpace.*,hpbandster.*,sklearn.*,scipy.*,matplotlib.*,pandas.*,torchvision.*]
follow_imports = skip
ignore_missing_imports = True
"""
"""As a user would check; what others wrote is left out, for it takes a minute."""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """mypy's complaints about users' scripts beside the package as an installation lays it out."""
    folder = tmp_path_factory.mktemp("user")
    package = folder / "raytune_hyperlearn"
    package.mkdir()
    for part in (ROOT / "raytune_hyperlearn").iterdir():
        (package / part.name).symlink_to(part)
    (package / "baselines").symlink_to(ROOT / "baselines")
    (folder / "mypy.ini").write_text(MYPY)
    scripts = {"good": USER_SCRIPT, "misspelt": MISSPELT}
    for name, script in scripts.items():
        (folder / f"{name}.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", *(f"{name}.py" for name in scripts)],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    return {name: [line for line in lines if line.startswith(f"{name}.py")] for name in scripts}


@pytest.mark.long
def test_a_users_script_type_checks_strictly(complaints: dict[str, list[str]]) -> None:
    assert complaints["good"] == []


@pytest.mark.long
def test_a_misspelt_name_or_a_wrong_type_does_not(complaints: dict[str, list[str]]) -> None:
    name, kind = complaints["misspelt"]
    assert 'Module has no attribute "Problme"' in name
    assert 'Argument "seeds" to "compare" has incompatible type "str"' in kind
