"""What a whole hypergradient costs in either direction, in plain trainings of the same length, in one run.

- **cost**: training by ``torch.optim.SGD``; a hypergradient by reverse mode with all states kept and with 2 √T of them;
  by forward mode at K = 9, from steps at the end of the horizon and at its beginning; and reverse mode at each K of
  ``--columns``. The variants take turns in slices of the horizon's length, and what is recorded counts.
- **memory**: peak memory of tensors with 2 √T states, against T, and what the formula says. Watching every tensor is
  slow: with ``--resident`` it is what the whole process grew by.

Images are standard normal numbers. On one CPU thread seconds are the process's own.

    python -m benchmarks.reverse_mode --models mlp lenet --steps 500
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import peak_memory, resident_memory
from benchmarks.networks import MODELS, Batch, cross_entropy, random_batch
from benchmarks.smoke import parse as parse_sizes
from benchmarks.tables import print_table
from benchmarks.timing import clock, synchronize
from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.checkpoints import Keeping, Visited
from raytune_hyperlearn.algorithms.fds import hypergradient
from raytune_hyperlearn.algorithms.reverse_mode import ReverseHypergradient
from raytune_hyperlearn.algorithms.reverse_mode import hypergradient as backwards
from raytune_hyperlearn.algorithms.sgd import sgd_optimizer, sgd_step
from raytune_hyperlearn.derivatives.column_chunks import random_state
from raytune_hyperlearn.derivatives.freed_memory import keep_freed_memory
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from raytune_hyperlearn.problems.models import MLP, initialize

GOALS = {"lenet": (3.1, 4.0), "mlp": (3.0, 4.0), "wrn16-1": (4.6, 5.6)}
"""Plain trainings that a hypergradient may cost with all states kept, and with 2 √T."""
SMALLEST = {"models": ["mlp"], "steps": 4, "forward_steps": 2, "columns": [9], "horizons": [4]}
"""Options of ``--smoke``."""
LEARNED = ("learning_rate", "momentum", "weight_decay")


def schedules(count: int) -> dict[str, list[float]]:
    """K values: learning rates, one momentum, one weight decay."""
    return {"learning_rate": [0.01] * (count - 2), "momentum": [0.9], "weight_decay": [5e-4]}


def plain_training(name: str, batch: Batch, steps: int) -> None:
    """By PyTorch."""
    model = initialize(MODELS[name][0], seed=0).to(batch[0].device).train()
    optimizer = sgd_optimizer(model)
    now = {key: own[0] for key, own in schedules(3).items()}
    for _ in range(steps):
        sgd_step(model, optimizer, cross_entropy, batch, now)


def limit(inner: SGDAdjoint, batch: Batch, states: int) -> Keeping:
    """Memory for so many states."""
    size = Visited(0, inner.begin(1, batch), random_state(batch[0].device)).bytes()
    return Keeping(states * size)


def in_reverse(inner: SGDAdjoint, batch: Batch, steps: int, states: int, count: int) -> ReverseHypergradient:
    """One hypergradient."""

    def batches(first: int, end: int) -> Iterator[Batch]:
        return (batch for _ in range(first, end))

    return backwards(inner, batches, [batch], schedules(count), steps, LEARNED, keeping=limit(inner, batch, states))


def forwards(name: str, batch: Batch, steps: int, count: int) -> None:
    """One hypergradient by forward mode."""
    model = FunctionalModel(initialize(MODELS[name][0], seed=0).to(batch[0].device), cross_entropy)
    hypergradient(model, HessianProducts(model), (batch for _ in range(steps)), [batch], schedules(count), steps)


def now(device: torch.device) -> float:
    """Seconds, when the device's queue is empty."""
    synchronize(device)
    return clock(device)


