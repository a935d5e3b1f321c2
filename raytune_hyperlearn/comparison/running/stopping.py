"""SIGTERM stops a run as Ctrl-C does: clusters send it before they take a machine away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

_TERMINATED = Event()
"""Signals belong to the process. An exception's type cannot tell: Ray turns any that a handler raises into its own."""


def exit_status() -> int:
    """The exit status that shells expect after SIGTERM if that has come, else after Ctrl-C."""
    return 128 + (signal.SIGTERM if _TERMINATED.is_set() else signal.SIGINT)


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM; to be used in the main thread."""
    _TERMINATED.clear()
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
    _TERMINATED.set()
    raise KeyboardInterrupt
