"""What forward passes keep for their backward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def saved_storages() -> Iterator[dict[int, int]]:
    """Address → bytes of what forward passes in the body keep; a storage that is kept twice counts once.

    What is kept must live until the body ends or a backward pass frees it, or addresses would be given out twice.
    """
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages
