"""SIGTERM stops a run as Ctrl-C does: clusters send it before they take a machine away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


def exit_status(stop: BaseException) -> int:
    """The exit status that shells expect of a process that a signal ended."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Raise :class:`Terminated` on SIGTERM; to be used in the main thread."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Put back the process's own handler of SIGTERM: ``ray.init`` sets one that aborts with a stack of C++ frames."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is _stop:
        signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Terminated
