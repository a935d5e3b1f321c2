"""Every example runs, at the scale of ``--smoke``; FDS's run as they stand too, and say what they have learned."""

from __future__ import annotations

import functools
import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ray import tune

from raytune_hyperlearn.problems.wordnet import SYSTEM_WORDNET

EXAMPLES = Path(__file__).parents[2] / "examples"
WHOLE = {"fds_own_model.py", "fds_adamw.py", "fds_ensemble.py"}
"""Small as they are: run below, at their own scale."""
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def run_example(
    ray_session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> functools.partial[str]:
    monkeypatch.setattr(tune, "run", functools.partial(tune.run, storage_path=str(tmp_path)))
    monkeypatch.setenv("HOME", str(tmp_path))  # Tune writes to ~/ray_results unless it is told otherwise
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return functools.partial(run)


def image_folder(root: Path) -> Path:
    """A few PNGs of two classes."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for label in ("cat", "dog"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
def test_an_example_runs(run_example: functools.partial[str], tmp_path: Path, name: str) -> None:
    folder = [str(image_folder(tmp_path / "images"))] if name == "images_in_folders.py" else []
    if name == "transformer_glosses.py" and not (SYSTEM_WORDNET / "data.noun").is_file():
        pytest.skip("Debian's package wordnet-base is not installed")
    printed = run_example(name, "--smoke", *folder)
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", printed)]
    assert numbers
    assert all(math.isfinite(number) for number in numbers)
    assert "nan" not in printed
    if name == "transformer_glosses.py":
        (found,) = losses(printed)
        plain = [float(loss) for loss in printed.rpartition("losses ")[2].split(", ")]
        assert min(plain) - (max(plain) - min(plain)) < found < max(plain) + (max(plain) - min(plain))


def losses(printed: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"validation loss (\d+\.\d+)", printed)]


@pytest.mark.long
def test_an_own_model_takes_thirty_lines_and_is_learned(run_example: functools.partial[str]) -> None:
    assert len((EXAMPLES / "fds_own_model.py").read_text().splitlines()) <= 30
    (loss,) = losses(run_example("fds_own_model.py"))
    assert loss < 0.2  # of two classes, where guessing gives 0.69


@pytest.mark.long
def test_adamw_is_learned(run_example: functools.partial[str]) -> None:
    printed = run_example("fds_adamw.py")
    (loss,) = losses(printed)
    assert loss < 0.4  # of ten classes; the start values are too small for two epochs
    assert "'beta1'" in printed


@pytest.mark.long
def test_an_ensemble_of_shards_agrees(run_example: functools.partial[str]) -> None:
    first, second, third, fourth = losses(run_example("fds_ensemble.py"))
    assert first == second != third == fourth  # the shards of a replica train alike, the replicas do not
