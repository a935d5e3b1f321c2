"""A whole copy of Tune's own state, from which a run whose driver was killed continues.

Tune copies its state into the run's folder file by file, in place and beside the running trials. A driver that is
killed meanwhile leaves half a file, which ``Tuner.restore`` cannot read, or a searcher's state of another moment than
the trials'. Pass a :class:`KeepState` among the callbacks, and continue by :func:`restore_tuner`::

    tune.RunConfig(callbacks=[KeepState()], ...)

    tuner = restore_tuner(path, FDSTrainable) if can_restore(path) else tune.Tuner(FDSTrainable, ...)

The copy holds every file that ``Tuner.restore`` reads from the run's folder, ``tuner.pkl`` too (Ray writes it in
place: ray-project/ray#58179), and the copy before it is kept as well, for a disk that spoils the newest. Checkpoints
are not in the copy: let the run keep all of them, or at least its last two (``num_to_keep``). Paths are taken from
the folder that is given, so a moved or copied folder continues where it lies.

``tuner.pkl`` is a pickle, which runs code when it is read: restore only folders that you trust.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from pyarrow import fs
from ray import tune
from ray.tune.experiment import Trial

LOGGER = logging.getLogger(__name__)

KEPT_FILE = "kept_state.zip"
PREVIOUS_FILE = "kept_state.previous.zip"
TUNER_FILE = "tuner.pkl"
STATE_SUFFIXES = (".json", ".pkl")
"""Of the files in a run's folder from which Tune restores it."""
STATE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.(json|pkl)")
"""Names that a copy may hold: no separators, so that nothing is written outside the run's folder."""
MOST_FILES, MOST_BYTES = 100, 2**31
"""A copy that says it holds more is damaged or hostile."""


class KeepState(tune.Callback):
    """Writes every state that Tune saves as one file into the run's folder, whole or not at all."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}
        self._tuner: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the callback is part of what it keeps."""
        return {"_kept": {}, "_tuner": None}

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
        if not saved or saved == self._kept:
            return
        content = {path.name: path.read_bytes() for path in files}
        folder, system = PurePosixPath(storage.experiment_fs_path), storage.storage_filesystem
        if self._tuner is None:  # written before the run began, and not again while it lasts
            self._tuner = _read(system, str(folder / TUNER_FILE))
        if self._tuner:
            content[TUNER_FILE] = self._tuner
        _write_whole(system, str(folder / KEPT_FILE), _packed(content), previous=str(folder / PREVIOUS_FILE))
        self._kept = saved


def can_restore(path: str | Path) -> bool:
    """Whether a run's folder, a local path or a URI, holds a whole kept state that ``Tuner.restore`` can read.

    Args:
        path: The run's folder: a local path or a URI.
    """
    system, folder = _open(path)
    return any(_unpacked(_read(system, f"{folder}/{name}")) is not None for name in (KEPT_FILE, PREVIOUS_FILE))


def run_path(storage: str | Path, name: str) -> str:
    """The folder of a run in a storage.

    Args:
        storage: A local path or a URI, whose query stays at the end.
        name: Of the run.
    """
    where, mark, query = str(storage).partition("?")
    return f"{where.rstrip('/')}/{name}{mark}{query}"


def names_in(storage: str | Path) -> list[str]:
    """What a storage holds, by name; nothing where there is no such folder yet.

    Args:
        storage: A local path or a URI.

    Raises:
        OSError, ValueError: If pyarrow cannot open it.
    """
    system, folder = _open(storage)
    return [info.base_name for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True))]


def remove_run(path: str | Path) -> None:
    """Remove a run's folder, or what there is of it.

    Args:
        path: A local path or a URI.
    """
    system, folder = _open(path)
    with contextlib.suppress(OSError):  # there is none, or another process removes it as well
        system.delete_dir(folder)


def leave_kept(path: str | Path) -> None:
    """Remove all of a run's folder but what it goes on from: the kept states and the checkpoints of trials.

    Args:
        path: A local path or a URI; nothing is there any more if the folder holds no kept state that is whole.
    """
    if not can_restore(path):
        remove_run(path)
        return
    system, folder = _open(path)
    for info in system.get_file_info(fs.FileSelector(folder)):
        if info.type == fs.FileType.Directory:
            held = system.get_file_info(fs.FileSelector(info.path))
            if not any(each.base_name.startswith("checkpoint_") for each in held):
                system.delete_dir(info.path)
        elif info.base_name not in (KEPT_FILE, PREVIOUS_FILE):
            system.delete_file(info.path)


