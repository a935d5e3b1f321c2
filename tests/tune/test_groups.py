"""The barrier of a group: what the scheduler does with early, late and repeated results, ends and restores."""

from __future__ import annotations

import pickle
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils import flatten_dict

from raytune_hyperlearn.tune import FDSScheduler, groups
from tests.tune.groups import CONFIG, expected

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
ROUNDS = expected(2, 1, 3)


class Mailbox:
    """Stands for the actor: what was posted, and whether it was closed."""

    def __init__(self) -> None:
        self.posted: list[tuple[int, dict[str, Any]]] = []
        self.closed = False
        self.put = SimpleNamespace(remote=lambda index, update: self.posted.append((index, update)))
        self.close = SimpleNamespace(remote=self._close)

    def _close(self) -> None:
        self.closed = True


class Trial:
    """The part of a trial that a scheduler touches."""

    def __init__(self, replica: int, config: dict[str, Any]) -> None:
        self.trial_id, self.config = f"t{replica}", config
        self.last_result: dict[str, Any] = {"trial_id": self.trial_id}
        self.placement_group_factory = SimpleNamespace(required_resources={"CPU": 1.0})
        self.finished, self.recovers = False, True
        self.status = "RUNNING"

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def is_finished(self) -> bool:
        return self.finished

    def should_recover(self) -> bool:
        return self.recovers


class Controller:
    """Tune's part: it knows the trials, and stops one when it is asked to."""

    def __init__(self, scheduler: FDSScheduler, trials: int = 2) -> None:
        self.scheduler, self.trials = scheduler, []
        self.stopped: list[Trial] = []
        for entry in scheduler.members()["grid_search"][:trials]:
            trial = Trial(entry["replica"], {**CONFIG, "member": entry})
            self.trials.append(trial)
            scheduler.on_trial_add(self, trial)

    def get_trials(self) -> list[Trial]:
        return self.trials

    def stop_trial(self, trial: Trial) -> None:
        self.stopped.append(trial)
        self.scheduler.on_trial_complete(self, trial, flatten_dict(trial.last_result))
        trial.finished = True

    def reports(self, replica: int, outer_step: int) -> str:
        """A trial's result of an outer step, handled as Tune does: it becomes the last one afterwards."""
        trial = next(t for t in self.trials if t.config["member"]["replica"] == replica)
        result = ROUNDS[outer_step][replica]
        decision = self.scheduler.on_trial_result(self, trial, flatten_dict(result))
        trial.last_result = result
        return decision

    def round_of(self, replica: int) -> int:
        trial = next(t for t in self.trials if t.config["member"]["replica"] == replica)
        return trial.config.get("outer_state", {"index": 0})["index"]


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    box = Mailbox()
    monkeypatch.setattr(groups, "start_mailbox", lambda name: box)
    monkeypatch.setattr(ray, "get", lambda reference: reference)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    return box


@pytest.fixture
def tune(mailbox: Mailbox) -> Controller:
    return Controller(FDSScheduler(ensemble=2))


def test_the_update_is_posted_when_the_last_member_has_reported(tune: Controller, mailbox: Mailbox) -> None:
    assert tune.reports(1, 0) == CONTINUE
    assert mailbox.posted == []
    assert tune.reports(0, 0) == CONTINUE
    state = ROUNDS[1][0]["outer_state"]
    assert mailbox.posted == [(1, {"outer_state": state})]
    assert [trial.config["outer_state"] for trial in tune.trials] == [state, state]
    assert not mailbox.closed


def test_a_repeated_result_of_a_round_that_is_over_changes_nothing(tune: Controller, mailbox: Mailbox) -> None:
    tune.reports(0, 0)
    tune.reports(1, 0)
    assert tune.reports(0, 0) == CONTINUE  # from a worker that was started again before the round was over
    assert len(mailbox.posted) == 1
    tune.reports(1, 1)
    assert tune.reports(0, 1) == CONTINUE
    assert mailbox.posted[-1] == (2, {"outer_state": ROUNDS[2][0]["outer_state"]})


def test_a_repeated_result_within_the_round_does_not_complete_it(tune: Controller, mailbox: Mailbox) -> None:
    tune.reports(0, 0)
    tune.reports(0, 0)
    assert mailbox.posted == []


