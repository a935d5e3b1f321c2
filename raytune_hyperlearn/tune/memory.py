"""How much memory a batch takes, and how large a batch a memory limit allows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.derivatives.saved_memory import saved_storages


@dataclass(frozen=True)
class Memory:
    """Bytes that training at one batch size takes.

    Attributes:
        fixed: What does not depend on the batch: weights, gradients, the optimizer's state, and on a GPU the data.
        peak: The most at any time, ``fixed`` included.
    """

    fixed: int
    peak: int


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' elements together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def saved_bytes_per_instance(module: nn.Module, inputs: Tensor) -> float:
    """Bytes per example that a forward pass keeps for its backward pass.

    Counted on a copy of the module, on any device, as the difference between two and four examples; a tensor that is
    kept twice is counted once. Work space of kernels is not in it: it is a lower bound.

    Args:
        module: As it trains.
        inputs: At least four inputs [N, …].
    """

    def kept(count: int) -> int:
        with saved_storages() as storages:
            outputs = measured(inputs[:count].clone())
        del outputs  # what it keeps must live until here, or addresses would be given out twice
        return sum(storages.values())

    measured = copy.deepcopy(module).train()
    with private_random_numbers(0, inputs.device):
        return (kept(4) - kept(2)) / 2


def largest_batch_size(limit: float, batch_size: int, memory: Memory) -> int:
    """The largest batch whose memory stays within a limit, if memory beyond the fixed part grows with the batch.

    Args:
        limit: Bytes.
        batch_size: At which ``memory`` was measured, at least 1.
        memory: What that batch size took.

    Raises:
        ValueError: If not even one example fits.
    """
    per_instance = max(memory.peak - memory.fixed, 1) / batch_size
    fitting = math.floor((limit - memory.fixed) / per_instance)
    if fitting < 1:
        raise ValueError(
            f"memory_limit is {limit:.0f} bytes; a batch of one example needs {memory.fixed + per_instance:.0f}"
        )
    return fitting
