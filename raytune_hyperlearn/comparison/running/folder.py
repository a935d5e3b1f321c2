"""An experiment's folder: what it holds, and when an experiment may write to it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment, write_experiment
from raytune_hyperlearn.comparison.records import (
    EXPERIMENT_FILE,
    RECORDS_FILE,
    RUNS_FILE,
    TUNE_FOLDER,
    check_rows,
    read_runs,
)
from raytune_hyperlearn.comparison.running.lock import LOCK_FILE


class FolderInUseError(ValueError):
    """The output folder holds another experiment."""


@dataclass(frozen=True)
class Folder:
    """The files of one experiment."""

    path: Path

    @property
    def records(self) -> Path:
        """File of records."""
        return self.path / RECORDS_FILE

    @property
    def runs(self) -> Path:
        """File of run summaries."""
        return self.path / RUNS_FILE

    def end_of(self, method: str, seed: int) -> Path:
        """The file that says a run has ended, with its times."""
        return self.path / TUNE_FOLDER / f"{run_name(method, seed)}.ended.json"

    def finished(self) -> set[tuple[str, int]]:
        """Methods and seeds whose run has ended by itself or at its limit."""
        if not self.runs.exists():
            return set()
        return {(run.method, run.seed) for run in read_runs(self.runs)}


def run_name(method: str, seed: int) -> str:
    """What Tune and the files of a run call it."""
    return f"{method}-{seed}"


def storage_of(experiment: Experiment, path: Path) -> str | Path:
    """Where Tune keeps checkpoints and states of the runs of an experiment in a folder."""
    return experiment.storage or path.resolve() / TUNE_FOLDER


def check_folder(experiment: Experiment, path: Path, resume: bool) -> None:
    """Refuse a folder that the experiment must not write to; nothing is written.

    Raises:
        FolderInUseError: If it holds another experiment, or this one's records and ``resume`` is False.
        ValueError: With file and line, if rows are damaged that a resumed experiment needs.
    """
    folder = Folder(path)
    settings = path / EXPERIMENT_FILE
    if path.exists() and not path.is_dir():
        raise FolderInUseError(f"output is {path}; it must be a folder")
    if settings.exists():
        if read_experiment(settings) != experiment:
            raise FolderInUseError(
                f"output is {path}; it holds another experiment, choose another folder or --overwrite"
            )
        if resume:
            check_rows(path)
        elif folder.records.exists():
            raise FolderInUseError(
                f"output is {path}; it holds this experiment's records: continue with --resume {path}, see them by "
                f"`hyperlearn report {path}`, begin anew with --overwrite, or choose another folder with --output"
            )
    elif path.exists() and any(not item.name.startswith(LOCK_FILE) for item in path.iterdir()):
        raise FolderInUseError(f"output is {path}; it is neither empty nor an experiment's folder")


def prepare_folder(experiment: Experiment, path: Path, resume: bool) -> Folder:
    """Make the experiment's folder, or take up the one that holds the same experiment.

    Raises:
        FolderInUseError: As :func:`check_folder`.
    """
    check_folder(experiment, path, resume)
    folder = Folder(path)
    path.mkdir(parents=True, exist_ok=True)
    write_experiment(experiment, path / EXPERIMENT_FILE)
    folder.records.touch()
    return folder


def set_aside(path: Path) -> Path | None:
    """Rename an experiment's folder to the first free name of ``path.1``, ``path.2``, …

    Returns:
        The new name; None if there was nothing to keep.

    Raises:
        FolderInUseError: If the folder holds something else than an experiment.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not (path / EXPERIMENT_FILE).is_file():
        raise FolderInUseError(f"output is {path}; it must be an experiment's folder to be overwritten")
    names = (path.with_name(f"{path.resolve().name}.{number}") for number in itertools.count(1))
    return path.rename(next(name for name in names if not name.exists()))