def test_the_last_outer_step_ends_all_members(tune: Controller, mailbox: Mailbox) -> None:
    for outer_step in (0, 1):
        tune.reports(0, outer_step)
        tune.reports(1, outer_step)
    assert tune.reports(0, 2) == CONTINUE
    assert tune.reports(1, 2) == STOP
    assert mailbox.closed
    assert [trial.trial_id for trial in tune.stopped] == ["t0"]


def test_a_member_that_stops_takes_the_others_along(tune: Controller, mailbox: Mailbox) -> None:
    """One waits already and is stopped at once; had it been at work, its next result would be its last."""
    tune.reports(0, 0)
    tune.trials[1].last_result = ROUNDS[0][1]
    tune.stop_trial(tune.trials[1])
    assert mailbox.closed
    assert [trial.trial_id for trial in tune.stopped] == ["t1", "t0"]


def test_a_member_at_work_ends_with_its_next_result_after_another_has_stopped(tune: Controller) -> None:
    tune.reports(0, 0)
    tune.stop_trial(tune.trials[0])
    assert tune.stopped == [tune.trials[0]]
    assert tune.reports(1, 0) == STOP


def test_a_member_that_fails_for_good_ends_the_group(tune: Controller, mailbox: Mailbox) -> None:
    tune.reports(0, 0)
    tune.scheduler.on_trial_error(tune, tune.trials[1])  # it will be started again
    assert not mailbox.closed
    tune.trials[1].recovers = False
    tune.scheduler.on_trial_error(tune, tune.trials[1])
    assert mailbox.closed
    assert tune.stopped == [tune.trials[0]]


def test_adding_a_trial_again_changes_nothing(tune: Controller, mailbox: Mailbox) -> None:
    tune.reports(0, 0)
    before = [dict(trial.config) for trial in tune.trials]
    tune.scheduler.on_trial_add(tune, tune.trials[0])
    assert [trial.config for trial in tune.trials] == before
    tune.reports(1, 0)
    assert tune.round_of(0) == tune.round_of(1) == 1


def test_a_restored_member_takes_what_the_group_had_decided(tune: Controller, mailbox: Mailbox) -> None:
    """Tune's snapshot of the first member is from before the update, that of the last to report from after it."""
    tune.reports(0, 0)
    stale = tune.trials[0].config
    tune.reports(1, 0)
    tune.trials[0].config = stale
    tune.scheduler = pickle.loads(pickle.dumps(tune.scheduler))
    mailbox.posted.clear()
    for trial in reversed(tune.trials):
        tune.scheduler.on_trial_add(tune, trial)
    assert tune.round_of(0) == tune.round_of(1) == 1
    assert mailbox.posted[-1] == (1, {"outer_state": ROUNDS[1][0]["outer_state"]})


def test_a_restored_member_of_a_group_that_had_ended_does_not_wait(tune: Controller, mailbox: Mailbox) -> None:
    tune.reports(0, 0)
    tune.trials[1].finished = True
    tune.scheduler = pickle.loads(pickle.dumps(tune.scheduler))
    tune.scheduler.on_trial_add(tune, tune.trials[0])
    assert mailbox.closed


def test_a_group_that_waits_for_a_worker_says_so_every_thirty_seconds(
    tune: Controller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(now=time.monotonic())
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(groups, "time", clock)
    first, second = tune.trials
    for status, seconds in [("RUNNING", 100), ("PENDING", 20), ("PENDING", 15), ("PENDING", 20), ("PENDING", 15)]:
        second.status = status
        clock.now += seconds
        tune.scheduler.choose_trial_to_run(tune)
    said = "the group waits for workers of 1 of its 2 trials (t1), which need 1 CPU each; the cluster has 2 CPU"
    assert caplog.messages == [said, said]
    second.status = "RUNNING"
    clock.now += 100
    tune.scheduler.choose_trial_to_run(tune)
    assert len(caplog.messages) == 2
    assert first.status == "RUNNING"


def test_a_group_with_too_few_trials_is_refused_at_its_first_result(mailbox: Mailbox) -> None:
    tune = Controller(FDSScheduler(ensemble=2), trials=1)
    with pytest.raises(ValueError, match="the group has 1 of its 2 trials; its config needs member=") as refused:
        tune.reports(0, 0)
    assert "\n" not in str(refused.value)


def test_the_room_is_not_checked_again_when_a_node_is_lost(tune: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    tune.reports(0, 0)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    tune.scheduler.on_trial_add(tune, tune.trials[1])
    with pytest.raises(ValueError, match="a group of 2 trials needs 2 CPU at once; the cluster has 1"):
        Controller(FDSScheduler(ensemble=2))
