"""Memory that a call takes at most."""

from __future__ import annotations

import gc
import resource
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that operations under it make, while they live.

    Attributes:
        peak: The most bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in torch.utils._pytree.tree_leaves(results):
            if isinstance(result, Tensor):
                storage = result.untyped_storage()
                if storage._cdata not in self._live:
                    weakref.finalize(storage, self._live.pop, storage._cdata, None)
                self._live[storage._cdata] = storage.nbytes()
        self.peak = max(self.peak, sum(self._live.values()))
        return results


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """MiB of tensors that a call makes, at most alive at once: the allocator's count on a GPU, else the operations'."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with LiveTensors() as live:
        call()
    return live.peak / 2**20


def resident_memory() -> float:
    """MiB that the process has had resident at most (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
