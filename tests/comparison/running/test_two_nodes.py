"""A comparison on a cluster of two nodes whose workers start in another folder than the problem's file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from raytune_hyperlearn.comparison.records import read_records, read_runs

ROOT = Path(__file__).parents[3]
OWN = """
import os
from pathlib import Path

import ray
import torch
from torch import nn
from raytune_hyperlearn import Problem
from raytune_hyperlearn.problems import Examples


def problem(notes):
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "driver"
    (Path(notes) / f"{node} {os.getpid()}").write_text(os.getcwd())
    inputs = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    examples = Examples(inputs, (inputs[:, 0] > 0).long())
    return Problem("mine", lambda: nn.Linear(3, 2), examples, examples, batch_size=8, epochs=1)
"""
DRIVER = """
import os, sys

from raytune_hyperlearn.comparison.running.cluster import prepare_environment

elsewhere, project, notes = sys.argv[1:]
prepare_environment("cluster")
from ray.cluster_utils import Cluster

os.chdir(elsewhere)
quiet = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 10**8}
cluster = Cluster(initialize_head=True, head_node_args=quiet)
cluster.add_node(num_cpus=1, object_store_memory=10**8)
os.chdir(project)
from raytune_hyperlearn import compare

compare(
    "mine.py:problem", ["fds"], seeds=2, address=cluster.address, concurrent=2, problem_args={"notes": notes},
    time_limit=300, epochs=1, min_epochs=1, method_options={"fds": {"outer_steps": 2}}, output="out",
)
cluster.shutdown()
"""


@pytest.mark.long
def test_an_own_file_runs_on_both_nodes_from_another_folder(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("elsewhere", "project", "notes")]
    for folder in folders:
        folder.mkdir()
    elsewhere, project, notes = folders
    (project / "mine.py").write_text(OWN)
    outcome = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DRIVER), *map(str, folders)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    assert {(run.seed, run.evaluations) for run in read_runs(project / "out" / "runs.jsonl")} == {(0, 2), (1, 2)}
    assert {row.status for row in read_records(project / "out" / "records.jsonl")} == {"completed"}
    told = {tuple(note.name.split()): note.read_text() for note in notes.iterdir()}
    nodes = {node for node, _ in told} - {"driver"}
    assert len(nodes) == 2
    assert str(elsewhere) in told.values(), "no worker was in another folder"