def restore_tuner(path: str | Path, trainable: Any, **arguments: Any) -> tune.Tuner:
    """A tuner that continues a run from its kept state.

    Args:
        path: The run's folder: a local path or a URI.
        trainable: As for ``Tuner.restore``.
        arguments: As for ``Tuner.restore``.

    Raises:
        ValueError: If the folder holds no kept state, or none that is whole.
    """
    restore_kept_files(path)
    return tune.Tuner.restore(str(path), trainable, **arguments)


def restore_kept_files(path: str | Path) -> None:
    """Make the newest whole kept state the one that ``Tuner.restore`` reads; doing it again changes nothing.

    Raises:
        ValueError: If the folder holds no kept state, or none that is whole.
    """
    system, folder = _open(path)
    files = _newest_whole(system, folder, str(path))
    for name, content in files.items():
        _write_whole(system, f"{folder}/{name}", content)
    for info in system.get_file_info(fs.FileSelector(folder)):
        newer = info.base_name.startswith("experiment_state-") and info.base_name not in files
        if info.type == fs.FileType.File and newer:
            system.delete_file(info.path)


def _newest_whole(system: fs.FileSystem, folder: str, path: str) -> dict[str, bytes]:
    """The files of the newest kept state that is whole; a damaged one is named in the log."""
    damaged: list[str] = []
    for name in (KEPT_FILE, PREVIOUS_FILE):
        content = _read(system, f"{folder}/{name}")
        files = _unpacked(content)
        if files is not None:
            for broken in damaged:
                LOGGER.warning("%s is damaged; the state before it is used, %s", broken, f"{folder}/{name}")
            return files
        if content:
            damaged.append(f"{folder}/{name}")
    if damaged:
        raise ValueError(f"path is {path!r}; its kept state is damaged: {' and '.join(damaged)}")
    raise ValueError(f"path is {path!r}; it must be the folder of a run with KeepState among its callbacks")


def _unpacked(content: bytes) -> dict[str, bytes] | None:
    """The files of a kept state by name; None if it is damaged, or holds what no kept state holds."""
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if not _is_expected([entry.filename for entry in entries], sum(entry.file_size for entry in entries)):
                return None
            return {entry.filename: archive.read(entry) for entry in entries}
    except (BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return None


def _is_expected(names: list[str], size: int) -> bool:
    """Whether a kept state may hold files of these names and this size in all."""
    complete = TUNER_FILE in names and any(name.startswith("experiment_state-") for name in names)
    bounded = len(names) == len(set(names)) <= MOST_FILES and size <= MOST_BYTES
    return complete and bounded and all(STATE_NAME.fullmatch(name) for name in names)


def _open(path: str | Path) -> tuple[fs.FileSystem, str]:
    """The file system and the path on it of a local path or a URI."""
    where = str(path)
    system, folder = fs.FileSystem.from_uri(where if "://" in where else str(Path(where).resolve()))
    return system, folder


def _packed(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED, compresslevel=1) as archive:  # a state is text, and long
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _read(system: fs.FileSystem, path: str) -> bytes:
    """A file's content; empty where there is no such file."""
    try:
        with system.open_input_file(path) as stream:
            content: bytes = stream.readall()
            return content
    except FileNotFoundError:
        return b""


def _write_whole(system: fs.FileSystem, target: str, content: bytes, previous: str | None = None) -> None:
    """Write under another name first: whoever reads the file sees all of it or what was there before.

    Args:
        system: Where the file is.
        target: The file.
        content: What it is to hold.
        previous: Where its content before is kept; None keeps none.
    """
    unfinished = f"{target}.unfinished"
    with system.open_output_stream(unfinished) as stream:
        stream.write(content)
    if previous is not None and system.get_file_info(target).type == fs.FileType.File:
        system.move(target, previous)
    system.move(unfinished, target)
