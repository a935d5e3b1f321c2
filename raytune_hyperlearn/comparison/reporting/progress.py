"""Live progress of an experiment on the terminal: which runs, time left, best so far.

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
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raytune_hyperlearn.comparison.counted import counted
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.progress_bar import HEARTBEAT
from raytune_hyperlearn.comparison.records import RUNS_FILE, Finish, read_runs
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.wording import finish_text, number


class UnderWay:
    """What is known of a run.

    Args:
        experiment: Whose run it is.
        method: The run's method.
        seed: The run's seed.
    """

    def __init__(self, experiment: Experiment, method: str, seed: int) -> None:
        self.experiment, self.method, self.seed = experiment, method, seed
        self.begun = math.nan
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the rows: they are read again."""
        self.evaluations = 0
        self.best = self.best_at_any_budget = math.nan
        self.crashes, self.error = 0, ""

    def take(self, row: dict[str, Any], is_fresh: bool) -> None:
        """Take in a row of the run; one that was written just now tells when its clock began."""
        self.evaluations += 1
        if is_fresh and math.isnan(self.begun):
            self.begun = time.monotonic() - row["time"]
        self.crashes += row["status"] == "crashed"
        self.error = self.error or row.get("error", "")
        value = row[self.experiment.metric]
        if row["status"] == "completed":
            self.best_at_any_budget = self._better(self.best_at_any_budget, value)
            if row["budget"] >= self.experiment.epochs - 1e-9:
                self.best = self._better(self.best, value)

    @property
    def done(self) -> float:
        """Part of the time limit that has passed, in [0, 1]."""
        passed = 0.0 if math.isnan(self.begun) else time.monotonic() - self.begun
        return min(passed / self.experiment.time_limit, 1.0)

    def text(self) -> str:
        """What it has done so far."""
        if not self.evaluations:
            return f"seed {self.seed}: starting its worker"
        left = (1 - self.done) * self.experiment.time_limit
        when = "starting its worker again" if math.isnan(self.begun) else f"{left:.0f} s left"
        return f"seed {self.seed}: {when}, {counted(self.evaluations, 'evaluation')}, {self._best_text()}"

    def _best_text(self) -> str:
        """The best at the full budget, named where a smaller one had better; before there is one, the best at any."""
        name = metric_name(self.experiment)
        if math.isnan(self.best) and not math.isnan(self.best_at_any_budget):
            return f"best {name} {number(self.best_at_any_budget)} (at a smaller budget)"
        smaller_is_better = not math.isnan(self.best) and self._better(self.best, self.best_at_any_budget) != self.best
        return f"best {name} {number(self.best)}{' at the full budget' if smaller_is_better else ''}"

    def _better(self, known: float, value: float) -> float:
        choose = min if self.experiment.metric.endswith("loss") else max
        return value if math.isnan(known) else choose(known, value)


def metric_name(experiment: Experiment) -> str:
    """What chooses, in words."""
    return experiment.metric.replace("_", " ")


