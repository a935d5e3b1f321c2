"""The run's clock and the records: what is on the clock, what survives a driver's end, what a crash leaves."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import Checkpoint

from raytune_hyperlearn.comparison.records import Record, RecordWriter, read_records
from raytune_hyperlearn.comparison.running.observer import (
    Here,
    KeepUntil,
    Observer,
    RunClock,
    TimeLimit,
    first_line_of_error,
    run_from,
)
from raytune_hyperlearn.tune.kept_state import KeepState
from tests.comparison.synthetic import make_record

Trials = Callable[..., Any]


class Seconds:
    """A monotonic clock that tests turn by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    turned = Seconds()
    monkeypatch.setattr("raytune_hyperlearn.comparison.running.observer.time", turned)
    return turned


@pytest.fixture
def observer(tmp_path: Path, seconds: Seconds) -> Observer:
    (tmp_path / "records.jsonl").touch()
    return Observer(
        experiment="digits-comparison",
        problem="digits",
        method="bohb",
        seed=2,
        clock=RunClock(workers=1),
        searcher=None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The comparison's folder."""
    return tmp_path


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Any]:
    """Makes trials as Tune hands them to callbacks."""
    storage = SimpleNamespace(storage_fs_path=str(tmp_path / "tune"), experiment_dir_name="bohb-2")
    (tmp_path / "tune").mkdir()

    def make(name: str = "t1", finished: bool = False, **config: Any) -> Any:
        return SimpleNamespace(
            trial_id=name,
            config={"epochs": 9.0, **config},
            error_file=None,
            storage=storage,
            is_finished=lambda: finished,
        )

    return make


TRACEBACK = """\x1b[36mray::Crashing.train()\x1b[39m (pid=7, ip=127.0.0.1, actor_id=a)
  File "/somewhere/trainable.py", line 331, in train
    result = self.step()
             ^^^^^^^^^^^
  File "/somewhere/own.py", line 3, in step
    raise ValueError("width is 3; it must be 4\\nbecause of this")
ValueError: width is 3; it must be 4
because of this
"""


def result(**changes: Any) -> dict[str, Any]:
    return {
        "validation_loss": 0.5,
        "validation_accuracy": 0.9,
        "test_loss": 0.6,
        "test_accuracy": 0.88,
        "status": "completed",
        "hyperparameters": {"learning_rate": [0.1], "momentum": [0.9], "weight_decay": [0.0]},
        "epochs": 3.0,
        "training_seconds": 2.0,
        "test_seconds": 0.0,
        **changes,
    }


def written(folder: Path) -> tuple[Record, ...]:
    return read_records(folder / "records.jsonl")


class TestClock:
    def test_it_starts_with_the_first_worker(self, seconds: Seconds) -> None:
        clock = RunClock(workers=1)
        seconds.now += 7
        assert clock.now == 0
        clock.start()
        assert clock.startup_seconds == 7
        seconds.now += 3
        clock.start()  # a second worker changes nothing
        assert clock.now == 3
        assert clock.startup_seconds == 7

    def test_seconds_of_test_scoring_are_left_out_as_long_as_they_held_the_run_up(self, seconds: Seconds) -> None:
        one, two = RunClock(workers=1), RunClock(workers=2)
        for clock in (one, two):
            clock.start()
        seconds.now += 10
        for clock in (one, two):
            clock.leave_out(4)
        assert one.now == 6
        assert two.now == 8  # the other worker went on
        one.leave_out(100)
        assert one.now == 0

    def test_it_stands_still_while_it_is_pickled(self, seconds: Seconds) -> None:
        clock = RunClock(workers=1)
        seconds.now += 2
        clock.start()
        seconds.now += 10
        clock.leave_out(1)
        pickled = pickle.dumps(clock)
        seconds.now += 500
        assert clock.now == 509  # the one that was copied goes on
        del clock
        copy = pickle.loads(pickled)
        assert copy.now == 9
        copy.start()
        seconds.now += 5
        assert copy.now == 14
        assert copy.startup_seconds == 2

    def test_copies_that_meet_in_one_process_are_one_clock(self, seconds: Seconds) -> None:
        clock = RunClock(workers=1)
        pickled = pickle.dumps(clock)
        assert pickle.loads(pickled) is clock
        del clock  # the driver is gone; Tune restores callbacks and stopper from files of their own
        first, second = pickle.loads(pickled), pickle.loads(pickled)
        assert first is second
        assert pickle.loads(pickle.dumps(RunClock(workers=1))) is not first

    def test_a_run_that_never_had_a_worker_is_asked_for_again(self, seconds: Seconds) -> None:
        copy = pickle.dumps(RunClock(workers=1))
        seconds.now += 500
        restored = pickle.loads(copy)
        seconds.now += 6
        restored.start()
        assert restored.startup_seconds == 6
        assert restored.now == 0


