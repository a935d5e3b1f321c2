"""Writes a record for every result that the driver observes, and stops a run at its time limit.

The clock starts when the run's first worker is up (its process started, its imports done, its data loaded) and
leaves out the seconds that workers spent on scoring the test set, which no method uses.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from raytune_hyperlearn.comparison.records import Record, RecordWriter, read_records

INFO = (
    "config_id",
    "model_based_pick",
    "outer_step",
    "inner_epochs",
    "inner_validation_loss",
    "hypergradient",
    "hessian_way",
    "training_loss",
    "mean_batch_size",
    "largest_batch_size",
    "updates",
)
"""Entries of a result or of a trial's config that a record keeps beside the shared ones, where a method has them."""
LONGEST_ERROR = 300
"""Characters that a record keeps of an exception."""


class RunClock:
    """Seconds since the run's first worker was up, without test scoring; survives being pickled and restored.

    Tune pickles a run's stopper apart from its callbacks and restores each from its own file, so two copies of one
    clock meet again in the restored driver. They must agree: a clock that is unpickled where another of its copies
    lives already is that one.
    """

    _living: ClassVar[WeakValueDictionary[str, RunClock]] = WeakValueDictionary()

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.before = 0.0
        self.test_seconds = 0.0
        self.startup_seconds = math.nan
        self._identity = uuid.uuid4().hex
        self._asked = time.monotonic()
        self._started: float | None = None
        self._living[self._identity] = self

    def start(self) -> None:
        """A worker is up; only the first call counts."""
        if self._started is None:
            self._started = time.monotonic()
            if math.isnan(self.startup_seconds):
                self.startup_seconds = self._started - self._asked

    def leave_out(self, seconds: float) -> None:
        """Seconds that one worker spent on test scoring."""
        self.test_seconds += seconds / self.workers

    @property
    def now(self) -> float:
        """Seconds on the clock; 0 before the first worker is up."""
        if self._started is None:
            return self.before
        return max(self.before + time.monotonic() - self._started - self.test_seconds, 0.0)

    def __reduce__(self) -> tuple[Any, ...]:
        """The clock stops while it is pickled; it goes on with the first worker after."""
        stopped = {"before": self.now, "startup_seconds": self.startup_seconds, "_identity": self._identity}
        return _living_or_restored, (self.workers, stopped)


def _living_or_restored(workers: int, stopped: dict[str, Any]) -> RunClock:
    """This process's copy of a pickled clock; a run whose first worker never came up is asked for again."""
    clock = RunClock._living.get(stopped["_identity"])
    if clock is None:
        clock = RunClock(workers)
        clock.__dict__.update(stopped)
        RunClock._living[clock._identity] = clock
    return clock


class TimeLimit(Stopper):
    """Stops all trials of a run when its clock passes the limit."""

    def __init__(self, clock: RunClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Whether the limit has passed."""
        return self.clock.now >= self.seconds


class Observer(Callback):
    """Appends a record to a file for every result, as the driver observes it.

    Args:
        records: File of records.
        experiment: Name of the experiment.
        problem: Name of the problem.
        method: Name of the method.
        seed: Seed of the run.
        clock: The run's clock, started here.
        searcher: The run's searcher, whose ``optimiser_seconds`` are noted at the end, or None.
        summary: File that gets the run's times at the end, as JSON. A restored run has other objects than the ones
            that its driver made, so they cannot be asked.
    """

    def __init__(
        self,
        records: Path,
        experiment: str,
        problem: str,
        method: str,
        seed: int,
        clock: RunClock,
        searcher: Searcher | None,
        summary: Path,
    ) -> None:
        self.records, self.searcher, self.summary = records, searcher, summary
        self.experiment, self.problem, self.method, self.seed = experiment, problem, method, seed
        self.clock = clock
        self.worker_seconds = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker is up."""
        self.clock.start()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Write the result's record."""
        self.clock.leave_out(result.get("test_seconds", 0.0))
        self.worker_seconds += result.get("training_seconds", 0.0)
        self._append(trial, result, result["status"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write the record of a crash: its time and the first line of its exception, and no values."""
        self.clock.start()
        self._append(trial, {"epochs": trial.config.get("epochs", 0.0)}, "crashed", _error_of(trial))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Note the run's times."""
        times = {
            "startup_seconds": self.clock.startup_seconds,
            "wall_seconds": self.clock.now,
            "searcher_seconds": getattr(self.searcher, "optimiser_seconds", 0.0),
        }
        self.summary.write_text(json.dumps(times))

    def get_state(self) -> dict[str, Any]:
        """What a restored run goes on from."""
        return {"elapsed": self.clock.now, "worker_seconds": self.worker_seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the later of Tune's snapshot and the last record: no second is given back."""
        own = [r for r in read_records(self.records) if (r.method, r.seed) == (self.method, self.seed)]
        self.clock.before = max([state["elapsed"], *(record.time for record in own)])
        self.worker_seconds = max([state["worker_seconds"], *(record.worker_seconds for record in own)])

    def _append(self, trial: Trial, result: dict[str, Any], status: Any, error: str = "") -> None:
        known = {**trial.config, **result}
        record = Record(
            experiment=self.experiment,
            problem=self.problem,
            method=self.method,
            seed=self.seed,
            trial=trial.trial_id,
            time=self.clock.now,
            budget=float(result.get("epochs", 0.0)),
            validation_loss=float(result.get("validation_loss", math.nan)),
            validation_accuracy=float(result.get("validation_accuracy", math.nan)),
            test_loss=float(result.get("test_loss", math.nan)),
            test_accuracy=float(result.get("test_accuracy", math.nan)),
            hyperparameters=result.get("hyperparameters", {}),
            status=status,
            training_seconds=float(result.get("training_seconds", 0.0)),
            worker_seconds=self.worker_seconds,
            error=error,
            info={name: known[name] for name in INFO if known.get(name) is not None},
        )
        with RecordWriter(self.records) as writer:
            writer.append(record)


def first_line_of_error(text: str) -> str:
    """The first line of the exception at the end of a traceback, or of ``text`` where that is no traceback.

    Args:
        text: What Ray writes about failed trials: a traceback of the worker's, with a heading of Ray's own.

    Returns:
        At most ``LONGEST_ERROR`` characters.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Failure # ")]
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    told = next((line for line in after if not line[0].isspace()), "no exception is known")
    return told.strip()[:LONGEST_ERROR]


def _error_of(trial: Trial) -> str:
    """The first line of the exception that ended a trial; Ray has written it to the trial's folder."""
    file = trial.error_file
    last = Path(file).read_text(encoding="utf-8", errors="replace") if file and Path(file).is_file() else ""
    return first_line_of_error(last.rpartition("Failure # ")[2].partition("\n")[2])