class Progress:
    """Shows the runs under way and the best of every finished one; on a pipe, a line per run and one every minute.

    Args:
        experiment: What is run.
        records: File of records, which grows.
        done: Runs that were finished before.
        console: Where to draw.
        verbose: Show a line for every result, too.
    """

    def __init__(
        self, experiment: Experiment, records: Path, done: int, console: Console, verbose: bool = False
    ) -> None:
        self.experiment, self.console, self.verbose = experiment, console, verbose
        self._records = records
        self._file, self._offset = 0, 0
        self._total, self._done = len(experiment.methods) * len(experiment.seeds), done
        self._seen: dict[tuple[str, int], UnderWay] = {}
        self._under_way: dict[tuple[str, int], UnderWay] = {}
        self._reading = Lock()
        self._ended = Event()
        self._heartbeat = Thread(target=self._beat, daemon=True)
        self._bests: dict[str, list[float]] = {method: [] for method in experiment.methods}
        self._live = Live(console=console, get_renderable=self.draw, refresh_per_second=4, transient=True)
        self._read()  # what earlier parts of runs that go on have left

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
        if self.console.is_terminal:
            self._live.stop()

    def announce(self, method: str, seed: int) -> None:
        """A run begins.

        Args:
            method: The run's method.
            seed: The run's seed.
        """
        self._read()
        with self._reading:
            self._under_way[method, seed] = self._known(method, seed)

    def ended(self, method: str, seed: int) -> None:
        """A run has ended; its summary is in the folder.

        Args:
            method: The run's method.
            seed: The run's seed.
        """
        self._read()
        with self._reading:
            run = self._under_way.pop((method, seed))
        self._bests[method].append(run.best)
        self._done += 1
        reason = self._reason(method, seed)
        if not self.console.is_terminal:
            self.console.print(
                f"[{self._done}/{self._total}] {method} seed {seed}: {counted(run.evaluations, 'evaluation')}, "
                f"best {metric_name(self.experiment)} {number(run.best)}"
                f"{f'; ended: {finish_text(reason)}' if reason else ''}"
            )
        elif reason not in (None, "time_limit"):
            self.console.print(f"{method} seed {seed} ended before its time limit: {finish_text(reason)}")
        if run.crashes:
            crashed = (
                f"{method} seed {seed}: {run.crashes} of {counted(run.evaluations, 'evaluation')} crashed: {run.error}"
            )
            self.console.print(crashed, style="red", markup=False, highlight=False, soft_wrap=True)

    def _reason(self, method: str, seed: int) -> Finish | None:
        """Why a run has ended; None if its driver has not noted it."""
        runs = self._records.with_name(RUNS_FILE)
        found = read_runs(runs) if runs.exists() else ()
        return next((run.finished for run in found if (run.method, run.seed) == (method, seed)), None)

    def _beat(self) -> None:
        """On a pipe: a line every minute for each run, so that nobody takes a long one for one that hangs."""
        told = time.monotonic()
        while not self._ended.wait(min(1.0, HEARTBEAT)):
            self._read()
            if time.monotonic() - told < HEARTBEAT:
                continue
            told = time.monotonic()
            for place, run in self._numbered():
                text = f"run {place} of {self._total}: {run.method}, {run.text()}"
                self.console.print(text, highlight=False, soft_wrap=True)

    def _numbered(self) -> list[tuple[int, UnderWay]]:
        """The runs under way and which of all they are."""
        with self._reading:
            return list(enumerate(self._under_way.values(), start=self._done + 1))

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
            is_read_anew = self._file not in (0, number)
            if is_read_anew:
                self._offset = 0
                for known in self._seen.values():
                    known.begin_anew()
            self._file = number
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._offset += len(line)
                self._take_row(json.loads(line), is_read_anew)

    def _take_row(self, row: dict[str, Any], is_read_anew: bool) -> None:
        is_under_way = (row["method"], row["seed"]) in self._under_way
        self._known(row["method"], row["seed"]).take(row, is_under_way and not is_read_anew)
        if is_under_way and self.verbose:
            self.console.print(self._row_text(row), highlight=False, markup=False, soft_wrap=True)

    def _known(self, method: str, seed: int) -> UnderWay:
        """What the file says of a run so far, with what an earlier part of it left."""
        if (method, seed) not in self._seen:
            self._seen[method, seed] = UnderWay(self.experiment, method, seed)
        return self._seen[method, seed]

    def _row_text(self, row: dict[str, Any]) -> str:
        """A result in a line."""
        value = number(row[self.experiment.metric]) if row["status"] == "completed" else row["status"]
        return (
            f"{row['time']:.1f} s: {row['method']} seed {row['seed']}, {number(row['budget'])} epochs, "
            f"{metric_name(self.experiment)} {value}"
        )

    def draw(self) -> RenderableType:
        """What a terminal shows now."""
        self._read()
        styles = method_styles(self.experiment.methods)
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("method")
        table.add_column("runs", justify="right")
        table.add_column(f"best {metric_name(self.experiment)}, each seed")
        for method, values in self._bests.items():
            color = styles[method].color
            shown = "  ".join(number(value) for value in values)
            table.add_row(Text(styles[method].label, style=color), str(len(values)), shown)
        numbered = self._numbered()
        if not numbered:
            return Group(table)
        lines = [
            Text.assemble(
                f"run {place} of {self._total}: ",
                (styles[run.method].label, styles[run.method].color),
                f", {run.text()}",
            )
            for place, run in numbered
        ]
        overall = (self._done + sum(run.done for _, run in numbered)) / self._total
        return Group(table, *lines, ProgressBar(total=1.0, completed=overall, width=60))
