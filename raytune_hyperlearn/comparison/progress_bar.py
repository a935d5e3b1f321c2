"""A progress bar that also speaks on a pipe, where rich's own is silent until its end."""

from __future__ import annotations

from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

HEARTBEAT = 60.0
"""Seconds between two lines on a pipe."""


class Bar(Progress):
    """Rich's bar on a terminal; on a pipe, a line a minute and one when a task is done.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        shown = console.is_terminal
        # With auto_refresh, track leaves advance to a thread of the display, which a pipe has not.
        super().__init__(console=console, disable=not shown, auto_refresh=shown)
        self._told: dict[TaskID, float] = {}

    def add_task(self, description: str, *settings: Any, **fields: Any) -> TaskID:
        """Begin a task, as rich does; its first line on a pipe comes a minute later.

        Args:
            description: Its name.
            settings: Rich's other arguments.
            fields: Likewise.
        """
        task_id = super().add_task(description, *settings, **fields)
        self._told[task_id] = monotonic()
        return task_id

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a task on, as rich does.

        Args:
            task_id: The task.
            advance: By so much.
        """
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task, as rich does.

        Args:
            task_id: The task.
            changes: Rich's own arguments.
        """
        super().update(task_id, **changes)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task, now = self._tasks[task_id], monotonic()
        done = task.total is not None and task.completed >= task.total
        last = self._told[task_id]
        if not self.console.is_terminal and (now - last > HEARTBEAT or (done and last != float("inf"))):
            self._told[task_id] = float("inf") if done else now
            of = "" if task.total is None else f" of {task.total:.0f}"
            self.console.print(f"{task.description}: {task.completed:.0f}{of}", highlight=False, markup=False)
