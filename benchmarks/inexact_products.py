"""What inexact Hessian products save and what they cost in accuracy, on the digits.

- **cheaper**: Hessian products on part of the batch or in bfloat16: time and error of the hypergradient against the
  exact one of the same run.
- **windows**: bias and spread of every window's entry with Hessian products on part of the batch: one training run, the
  part of each batch drawn anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.networks import Batch
from benchmarks.smoke import parse as parse_sizes
from benchmarks.tables import print_table
from benchmarks.timing import clock
from raytune_hyperlearn.algorithms.fds import hypergradient
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.problems import batches, load
from raytune_hyperlearn.problems.models import initialize

PARTS = ("cheaper", "windows")
CHEAPER: dict[str, dict[str, Any]] = {
    "exact": {},
    "half of the batch": {"fraction": 0.5},
    "a quarter of the batch": {"fraction": 0.25},
    "bfloat16": {"precision": "bfloat16"},
}


@dataclass(frozen=True)
class Digits:
    """A training run on the digits whose hypergradients are compared."""

    model: FunctionalModel
    training: list[Batch]
    validation: list[Batch]
    values: dict[str, list[float]]

    @classmethod
    def load(cls, device: torch.device, rate: float, epochs: float, seed: int) -> Digits:
        """With three learning rates, one momentum and one weight decay."""
        problem = load("digits").to(device)
        split = problem.split(seed)
        return cls(
            FunctionalModel(initialize(problem.model, seed).to(device), problem.loss),
            list(batches(split.train, problem.batch_size, problem.horizon(epochs), seed, None)),
            [(split.validation.inputs, split.validation.targets)],
            {"learning_rate": [rate] * 3, "momentum": [0.9], "weight_decay": [5e-4]},
        )

    def hypergradient(self, options: Mapping[str, Any], order: torch.Generator | None = None) -> Tensor:
        """Entries of all values [K]; with ``order`` the rows of every batch are shuffled, which training ignores."""
        products = HessianProducts(self.model, HessianProductOptions(recorded=False, **options))
        data = self.training
        if order is not None:
            shuffled = [torch.randperm(len(x), generator=order).to(x.device) for x, _ in data]
            data = [(x[rows], y[rows]) for (x, y), rows in zip(data, shuffled, strict=True)]
        found = hypergradient(self.model, products, data, self.validation, self.values, len(data))
        return torch.tensor([entry for schedule in found.values.values() for entry in schedule])


def cheaper(device: torch.device, rate: float, epochs: float, seeds: int) -> dict[str, Any]:
    """Time and error of the inexact variants on the digits, over seeds, at one learning rate."""
    rows: dict[str, dict[str, list[float]]] = {
        name: {"seconds": [], "error": [], "signs": [], "size": []} for name in CHEAPER
    }
    for seed in range(seeds):
        digits = Digits.load(device, rate, epochs, seed)
        exact = digits.hypergradient({})
        length = torch.linalg.vector_norm(exact)
        for name, options in CHEAPER.items():
            start = clock(device)
            entries = digits.hypergradient(options)
            rows[name]["seconds"].append(clock(device) - start)
            rows[name]["error"].append(float(torch.linalg.vector_norm(entries - exact) / length))
            rows[name]["signs"].append(float((entries.sign() == exact.sign()).float().mean()))
            rows[name]["size"].append(float(torch.linalg.vector_norm(entries) / length))
    medians = {name: {key: statistics.median(v) for key, v in row.items()} for name, row in rows.items()}
    steps = len(digits.training)
    return {"problem": "digits", "learning_rate": rate, "horizon": steps, "seeds": seeds, "variants": medians}


def windows(device: torch.device, rate: float, epochs: float, draws: int) -> dict[str, Any]:
    """Bias and standard deviation of every value's entry over draws of the part of the batch, one training run."""
    digits = Digits.load(device, rate, epochs, seed=0)
    names = [f"{name} {i + 1}" for name, schedule in digits.values.items() for i in range(len(schedule))]
    exact, found = digits.hypergradient({}), {}
    order = torch.Generator().manual_seed(0)
    for fraction in (0.5, 0.25):
        sample = torch.stack([digits.hypergradient({"fraction": fraction}, order=order) for _ in range(draws)])
        found[str(fraction)] = {
            "bias": (sample.mean(dim=0) - exact).tolist(),
            "deviation": sample.std(dim=0).tolist(),
            "signs": (sample.sign() == exact.sign()).double().mean(dim=0).tolist(),
        }
    return {
        "learning_rate": rate,
        "horizon": len(digits.training),
        "draws": draws,
        "values": names,
        "exact": exact.tolist(),
        "fractions": found,
    }


def report_cheaper(measured: list[dict[str, Any]]) -> None:
    """One row per learning rate and variant."""
    rows = [
        (
            f"{entry['learning_rate']:g}",
            name,
            f"{cost['seconds'] / entry['variants']['exact']['seconds']:.2f}",
            f"{cost['error']:.2g}",
            f"{100 * cost['signs']:.0f} %",
            f"{cost['size']:.2g}",
        )
        for entry in measured
        for name, cost in entry["variants"].items()
    ]
    steps = ", ".join(str(entry["horizon"]) for entry in measured[:1])
    header = ("learning rate", "variant", "time ÷ exact", "relative error", "signs right", "norm ÷ exact")
    print_table(
        f"Cheaper variants on the digits, {steps} steps, medians over {measured[0]['seeds']} seeds", header, rows
    )


def report_windows(measured: list[dict[str, Any]]) -> None:
    """One row per learning rate, value and part of the batch."""
    rows = [
        (
            f"{entry['learning_rate']:g}",
            name,
            fraction,
            f"{entry['exact'][k]:.3g}",
            f"{found['bias'][k]:.2g}",
            f"{found['deviation'][k]:.2g}",
            f"{100 * found['signs'][k]:.0f} %",
        )
        for entry in measured
        for fraction, found in entry["fractions"].items()
        for k, name in enumerate(entry["values"])
    ]
    header = ("learning rate", "value", "part of the batch", "exact", "bias", "standard deviation", "signs right")
    title = f"Hypergradients by window, {measured[0]['horizon']} steps on the digits, {measured[0]['draws']} draws"
    print_table(title, header, rows)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse refuses what is not allowed with status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: both")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01, 0.1], help="learning rates")
    parser.add_argument("--epochs", type=float, default=3.0, help="default 3")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of part cheaper (default 3)")
    parser.add_argument("--draws", type=int, default=16, help="draws of part windows (default 16)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: the steadiest)")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda (default cpu)")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parse_sizes(parser, arguments, rates=[0.1], epochs=0.07, seeds=1, draws=2)
    for name in ("threads", "seeds", "draws"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


def main(arguments: list[str]) -> None:
    """Measures, prints, writes."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device, results = torch.device(options.device), {}
    if "cheaper" in options.parts:
        results["cheaper"] = [cheaper(device, rate, options.epochs, options.seeds) for rate in options.rates]
        report_cheaper(results["cheaper"])
    if "windows" in options.parts:
        results["windows"] = [windows(device, rate, options.epochs, options.draws) for rate in options.rates]
        report_windows(results["windows"])
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
