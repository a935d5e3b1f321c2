"""The house rules that a machine can hold: layers point one way, the algorithms need torch alone, no local paths."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = {".py", ".cfg", ".toml", ".md", ".jinja", ".yaml", ".yml", ".json", ".sh", ""}
LEFT_OUT = {"build", "dist", "results", "data"}


@pytest.fixture(scope="module")
def installed_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as an installation lays it out: ``baselines/`` inside of it."""
    folder = tmp_path_factory.mktemp("layout")
    package = folder / "raytune_hyperlearn"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "raytune_hyperlearn", package, copy_function=os.symlink, ignore=ignored)
    shutil.copytree(ROOT / "baselines", package / "baselines", copy_function=os.symlink, ignore=ignored)
    return folder


def test_layers_point_one_way(installed_layout: Path) -> None:
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]
    done = subprocess.run(
        [*linter, "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        cwd=installed_layout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 5 kept, 0 broken" in done.stdout


def test_the_linter_sees_a_layer_that_points_back(installed_layout: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    shutil.copytree(installed_layout, layout, symlinks=True)
    (layout / "raytune_hyperlearn" / "baselines" / "wrong.py").write_text(
        "import raytune_hyperlearn.comparison.running.run\n"
    )
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"]
    done = subprocess.run(
        [*linter, "--config", str(ROOT / "pyproject.toml"), "--no-cache"], cwd=layout, capture_output=True, text=True
    )
    assert done.returncode == 1
    unwrapped = " ".join(done.stdout.split())
    assert "raytune_hyperlearn.baselines.wrong -> raytune_hyperlearn.comparison.running.run" in unwrapped


ONLY = """
import importlib, pkgutil, sys

package, allowed = sys.argv[1], set(sys.argv[2:]) | sys.stdlib_module_names


class Only:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        return self.finder.find_spec(name, path, target) if top in allowed or top.startswith("_") else None


sys.meta_path[:] = [Only(finder) for finder in sys.meta_path if hasattr(finder, "find_spec")]
module = importlib.import_module(package)
for found in pkgutil.walk_packages(module.__path__, package + "."):
    try:
        importlib.import_module(found.name)
        print("imported", found.name)
    except ModuleNotFoundError as error:
        print("needs", found.name.rpartition(".")[2], error.name)
print(*[name for name in sys.modules if name.startswith("raytune_hyperlearn.")])
"""
"""Imports a package where nothing else can be imported, as on a machine that has nothing else."""
WITH_TORCH = (
    "torch",
    "functorch",
    "torchgen",
    "typing_extensions",
    "sympy",
    "mpmath",
    "networkx",
    "jinja2",
    "markupsafe",
)
"""torch and what it brings."""
MORE_WITH_TORCH = ("fsspec", "filelock", "triton", "nvidia", "packaging", "setuptools", "raytune_hyperlearn")


REVERSE = [f"needs {module} checkpoint_schedules" for module in ("checkpoints", "hypergradients", "reverse_mode")]
"""Reverse mode asks a library when to keep a state."""


@pytest.mark.parametrize(
    ("package", "others", "lacking"),
    [
        ("derivatives", (), []),
        ("algorithms", (), [*REVERSE, "needs surrogate_descent numpy"]),
        ("algorithms", ("numpy", "scipy"), REVERSE),
        ("algorithms", ("numpy", "scipy", "checkpoint_schedules"), []),
    ],
)
def test_algorithms_and_derivatives_need_torch_alone(
    package: str, others: tuple[str, ...], lacking: list[str], tmp_path: Path
) -> None:
    """But for reverse mode, which needs checkpoint-schedules, and the Gaussian process: NumPy and SciPy."""
    allowed = (*WITH_TORCH, *MORE_WITH_TORCH, *others)
    command = [sys.executable, "-W", "ignore", "-c", ONLY, f"raytune_hyperlearn.{package}", *allowed]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    *lines, own = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("needs")] == lacking
    assert len(lines) > 5
    assert {name.split(".")[1] for name in own.split()} <= {"algorithms", "derivatives", "lazy_exports"}


def test_no_file_names_a_path_of_one_machine() -> None:
    local = re.compile(r"(?<![\w.$}])/" + "(?:work|root|home|Users)" + r"/\w|(?<![\w.$}])/" + r"tmp/\w")
    assert local.search("open('/" + "tmp/records')")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in project_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if local.search(line)
    ]
    assert found == []


def project_files() -> list[Path]:
    """Text files of the project: neither hidden folders nor what a build or a run leaves behind."""
    files = []
    for folder, names, inside in os.walk(ROOT):
        names[:] = [
            name
            for name in names
            if not name.startswith(".") and not name.endswith((".egg-info", "__pycache__")) and name not in LEFT_OUT
        ]
        # In a linked working tree ".git" is a file.
        files += [Path(folder, name) for name in inside if Path(name).suffix in TEXT and name != ".git"]
    assert ROOT / "setup.cfg" in files
    return files
