"""What masks laid behind pooling save: recorded Hessian products with and without them, taking turns.

The rewriting of :mod:`raytune_hyperlearn.derivatives.pooling` stands on private operators of PyTorch. It stays as long
as it saves more than a tenth somewhere. On one CPU thread seconds are the process's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from benchmarks.networks import MODELS, cross_entropy, random_batch
from benchmarks.smoke import parse as parse_sizes
from benchmarks.tables import print_table
from benchmarks.timing import alternating
from raytune_hyperlearn.derivatives import recording
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import forward_over_reverse
from raytune_hyperlearn.problems.models import initialize


def programs(name: str, columns: int, batch_size: int | None, device: torch.device) -> dict[str, Callable[[], object]]:
    """Hessian products of K columns, recorded with and without masks behind pooling."""
    build, shape, usual = MODELS[name]
    model = FunctionalModel(initialize(build, seed=0).to(device).train(), cross_entropy)
    w, b = model.parameters, model.buffers
    tangents = torch.randn(columns, len(w), generator=torch.Generator().manual_seed(1)).to(device)
    arguments = (w, b, tangents, b.new_zeros(columns, len(b)), *random_batch(shape, batch_size or usual, device))

    def program() -> Callable[[], object]:
        found = recording.recorded(lambda *tensors: forward_over_reverse(model, *tensors), arguments)
        assert found is not None

        def call() -> Any:
            with torch.no_grad():
                return found(*arguments)

        return call

    masked = program()
    with mock.patch.object(recording, "mask_after_pooling"):
        return {"masks behind pooling": masked, "masks before pooling": program()}


def main(arguments: list[str]) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["lenet"], help="default lenet")
    parser.add_argument("--columns", nargs="+", type=int, default=[9, 33], help="numbers K (default 9 33)")
    parser.add_argument("--batch-size", type=int, help="default: 128, for wrn16-1 32")
    parser.add_argument("--repeats", type=int, default=15, help="rounds that count (default 15)")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda (default cpu)")
    options = parse_sizes(parser, arguments, columns=[2], batch_size=4, repeats=1)
    torch.set_num_threads(1)
    device = torch.device(options.device)
    rows = []
    for name in options.models:
        for columns in options.columns:
            measured = alternating(programs(name, columns, options.batch_size, device), options.repeats, device)
            rows += [
                (f"{name}, K = {columns}", variant, f"{1e3 * cost['seconds']:.1f}", f"{cost['ratio']:.3f}")
                for variant, cost in measured.items()
            ]
    print_table("Recorded Hessian products", ("network", "variant", "ms", "÷ first"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
