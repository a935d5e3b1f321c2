"""What only a GPU can tell, as one Markdown table, in one command of at most ten minutes and without a network.

    bash benchmarks/gpu.sh             # one GPU; writes gpu.md
    bash benchmarks/gpu.sh --smoke     # the CPU at the smallest sizes; what it measures says nothing

The parts are the tests marked ``gpu``; one inner step of FDS with K columns in forward mode (recorded, bfloat16,
``torch.compile``, CUDA graphs); whole hypergradients in either direction; batch adaptive training; Arbiter; and a
comparison of FDS with BOHB under Ray, three minutes each, on CIFAR-10 with WRN-16-1. Where CIFAR-10 is not on the
machine, random images of the same size and number stand in, and the table says so. Every part has a limit of its own.
One that fails or takes too long gets a row that says so, and the file is written anew after each part.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import arbiter, batch_adaptive, fds, reverse_mode
from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn import Examples, Problem, compare
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.problems.models import WideResNet

ROOT = Path(__file__).parents[1]
CIFAR = "cifar10-wrn16-1"
HEADER = ("part", "case", "what", "measured", "in plain steps, gradients or trainings")
Row = tuple[str, str, str, str, str]


@dataclass
class Report:
    """The table as far as it has come.

    Attributes:
        path: Where it is written after every part.
        title: One line above it.
        rows: Its rows.
    """

    path: Path
    title: str
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, seconds: int, part: Callable[[], list[Row]]) -> None:
        """Run a part, for at most so many seconds (0: no limit), and write the table.

        Args:
            name: Of the part, for the row that says that it failed.
            seconds: Its limit.
            part: Measures and gives rows.
        """
        begun = time.monotonic()
        try:
            with at_most(seconds):
                self.rows += part()
        except Exception as error:  # whatever a GPU's driver raises, the other parts are worth having
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.rows.append((name, "", "failed", text.replace("|", "/"), ""))
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        lines = [HEADER, ("---",) * len(HEADER), *self.rows]
        table = "\n".join(f"| {' | '.join(row)} |" for row in lines)
        self.path.write_text(f"{self.title}\n\n{table}\n", encoding="utf-8")


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block once it has taken so many seconds; 0 for no limit."""

    def over(*_signal: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    if not seconds:
        yield
        return
    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def measured(main: Callable[[list[str]], None], arguments: Sequence[str]) -> dict[str, Any]:
    """The numbers of another benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.json"
        main([*arguments, "--output", str(path)])
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def marked_tests(seconds: int, files_left_out: int = 0) -> list[Row]:
    """The tests marked ``gpu``, in a process of their own."""
    every = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(path) for path in every if "pytest.mark.gpu" in path.read_text(encoding="utf-8")][files_left_out:]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds or None)
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", done.stdout.strip().splitlines()[-1])
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return [("tests", "marked gpu", "result", ", ".join(counts) or done.stderr[-200:], " ".join(failed))]


def inner_step(arguments: Sequence[str]) -> list[Row]:
    """One inner step with tangents, against a plain step."""
    return [
        (
            "forward mode, one step",
            f"{entry['model']}, batch {entry['batch_size']}, K = {entry['columns']}",
            variant,
            f"{1e3 * cost['seconds']:.2f} ms, {cost['MiB']:.0f} MiB",
            f"{cost['seconds'] / entry['variants']['plain']['seconds']:.2f}",
        )
        for entry in measured(fds.main, ["--parts", "speed", *arguments])["speed"]
        for variant, cost in entry["variants"].items()
    ]


def whole_hypergradient(arguments: Sequence[str]) -> list[Row]:
    """A whole hypergradient in both directions, against a plain training."""
    return [
        (
            "whole hypergradient",
            f"{entry['model']}, T = {entry['steps']}",
            variant,
            f"{seconds:.2f} s",
            f"{seconds / entry['seconds']['plain']:.2f}",
        )
        for entry in measured(reverse_mode.main, ["--parts", "cost", *arguments])["cost"]
        for variant, seconds in entry["seconds"].items()
    ]


def variance(arguments: Sequence[str]) -> list[Row]:
    """The variance along the gradient, against a plain gradient."""
    return [
        ("batch adaptive", f"m = {m}", variant, f"{1e3 * cost['seconds']:.2f} ms", f"{cost['ratio']:.2f}")
        for m, costs in measured(batch_adaptive.main, ["--parts", "variance", *arguments])["variance"].items()
        for variant, cost in costs.items()
    ]


def arbiter_step(arguments: Sequence[str]) -> list[Row]:
    """A step with Arbiter, against a step without."""
    return [
        (
            "Arbiter",
            f"{step['model']}, batch {step['batch_size']}",
            "step with Arbiter",
            f"{1e3 * step['seconds']['with_arbiter']:.2f} ms",
            f"{step['ratio']:.2f}",
        )
        for step in measured(arbiter.main, ["--skip-warm-up", *arguments])["steps"]
    ]


def images() -> Problem:
    """Images of CIFAR-10's size and number, each its class's pattern under noise, and WRN-16-1."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (60_000,), generator=generator)
    patterns = torch.randn(10, 3, 32, 32, generator=generator) / 4
    inputs = torch.randn(60_000, 3, 32, 32, generator=generator) + patterns[targets]
    data = Examples(inputs, targets)
    model = partial(WideResNet, 16, 1)
    return Problem("random-images", model, data[slice(50_000)], data[slice(50_000, None)], batch_size=128)


def head_to_head(problem: str, gpus: float, **settings: Any) -> list[Row]:
    """FDS and BOHB under Ray on one problem, one after the other."""
    if problem == CIFAR:
        try:
            load(CIFAR)
        except ValueError:
            problem = f"{Path(__file__)}:images"
    with tempfile.TemporaryDirectory() as folder:
        study = compare(
            problem, ["fds", "bohb"], 1, output=Path(folder) / "results", gpus_per_trial=gpus, replicates=1, **settings
        )
    rows: list[Row] = []
    for (method, _), run in study.runs.items():
        best = run.incumbent
        found = "none completed" if best is None else f"best validation loss {best.validation_loss:.4f}"
        error = f"; {run.errors[0]}" if run.errors else ""
        case = f"{study.experiment.name}, {study.experiment.time_limit:g} s"
        told = f"{len(run.records)} evaluations, {found}{error}".replace("|", "/")
        rows.append(("under Ray", case, method, told, ""))
    return rows


def main(arguments: list[str]) -> None:
    """Run all parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu.md"), help="file to write (default gpu.md)")
    options = parse_sizes(parser, arguments)
    if not options.smoke and not torch.cuda.is_available():
        sys.exit("there is no GPU; --smoke runs everything on the CPU at the smallest sizes")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    device = "cpu" if options.smoke else torch.cuda.get_device_name(0)
    report = Report(options.output, f"{device}, torch {torch.__version__}, `bash benchmarks/gpu.sh`")
    if options.smoke:
        report.add("tests", 0, lambda: marked_tests(0, files_left_out=2))
        report.add("forward mode, one step", 0, lambda: inner_step(["--smoke"]))
        report.add("whole hypergradient", 0, lambda: whole_hypergradient(["--smoke"]))
        report.add("batch adaptive", 0, lambda: variance(["--smoke"]))
        report.add("Arbiter", 0, lambda: arbiter_step(["--smoke"]))
        report.add("under Ray", 0, lambda: head_to_head("digits", 0, time_limit=2, epochs=0.2, confirmations=0))
    else:
        cuda = ["--device", "cuda"]
        steps = ["--models", "wrn16-1", "lenet", "--columns", "9", "33", "--repeats", "5", *cuda]
        usual = ["--variants", "plain", "straightforward", "exact", "recorded", "bfloat16"]
        # With the start of Ray and of two workers less than ten minutes in all.
        report.add("tests", 45, lambda: marked_tests(40))
        report.add("forward mode, one step", 35, lambda: inner_step([*steps, *usual]))
        for variant in ("compiled", "cudagraphs"):
            few = ["--models", "wrn16-1", "--columns", "9", "--repeats", "5", "--variants", "plain", variant, *cuda]
            report.add(f"forward mode, {variant}", 25, partial(inner_step, few))
        sizes = ["--models", "wrn16-1", "--steps", "100", "--forward-steps", "20", "--columns", "9", "1000"]
        report.add("whole hypergradient", 35, lambda: whole_hypergradient([*sizes, *cuda]))
        report.add("batch adaptive", 15, lambda: variance(["--sizes", "32", "128", "512", "--repeats", "5", *cuda]))
        report.add("Arbiter", 15, lambda: arbiter_step(["--batch-size", "128", "--repeats", "5", *cuda]))
        report.add("under Ray", 0, lambda: head_to_head(CIFAR, 1, time_limit=180, epochs=1, min_epochs=1 / 9))
    print(report.path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
