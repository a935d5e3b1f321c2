"""Writes a record for every result that the driver observes, and stops a run at its time limit.

The clock starts when the run's first worker is up (its process started, its imports done, its data loaded) and
leaves out the seconds that workers spent on scoring the test set, which no method uses.
"""

from __future__ import annotations

import json
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from raytune_hyperlearn.comparison.records import (
    RECORDS_FILE,
    TUNE_FOLDER,
    Record,
    RecordWriter,
    read_records,
    remove_records,
)
from raytune_hyperlearn.comparison.running.folder import run_name
from raytune_hyperlearn.results import CRASHED, ENDED, Result
from raytune_hyperlearn.tune.fds_updates import OUTER_STATE
from raytune_hyperlearn.tune.kept_state import KeepState

LOGGER = logging.getLogger(__name__)

INFO = (
    "config_id",
    "model_based_pick",
    "outer_step",
    "inner_epochs",
    "inner_validation_loss",
    "hypergradient",
    "hessian_way",
    "differentiation",
    "windows",
    ENDED,
    "training_loss",
    "mean_batch_size",
    "largest_batch_size",
    "updates",
)
"""Entries of a result or of a trial's config that a record keeps beside the shared ones, where a method has them."""
LONGEST_ERROR = 300
"""Characters that a record keeps of an exception."""


@dataclass(frozen=True)
class Here:
    """What this process says of a run. A restored run's own objects say what was so when they were kept.

    Attributes:
        folder: The experiment's, wherever Tune's own files are.
        time_limit: Of the run, in seconds.
    """

    folder: Path
    time_limit: float


