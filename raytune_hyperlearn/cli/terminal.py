"""What the command's terminal shows: output, and errors in one line each."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from raytune_hyperlearn.comparison.running.stopping import exit_status

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of a disk that takes no more."""
console = Console()
errors = Console(stderr=True)


def say(message: str) -> None:
    """One line on standard error, whatever the terminal's width."""
    line = " ".join(message.split())
    errors.print(f"hyperlearn: {line}", style="red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a refusal into one line on standard error and exit status 2."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        say(str(error))
        raise typer.Exit(2) from None


@contextmanager
def ways_to_continue(command: str) -> Iterator[None]:
    """After Ctrl-C, SIGTERM or a write that failed, say in one line how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; every record is kept, continue with: {command}")
        raise typer.Exit(exit_status()) from None
    except Exception as error:
        unwritten = _failed_write(error)
        if unwritten is None:
            raise
        say(f"{unwritten}; every record before is kept, continue with: {command}")
        raise typer.Exit(1) from None


def _failed_write(error: BaseException | None) -> OSError | None:
    """The write that failed, if one is behind the error: Tune wraps what callbacks raise."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            return error
        error = error.__cause__ or error.__context__
    return None


def accuracy_text(accuracy: float | None) -> str:
    """``, test accuracy 0.9``; empty for a problem that has no accuracy."""
    return "" if accuracy is None or math.isnan(accuracy) else f", test accuracy {accuracy:.4g}"
