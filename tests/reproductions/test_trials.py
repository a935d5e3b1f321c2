"""Trials side by side: what is observed is kept, and a run that was stopped goes on where it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from rich.console import Console

from raytune_hyperlearn.comparison.running.cluster import local_ray
from raytune_hyperlearn.reproductions import trials
from raytune_hyperlearn.reproductions.trials import read_rows, run_trials

QUIET = Console(quiet=True)


class Counter(tune.Trainable):
    """Counts from ``start`` to 4 and says how many steps this actor has made for the trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count, self.steps = config["start"], 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        self.count, self.steps = self.count + 1, self.steps + 1
        done = self.count == 4
        return {"count": self.count, "steps": self.steps, "extra": self.config.get("extra"), "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "count").write_text(str(self.count))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.count = int((Path(checkpoint_dir) / "count").read_text())


CONFIGS = {"long": {"start": 0}, "short": {"start": 2, "extra": "given"}}


class StoppedError(Exception):
    """Ends the driver in the middle."""


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_stopped_run_goes_on_and_a_finished_one_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = trials.Recorder.on_trial_result

    def write_thrice_then_stop(self: Any, *arguments: Any, **options: Any) -> None:
        write(self, *arguments, **options)
        if len(self.file.read_text().splitlines()) == 3:
            raise StoppedError

    kept = ("count", "steps", "extra")
    run = (Counter, {"constant": 1}, CONFIGS, kept, 4, tmp_path, QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(trials.Recorder, "on_trial_result", write_thrice_then_stop)
        with pytest.raises((StoppedError, tune.TuneError)):  # Tune may wrap it
            run_trials(*run, checkpoint_every=1)
    before = read_rows(tmp_path / "trials.jsonl")
    assert sum(map(len, before.values())) == 3
    rows = run_trials(*run, checkpoint_every=1)
    assert {name: [row["count"] for row in own] for name, own in rows.items()} == {
        "long": [1, 2, 3, 4],
        "short": [3, 4],
    }
    assert [row["extra"] for row in rows["long"] + rows["short"]] == [None] * 4 + ["given"] * 2
    assert [row["done"] for row in rows["long"]] == [False, False, False, True]
    written = (tmp_path / "trials.jsonl").read_text()
    assert len(written.splitlines()) == 6, "what was made again stands there once"
    assert run_trials(*run, checkpoint_every=1) == rows
    assert (tmp_path / "trials.jsonl").read_text() == written
    with local_ray():
        assert ray.is_initialized()
    assert ray.is_initialized(), "a Ray that was running already is left running"


def test_a_step_made_again_after_a_restart_stands_there_once(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    assert read_rows(file) == {}
    names = ["one", "other"]
    recorder = trials.Recorder(file, names, ["loss"])

    def report(index: int, step: int, loss: float) -> None:
        trial = SimpleNamespace(config={"_index": index})
        recorder.on_trial_result(0, [], trial, {"training_iteration": step, "loss": loss})

    for index, step, loss in ((0, 1, 0.9), (1, 1, 2.0), (0, 2, 0.8), (0, 3, 0.7), (0, 2, 0.6)):
        report(index, step, loss)
    file.write_text(file.read_text() + '{"name": "one", "step": 3, "lo')  # torn with its driver
    recorder = trials.Recorder(file, names, ["loss"])
    for index, step, loss in ((0, 2, 0.5), (0, 3, 0.4), (1, 2, 1.0)):
        report(index, step, loss)
    losses = {name: [(row["step"], row["loss"]) for row in rows] for name, rows in read_rows(file).items()}
    assert losses == {"one": [(1, 0.9), (2, 0.5), (3, 0.4)], "other": [(1, 2.0), (2, 1.0)]}
    assert len(file.read_text().splitlines()) == 5