def cost(
    name: str, steps: int, counts: Sequence[int], forward_steps: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Seconds of every variant, the shortest of the rounds: other work on the machine only adds."""
    _, shape, size = MODELS[name]
    batch = random_batch(shape, size, device)

    def fresh() -> SGDAdjoint:
        return SGDAdjoint(FunctionalModel(initialize(MODELS[name][0], seed=0).to(device), cross_entropy))

    again, root = fresh(), 2 * math.isqrt(steps)
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_training(name, batch, steps),
        "all states, recording included": lambda: in_reverse(fresh(), batch, steps, steps, 9),
        "all states": lambda: in_reverse(again, batch, steps, steps, 9),
        f"{root} states": lambda: in_reverse(again, batch, steps, root, 9),
        **{
            f"{root} states, K = {count}": partial(in_reverse, again, batch, steps, root, count)
            for count in counts
            if count != 9
        },
    }
    seconds: dict[str, float] = {}
    for _ in range(repeats):
        for variant, call in calls.items():
            begun = now(device)
            call()
            seconds[variant] = min(seconds.get(variant, math.inf), now(device) - begun)
    if forward_steps:
        plain_begun = now(device)
        plain_training(name, batch, forward_steps)
        begun = now(device)
        forwards(name, batch, forward_steps, 9)
        seconds["forward, K = 9"] = (now(device) - begun) / (begun - plain_begun) * seconds["plain"]
    return {"model": name, "steps": steps, "states": root, "seconds": seconds}


def memory(horizons: Sequence[int], resident: bool, device: torch.device) -> dict[str, Any]:
    """Peak memory of tensors, or growth of the process, in MiB."""
    model = FunctionalModel(initialize(lambda: MLP(64, (64,)), seed=0).to(device), cross_entropy)
    inner = SGDAdjoint(model)
    batch = random_batch((64,), 32, device)
    in_reverse(inner, batch, 300, 300, 9)  # what is recorded is kept
    state = Visited(0, inner.begin(1, batch), random_state(device)).bytes()
    rows = {}
    for steps in horizons:
        states = 2 * math.isqrt(steps)
        call = partial(in_reverse, inner, batch, steps, states, 9)
        peak = growth(call) if resident else peak_memory(call, device)
        rows[steps] = {"states": states, "MiB": peak, "predicted": (states * state + 3 * 8 * steps) / 2**20}
    return {"model": "mlp 64-64-10", "state_bytes": state, "horizons": rows}


def growth(call: Callable[[], object]) -> float:
    """MiB by which a call raises the most that the process has had resident; horizons must ascend."""
    before = resident_memory()
    call()
    return resident_memory() - before


def report_cost(measured: Sequence[dict[str, Any]]) -> None:
    """One row per variant."""
    rows = []
    for entry in measured:
        plain = entry["seconds"]["plain"]
        goals = dict(zip(("all states", f"{entry['states']} states"), GOALS[entry["model"]], strict=True))
        for variant, seconds in entry["seconds"].items():
            ratio, goal = seconds / plain, goals.get(variant)
            note = "" if goal is None else f"{'met' if ratio <= goal else 'MISSED'} (≤ {goal:g})"
            rows.append((f"{entry['model']}, T = {entry['steps']}", variant, f"{seconds:.1f}", f"{ratio:.2f}", note))
    print_table("A whole hypergradient", ("model", "variant", "s", "÷ plain training", "goal"), rows)


def report_memory(measured: dict[str, Any]) -> None:
    """One row per horizon."""
    rows = [
        (str(steps), str(row["states"]), f"{row['MiB']:.2f}", f"{row['predicted']:.2f}")
        for steps, row in measured["horizons"].items()
    ]
    title = f"Peak memory of tensors ({measured['model']}, {measured['state_bytes']} bytes per state)"
    print_table(title, ("steps", "states", "MiB", "states × bytes + 24 T, MiB"), rows)


def main(arguments: list[str]) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("cost", "memory"), default=("cost", "memory"))
    parser.add_argument("--models", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--steps", type=int, default=500, help="T (default 500)")
    parser.add_argument("--forward-steps", type=int, default=100, help="T of forward mode; 0 leaves it out")
    parser.add_argument("--columns", nargs="+", type=int, default=[9, 100, 10_000], help="K of reverse mode")
    parser.add_argument("--repeats", type=int, default=1, help="rounds, the shortest counts (default 1)")
    parser.add_argument("--horizons", nargs="+", type=int, default=[500, 5000, 50_000], help="of part memory")
    parser.add_argument("--resident", action="store_true", help="memory of the process, not of its tensors")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda (default cpu)")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parse_sizes(parser, arguments, **SMALLEST)
    torch.set_num_threads(1)
    device = torch.device(options.device)
    results: dict[str, Any] = {"torch": torch.__version__}
    if "cost" in options.parts:
        keep_freed_memory()  # as trainables do
        results["cost"] = [
            cost(name, options.steps, options.columns, options.forward_steps, options.repeats, device)
            for name in options.models
        ]
        report_cost(results["cost"])
    if "memory" in options.parts:
        results["memory"] = memory(options.horizons, options.resident, device)
        report_memory(results["memory"])
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
