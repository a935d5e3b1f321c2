"""Files of JSON objects, one a line, that a killed driver leaves whole: every row at once or not at all."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

BLOCK = 65536
"""Bytes that the end of a file is looked for in at a time."""


class LineWriter:
    """Appends rows to a file of JSON lines; each is with the operating system before ``append`` returns.

    So a killed driver loses at most the row it was writing. Opening a file whose last line was torn that way removes
    the torn part, which would otherwise spoil the next row.

    A row that cannot be written, on a full disk say, leaves no part of itself. One process at a time writes: another
    waits until the file is closed.

    Args:
        path: the file, made where absent, continued where present.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open_alone(path)
        _mend_last_line(path)

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Writes one row of plain values.

        Raises:
            OSError: with the file's name, if it cannot be written; the file is as it was before.
        """
        line = memoryview((json.dumps(row) + "\n").encode())
        before = self._path.stat().st_size
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.truncate(before)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Closes the file; further rows are refused."""
        self._file.close()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Every line's place, for messages, and its content; a torn last line is left out.

    Raises:
        ValueError: in one line with file and line number, if a line is not JSON.
    """
    for where, line in whole_lines(path):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON ({error})") from None
        yield where, data


def whole_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every line's place, for messages, and the line as it is; a torn last one is left out."""
    name = str(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") or _parses(line):  # the last one may lack its newline
                yield f"{name} line {number}", line.removesuffix(b"\n")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keeps other processes from writing to a file of lines, which may be replaced meanwhile; made where absent."""
    with _open_alone(path):
        yield


def _open_alone(path: Path) -> FileIO:
    """The file, to be appended to, once no other process has it open; after a replacement, the new one."""
    while True:
        file = path.open("ab", buffering=0)
        with suppress(OSError):  # a file system without locks serves one process at a time
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def replace_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Puts other rows in place of a file's, all at once or not at all."""
    unfinished = path.with_suffix(".rewritten")
    unfinished.unlink(missing_ok=True)
    with LineWriter(unfinished) as writer:
        for row in rows:
            writer.append_row(row)
    unfinished.replace(path)


def is_torn(path: Path) -> bool:
    """Whether a file's last line was torn."""
    tail = _last_line(path)
    return bool(tail) and not _parses(tail)


def _mend_last_line(path: Path) -> None:
    tail = _last_line(path) if path.exists() else b""
    if not tail:
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if _parses(tail):
            file.write(b"\n")
        else:
            file.truncate(end - len(tail))


def _last_line(path: Path) -> bytes:
    """What stands after the last newline."""
    with path.open("rb") as file:
        start, tail = file.seek(0, os.SEEK_END), b""
        while start and b"\n" not in tail:
            size = min(start, BLOCK)
            start = file.seek(start - size)
            tail = file.read(size) + tail
    return tail.rpartition(b"\n")[2]


def _parses(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
