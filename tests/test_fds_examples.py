"""FDS's examples run as they stand, and say what they have learned."""

from __future__ import annotations

import functools
import re
import runpy
from pathlib import Path

import pytest
from ray import tune

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run_example(
    ray_session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> functools.partial[str]:
    monkeypatch.setattr(tune, "run", functools.partial(tune.run, storage_path=str(tmp_path)))

    def run(name: str) -> str:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return functools.partial(run)


def losses(printed: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"validation loss (\d+\.\d+)", printed)]


def test_an_own_model_takes_thirty_lines_and_is_learned(run_example: functools.partial[str]) -> None:
    assert len((EXAMPLES / "fds_own_model.py").read_text().splitlines()) <= 30
    (loss,) = losses(run_example("fds_own_model.py"))
    assert loss < 0.2  # of two classes, where guessing gives 0.69


def test_adamw_is_learned(run_example: functools.partial[str]) -> None:
    printed = run_example("fds_adamw.py")
    (loss,) = losses(printed)
    assert loss < 0.4  # of ten classes; the start values are too small for two epochs
    assert "'beta1'" in printed


def test_an_ensemble_of_shards_agrees(run_example: functools.partial[str]) -> None:
    first, second, third, fourth = losses(run_example("fds_ensemble.py"))
    assert first == second != third == fourth  # the shards of a replica train alike, the replicas do not
