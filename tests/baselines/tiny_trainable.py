"""A trainable of no cost whose loss is the tests' objective, and what it takes to kill a driver that uses it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raytune_hyperlearn.baselines import BOHB
from raytune_hyperlearn.tune import KeepState
from tests.baselines.spaces import loss, mixed_space


class TinyTrainable(tune.Trainable):
    """One epoch per step; ends after `config["epochs"]` of them, or at once if the config asks it to crash."""

    def setup(self, config: dict[str, Any]) -> None:
        self.epochs = 0

    def step(self) -> dict[str, Any]:
        if self.config["problem"] != "tiny":
            raise RuntimeError("the fixed part of the config did not arrive")
        if self.config["hyperparameters"]["momentum"] > self.config.get("crash_above", 1.0):
            raise RuntimeError("crashed as asked")
        time.sleep(self.config.get("seconds_per_epoch", 0.0))
        self.epochs += 1
        return {
            "validation_loss": loss(self.config["hyperparameters"], self.epochs),
            "epochs": self.epochs,
            "pid": os.getpid(),
            "done": self.epochs >= self.config["epochs"],
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "epochs.json").write_text(json.dumps(self.epochs))

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        self.epochs = json.loads(Path(str(checkpoint), "epochs.json").read_text())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.epochs = 0
        return True


def bohb_searcher() -> BOHB:
    return BOHB(mixed_space(), min_budget=1, max_budget=9, seed=11, iterations=6)


if __name__ == "__main__":
    address, storage = sys.argv[1:]
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    tune.Tuner(
        TinyTrainable,
        param_space={"problem": "tiny", "seconds_per_epoch": 0.05},
        tune_config=tune.TuneConfig(
            search_alg=bohb_searcher(), num_samples=-1, reuse_actors=True, max_concurrent_trials=1
        ),
        run_config=tune.RunConfig(name="killed", storage_path=storage, verbose=0, callbacks=[KeepState()]),
    ).fit()
