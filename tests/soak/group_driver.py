"""A driver of an ensemble of FDS trials in shards, which goes on when it is called again.

python -m tests.soak.group_driver ADDRESS FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ray
from ray import tune

from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, KeepState, can_restore, restore_tuner
from tests.tune.groups import CONFIG

NAME, STEPS = "run", 10
COMPARED = ("outer_state", "outer_step", "hypergradient", "validation_loss", "best", "member")


def fit(folder: Path) -> tune.ResultGrid:
    """Begin the run, or go on with it."""
    if can_restore(folder / NAME):
        return restore_tuner(folder / NAME, FDSTrainable).fit()
    scheduler = FDSScheduler(ensemble=2, shards=2)
    return tune.Tuner(
        FDSTrainable,
        param_space={**CONFIG, "outer_steps": STEPS, "member": scheduler.members()},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(folder),
            verbose=0,
            callbacks=[KeepState()],
            failure_config=tune.FailureConfig(max_failures=8),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()


if __name__ == "__main__":
    address, folder = sys.argv[1], Path(sys.argv[2])
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    results = fit(folder)
    metrics = [{key: (result.metrics or {}).get(key) for key in COMPARED} for result in results]
    (folder / "results.json").write_text(json.dumps(sorted(metrics, key=lambda entry: str(entry["member"]))))
    sys.exit(1 if results.num_errors else 0)
