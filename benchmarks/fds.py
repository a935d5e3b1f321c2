"""What hypergradients by forward mode cost: inner steps with K columns against plain training, side by side in one run.

Two parts, each by itself if asked for:

- **speed**: seconds and peak memory of one inner step with all K columns active, against (a) a plain training step
  of ``torch.optim.SGD`` and (b) the straightforward way, one double-backward pass per column and one update block
  per kind of hyperparameter. The variants take turns, round by round, and medians are compared, so that a change of
  the machine's speed meets all. Before anything is timed, the straightforward way and ours must agree. The way that
  ``auto`` chooses by its own short measurement is printed as well.
- **memory**: peak memory of a whole hypergradient over 500 and over 5,000 steps.

On one CPU thread seconds are the process's own (a core shared with others does not count); else they pass on the wall.
Images are standard normal numbers in the first two parts, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.memory import peak_memory, resident_memory
from benchmarks.networks import MODELS, Batch, cross_entropy, random_batch
from benchmarks.smoke import parse as parse_sizes
from benchmarks.tables import print_table
from benchmarks.timing import alternating
from raytune_hyperlearn.algorithms.fds import SGDStep, hypergradient
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient, InnerStep
from raytune_hyperlearn.algorithms.schedules import Active, Column, columns
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS, sgd_optimizer, sgd_step
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, MapStep
from raytune_hyperlearn.algorithms.update_maps import SGD, AdamW
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.derivatives.push_forward import PushForwardOptions
from raytune_hyperlearn.problems.models import MLP, count_parameters, initialize

PARTS = ("speed", "memory")
VALUES = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
ALL = (
    "plain",
    "straightforward",
    "exact",
    "recorded",
    "chunks",
    "reverse",
    "sequential",
    "quarter",
    "bfloat16",
    "general",
    "adamw",
    "auto",
    "compiled",
    "cudagraphs",
)
USUAL = ALL[:-2]
GOALS = {("cpu", "lenet"): 2.0, ("cpu", "wrn16-1"): 1.25, ("cuda", "wrn16-1"): 5.0}
"""How many times faster than the straightforward way at nine columns."""
PER_COLUMN = 2.5
"""Plain gradients that a column may cost at 33 columns on a GPU."""


# ------------------------------------------------------------------------------------------------- variants


class Straightforward:
    """The obvious way: the gradient's graph, one double-backward pass per column, one update block per kind."""

    def __init__(self, module: nn.Module, kinds: Sequence[str], tangents: Tensor) -> None:
        self.module = module
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.velocity = [torch.zeros_like(p) for p in self.parameters]
        self.kinds = kinds
        sizes = [p.numel() for p in self.parameters]
        self.Z = [
            [part.view_as(p).clone() for part, p in zip(row.split(sizes), self.parameters, strict=True)]
            for row in tangents
        ]
        self.C = [[torch.zeros_like(z) for z in row] for row in self.Z]

    def step(self, batch: Batch, in_use: Sequence[int]) -> None:
        """One inner step with tangents; only the columns in use have direct terms."""
        rate, momentum, decay = (VALUES[name] for name in HYPERPARAMETERS)
        loss = functional.cross_entropy(self.module(batch[0]), batch[1])
        gradient = torch.autograd.grad(loss, self.parameters, create_graph=True)
        for k, kind in enumerate(self.kinds):
            product = torch.autograd.grad(gradient, self.parameters, self.Z[k], retain_graph=True)
            with torch.no_grad():
                for i, (c, hz) in enumerate(zip(self.C[k], product, strict=True)):
                    c.mul_(momentum).add_(hz).add_(self.Z[k][i], alpha=decay)
                    if k in in_use and kind == "momentum":
                        c += self.velocity[i]
                    if k in in_use and kind == "weight_decay":
                        c += self.parameters[i]
        with torch.no_grad():
            for v, g, p in zip(self.velocity, gradient, self.parameters, strict=True):
                v.mul_(momentum).add_(g).add_(p, alpha=decay)
            for k, kind in enumerate(self.kinds):
                for i, z in enumerate(self.Z[k]):
                    z.sub_(self.C[k][i], alpha=rate)
                    if k in in_use and kind == "learning_rate":
                        z -= self.velocity[i]
            for p, v in zip(self.parameters, self.velocity, strict=True):
                p.sub_(v, alpha=rate)

    def tangents(self) -> Tensor:
        """Z [K, D]."""
        return torch.stack([torch.cat([z.flatten() for z in row]) for row in self.Z])


def learnable(count: int) -> tuple[list[Column], int]:
    """K columns, of learning rates, one momentum and one weight decay, and a step at which all have tangents."""
    names = HYPERPARAMETERS if count >= 3 else HYPERPARAMETERS[:1]
    rates = count - len(names) + 1
    values = {name: [VALUES[name]] * (rates if name == "learning_rate" else 1) for name in names}
    return columns(values, names, 10 * rates), 10 * rates - 1