_HERE: ContextVar[Here | None] = ContextVar("here", default=None)


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

    def go_back(self, seconds: float) -> None:
        """Show so many seconds, and go on with the first worker."""
        self.before, self.test_seconds, self._started = seconds, 0.0, None

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
    """Stops all trials of a run when its clock passes the limit: the one that holds here, or else its own."""

    def __init__(self, clock: RunClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Whether the limit has passed."""
        here = _HERE.get()
        return self.clock.now >= (self.seconds if here is None else here.time_limit)


class KeepUntil(KeepState):
    """Keeps no state of the end that the time limit makes, so that a run which is given more time goes on.

    Args:
        limit: The run's.
    """

    def __init__(self, limit: TimeLimit) -> None:
        super().__init__()
        self.limit = limit

    def __getstate__(self) -> dict[str, Any]:
        """The limit alone."""
        return {**super().__getstate__(), "limit": self.limit}

    def _keep(self, trials: list[Trial]) -> None:
        if not self.limit.stop_all():
            super()._keep(trials)


class Observer(Callback):
    """Appends a record to a file for every result, as the driver observes it.

    Every result is recorded once. A trial that is started again, because its worker or the driver has died, makes what
    came after its last checkpoint again. After a driver's death, those rows are removed, with all that Tune's kept
    state knows nothing of, and the clock goes back to the last row that stays: work is charged once. After a worker's
    death the rows stay, the same results are not written a second time, and the clock goes on.

    All paths come from where Tune keeps the run, so that a run continues in the folder it was moved or copied to.

    Args:
        experiment: Name of the experiment.
        problem: Name of the problem.
        method: Name of the method.
        seed: Seed of the run.
        clock: The run's clock, started here.
        searcher: The run's searcher, whose ``optimizer_seconds`` are noted at the end, or None.
    """

    def __init__(
        self, experiment: str, problem: str, method: str, seed: int, clock: RunClock, searcher: Searcher | None
    ) -> None:
        self.searcher = searcher
        self.experiment, self.problem, self.method, self.seed = experiment, problem, method, seed
        self.clock = clock
        self.worker_seconds = 0.0
        self.wall_seconds = 0.0
        self.redone = 0
        self._recorded: Counter[str] = Counter()  # results by trial
        self._checkpointed: Counter[str] = Counter()  # those of them that the trial's last checkpoint holds
        self._expected_again: Counter[str] = Counter()  # those that a trial started again has still to repeat
        self._is_restored = False

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """After a driver's death, go back to the state that Tune has kept."""
        if self._is_restored and trials:
            self._is_restored = False
            self._go_back(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Note the time: the last one is the run's end, after which Tune takes up to ten seconds to end its workers."""
        self.wall_seconds = self.clock.now

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker is up."""
        self.clock.start()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Write the result's record, unless it was written before the trial was started again."""
        known = Result.from_mapping(result)
        self.clock.leave_out(known.test_seconds)
        self.worker_seconds += known.training_seconds
        if self._expected_again[trial.trial_id]:
            self._expected_again[trial.trial_id] -= 1
            self.redone += 1
        else:
            self._append(trial, known, result)
            self._recorded[trial.trial_id] += 1

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """What the trial has done so far is safe."""
        self._note_safe(trial)

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial goes on from a checkpoint: its own, or another's that it takes over."""
        self._note_safe(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write the record of a crash after which the trial is started again."""
        name = trial.trial_id
        self._expected_again[name] = self._recorded[name] - self._held(trial)
        self.on_trial_error(iteration, trials, trial, **info)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Write the record of a crash: its time and the first line of its exception, and no values."""
        self.clock.start()
        asked = trial.config.get("epochs", 0.0)
        self._append(trial, Result(status=CRASHED, epochs=asked), {}, _error_of(trial))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Note the run's times beside its folder. A restored run has other objects than its driver, who reads them."""
        self.on_step_begin(0, trials)  # a run that had ended when its driver died makes no step
        times = {
            "startup_seconds": self.clock.startup_seconds,
            "wall_seconds": self.wall_seconds,
            "searcher_seconds": getattr(self.searcher, "optimizer_seconds", 0.0),
            "redone": self.redone,
        }
        summary = _folder(trials[0]) / TUNE_FOLDER / f"{run_name(self.method, self.seed)}.json"
        summary.parent.mkdir(exist_ok=True)
        summary.write_text(json.dumps(times), encoding="utf-8")

    def get_state(self) -> dict[str, Any]:
        """What a restored run goes on from."""
        return {
            "recorded": dict(self._recorded),
            "checkpointed": dict(self._checkpointed),
            "redone": self.redone,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what was kept; the rows are looked at once the trials are known."""
        self._recorded, self._checkpointed = Counter(state["recorded"]), Counter(state["checkpointed"])
        self._expected_again = Counter()
        self.redone = state["redone"]
        self._is_restored = True

    def _go_back(self, trials: list[Trial]) -> None:
        """Remove the rows of what will be made again, and set the clock to the last one that stays."""
        stays = {
            trial.trial_id: self._recorded[trial.trial_id] if trial.is_finished() else self._held(trial)
            for trial in trials
        }
        seen: Counter[str] = Counter()

        def is_made_again(record: Record) -> bool:
            if (record.method, record.seed) != (self.method, self.seed):
                return False
            if record.status == CRASHED:
                return record.trial not in stays
            seen[record.trial] += 1
            return seen[record.trial] > stays.get(record.trial, 0)

        path = records_file(trials[0])
        removed = remove_records(path, is_made_again)
        if removed:
            LOGGER.warning(
                "%s seed %d: %d results after the kept state are made again", self.method, self.seed, removed
            )
        self.redone += removed
        self._recorded = Counter(stays)
        own = [r for r in read_records(path) if (r.method, r.seed) == (self.method, self.seed)]
        self.wall_seconds = max((record.time for record in own), default=0.0)
        self.clock.go_back(self.wall_seconds)
        self.worker_seconds = max((record.worker_seconds for record in own), default=0.0)

    def _held(self, trial: Trial) -> int:
        """Results that the trial goes on from: its last checkpoint's, or one more that moved its config already.

        A scheduler of FDS writes the next values into the config with every result, and the trial goes on from the
        later of the two.
        """
        name, moved = trial.trial_id, trial.config.get(OUTER_STATE) or {}
        steps: int = moved.get("index", 0)
        return max(self._checkpointed[name], min(self._recorded[name], steps))

    def _note_safe(self, trial: Trial) -> None:
        name = trial.trial_id
        self._checkpointed[name] = self._recorded[name] - self._expected_again[name]

    def _append(self, trial: Trial, result: Result, reported: Mapping[str, Any], error: str = "") -> None:
        known = {**trial.config, **reported}
        record = Record(
            experiment=self.experiment,
            problem=self.problem,
            method=self.method,
            seed=self.seed,
            trial=trial.trial_id,
            time=self.clock.now,
            budget=float(result.epochs),
            validation_loss=float(result.validation_loss),
            validation_accuracy=float(result.validation_accuracy),
            test_loss=float(result.test_loss),
            test_accuracy=float(result.test_accuracy),
            hyperparameters=result.hyperparameters,
            status=result.status,
            training_seconds=float(result.training_seconds),
            worker_seconds=self.worker_seconds,
            error=error,
            info={name: known[name] for name in INFO if known.get(name) is not None},
        )
        with RecordWriter(records_file(trial)) as writer:
            writer.append(record)


def records_file(trial: Trial) -> Path:
    """The experiment's file of records."""
    return _folder(trial) / RECORDS_FILE


@contextmanager
def run_from(here: Here) -> Iterator[None]:
    """Have the runs of this thread write to a folder and end at a limit, also where they are restored."""
    before = _HERE.set(here)
    try:
        yield
    finally:
        _HERE.reset(before)


def _folder(trial: Trial) -> Path:
    """The experiment's folder; through Ray's client, whose driver is another process, the one around ``tune/``."""
    here = _HERE.get()
    return Path(trial.storage.storage_fs_path).parent if here is None else here.folder


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
    message = next((line for line in after if not line[0].isspace()), "no exception is known")
    return message.strip()[:LONGEST_ERROR]


def _error_of(trial: Trial) -> str:
    """The first line of the exception that ended a trial; Ray has written it to the trial's folder."""
    file = trial.error_file
    last = Path(file).read_text(encoding="utf-8", errors="replace") if file and Path(file).is_file() else ""
    return first_line_of_error(last.rpartition("Failure # ")[2].partition("\n")[2])
