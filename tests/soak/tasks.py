"""What the soak runs: comparisons of one method, and a group of FDS trials, which end by themselves or at a limit."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE, RECORDS_FILE

GROUP = "FDS 2 × 2"
"""An ensemble of two in two shards each, by the scheduler alone."""
LIMITED = 10.0
ENDLESS = 600.0
"""Seconds of a time limit that is reached, and of one that is not."""


@dataclass(frozen=True)
class Task:
    """A run that is made again and again.

    Attributes:
        name: Shown in the table.
        method: Of ``compare``; empty for the group.
        changes: To the comparison's settings.
    """

    name: str
    method: str = ""
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """The run's time limit in seconds."""
        return float(self.changes.get("time_limit", ENDLESS))

    @property
    def repeats(self) -> bool:
        """Whether the same settings give the same rows: the run ends by itself, not at a limit."""
        return self.limit == ENDLESS

    def command(self, folder: Path, address: str) -> list[str]:
        """The command that begins the run, or goes on with it where the folder holds one."""
        if not self.method:
            return [sys.executable, "-m", "tests.soak.group_driver", address, str(folder)]
        compare = [sys.executable, "-m", "raytune_hyperlearn.cli", "compare"]
        if (folder / EXPERIMENT_FILE).exists():
            return [*compare, "--resume", str(folder)]
        settings = folder.with_suffix(".yaml")
        settings.write_text(yaml.safe_dump(self._settings(address)), encoding="utf-8")
        return [*compare, "--config", str(settings), "--output", str(folder)]

    def _settings(self, address: str) -> dict[str, Any]:
        return {
            "methods": [self.method],
            "seeds": [3],
            "epochs": 1.0,
            "min_epochs": 1 / 9,
            "replicates": 1,
            "reference": None,
            "confirmations": 0,
            "workers": 2,
            "time_limit": ENDLESS,
            "address": address,
            **self.changes,
        }

    def progress(self, folder: Path) -> int:
        """Results so far."""
        if self.method:
            records = folder / RECORDS_FILE
            return records.read_bytes().count(b"\n") if records.exists() else 0
        return len(list(folder.glob("run/*/checkpoint_*")))


TASKS = (
    Task("FDS", "fds", {"method_options": {"fds": {"outer_steps": 8}}}),
    Task("BOHB", "bohb", {"time_limit": LIMITED}),
    Task(GROUP),
    Task("BA", "ba-momentum", {"epochs": 8.0}),
    Task("Arbiter", "arbiter", {"epochs": 8.0}),
    Task("HD", "hd", {"time_limit": LIMITED}),
)


def group_results(folder: Path) -> list[dict[str, Any]]:
    """What the group's driver wrote at its end: one entry per member."""
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results