def inner_steps(model: FunctionalModel) -> dict[str, Callable[[], InnerStep]]:
    """Our variants by name."""

    def by_hand(**options: Any) -> SGDStep:
        return SGDStep(model, HessianProducts(model, HessianProductOptions(**options)))

    return {
        "exact": lambda: by_hand(recorded=False),
        "recorded": lambda: by_hand(record_after=0),
        "chunks": lambda: by_hand(record_after=0, chunk=11),
        "reverse": lambda: by_hand(way="reverse_over_reverse"),
        "sequential": lambda: by_hand(way="sequential"),
        "quarter": lambda: by_hand(fraction=0.25, record_after=0),
        "bfloat16": lambda: by_hand(precision="bfloat16", record_after=0),
        "general": lambda: MapStep(SGD(model), PushForwardOptions(record_after=0)),
        "adamw": lambda: GradientStep(AdamW(model), HessianProductOptions(record_after=0)),
        "compiled": lambda: by_hand(record_after=0, compiler="inductor"),
        "cudagraphs": lambda: by_hand(record_after=0, compiler="cudagraphs"),
    }


def prepared(inner: InnerStep, tangents: Tensor, batch: Batch, found: list[Column], step: int) -> Callable[[], Tensor]:
    """A call that makes one inner step with all columns active and returns Z [K, D]."""
    state = inner.start()
    state.restart(len(tangents))
    state.parameter_tangents.copy_(tangents)
    hyperparameters = {**inner.defaults, **{n: v for n, v in VALUES.items() if n in inner.defaults}}
    slopes: dict[str, dict[int, float]] = {}
    for place, column in enumerate(found):
        if column.first <= step < column.end:
            name = column.name if column.name in inner.defaults else "learning_rate"
            slopes.setdefault(name, {})[place] = 1.0
    moved = {column.name if column.name in inner.defaults else "learning_rate" for column in found}
    active = Active(
        moving=sum(column.first < step for column in found),
        begun=sum(column.first <= step for column in found),
        slopes=slopes,
        learned=tuple(name for name in inner.defaults if name in moved),
    )

    def call() -> Tensor:
        with torch.no_grad():
            inner.with_tangents(state, batch, hyperparameters, active)
        return state.parameter_tangents

    return call


# -------------------------------------------------------------------------------------------------- measurement


