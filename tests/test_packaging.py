"""What is released and installed: all sources, the baselines inside the package, and nothing at the top level.

Everything is built from a copy of the sources, without a network and without touching this environment.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import raytune_hyperlearn

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
MAKE_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]
FOLDERS = ("raytune_hyperlearn", "baselines", "benchmarks", "docs", "examples", "tests")
LOOK = """
import importlib.util
import raytune_hyperlearn
from raytune_hyperlearn import baselines
from raytune_hyperlearn.baselines import grid
from raytune_hyperlearn.comparison.running.defaults import stored_reference

print(raytune_hyperlearn.__file__)
print(baselines.__file__)
print(len(grid.settings()))
print(importlib.util.find_spec("baselines"))
print(stored_reference("no such problem"))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The project's sources, without anything that was built or installed."""
    copy = tmp_path / "sources"
    copy.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and path.name not in (".git", ".gitignore"):
            shutil.copy(path, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def package_files(sources: Path) -> set[str]:
    """Every file of the package, under its installed name."""
    folders = {"raytune_hyperlearn": "raytune_hyperlearn", "baselines": "raytune_hyperlearn/baselines"}
    return {
        f"{installed}/{path.relative_to(sources / folder).as_posix()}"
        for folder, installed in folders.items()
        for path in (sources / folder).rglob("*")
        if path.is_file()
    }


def looked_at(output: str, package: Path, baselines: Path) -> None:
    """The program found the package and its baselines where they should be."""
    where, inner, settings, top_level, reference = output.splitlines()
    assert Path(where) == package / "__init__.py"
    assert Path(inner) == baselines / "__init__.py"
    assert int(settings) > 0
    assert top_level == "None"
    assert reference == "None"


def test_the_release_holds_everything_and_passes_the_index_checks(sources: Path, tmp_path: Path) -> None:
    """The source archive has all that a clone has; a wheel made of it has the whole package and nothing else."""
    expected = package_files(sources)
    assert "raytune_hyperlearn/py.typed" in expected
    assert "raytune_hyperlearn/baselines/grid.py" in expected
    everything = {path.relative_to(sources).as_posix() for path in sources.rglob("*") if path.is_file()}
    release = tmp_path / "release"
    release.mkdir()
    run(sys.executable, "-c", MAKE_SDIST, release, cwd=sources)
    (sdist,) = release.glob("*.tar.gz")
    assert sdist.name == f"raytune_hyperlearn-{raytune_hyperlearn.__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert everything <= packed
    assert not [name for name in packed if "__pycache__" in name or name.startswith((".", "build/", "results/"))]

    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", release, sdist, cwd=tmp_path)
    (wheel,) = release.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "hyperlearn = raytune_hyperlearn.cli:main" in archive.read(entry_points).decode()
    assert names == expected
    if importlib.util.find_spec("twine") is not None:  # in the extra "test"
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=tmp_path)

    target = tmp_path / "site"
    run(*PIP, "install", *OFFLINE, "--target", target, wheel, cwd=tmp_path)
    shutil.rmtree(sources)
    output = run(sys.executable, "-c", LOOK, cwd=tmp_path, PYTHONPATH=str(target))
    looked_at(output, target / "raytune_hyperlearn", target / "raytune_hyperlearn" / "baselines")


def test_plain_installation(sources: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    run(*PIP, "install", *OFFLINE, "--target", target, ".", cwd=sources)
    output = run(sys.executable, "-c", LOOK, cwd=tmp_path, PYTHONPATH=str(target))
    looked_at(output, target / "raytune_hyperlearn", target / "raytune_hyperlearn" / "baselines")


def test_editable_installation(sources: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "venv"
    venv.create(fresh, with_pip=False, symlinks=True)
    python = fresh / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # What this environment has installed, but not its own editable installation of the project.
    (site / "neighbors.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(*PIP, "--python", python, "install", *OFFLINE, "--editable", ".", cwd=sources)
    looked_at(run(python, "-c", LOOK, cwd=tmp_path), sources / "raytune_hyperlearn", sources / "baselines")
    assert (fresh / "bin" / "hyperlearn").is_file()
