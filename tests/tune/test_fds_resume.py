"""A driver that is killed and gone on with: the schedule is the same as without, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raytune_hyperlearn.tune import FDSTrainable
from raytune_hyperlearn.tune.checkpoint_files import STATE_FILE
from tests.tune.groups import CONFIG, expected
from tests.tune.mortal_driver import STEPS, fit

ROOT = Path(__file__).parents[2]
COMPARED = ("outer_state", "outer_step", "hypergradient", "validation_loss", "best")


@pytest.mark.long
# Not even torn checkpoints do: the one before is used.
@pytest.mark.parametrize(("ensemble", "killed_at"), [(1, [0, 2]), (2, [2])])
def test_a_killed_driver_changes_nothing(tmp_path: Path, ray_session: str, ensemble: int, killed_at: list[int]) -> None:
    command = [sys.executable, "-m", "tests.tune.mortal_driver", ray_session, str(tmp_path), str(ensemble)]
    environment = {**os.environ, "TUNE_GLOBAL_CHECKPOINT_S": "0"}
    for _ in killed_at:
        died = subprocess.run([*command, *map(str, killed_at)], cwd=ROOT, env=environment, capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert sorted(path.name for path in tmp_path.glob("killed-*")) == [f"killed-{step}" for step in killed_at]

    for newer in tmp_path.glob("run/*/checkpoint_00000[1-9]"):
        os.truncate(newer / STATE_FILE, 100)
    results = fit(tmp_path, ensemble, killed_at)
    assert results.num_errors == 0
    if ensemble == 1:
        alone = FDSTrainable({**CONFIG, "outer_steps": STEPS})
        last = [[alone.step() for _ in range(STEPS)][-1]]
    else:
        last = expected(ensemble, 1, STEPS)[-1]
    found = sorted((result.metrics or {} for result in results), key=lambda m: m.get("member", {}).get("replica", 0))
    for result, metrics in zip(last, found, strict=True):
        assert metrics["outer_step"] == STEPS - 1
        assert metrics["iterations_since_restore"] < STEPS  # it went on, not from the beginning
        for key in COMPARED:
            assert metrics[key] == result[key], key
