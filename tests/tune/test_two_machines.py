"""A cluster whose nodes do not see the driver's files: code travels with the run, checkpoints through an S3 server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune.two_machines import BUCKET, ISOLATED, STEPS

ROOT = Path(__file__).parents[2]
MOUNTED = [*ISOLATED, "mount", "-t", "tmpfs", "none", "/mnt"]


def may_hide_files() -> bool:
    """Whether this user may give a process a file system of its own."""
    try:
        return subprocess.run(MOUNTED, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.skipif(not may_hide_files(), reason="this user must not mount a file system for a process alone")
def test_no_file_system_is_shared_and_checkpoints_go_to_s3(tmp_path: Path) -> None:
    driver = [sys.executable, "-m", "tests.tune.two_machines", str(tmp_path)]
    ended = subprocess.run(driver, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["errors"] == []
    assert found["steps"] == [STEPS - 1] * 2
    assert found["members"] == [0, 1]
    assert len(found["checkpoints"]) == 2
    assert all(path.startswith(f"{BUCKET}/run/") for path in found["checkpoints"])
    assert found["can_restore"]
    assert found["restored"] == found["steps"]
    assert found["compared"]["fds"] == {"completed": 2}
    assert found["compared"]["rs"].keys() == {"completed"}
    assert found["left"] == []
