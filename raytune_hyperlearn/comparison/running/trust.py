"""Whose files a folder holds: continuing a run loads pickles, which run code, so they must be the user's own."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

ADVICE = "continuing loads pickles, which can run any code; make sure of their origin, then add --trust"


def require_own(folder: Path, storage: str | None = None) -> None:
    """Refuse a folder in which somebody else could have put a pickle, and any storage that is elsewhere.

    Raises:
        ValueError: In one line with the file, if it or anything in it belongs to somebody else, or others may write it.
    """
    if storage is not None:
        raise ValueError(f"resume is {folder}; who may write to its storage, {storage}, is not known: {ADVICE}")
    for path in (folder, *folder.rglob("*")):
        reason = _distrust(path)
        if reason:
            raise ValueError(f"resume is {folder}; {path} {reason}: {ADVICE}")


def _distrust(path: Path) -> str:
    """Why a file may not be the user's own work; empty if it is."""
    try:
        found = path.stat()
    except FileNotFoundError:  # a link to nothing, or removed meanwhile
        return ""
    if found.st_uid != os.geteuid():
        return "belongs to somebody else"
    shared = found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid)
    return "is writable by others" if found.st_mode & stat.S_IWOTH or shared else ""


def _is_private(group: int) -> bool:
    """Whether a group is the user's alone, as on systems that give each user a group of the same name."""
    try:
        user, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == user and set(entry.gr_mem) <= {user}
