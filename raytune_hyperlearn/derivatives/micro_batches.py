"""Batches larger than memory: evaluated in micro-batches whose size adapts to what fits.

Sums over instances do not care how the instances are divided, so the result is the same; only layers in which
instances meet (BatchNorm in training mode) see the micro-batch instead of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CLOSE_ENOUGH = 1.25
"""The search for the largest size ends when the smallest that failed is this close to the largest that fitted."""


class MicroBatches:
    """Divides work on n instances into parts that fit in memory.

    Everything is tried at once first; after an out-of-memory error the size is bisected between the largest
    that fitted and the smallest that failed, and parts of one batch are kept equal.

    Args:
        size: Never evaluate more instances at once, or None to divide only where memory runs out.

    Attributes:
        fitted: Largest number of instances evaluated at once so far.
        failed: Smallest number that ran out of memory, or None.

    Raises:
        ValueError: If ``size`` is below 1.
    """

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"micro_batch_size is {size}; it must be at least 1, or None")
        self.size = size
        self.fitted = 0
        self.failed: int | None = None

    def run(self, n: int, evaluate: Callable[[int, int], None], release: Callable[[], bool]) -> None:
        """Calls ``evaluate(start, stop)`` for consecutive parts of range(n).

        Args:
            n: Number of instances.
            evaluate: Must leave nothing behind when it runs out of memory.
            release: Frees what can be recomputed and says whether there was any; called before dividing.

        Raises:
            torch.OutOfMemoryError: If a single instance does not fit.
        """
        start = 0
        while start < n:
            stop = start + self.next_part(n - start)
            if _fits(evaluate, start, stop):
                self.fitted = max(self.fitted, stop - start)
                start = stop
            elif not release():
                self._shrink(stop - start)

    def next_part(self, remaining: int) -> int:
        """How many of ``remaining`` instances to evaluate next.

        Args:
            remaining: Instances that are still to be evaluated, at least 1.

        Returns:
            From 1 to ``remaining``.
        """
        limit = remaining if self.size is None else self.size
        if self.failed is not None:
            settled = self.failed <= CLOSE_ENOUGH * self.fitted
            limit = min(limit, self.fitted if settled else max(1, (self.fitted + self.failed) // 2))
        return math.ceil(remaining / math.ceil(remaining / limit))

    def _shrink(self, size: int) -> None:
        self.failed = size if self.failed is None else min(size, self.failed)
        if self.fitted >= size:  # memory has become scarcer than it was
            self.fitted = size // 2


def coupled_layer(model: nn.Module) -> str | None:
    """Name of the first layer in which the instances of a batch meet (BatchNorm in training mode), or None.

    Args:
        model: The module, in the mode in which it is used.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            return str(name)
    return None


def _fits(evaluate: Callable[[int, int], None], start: int, stop: int) -> bool:
    try:
        evaluate(start, stop)
    except torch.OutOfMemoryError:
        if stop - start == 1:
            raise
        # Returning first lets go of the traceback, and with it of the tensors of the failed attempt.
        return False
    return True
