"""A lock on a results folder: one driver at a time writes to it.

The lock is a small file in the folder that names the process which holds it. It is taken before anything else starts.
A lock whose process is gone is stale, and so is one that came along when a folder was copied: both are replaced.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import psutil

from raytune_hyperlearn.checked import Finite, Whole, read, record

LOGGER = logging.getLogger(__name__)

LOCK_FILE = ".lock"
SAME_START = 2.0
"""Seconds by which a process's start may seem to differ when the machine's clock is set."""


@record
class Holder:
    """Who holds a lock.

    Attributes:
        pid: The process.
        host: The machine it runs on.
        started: When the process started, in seconds since 1970: pids are used again.
        file: Number of the lock's file (inode); a copy of the file has another.
    """

    pid: Whole
    host: str
    started: Finite
    file: Whole

    def is_gone(self, lock: Path) -> bool:
        """Whether the lock file names a process that does not hold it any more, as far as this machine can tell."""
        if self.file != _number(lock):
            return True
        return self.host == socket.gethostname() and abs(_start_of(self.pid) - self.started) > SAME_START


class FolderLockedError(ValueError):
    """Another process writes to the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the folder is made where absent, and removed at the end if it is still empty.

    Raises:
        FolderLockedError: In one line with pid and host, if another process holds the lock.
        ValueError: If ``folder`` is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output is {folder}; it must be a folder")
    made = _make(folder)
    lock = folder.resolve() / LOCK_FILE
    try:
        holder = _take(lock)
        try:
            yield
        finally:
            if _read(lock) == holder:
                lock.unlink(missing_ok=True)
    finally:
        _remove_empty(made)


def _take(lock: Path) -> Holder:
    """Write the lock file, whole or not at all; of several processes that try, one succeeds."""
    own = lock.with_name(f"{LOCK_FILE}.{socket.gethostname()}.{os.getpid()}")
    own.touch()
    try:
        mine = Holder(os.getpid(), socket.gethostname(), _start_of(os.getpid()), _number(own))
        own.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        while True:
            try:
                os.link(own, lock)
                return mine
            except FileExistsError:
                _remove_stale(lock)
    finally:
        own.unlink(missing_ok=True)


def _remove_stale(lock: Path) -> None:
    """Remove the lock of a process that is gone, and name what it has left running.

    Raises:
        FolderLockedError: If its process may be alive.
    """
    found = _read(lock)
    if found is not None and not found.is_gone(lock):
        raise FolderLockedError(_refusal(lock, found))
    aside = lock.with_name(f"{LOCK_FILE}.stale.{os.getpid()}")
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return  # another process has removed it
    moved = _read(aside)
    if moved is not None and moved != found:  # another process has taken the lock since it was read
        os.link(aside, lock)
        aside.unlink()
        raise FolderLockedError(_refusal(lock, moved))
    aside.unlink()
    if found is not None:
        _name_leftovers(lock.parent, found)


def _name_leftovers(folder: Path, holder: Holder) -> None:
    # A copied folder's lock may name a process that lives, and a number that is used again is another driver's.
    if holder.host != socket.gethostname() or _start_of(holder.pid) != float("-inf"):
        return
    left = ", ".join(str(process.pid) for process in leftovers(holder.pid))
    if left:
        LOGGER.warning("%s: process %d was killed; its Ray is still ending: %s", folder, holder.pid, left)


def leftovers(pid: int) -> list[psutil.Process]:
    """Processes of the local Ray that a process started; Ray's sessions end in its number, and are in their commands.

    Args:
        pid: Of a driver that is gone.
    """
    session = re.compile(rf"session_[0-9-]+_[0-9-]+_[0-9]+_{pid}(?![0-9])")
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if session.search(" ".join(process.info["cmdline"] or []))]


def _refusal(lock: Path, holder: Holder) -> str:
    since = datetime.fromtimestamp(holder.started).isoformat(sep=" ", timespec="seconds")
    process = f"process {holder.pid} on {holder.host}, started {since}"
    elsewhere = holder.host != socket.gethostname()
    hint = f"; if that process is gone, remove {lock}" if elsewhere else ""
    return f"output is {lock.parent}; {process}, is writing to it{hint}"


def _read(lock: Path) -> Holder | None:
    """What the lock file says; None where it is gone or says nothing that can be read."""
    try:
        return read(Holder, json.loads(lock.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def _number(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _start_of(pid: int) -> float:
    """When a process started, in seconds since 1970; infinitely long ago where there is no such process."""
    try:
        process = psutil.Process(pid)
        return float("-inf") if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return float("-inf")


def _make(folder: Path) -> list[Path]:
    """Make the folder and its parents; those that were made, the innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
