"""The run's clock and the records: what is on the clock, what survives a driver's end, what a crash leaves."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_hyperlearn.comparison.records import Record, RecordWriter, read_records
from raytune_hyperlearn.comparison.running.observer import Observer, RunClock, TimeLimit, first_line_of_error
from tests.comparison.synthetic import make_record


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
        records=tmp_path / "records.jsonl",
        experiment="digits-comparison",
        problem="digits",
        method="bohb",
        seed=2,
        clock=RunClock(workers=1),
        searcher=None,
        summary=tmp_path / "bohb-2.json",
    )


def trial(name: str = "t1", **config: Any) -> Any:
    return SimpleNamespace(trial_id=name, config={"epochs": 9.0, **config}, error_file=None)


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


def written(observer: Observer) -> tuple[Record, ...]:
    return read_records(observer.records)


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
        self, observer: Observer, seconds: Seconds
    ) -> None:
        pickled = pickle.dumps(observer), pickle.dumps(TimeLimit(observer.clock, 15))
        del observer.clock
        watching, limiting = map(pickle.loads, pickled)
        watching.on_trial_start(0, [], trial())
        seconds.now += 16
        assert limiting.stop_all()


class TestRecords:
    def test_a_result_is_a_row_with_its_time_and_what_its_method_says(
        self, observer: Observer, seconds: Seconds
    ) -> None:
        one = trial(config_id="(0, 0, 4)", model_based_pick=True)
        seconds.now += 5
        observer.on_trial_start(0, [one], one)
        seconds.now += 3
        observer.on_trial_result(1, [one], one, result(test_seconds=1.0, outer_step=4, other="left out"))
        seconds.now += 3
        observer.on_trial_result(2, [one], one, result(epochs=9.0, validation_loss=0.4, training_seconds=2.5))
        first, second = written(observer)
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
    def test_a_failure_that_the_trial_reports_is_a_row_of_its_own_kind(self, observer: Observer, status: str) -> None:
        one = trial()
        observer.on_trial_start(0, [one], one)
        observer.on_trial_result(1, [one], one, result(status=status, validation_loss=math.inf, hyperparameters={}))
        (row,) = written(observer)
        assert row.status == status
        assert row.validation_loss == math.inf

    def test_a_crash_is_a_row_with_its_time_and_no_values(self, observer: Observer, seconds: Seconds) -> None:
        one = trial(epochs=9.0, config_id="(0, 0, 1)")
        observer.on_trial_start(0, [one], one)
        seconds.now += 4
        observer.on_trial_error(1, [one], one)
        (row,) = written(observer)
        assert (row.status, row.time, row.budget) == ("crashed", 4.0, 9.0)
        assert math.isnan(row.validation_loss)
        assert math.isnan(row.test_accuracy)
        assert row.hyperparameters == {}
        assert row.info == {"config_id": "(0, 0, 1)"}
        assert row.error == "no exception is known"

    def test_a_crash_keeps_the_first_line_of_the_last_exception(self, observer: Observer, tmp_path: Path) -> None:
        one = trial()
        one.error_file = str(tmp_path / "error.txt")
        first = "Failure # 1 (occurred at noon)\n" + TRACEBACK.replace("width is 3", "an earlier one")
        (tmp_path / "error.txt").write_text(f"{first}Failure # 2 (occurred later)\n{TRACEBACK}")
        observer.on_trial_error(1, [one], one)
        assert written(observer)[0].error == "ValueError: width is 3; it must be 4"

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
        self, observer: Observer, seconds: Seconds
    ) -> None:
        one = trial()
        seconds.now += 8
        observer.on_trial_error(1, [one], one)
        seconds.now += 2
        observer.on_trial_error(2, [one], one)
        assert [row.time for row in written(observer)] == [0, 2]
        assert observer.clock.startup_seconds == 8

    def test_the_end_notes_the_runs_times(self, observer: Observer, seconds: Seconds) -> None:
        seconds.now += 3
        observer.on_trial_start(0, [], trial())
        seconds.now += 20
        observer.searcher = SimpleNamespace(optimiser_seconds=0.7)
        observer.on_experiment_end([])
        noted = json.loads(observer.summary.read_text())
        assert noted == {"startup_seconds": 3, "wall_seconds": 20, "searcher_seconds": 0.7}
        observer.searcher = SimpleNamespace()  # one that does not measure itself
        observer.on_experiment_end([])
        assert json.loads(observer.summary.read_text())["searcher_seconds"] == 0


class TestRestore:
    def record(self, observer: Observer, **changes: Any) -> None:
        with RecordWriter(observer.records) as writer:
            writer.append(make_record(method="bohb", seed=2, **changes))

    def test_it_goes_on_from_the_last_record_where_that_is_later_than_the_snapshot(
        self, observer: Observer, seconds: Seconds
    ) -> None:
        self.record(observer, time=11.0, worker_seconds=9.0)
        self.record(observer, time=12.5, worker_seconds=10.0)
        observer.set_state({"elapsed": 8.0, "worker_seconds": 7.0})
        assert observer.clock.now == 12.5
        assert observer.worker_seconds == 10.0
        seconds.now += 300  # until a worker is up again nothing counts
        observer.on_trial_start(0, [], trial())
        seconds.now += 1
        one = trial("t9")
        observer.on_trial_result(1, [one], one, result(training_seconds=0.5))
        assert written(observer)[-1].time == 13.5
        assert written(observer)[-1].worker_seconds == 10.5

    def test_it_goes_on_from_the_snapshot_where_that_is_later(self, observer: Observer) -> None:
        self.record(observer, time=2.0, worker_seconds=1.0)
        observer.set_state({"elapsed": 8.0, "worker_seconds": 7.0})
        assert (observer.clock.now, observer.worker_seconds) == (8.0, 7.0)

    def test_rows_of_other_runs_do_not_count(self, observer: Observer) -> None:
        with RecordWriter(observer.records) as writer:
            writer.append(make_record(method="bohb", seed=1, time=50.0))
            writer.append(make_record(method="hb", seed=2, time=60.0))
        observer.set_state({"elapsed": 8.0, "worker_seconds": 7.0})
        assert observer.clock.now == 8.0

    def test_what_is_saved_is_what_a_restored_run_goes_on_from(self, observer: Observer, seconds: Seconds) -> None:
        observer.on_trial_start(0, [], trial())
        seconds.now += 6
        observer.worker_seconds = 5.0
        state, pickled = observer.get_state(), pickle.dumps(observer)
        del observer.clock
        copy = pickle.loads(pickled)
        copy.set_state(json.loads(json.dumps(state)))
        assert (copy.clock.now, copy.worker_seconds) == (6.0, 5.0)
