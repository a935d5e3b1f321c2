"""Live progress of an experiment on the terminal: which run, time left, best so far.

It reads the records file that the driver's observer appends to, so nothing has to be handed into Ray's run.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.records import RUNS_FILE, Finish, read_runs
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.wording import finish_text, number

HEARTBEAT = 60.0
"""Seconds between two lines on a pipe while a run goes on."""


class Progress:
    """Shows the run under way and the best of every finished one; on a pipe, a line per run and one every minute.

    Args:
        experiment: What is run.
        records: File of records, which grows.
        done: Runs that were finished before.
        console: Where to draw.
    """

    def __init__(self, experiment: Experiment, records: Path, done: int, console: Console) -> None:
        self.experiment, self.console = experiment, console
        self._records = records
        found = records.stat() if records.exists() else None
        self._file, self._offset = (found.st_ino, found.st_size) if found else (0, 0)
        self._total, self._done = len(experiment.methods) * len(experiment.seeds), done
        self._run: tuple[str, int] | None = None
        self._begun = time.monotonic()
        self._clock = 0.0
        self._evaluations = 0
        self._crashes = 0
        self._error = ""
        self._best = self._best_at_any_budget = math.nan
        self._reading = Lock()
        self._ended = Event()
        self._heartbeat = Thread(target=self._beat, daemon=True)
        self._bests: dict[str, list[float]] = {method: [] for method in experiment.methods}
        self._live = Live(console=console, get_renderable=self.draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        else:
            self._heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._read()
        if kind is None:
            self._finish()
        if self.console.is_terminal:
            self._live.stop()

    def announce(self, method: str, seed: int) -> None:
        """A run begins.

        Args:
            method: The run's method.
            seed: The run's seed.
        """
        self._finish()
        self._run = (method, seed)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._begun, self._clock, self._evaluations = time.monotonic(), 0.0, 0
        self._best = self._best_at_any_budget = math.nan
        self._crashes, self._error = 0, ""

    def _finish(self) -> None:
        """Note the run that has ended."""
        self._read()
        if self._run is None:
            return
        method, seed = self._run
        self._bests[method].append(self._best)
        self._done += 1
        self._run = None
        reason = self._reason(method, seed)
        if not self.console.is_terminal:
            self.console.print(
                f"[{self._done}/{self._total}] {method} seed {seed}: {self._evaluations} evaluations, "
                f"best {self._name} {number(self._best)}{f'; ended: {finish_text(reason)}' if reason else ''}"
            )
        elif reason not in (None, "time_limit"):
            self.console.print(f"{method} seed {seed} ended before its time limit: {finish_text(reason)}")
        if self._crashes:
            crashed = f"{method} seed {seed}: {self._crashes} of {self._evaluations} evaluations crashed: {self._error}"
            self.console.print(crashed, style="red", markup=False, highlight=False, soft_wrap=True)

    def _reason(self, method: str, seed: int) -> Finish | None:
        """Why a run has ended; None if its driver has not noted it."""
        runs = self._records.with_name(RUNS_FILE)
        found = read_runs(runs) if runs.exists() else ()
        return next((run.finished for run in found if (run.method, run.seed) == (method, seed)), None)

    def _beat(self) -> None:
        """On a pipe: a line every minute, so that nobody takes a long run for one that hangs."""
        while not self._ended.wait(HEARTBEAT):
            self._read()
            if self._run is not None:
                method, seed = self._run
                text = f"run {self._done + 1} of {self._total}: {method}, {self._state(seed)}"
                self.console.print(text, highlight=False, soft_wrap=True)

    def _state(self, seed: int) -> str:
        """What the run under way has done so far."""
        if not self._evaluations:
            return f"seed {seed}: starting its worker"
        left = max(0.0, self.experiment.time_limit - (time.monotonic() - self._begun))
        return f"seed {seed}: {left:.0f} s left, {self._evaluations} evaluations, {self._best_text()}"

    def _best_text(self) -> str:
        """The best at the full budget; before there is one, the best at any."""
        if math.isnan(self._best) and not math.isnan(self._best_at_any_budget):
            return f"best {self._name} {number(self._best_at_any_budget)} (at a smaller budget)"
        return f"best {self._name} {number(self._best)}"

    @property
    def _name(self) -> str:
        return self.experiment.metric.replace("_", " ")

    def _read(self) -> None:
        """Take in the rows that were appended since the last look; two threads may look."""
        with self._reading:
            self._take()

    def _take(self) -> None:
        """Read on; from the start if rows were removed, which makes a new file."""
        if not self._records.exists():
            return
        with self._records.open("rb") as file:
            number = os.fstat(file.fileno()).st_ino
            if number != self._file:
                self._file, self._offset = number, 0
                self._begin_anew()
            file.seek(self._offset)
            fresh = file.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            row = json.loads(line)
            if self._run != (row["method"], row["seed"]):
                continue
            self._evaluations += 1
            if self._clock == 0.0:
                self._begun = time.monotonic() - row["time"]
            self._clock = row["time"]
            self._crashes += row["status"] == "crashed"
            self._error = self._error or row.get("error", "")
            value = row[self.experiment.metric]
            if row["status"] == "completed":
                self._best_at_any_budget = self._better(self._best_at_any_budget, value)
                if row["budget"] >= self.experiment.epochs - 1e-9:
                    self._best = self._better(self._best, value)

    def _better(self, known: float, value: float) -> float:
        choose = min if self.experiment.metric.endswith("loss") else max
        return value if math.isnan(known) else choose(known, value)

    def draw(self) -> RenderableType:
        """What a terminal shows now."""
        self._read()
        styles = method_styles(self.experiment.methods)
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("method")
        table.add_column("runs", justify="right")
        table.add_column(f"best {self._name}, each seed")
        for method, values in self._bests.items():
            color = styles[method].color
            shown = "  ".join(number(value) for value in values)
            table.add_row(Text(styles[method].label, style=color), str(len(values)), shown)
        if self._run is None:
            return Group(table)
        method, seed = self._run
        limit = self.experiment.time_limit
        now = min(time.monotonic() - self._begun, limit) if self._evaluations else 0.0
        line = Text.assemble(
            f"run {self._done + 1} of {self._total}: ",
            (styles[method].label, styles[method].color),
            f", {self._state(seed)}",
        )
        overall = (self._done + now / limit) / self._total
        return Group(table, line, ProgressBar(total=1.0, completed=overall, width=60))
