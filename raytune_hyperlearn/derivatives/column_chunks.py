"""Columns in as few passes as memory allows: when it runs out, each pass takes half as many and the work goes on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

LOGGER = logging.getLogger(__name__)

Result = TypeVar("Result")


class ColumnChunks:
    """Splits K columns over passes.

    Args:
        size: Most columns per pass to start with, or None for all at once.

    Attributes:
        size: Most columns per pass; it only falls.
    """

    def __init__(self, size: int | None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"chunk is {size}; it must be at least 1 or None")
        self.size = size

    def __call__(self, compute: Callable[[slice], Result], count: int, device: torch.device) -> list[Result]:
        """Results of all passes, in order; random layers draw the same masks in each.

        Args:
            compute: One pass over the columns that it is given.
            count: K.
            device: Where it computes.

        Raises:
            torch.OutOfMemoryError: If not even a single column fits.
        """
        state = random_state(device)
        while True:
            try:
                return self._passes(compute, count, device)
            except torch.OutOfMemoryError:
                size = min(self.size or count, count)
                if size == 1:
                    raise
            self._halve(size, device)  # here, because the error holds on to the memory of the pass that failed
            set_random_state(device, state)

    def _passes(self, compute: Callable[[slice], Result], count: int, device: torch.device) -> list[Result]:
        passes = math.ceil(count / (self.size or count))
        size = math.ceil(count / passes)  # as even as may be: passes of equal shapes share what is recorded of them
        starts = range(0, count, size)
        devices = [device] if device.type == "cuda" else []
        results = []
        for start in starts:
            with torch.random.fork_rng(devices, enabled=start != starts[-1]):
                results.append(compute(slice(start, min(start + size, count))))
        return results

    def _halve(self, size: int, device: torch.device) -> None:
        self.size = (size + 1) // 2
        LOGGER.warning("memory is too short for %d columns at once; from now on %d are taken", size, self.size)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """State of torch's default generators, the CPU's and the device's."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    """Put back what :func:`random_state` gave."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
