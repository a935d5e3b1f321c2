"""A whole copy of Tune's own state, from which a run goes on whose driver was killed.

Tune copies its state into the run's folder file by file, in place and beside the running trials. A driver that is
killed meanwhile leaves half a file, which ``Tuner.restore`` cannot read, or a searcher's state of another moment than
the trials'. Pass a :class:`KeepState` among the callbacks, and go on by :func:`restore_tuner`::

    tune.RunConfig(callbacks=[KeepState()], ...)

    tuner = restore_tuner(path, FDSTrainable) if can_restore(path) else tune.Tuner(FDSTrainable, ...)

Checkpoints are not in the copy: let the run keep all of them, or at least its last two (``num_to_keep``).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

from pyarrow import fs
from ray import tune
from ray.tune.experiment import Trial

KEPT_FILE = "kept_state.zip"
STATE_SUFFIXES = (".json", ".pkl")
"""Of the files in a run's folder from which Tune restores it."""


class KeepState(tune.Callback):
    """Writes every state that Tune saves as one file into the run's folder, whole or not at all."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Keep the state if Tune has saved one since."""
        self._keep(trials)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Keep the last state."""
        self._keep(trials)

    def _keep(self, trials: list[Trial]) -> None:
        if not trials:
            return
        # Tune writes here first, in this thread, so that all files are whole and of one moment.
        storage = trials[0].storage
        staged = Path(storage.experiment_driver_staging_path)
        files = [path for path in staged.glob("*") if path.suffix in STATE_SUFFIXES]
        saved = {path.name: path.stat().st_mtime_ns for path in files}
        if saved and saved != self._kept:
            content = _packed({path.name: path.read_bytes() for path in files})
            target = str(PurePosixPath(storage.experiment_fs_path) / KEPT_FILE)
            _write_whole(storage.storage_filesystem, target, content)
            self._kept = saved


def can_restore(path: str | Path) -> bool:
    """Whether a run's folder, a local path or a URI, holds a kept state."""
    system, folder = _open(path)
    return bool(system.get_file_info(f"{folder}/{KEPT_FILE}").type == fs.FileType.File)


def restore_tuner(path: str | Path, trainable: Any, **arguments: Any) -> tune.Tuner:
    """A tuner that goes on with a run from its kept state.

    Args:
        path: The run's folder: a local path or a URI.
        trainable: As for ``Tuner.restore``.
        arguments: As for ``Tuner.restore``.

    Raises:
        ValueError: If the folder holds no kept state.
    """
    if not can_restore(path):
        raise ValueError(f"path is {str(path)!r}; it must be the folder of a run with KeepState among its callbacks")
    put_back(path)
    return tune.Tuner.restore(str(path), trainable, **arguments)


def put_back(path: str | Path) -> None:
    """Make the kept state the one that ``Tuner.restore`` reads; doing it again changes nothing."""
    system, folder = _open(path)
    with system.open_input_file(f"{folder}/{KEPT_FILE}") as stream, ZipFile(io.BytesIO(stream.readall())) as kept:
        files = {name: kept.read(name) for name in kept.namelist()}
    for name, content in files.items():
        _write_whole(system, f"{folder}/{name}", content)
    for info in system.get_file_info(fs.FileSelector(folder)):
        newer = info.base_name.startswith("experiment_state-") and info.base_name not in files
        if info.type == fs.FileType.File and newer:
            system.delete_file(info.path)


def _open(path: str | Path) -> tuple[fs.FileSystem, str]:
    """The file system and the path on it of a local path or a URI."""
    where = str(path)
    system, folder = fs.FileSystem.from_uri(where if "://" in where else str(Path(where).resolve()))
    return system, folder


def _packed(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _write_whole(system: fs.FileSystem, target: str, content: bytes) -> None:
    """Write under another name first: whoever reads the file sees all of it or what was there before."""
    unfinished = f"{target}.unfinished"
    with system.open_output_stream(unfinished) as stream:
        stream.write(content)
    system.move(unfinished, target)
