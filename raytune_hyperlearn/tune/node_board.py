"""A node's list of loaded data: who loads what, and where in Ray's object store it lies.

An actor per node keeps it. Its process imports neither torch nor Tune, and the data never go through it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import psutil

Answer = Literal["load", "wait", "alone"]
"""Load it for the others; ask again, another loads it; load it for yourself, it cannot be shared."""


@dataclass(frozen=True)
class Process:
    """A process of this machine; another one that has got its number later is not it.

    Attributes:
        number: Its process id.
        born: When it began, in seconds since 1970.
    """

    number: int
    born: float

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        return cls(os.getpid(), psutil.Process().create_time())

    def runs(self) -> bool:
        """Whether it has not ended."""
        try:
            process = psutil.Process(self.number)
            return bool(process.create_time() == self.born and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


@dataclass
class Entry:
    """Data of one key.

    Attributes:
        owner: Who loads or has loaded them. Objects in Ray's store are lost with the process that has put them there.
        content: A list of one reference to them; ``wait`` until they are there, ``alone`` if they cannot be shared.
    """

    owner: Process
    content: list[Any] | Answer = "wait"


class Board:
    """Answers at once: who has to wait asks again, so nobody waits for a process that has ended."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def ask(self, key: str, asker: Process) -> list[Any] | Answer:
        """Where the data of ``key`` are, or what to do about them.

        Args:
            key: Of the data.
            asker: Is to load them if nobody does.

        Returns:
            A list of one reference, or an answer.
        """
        entry = self.entries.get(key)
        if entry is None or not entry.owner.runs() or (entry.owner == asker and entry.content == "wait"):
            self.entries[key] = Entry(asker)
            return "load"
        return entry.content

    def give(self, key: str, giver: Process, content: list[Any] | Answer) -> None:
        """Tell the others what came of loading.

        Args:
            key: Of the data.
            giver: Who was asked to load them.
            content: A list of one reference, or ``alone``.
        """
        self.entries[key] = Entry(giver, content)

    def withdraw(self, key: str, giver: Process) -> None:
        """Let another one load: it did not work here.

        Args:
            key: Of the data.
            giver: Who was asked to load them.
        """
        if key in self.entries and self.entries[key].owner == giver:
            del self.entries[key]
