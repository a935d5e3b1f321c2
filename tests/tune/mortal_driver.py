"""A driver of FDS runs that kills itself at given outer steps, once each, and goes on when it is called again.

python -m tests.tune.mortal_driver ADDRESS FOLDER ENSEMBLE STEP...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, KeepState, can_restore, restore_tuner
from tests.tune.groups import CONFIG

STEPS = 4
NAME = "run"


class KillsItsDriver(tune.Callback):
    """SIGKILL on the first result of given outer steps; a marker in the folder says what has been done."""

    def __init__(self, folder: Path, steps: list[int]) -> None:
        self.folder, self.steps = folder, steps

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        marker = self.folder / f"killed-{result['outer_step']}"
        if result["outer_step"] in self.steps and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def fit(folder: Path, ensemble: int, steps: list[int]) -> tune.ResultGrid:
    """Begin the run, or go on with it."""
    if can_restore(folder / NAME):
        return restore_tuner(folder / NAME, FDSTrainable).fit()
    scheduler = FDSScheduler(ensemble=ensemble)
    member = {"member": scheduler.members()} if ensemble > 1 else {}
    return tune.Tuner(
        FDSTrainable,
        param_space={**CONFIG, "outer_steps": STEPS, **member},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(folder),
            verbose=0,
            callbacks=[KillsItsDriver(folder, steps), KeepState()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()


if __name__ == "__main__":
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
    fit(Path(sys.argv[2]), int(sys.argv[3]), [int(step) for step in sys.argv[4:]])
