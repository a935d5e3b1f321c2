"""One JSON line per result and per run, appended as the driver observes them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal, TypeVar

from raytune_hyperlearn.checked import AnyNumber, NonNegative, Whole, read_json, record
from raytune_hyperlearn.comparison.json_lines import LineWriter, held, is_torn, replace_lines, whole_lines
from raytune_hyperlearn.comparison.plain_data import NumberList, Plain, Schedules, to_mapping
from raytune_hyperlearn.results import Status

LOGGER = logging.getLogger(__name__)

Finish = Literal["time_limit", "converged", "outer_steps", "ended"]
Row = TypeVar("Row", "Record", "Run", "Confirmation")

EXPERIMENT_FILE = "experiment.yaml"
RECORDS_FILE = "records.jsonl"
RUNS_FILE = "runs.jsonl"
CONFIRMATIONS_FILE = "confirmations.jsonl"
TUNE_FOLDER = "tune"
ENVIRONMENT_FILE = "environment.json"


@record
class Record:
    """One result as the driver observed it.

    Attributes:
        experiment: name of the experiment.
        problem: name of the problem.
        method: name of the method.
        seed: seed of the run.
        trial: Tune's name of the trial.
        time: seconds from the run's start to the observation, on the driver's monotonic clock; finite, >= 0.
        budget: epochs trained for this result (for one that failed: epochs asked for).
        validation_loss: NaN where unknown, as are the three below; accuracies are fractions in [0, 1].
        validation_accuracy: see above.
        test_loss: scored, never used to choose.
        test_accuracy: scored, never used to choose.
        hyperparameters: a list of values (a schedule) per hyperparameter.
        status: how the evaluation ended.
        training_seconds: time the worker spent on this result.
        worker_seconds: seconds of all the run's workers together, up to this observation; finite, >= 0.
        error: first line of the exception of a crash; empty where nothing crashed.
        info: what else the method says, such as ``{"model_based_pick": True}``.
    """

    experiment: str
    problem: str
    method: str
    seed: Whole
    trial: str
    time: NonNegative
    budget: NonNegative
    validation_loss: AnyNumber
    validation_accuracy: AnyNumber
    test_loss: AnyNumber
    test_accuracy: AnyNumber
    hyperparameters: Schedules
    status: Status
    training_seconds: AnyNumber
    worker_seconds: NonNegative
    error: str = ""
    info: dict[str, Plain] = field(default_factory=dict)


@record
class Run:
    """The summary of one run: one method with one seed.

    Attributes:
        method: name of the method.
        seed: seed of the run.
        startup_seconds: from the run being asked for to its first worker being up, before the clock starts.
        wall_seconds: from then to the end.
        searcher_seconds: spent in the searcher's or scheduler's own computing.
        evaluations: results observed.
        failures: number of results by status other than completed.
        finished: why the run ended: ``"time_limit"``; as FDS says, ``"converged"`` or ``"outer_steps"`` (it made its
            last one); ``"ended"`` where there was nothing left to try.
        options: what the method was given.
        implementation: packages that implement the method, with their versions; empty for this package's own methods.
        reference: publication that describes the method; empty where its record names none.
        redone: results that were made again, since a driver or a worker had died or the run was given more time; each
            is recorded once.
    """

    method: str
    seed: Whole
    startup_seconds: AnyNumber
    wall_seconds: AnyNumber
    searcher_seconds: AnyNumber
    evaluations: Whole
    failures: dict[str, Whole]
    finished: Finish
    options: dict[str, Plain] = field(default_factory=dict)
    implementation: str = ""
    reference: str = ""
    redone: Whole = 0


@record
class Confirmation:
    """What a run's final incumbent scored when it was trained again at the full budget, outside the run's clock.

    Attributes:
        method: name of the method.
        seed: seed of the run.
        validation_loss: of each new training, [S], each with a split, initialization and data order of its own;
            infinite where it diverged. Training i has the same seed for all methods and runs.
        validation_accuracy: likewise, as are the two below.
        test_loss: see above.
        test_accuracy: see above.
    """

    method: str
    seed: Whole
    validation_loss: NumberList
    validation_accuracy: NumberList
    test_loss: NumberList
    test_accuracy: NumberList


class RecordWriter(LineWriter):
    """Appends records, summaries of runs or confirmations to a file."""

    def append(self, row: Record | Run | Confirmation) -> None:
        """Writes one row.

        Raises:
            OSError: with the file's name, if it cannot be written; the file is as it was before.
        """
        self.append_row(to_mapping(row))

    def __enter__(self) -> RecordWriter:
        return self


def remove_records(path: Path, unwanted: Callable[[Record], bool]) -> int:
    """Takes rows out of a file of records like :func:`remove_rows`."""
    return remove_rows(path, Record, unwanted)


def remove_rows(path: Path, row_type: type[Row], unwanted: Callable[[Row], bool]) -> int:
    """Takes rows out of a file, all at once or not at all; the number taken out, 0 where there is no file.

    Args:
        path: the file.
        row_type: what a row is.
        unwanted: asked once of every row, in the order they were written.
    """
    if not path.exists():
        return 0
    with held(path):
        rows = list(_read_rows(path, row_type))
        kept = [row for row in rows if not unwanted(row)]
        if len(kept) < len(rows):
            replace_lines(path, map(to_mapping, kept))
    return len(rows) - len(kept)


def check_rows(folder: Path) -> None:
    """Reads all rows of a folder before something is done with them; a torn last line is noted in the log.

    Raises:
        ValueError: in one line with file and line number, if a line is malformed; or if there are fewer results of a
            finished run than its summary counts.
    """
    for path in (folder / RECORDS_FILE, folder / RUNS_FILE, folder / CONFIRMATIONS_FILE):
        if path.exists() and is_torn(path):
            LOGGER.warning("%s: its last line is torn and is left out", path)
    records = _read_rows(folder / RECORDS_FILE, Record) if (folder / RECORDS_FILE).exists() else ()
    counts = Counter((record.method, record.seed) for record in records)
    runs = read_runs(folder / RUNS_FILE) if (folder / RUNS_FILE).exists() else ()
    require_results(folder, counts, runs)
    read_confirmations(folder / CONFIRMATIONS_FILE)


def require_results(folder: Path, counts: Mapping[tuple[str, int], int], runs: Iterable[Run]) -> None:
    """Refuses records that were emptied or cut short; one result, whose line was torn, may be missing.

    Args:
        folder: named in the error.
        counts: how many records it holds, by method and seed.
        runs: all of its summaries.

    Raises:
        ValueError: in one line, if there are fewer results of a finished run than its summary counts.
    """
    for run in runs:
        found = counts.get((run.method, run.seed), 0)
        if found < run.evaluations - 1 or found == 0 < run.evaluations:
            raise ValueError(
                f"{folder / RECORDS_FILE} holds {found} results of method {run.method!r} with seed {run.seed}; it must "
                f"hold {run.evaluations}, as {RUNS_FILE} says"
            )


def read_records(path: Path) -> tuple[Record, ...]:
    """Reads a file of records in the order they were written; a torn last line is left out.

    Raises:
        ValueError: if another line is not a record, naming file and line.
    """
    return tuple(_read_rows(path, Record))


def read_runs(path: Path) -> tuple[Run, ...]:
    """Reads a file of run summaries like :func:`read_records`; a resumed run's later summary replaces its earlier one.

    Raises:
        ValueError: if a line is not a run summary, naming file and line.
    """
    return tuple({(run.method, run.seed): run for run in _read_rows(path, Run)}.values())


def read_confirmations(path: Path) -> tuple[Confirmation, ...]:
    """Reads a file of confirmations like :func:`read_records`; none where there is no file.

    Raises:
        ValueError: if a line is not a confirmation, naming file and line.
    """
    return tuple(_read_rows(path, Confirmation)) if path.exists() else ()


def _read_rows(path: Path, row_type: type[Row]) -> Iterator[Row]:
    for where, line in whole_lines(path):
        yield read_json(row_type, line, where, "entry")
