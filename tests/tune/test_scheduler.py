"""The base of the schedulers: an update reaches the next step, and one that fails in the worker is not lost."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from raytune_hyperlearn.tune import HyperLearningScheduler


class Counting(tune.Trainable):
    """Reports the number that it was last given, and fails as its config asks."""

    def setup(self, config: dict[str, Any]) -> None:
        self.steps = 0
        self.number = config.get("number", 0)

    def step(self) -> dict[str, Any]:
        self.steps += 1
        if self.steps == self.config.get("dies_at") and not Path(self.config["marker"]).exists():
            Path(self.config["marker"]).touch()
            raise RuntimeError("died as asked")
        return {"number": self.number, "steps": self.steps}

    def apply_update(self, update: dict[str, Any]) -> None:
        if update["number"] == self.config.get("refuses"):
            raise RuntimeError("refused as asked")
        self.number = update["number"]
        self.config = {**self.config, **update}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "steps.json").write_text(json.dumps(self.steps))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps = json.loads(Path(str(checkpoint), "steps.json").read_text())


class Doubling(HyperLearningScheduler):
    """Doubles what a trial reports, plus one, until it is beyond ten."""

    def update(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        number = 2 * result["number"] + 1
        return None if number > 10 else {"number": number}


def run(tmp_path: Path, max_failures: int = 0, **config: Any) -> tune.ResultGrid:
    return tune.Tuner(
        Counting,
        param_space=config,
        tune_config=tune.TuneConfig(scheduler=Doubling()),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            stop={"training_iteration": 6},
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers that the scheduler was told, in order."""
    told: list[int] = []
    plain = Doubling.update

    def noting(self: Doubling, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        told.append(result["number"])
        return plain(self, trial, result)

    monkeypatch.setattr(Doubling, "update", noting)
    return told


@pytest.mark.usefixtures("ray_session")
def test_every_step_sees_the_last_update_also_in_a_worker_that_was_started_again(
    tmp_path: Path, seen: list[int]
) -> None:
    results = run(tmp_path, max_failures=2, dies_at=3, marker=str(tmp_path / "died"))
    assert results.num_errors == 0
    assert (tmp_path / "died").exists()
    assert seen == [0, 1, 3, 7]  # 15 is beyond: the scheduler stops the trial
    assert results[0].metrics is not None
    assert results[0].metrics["config"]["number"] == 7  # what the step was made with, also in the trial's config


@pytest.mark.usefixtures("ray_session")
def test_an_update_that_fails_in_the_worker_is_raised(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="refused as asked"):
        run(tmp_path, refuses=3)


class Actor:
    """Stands for a trial's worker: what it was sent, and nothing to wait for."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.apply_update = SimpleNamespace(remote=self._take)

    def _take(self, update: dict[str, Any]) -> object:
        self.sent.append(update)
        return threading.Lock()  # like an object reference of a lost worker, it cannot be pickled


class TrialStandIn:
    """The part of a trial that a scheduler touches."""

    def __init__(self, actor: Actor | None) -> None:
        self.trial_id = "t1"
        self.config: dict[str, Any] = {"fixed": 1}
        self.temporary_state = SimpleNamespace(ray_actor=actor)

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config


def test_a_scheduler_is_pickled_without_what_is_under_way() -> None:
    scheduler, actor = Doubling(), Actor()
    trial = TrialStandIn(actor)
    assert scheduler.on_trial_result(None, trial, {"number": 1}) == TrialScheduler.CONTINUE
    assert actor.sent == [{"number": 3}]
    assert trial.config == {"fixed": 1, "number": 3}
    copy = pickle.loads(pickle.dumps(scheduler))
    # The copy waits for nothing: its first result is handled without asking Ray for the answer.
    assert copy.on_trial_result(None, trial, {"number": 3}) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("event", ["on_trial_complete", "on_trial_error", "on_trial_remove"])
def test_an_update_to_a_trial_that_is_gone_is_forgotten(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(ray, "get", asked.append)
    scheduler, trial = Doubling(), TrialStandIn(Actor())
    scheduler.on_trial_result(None, trial, {"number": 1})
    getattr(scheduler, event)(None, trial, *([{}] if event == "on_trial_complete" else []))
    scheduler.on_trial_result(None, trial, {"number": 1})
    assert asked == []
    scheduler.on_trial_result(None, trial, {"number": 1})
    assert len(asked) == 1


def test_a_trial_without_a_worker_gets_the_update_through_its_config() -> None:
    trial = TrialStandIn(None)
    assert Doubling().on_trial_result(None, trial, {"number": 1}) == TrialScheduler.CONTINUE
    assert trial.config["number"] == 3


def test_a_trial_out_of_memory_is_not_updated() -> None:
    trial = TrialStandIn(Actor())
    result = {"number": 1, "status": "out_of_memory"}
    assert Doubling().on_trial_result(None, trial, result) == TrialScheduler.CONTINUE
    assert trial.temporary_state.ray_actor.sent == []
    assert trial.config == {"fixed": 1}


def test_the_base_asks_for_an_update() -> None:
    with pytest.raises(NotImplementedError, match="HyperLearningScheduler must implement update"):
        HyperLearningScheduler().on_trial_result(None, TrialStandIn(None), {})
