"""Faults in a loop: runs on a small cluster while what they stand on is hit at random, checked after every round.

    python -m tests.soak --minutes 15 --seed 0

A head and two nodes run one task after the other (FDS alone and as a group, BOHB, BA, Arbiter, HD). In the first six
rounds every kind of fault strikes once; then each round has one to three, drawn by the seed. A driver that is down is
started again with ``--resume``. Afterwards every run must have ended, no result may be there twice or be lost, runs
without a limit must equal the undisturbed run bit for bit, and limits must hold within a worker's restart. The table
says how many faults of which kind were survived.

The exit status is 1 if something did not hold; the folder of such a round is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray listens on every network interface
os.environ.setdefault("OMP_NUM_THREADS", "1")

from raytune_hyperlearn.comparison.running.cluster import prepare_environment

prepare_environment("cluster")  # before Ray is imported

from tests.soak.checks import complaints  # noqa: E402
from tests.soak.faults import FAULTS, Machines, Scene  # noqa: E402
from tests.soak.plan import faults_of_round  # noqa: E402
from tests.soak.tasks import TASKS, Task  # noqa: E402

ROUND_SECONDS = 480.0
"""A run has hung that has not ended so long after the last fault, or the last start of a driver."""
DISK = "64m"
FULL = "No space left on device"


class Soak:
    """The cluster, the folders and the counts.

    Args:
        workplace: Where results go.
        disk: The file system that may be filled, or None.
        seed: Of the faults.
    """

    def __init__(self, workplace: Path, disk: Path | None, seed: int) -> None:
        self.workplace, self.disk, self.seed = workplace, disk, seed
        self.machines = Machines()
        self.struck: Counter[tuple[str, str]] = Counter()  # by fault and task
        self.rounds: Counter[str] = Counter()
        self.failures: list[str] = []
        self._undisturbed: dict[str, Path] = {}
        self._said = workplace / "errors.txt"

    def round(self, number: int) -> None:
        """One task with faults, and the checks after it."""
        draw = random.Random(f"{self.seed} {number}")
        task = TASKS[number % len(TASKS)]
        undisturbed = self._undisturbed_run(task) if task.repeats else None
        kinds = [name for name in FAULTS if self.disk is not None or name != "disk full"]
        survived = [kind for kind, _ in self.struck]
        faults = faults_of_round(kinds, survived, sum(self.rounds.values()), len(TASKS), draw)
        folder = (self.disk or self.workplace) / f"{number}"
        struck, found = self._run(task, folder, faults, draw)
        found = found or complaints(task, folder, undisturbed)
        self.rounds[task.name] += 1
        if found:
            kept = shutil.copytree(folder, self.workplace / f"failed-{number}")
            self.failures += [
                f"round {number}, {task.name}, after {', '.join(struck)}: {line} ({kept})" for line in found
            ]
        else:
            self.struck.update((name, task.name) for name in struck)
        print(f"round {number}: {task.name}: {', '.join(struck) or 'nothing was hit'}", *found, sep="\n  ", flush=True)
        shutil.rmtree(folder)

    def _undisturbed_run(self, task: Task) -> Path:
        if task.name not in self._undisturbed:
            folder = self.workplace / f"undisturbed-{len(self._undisturbed)}"
            _, found = self._run(task, folder, [], random.Random(0))
            if found:
                raise RuntimeError(f"{task.name} without faults: {found}")
            self._undisturbed[task.name] = folder
        return self._undisturbed[task.name]

    def _run(self, task: Task, folder: Path, faults: list[str], draw: random.Random) -> tuple[list[str], list[str]]:
        """Run to the end, with the faults on the way; the faults that struck, and what went wrong meanwhile."""
        driver = self._start(task, folder, draw)
        deadline, struck = time.monotonic() + ROUND_SECONDS, list[str]()
        due, may_lack_space = _Due(faults, draw), False
        while True:
            status = driver.poll()
            if status == 0:
                return struck, []
            if time.monotonic() > deadline:
                driver.kill()
                return struck, [f"it had not ended after {ROUND_SECONDS:g} s: {self._errors()}"]
            if status is not None and may_lack_space and FULL in self._errors():
                driver, may_lack_space = self._start(task, folder, draw), False
            elif status is not None:
                return struck, [f"the driver ended with status {status}: {self._errors()}"]
            if due.now(task.progress(folder)):
                fault = due.take()
                scene = Scene(self.machines, self.disk, folder, driver, draw)
                if FAULTS[fault](scene):
                    struck.append(fault)
                deadline = time.monotonic() + ROUND_SECONDS
                ended = driver.poll()
                may_lack_space = fault == "disk full" and ended is None  # it met the full disk and is still ending
                if ended not in (None, 0):
                    driver = self._start(task, folder, draw)
            time.sleep(0.05)

    def _errors(self) -> str:
        """The last line that the driver said."""
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _start(self, task: Task, folder: Path, draw: random.Random) -> subprocess.Popen[str]:
        # As it is by default, or written whenever it has changed.
        every = draw.choice([{}, {"TUNE_GLOBAL_CHECKPOINT_S": "0.2"}])
        with self._said.open("w") as errors:
            return subprocess.Popen(
                task.command(folder, self.machines.address),
                env={**os.environ, **every},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
            )


class _Due:
    """When the next fault strikes: some results after the last one, and a moment later."""

    def __init__(self, faults: list[str], draw: random.Random) -> None:
        self._faults, self._draw = list(faults), draw
        self._after, self._at = 0, 0.0
        self._next(0)

    def now(self, results: int) -> bool:
        """Whether a fault is due after so many results."""
        if not self._faults or results < self._after:
            return False
        if not self._at:
            self._at = time.monotonic() + self._draw.uniform(0, 1.5)
        self._results = results
        return time.monotonic() >= self._at

    def take(self) -> str:
        """The fault."""
        self._next(self._results)
        return self._faults.pop(0)

    def _next(self, results: int) -> None:
        self._after, self._at = results + self._draw.randrange(4), 0.0


@contextmanager
def small_disk(parent: Path) -> Iterator[Path | None]:
    """A file system in memory that is quickly full; None where this user must not mount one."""
    place = parent / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", place], capture_output=True)
    try:
        yield place if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", place], check=False)


def table(soak: Soak) -> str:
    """How many faults of each kind each task has survived, in Markdown."""
    names = [task.name for task in TASKS]
    lines = [f"| Fault | {' | '.join(names)} | All |", "|---" * (len(names) + 2) + "|"]
    for fault in FAULTS:
        counts = [soak.struck[fault, name] for name in names]
        lines.append(f"| {fault} | {' | '.join(map(str, counts))} | {sum(counts)} |")
    rounds = [soak.rounds[name] for name in names]
    return "\n".join([*lines, f"| rounds | {' | '.join(map(str, rounds))} | {sum(rounds)} |"])


def main() -> None:
    """Run rounds until the time is over, then print and write the table."""
    parser = argparse.ArgumentParser(description="Faults at random while methods run, for so many minutes.")
    parser.add_argument("--minutes", type=float, default=15.0, help="how long to go on (default: 15)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults, and the round to begin with (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("build/soak.md"), help="the table (default: %(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the cluster is ended then, too
    workplace = Path(tempfile.mkdtemp(prefix="soak-"))
    begun = time.monotonic()
    with small_disk(workplace) as disk:
        soak = Soak(workplace, disk, arguments.seed)
        try:
            number = arguments.seed
            while time.monotonic() - begun < 60 * arguments.minutes:
                soak.round(number)
                number += 1
        finally:
            soak.machines.stop()
    text = table(soak)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text + "\n", encoding="utf-8")
    print(text, *soak.failures, sep="\n")
    if soak.failures:
        sys.exit(1)
    shutil.rmtree(workplace)


if __name__ == "__main__":
    main()
