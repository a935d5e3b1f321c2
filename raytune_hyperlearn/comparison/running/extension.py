"""An experiment that grows: more seeds, more methods or a longer time limit, and nothing is run twice.

The reference stays as it is, so that regrets before and after can be set side by side. A finished run is kept if it
had all the time of the longer limit, or ended by itself. Else it goes on from where it was stopped if its state is
still there, and is run anew if not. What the folder held before is copied to ``earlier/1``, ``earlier/2``, …
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raytune_hyperlearn.comparison.counted import counted
from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment, write_experiment
from raytune_hyperlearn.comparison.records import (
    CONFIRMATIONS_FILE,
    EXPERIMENT_FILE,
    RECORDS_FILE,
    RUNS_FILE,
    Confirmation,
    Record,
    Run,
    check_rows,
    read_runs,
    remove_rows,
)
from raytune_hyperlearn.comparison.running.folder import Folder, run_name, storage_of

EARLIER_FOLDER = "earlier"
TEXT_FILE = "extension.txt"
"""Beside the files as they were: what was added to them."""
KEPT_FILES = (EXPERIMENT_FILE, RECORDS_FILE, RUNS_FILE, CONFIRMATIONS_FILE)


def extended(
    experiment: Experiment,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    time_limit: float | None = None,
) -> Experiment:
    """The experiment with more methods and seeds, or a longer limit.

    Args:
        experiment: What was run.
        methods: To add; those that it has stay where they are.
        seeds: To add, likewise.
        time_limit: Wall-clock seconds of every run; None keeps the limit.

    Raises:
        ValueError: If the limit is shorter than it was, or nothing is added.
    """
    limit = experiment.time_limit if time_limit is None else time_limit
    if limit < experiment.time_limit:
        raise ValueError(f"time_limit is {limit:g}; it must be at least the experiment's {experiment.time_limit:g}")
    grown = replace(
        experiment,
        methods=tuple(dict.fromkeys([*experiment.methods, *methods])),
        seeds=tuple(dict.fromkeys([*experiment.seeds, *seeds])),
        time_limit=limit,
        focus=experiment.tested,
    )
    if replace(grown, focus=experiment.focus) == experiment:
        raise ValueError("extend adds nothing; it must come with new methods, new seeds or a longer time limit")
    return grown


def cut_off(experiment: Experiment, grown: Experiment, runs: Sequence[Run]) -> list[Run]:
    """The finished runs that stopped at a limit which is longer now."""
    if grown.time_limit == experiment.time_limit:
        return []
    return [run for run in runs if run.finished == "time_limit"]


def kept_runs(experiment: Experiment, path: Path) -> set[tuple[str, int]]:
    """Methods and seeds of the experiment whose runs the folder holds and that get no more time."""
    if not (path / EXPERIMENT_FILE).is_file() or not (path / RUNS_FILE).is_file():
        return set()
    before, runs = read_experiment(path / EXPERIMENT_FILE), read_runs(path / RUNS_FILE)
    stopped = {(run.method, run.seed) for run in cut_off(before, experiment, runs)}
    asked = set(itertools.product(experiment.methods, experiment.seeds))
    return {(run.method, run.seed) for run in runs} & asked - stopped


def extension_of(
    path: Path, methods: Sequence[str] = (), seeds: Sequence[int] = (), time_limit: float | None = None
) -> Experiment:
    """The experiment that a folder is to hold: its own with what is added, as :func:`extended`.

    Raises:
        ValueError: If there is no finished experiment in the folder, or for what is added.
    """
    if not (path / EXPERIMENT_FILE).is_file():
        raise ValueError(f"extend is {path}; it must be a folder that holds {EXPERIMENT_FILE}")
    experiment = read_experiment(path / EXPERIMENT_FILE)
    require_finished(experiment, path)
    return extended(experiment, [name.removeprefix("+") for name in methods], seeds, time_limit)


def history(path: Path) -> list[str]:
    """What each extension of a folder added, and what it did with the runs that were there, in order."""
    numbered = (path / EARLIER_FOLDER / str(number) / TEXT_FILE for number in itertools.count(1))
    return [file.read_text(encoding="utf-8") for file in itertools.takewhile(Path.is_file, numbered)]


def require_finished(experiment: Experiment, path: Path) -> None:
    """Refuse to extend what is still to be continued.

    Raises:
        ValueError: With file and line if rows are damaged, or if a run is missing.
    """
    check_rows(path)
    finished = {(run.method, run.seed) for run in read_runs(path / RUNS_FILE)} if (path / RUNS_FILE).exists() else set()
    asked = set(itertools.product(experiment.methods, experiment.seeds))
    if missing := len(asked - finished):
        raise ValueError(
            f"extend is {path}; it must hold a finished experiment, {missing} of its {len(asked)} runs are missing: "
            f"continue with --resume {path}"
        )


def extend_folder(experiment: Experiment, grown: Experiment, path: Path) -> Path:
    """Make the experiment's folder the grown one's; it can be continued from there.

    If this is cut short, the settings are still the old ones, and ``earlier`` holds what was taken out.

    Returns:
        The folder with the files as they were.
    """
    numbers = (path / EARLIER_FOLDER / str(number) for number in itertools.count(1))
    earlier = next(folder for folder in numbers if not folder.exists())
    earlier.mkdir(parents=True)
    for name in KEPT_FILES:
        if (path / name).exists():
            shutil.copy2(path / name, earlier / name)
    runs = read_runs(path / RUNS_FILE)
    stopped = {(run.method, run.seed) for run in cut_off(experiment, grown, runs)}
    go_on = _with_state(experiment, path, stopped)
    (earlier / TEXT_FILE).write_text(_text(experiment, grown, len(stopped), len(go_on)), encoding="utf-8")

    def is_stopped(row: Run | Confirmation) -> bool:
        return (row.method, row.seed) in stopped

    remove_rows(path / CONFIRMATIONS_FILE, Confirmation, is_stopped)
    remove_rows(path / RUNS_FILE, Run, is_stopped)
    remove_rows(path / RECORDS_FILE, Record, lambda row: (row.method, row.seed) in stopped - go_on)
    for method, seed in stopped:
        Folder(path).end_of(method, seed).unlink(missing_ok=True)
    settings = path / f"{EXPERIMENT_FILE}.unfinished"
    write_experiment(grown, settings)
    settings.replace(path / EXPERIMENT_FILE)
    return earlier


def _with_state(experiment: Experiment, path: Path, runs: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the runs that have left a state to go on from."""
    from raytune_hyperlearn.tune.kept_state import can_restore, run_path  # they import Ray

    storage = storage_of(experiment, path)
    return {(method, seed) for method, seed in runs if can_restore(run_path(storage, run_name(method, seed)))}


def _text(experiment: Experiment, grown: Experiment, stopped: int, go_on: int) -> str:
    """What is added, what is kept, what goes on and what is run anew, in a sentence."""
    before = len(experiment.methods) * len(experiment.seeds)
    added = len(grown.methods) * len(grown.seeds) - before
    text = f"{counted(added, 'new run')}; {before - stopped} of {before} finished ones are kept"
    if stopped:
        text += f", {stopped} stopped at the limit of {experiment.time_limit:g} s: "
        text += f"{go_on} of them {'goes on from its last state' if go_on == 1 else 'go on from their last states'}"
    anew = stopped - go_on
    return text + (f", {anew} {'is' if anew == 1 else 'are'} run anew" if anew else "")