class TestTimeLimit:
    def test_it_stops_all_trials_at_the_limit_and_none_on_its_own(self, seconds: Seconds) -> None:
        clock = RunClock(workers=1)
        limit = TimeLimit(clock, 15)
        seconds.now += 100
        assert not limit.stop_all()  # no worker is up
        clock.start()
        seconds.now += 14.9
        assert not limit.stop_all()
        seconds.now += 0.1
        assert limit.stop_all()
        assert not limit("t1", result())

    def test_it_keeps_reading_the_observers_clock_after_each_is_pickled_on_its_own(
        self, observer: Observer, seconds: Seconds, trial: Trials
    ) -> None:
        pickled = pickle.dumps(observer), pickle.dumps(TimeLimit(observer.clock, 15))
        del observer.clock
        watching, limiting = map(pickle.loads, pickled)
        watching.on_trial_start(0, [], trial())
        seconds.now += 16
        assert limiting.stop_all()

    def test_a_limit_that_holds_here_goes_before_the_one_that_was_kept(self, seconds: Seconds, tmp_path: Path) -> None:
        clock = RunClock(workers=1)
        limit = TimeLimit(clock, 15)
        clock.start()
        seconds.now += 20
        with run_from(Here(tmp_path, 25.0)):
            assert not limit.stop_all()
            seconds.now += 5
            assert limit.stop_all()
        assert limit.stop_all()

    def test_states_are_kept_until_the_limit_and_not_after(
        self, seconds: Seconds, trial: Trials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept: list[str] = []
        monkeypatch.setattr(KeepState, "_keep", lambda self, trials: kept.append(trials[0].trial_id))
        clock = RunClock(workers=1)
        clock.start()
        keep = pickle.loads(pickle.dumps(KeepUntil(TimeLimit(clock, 15))))
        one = trial()
        keep.on_step_end(0, [one])
        seconds.now += 15
        keep.on_step_end(1, [one])
        keep.on_experiment_end([one])
        assert kept == [one.trial_id]

    def test_a_clock_that_goes_back_waits_for_the_next_worker(self, seconds: Seconds) -> None:
        clock = RunClock(workers=1)
        clock.start()
        seconds.now += 15
        clock.leave_out(3)
        clock.go_back(9.0)
        seconds.now += 100
        assert clock.now == 9.0
        clock.start()
        seconds.now += 1
        assert clock.now == 10.0


class TestRecords:
    def test_a_result_is_a_row_with_its_time_and_what_its_method_says(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one = trial(config_id="(0, 0, 4)", model_based_pick=True)
        seconds.now += 5
        observer.on_trial_start(0, [one], one)
        seconds.now += 3
        observer.on_trial_result(1, [one], one, result(test_seconds=1.0, outer_step=4, other="left out"))
        seconds.now += 3
        observer.on_trial_result(2, [one], one, result(epochs=9.0, validation_loss=0.4, training_seconds=2.5))
        first, second = written(folder)
        assert first == make_record(
            method="bohb",
            seed=2,
            trial="t1",
            time=2.0,  # 3 seconds, one of them test scoring
            budget=3.0,
            training_seconds=2.0,
            worker_seconds=2.0,
            hyperparameters={"learning_rate": [0.1], "momentum": [0.9], "weight_decay": [0.0]},
            info={"config_id": "(0, 0, 4)", "model_based_pick": True, "outer_step": 4},
        )
        assert (second.time, second.budget, second.validation_loss, second.worker_seconds) == (5.0, 9.0, 0.4, 4.5)

    @pytest.mark.parametrize("status", ["diverged", "out_of_memory"])
    def test_a_failure_that_the_trial_reports_is_a_row_of_its_own_kind(
        self, observer: Observer, status: str, trial: Trials, folder: Path
    ) -> None:
        one = trial()
        observer.on_trial_start(0, [one], one)
        observer.on_trial_result(1, [one], one, result(status=status, validation_loss=math.inf, hyperparameters={}))
        (row,) = written(folder)
        assert row.status == status
        assert row.validation_loss == math.inf

    def test_a_crash_is_a_row_with_its_time_and_no_values(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one = trial(epochs=9.0, config_id="(0, 0, 1)")
        observer.on_trial_start(0, [one], one)
        seconds.now += 4
        observer.on_trial_error(1, [one], one)
        (row,) = written(folder)
        assert (row.status, row.time, row.budget) == ("crashed", 4.0, 9.0)
        assert math.isnan(row.validation_loss)
        assert math.isnan(row.test_accuracy)
        assert row.hyperparameters == {}
        assert row.info == {"config_id": "(0, 0, 1)"}
        assert row.error == "no exception is known"

    def test_a_crash_keeps_the_first_line_of_the_last_exception(
        self, observer: Observer, tmp_path: Path, trial: Trials, folder: Path
    ) -> None:
        one = trial()
        one.error_file = str(tmp_path / "error.txt")
        first = "Failure # 1 (occurred at noon)\n" + TRACEBACK.replace("width is 3", "an earlier one")
        (tmp_path / "error.txt").write_text(f"{first}Failure # 2 (occurred later)\n{TRACEBACK}")
        observer.on_trial_error(1, [one], one)
        assert written(folder)[0].error == "ValueError: width is 3; it must be 4"

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (
                "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n",
                "The actor died unexpectedly",
            ),
            ("", "no exception is known"),
            ("x" * 1000, "x" * 300),
        ],
    )
    def test_an_error_without_a_traceback_is_its_own_first_line(self, text: str, line: str) -> None:
        assert first_line_of_error(text).startswith(line)
        assert len(first_line_of_error(text)) <= 300

    def test_a_worker_that_never_came_up_starts_the_clock_with_its_crash(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one = trial()
        seconds.now += 8
        observer.on_trial_error(1, [one], one)
        seconds.now += 2
        observer.on_trial_error(2, [one], one)
        assert [row.time for row in written(folder)] == [0, 2]
        assert observer.clock.startup_seconds == 8

    def test_the_end_notes_the_runs_times(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        seconds.now += 3
        observer.on_trial_start(0, [], trial())
        seconds.now += 20
        observer.searcher = SimpleNamespace(optimizer_seconds=0.7)
        observer.on_step_end(1, [])
        seconds.now += 10  # Tune waits for a worker to end
        observer.on_experiment_end([trial()])
        summary = folder / "tune" / "bohb-2.json"
        noted = json.loads(summary.read_text())
        assert noted == {"startup_seconds": 3, "wall_seconds": 20, "searcher_seconds": 0.7, "redone": 0}
        observer.searcher = SimpleNamespace()  # one that does not measure itself
        observer.on_experiment_end([trial()])
        assert json.loads(summary.read_text())["searcher_seconds"] == 0


def report(observer: Observer, one: Any, seconds: Seconds, *losses: float) -> None:
    """Results of a trial, one per second."""
    for loss in losses:
        seconds.now += 1
        observer.on_trial_result(1, [one], one, result(validation_loss=loss, training_seconds=1.0))


def restored(observer: Observer, state: dict[str, Any], pickled: bytes) -> Observer:
    """What a new driver has after Tune has restored its callbacks."""
    del observer.clock  # with the old driver
    copy: Observer = pickle.loads(pickled)
    copy.set_state(json.loads(json.dumps(state)))
    return copy


class TestADriverThatDied:
    def test_rows_after_the_kept_state_are_removed_and_not_charged(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one, pickled = trial(), pickle.dumps(observer)
        observer.on_trial_start(0, [one], one)
        report(observer, one, seconds, 0.9, 0.8)
        observer.on_checkpoint(1, [one], one, Checkpoint(""))
        report(observer, one, seconds, 0.7)  # its checkpoint is not written yet
        state = observer.get_state()
        report(observer, one, seconds, 0.6, 0.5)
        seconds.now += 300
        copy = restored(observer, state, pickled)
        copy.on_step_begin(0, [one])
        assert [row.validation_loss for row in written(folder)] == [0.9, 0.8]
        assert (copy.clock.now, copy.worker_seconds, copy.redone) == (2.0, 2.0, 3)
        copy.on_step_begin(0, [one])
        copy.on_trial_start(0, [one], one)
        report(copy, one, seconds, 0.7, 0.6)
        assert [(row.validation_loss, row.time) for row in written(folder)][2:] == [(0.7, 3.0), (0.6, 4.0)]

    def test_a_result_that_moved_the_config_stays_without_its_checkpoint(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one, pickled = trial(outer_state={"index": 2}), pickle.dumps(observer)
        observer.on_trial_start(0, [one], one)
        report(observer, one, seconds, 0.9)
        observer.on_checkpoint(1, [one], one, Checkpoint(""))
        report(observer, one, seconds, 0.8)  # the scheduler has answered, the checkpoint is not written yet
        copy = restored(observer, observer.get_state(), pickled)
        copy.on_step_begin(0, [one])
        copy.on_trial_start(0, [one], one)
        report(copy, one, seconds, 0.7)
        assert [row.validation_loss for row in written(folder)] == [0.9, 0.8, 0.7]
        assert copy.redone == 0

    def test_finished_trials_keep_their_rows_and_unknown_ones_lose_them(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        ended, running, unknown = trial("ended", finished=True), trial("running"), trial("unknown")
        with RecordWriter(folder / "records.jsonl") as writer:
            writer.append(make_record(method="hb", seed=2, trial="unknown", time=60.0))
        pickled = pickle.dumps(observer)
        observer.on_trial_start(0, [ended], ended)
        for one in (ended, running):
            report(observer, one, seconds, 0.9)
        observer.on_trial_error(1, [running], running)
        state = observer.get_state()
        report(observer, unknown, seconds, 0.7)
        observer.on_trial_error(1, [unknown], unknown)
        restored(observer, state, pickled).on_step_begin(0, [ended, running])
        assert [(row.trial, row.status) for row in written(folder)] == [
            ("unknown", "completed"),  # of another run
            ("ended", "completed"),
            ("running", "crashed"),
        ]

    def test_a_run_that_had_ended_keeps_its_time(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one, pickled = trial(finished=True), pickle.dumps(observer)
        observer.on_trial_start(0, [one], one)
        report(observer, one, seconds, 0.9, 0.8)
        restored(observer, observer.get_state(), pickled).on_experiment_end([one])
        assert json.loads((folder / "tune" / "bohb-2.json").read_text())["wall_seconds"] == 2.0
        assert len(written(folder)) == 2

    def test_it_writes_where_its_folder_is_now(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path, tmp_path: Path
    ) -> None:
        one = trial()
        report(observer, one, seconds, 0.9)
        copied = Path(shutil.copytree(folder, tmp_path.with_name(f"{tmp_path.name}-copy")))
        before = (folder / "records.jsonl").read_bytes()
        copy = restored(observer, observer.get_state(), pickle.dumps(observer))
        one.storage.storage_fs_path = str(copied / "tune")
        copy.on_step_begin(0, [one])
        report(copy, one, seconds, 0.5, 0.4)
        copy.on_experiment_end([one])
        assert (folder / "records.jsonl").read_bytes() == before
        assert [row.validation_loss for row in written(copied)] == [0.5, 0.4]
        assert (copied / "tune" / "bohb-2.json").is_file()
        assert not (folder / "tune" / "bohb-2.json").exists()


class TestAWorkerThatDied:
    def test_it_is_counted_and_what_it_repeats_is_written_once_and_charged(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one = trial()
        observer.on_trial_start(0, [one], one)
        report(observer, one, seconds, 0.9)
        observer.on_checkpoint(1, [one], one, Checkpoint(""))
        report(observer, one, seconds, 0.8, 0.7)
        observer.on_trial_recover(1, [one], one)
        observer.on_trial_restore(1, [one], one)
        report(observer, one, seconds, 0.8)
        observer.on_checkpoint(1, [one], one, Checkpoint(""))
        observer.on_trial_recover(1, [one], one)  # and again, with one more result safe
        report(observer, one, seconds, 0.7, 0.6)
        rows = written(folder)
        assert [row.status for row in rows] == ["completed"] * 3 + ["crashed"] * 2 + ["completed"]
        assert [row.validation_loss for row in rows if row.status == "completed"] == [0.9, 0.8, 0.7, 0.6]
        assert observer.redone == 2
        assert rows[-1].time == 6.0

    def test_what_another_trial_handed_over_is_safe(
        self, observer: Observer, seconds: Seconds, trial: Trials, folder: Path
    ) -> None:
        one = trial()
        report(observer, one, seconds, 0.9, 0.8)
        observer.on_trial_restore(1, [one], one)  # from a better member of the population
        observer.on_trial_recover(1, [one], one)
        report(observer, one, seconds, 0.3)
        assert written(folder)[-1].validation_loss == 0.3