def speed(
    name: str, count: int, variants: Sequence[str], batch_size: int | None, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Costs of one inner step of one model with K columns."""
    build, shape, usual = MODELS[name]
    batch = random_batch(shape, batch_size or usual, device)
    found, step = learnable(count)
    modules = [initialize(build, seed=0).to(device).train() for _ in range(3)]
    model = FunctionalModel(modules[0], cross_entropy)
    scale = torch.Generator(device).manual_seed(1)
    tangents = torch.randn(count, len(model.parameters), generator=scale, device=device)
    in_use = [k for k, column in enumerate(found) if column.first <= step < column.end]
    plain = Straightforward(modules[1], [column.name for column in found], tangents)
    optimizer = sgd_optimizer(modules[2])
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: sgd_step(modules[2], optimizer, cross_entropy, batch, VALUES),
        "straightforward": lambda: plain.step(batch, in_use),
    }
    for variant, make in inner_steps(model).items():
        if variant in variants:
            calls[variant] = prepared(make(), tangents, batch, found, step)
    plain.step(batch, in_use)
    for variant in set(calls) & {"exact", "recorded", "chunks", "reverse", "sequential", "general"}:
        difference = torch.linalg.vector_norm(
            prepared(inner_steps(model)[variant](), tangents, batch, found, step)() - plain.tangents()
        )
        if not difference < 1e-3 * torch.linalg.vector_norm(plain.tangents()):
            raise AssertionError(f"{variant} differs from the straightforward way on {name} by {float(difference)}")
    compared = {v: calls[v] for v in variants if v in calls}
    memory = {v: peak_memory(call, device) for v, call in compared.items()}
    costs = alternating(compared, repeats, device)
    return {
        "model": name,
        "parameters": count_parameters(modules[0]),
        "batch_size": len(batch[0]),
        "columns": count,
        "variants": {v: {"seconds": cost["seconds"], "MiB": memory[v]} for v, cost in costs.items()},
        "auto": chosen_way(model, tangents, batch) if "auto" in variants else None,
    }


def chosen_way(model: FunctionalModel, tangents: Tensor, batch: Batch) -> str:
    """What ``auto`` chooses for this model and number of columns."""
    products = HessianProducts(model, HessianProductOptions(way="auto"))
    b = model.buffers
    products(model.parameters, b, tangents, b.new_zeros(len(tangents), len(b)), *batch)
    assert products.way is not None
    return products.way


def memory_in_horizon(device: torch.device, horizons: Sequence[int]) -> dict[str, Any]:
    """Peak memory of hypergradients of an MLP over each horizon."""
    model = FunctionalModel(initialize(lambda: MLP(64, (64,)), seed=0).to(device), cross_entropy)
    batch = random_batch((64,), 32, device)
    values = {"learning_rate": [0.01] * 7, "momentum": [0.9], "weight_decay": [5e-4]}
    products = HessianProducts(model)

    def run(horizon: int) -> Hypergradient:
        return hypergradient(model, products, itertools.repeat(batch), [batch], values, horizon)

    run(2500)  # what is recorded is kept
    peaks, growths = {}, {}
    for horizon in horizons:
        before = resident_memory()
        peaks[str(horizon)] = peak_memory(partial(run, horizon), device)
        growths[str(horizon)] = resident_memory() - before
    return {"model": "mlp 64-64-10", "columns": 9, "MiB": peaks, "resident": growths}


# --------------------------------------------------------------------------------------------------- report


def report_speed(measured: list[dict[str, Any]], device: torch.device) -> None:
    """One row per model, number of columns and variant."""
    rows = []
    for entry in measured:
        plain, obvious = (entry["variants"].get(name, {}).get("seconds") for name in ("plain", "straightforward"))
        for variant, cost in entry["variants"].items():
            seconds, count = cost["seconds"], entry["columns"]
            against_plain = seconds / plain if plain else None
            per_column = (against_plain - 1) / count if against_plain and variant != "plain" else None
            faster = obvious / seconds if obvious and variant not in ("plain", "straightforward") else None
            goal = GOALS.get((device.type, entry["model"])) if count == 9 and variant in ("exact", "recorded") else None
            note = "" if goal is None or faster is None else f"{'met' if faster >= goal else 'MISSED'} (≥ {goal:g})"
            if device.type == "cuda" and count == 33 and variant in ("exact", "recorded") and per_column is not None:
                note = f"{'met' if per_column <= PER_COLUMN else 'MISSED'} (≤ {PER_COLUMN:g} per column)"
            cells = [("", ".2f") if v is None else (f"{v:.2f}", "") for v in (against_plain, per_column, faster)]
            label = f"{entry['model']}, batch {entry['batch_size']}, K = {count}"
            rows.append((label, variant, f"{1e3 * seconds:.1f}", *(c for c, _ in cells), f"{cost['MiB']:.0f}", note))
    for entry in measured:
        if entry["auto"] is not None:
            print(f"auto chooses {entry['auto']} for {entry['model']}, K = {entry['columns']}")
    header = (
        "model",
        "variant",
        "ms",
        "÷ plain step",
        "plain steps per column",
        "× faster than straightforward",
        "MiB",
        "goal",
    )
    print_table("One inner step with all columns active", header, rows)


def report_memory(measured: dict[str, Any]) -> None:
    """One row per horizon."""
    rows = [(steps, f"{peak:.3f}", f"{measured['resident'][steps]:.1f}") for steps, peak in measured["MiB"].items()]
    header = ("steps", "tensors, MiB", "growth of the process, MiB")
    print_table(f"Peak memory of a whole hypergradient ({measured['model']}, K = 9)", header, rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse refuses what is not allowed with status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="default: all")
    parser.add_argument("--columns", nargs="+", type=int, default=[1, 9, 33], help="numbers K (default 1 9 33)")
    parser.add_argument("--variants", nargs="+", choices=ALL, default=USUAL, help="default: all but compiled")
    parser.add_argument("--batch-size", type=int, help="default: 128, for wrn16-1 32")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--horizons", nargs="+", type=int, default=[500, 5000], help="of part memory")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: the steadiest)")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda (default cpu)")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parse_sizes(
        parser, arguments, parts=["speed"], models=["mlp"], columns=[2], batch_size=4, repeats=1, variants=USUAL[:4]
    )
    for name in ("repeats", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if min(*options.columns, 1) < 1:
        parser.error(f"--columns must be at least 1, got {min(options.columns)}")
    return options


def main(arguments: list[str]) -> None:
    """Measures, prints, writes."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    machine = {
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": options.threads,
        "repeats": options.repeats,
    }
    results: dict[str, Any] = {"machine": machine}
    print(f"{machine['device']}, {options.threads} thread(s), torch {torch.__version__}")
    if device.type == "cpu":
        print("GPU: not measured in this run")
    if "speed" in options.parts:
        results["speed"] = [
            speed(model, count, options.variants, options.batch_size, options.repeats, device)
            for model in options.models
            for count in options.columns
        ]
        report_speed(results["speed"], device)
    if "memory" in options.parts:
        results["memory"] = memory_in_horizon(device, options.horizons)
        report_memory(results["memory"])
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
