"""A learned schedule of batch sizes, as a batch sampler of PyTorch's ``DataLoader``.

sampler = LearnedBatchSampler(len(dataset), sizes=[32, 48, 96], epochs=30, seed=0)
loader = DataLoader(dataset, batch_sampler=sampler)
for epoch in range(30):
    for inputs, targets in loader: ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class LearnedBatchSampler(Sampler[list[int]]):
    """Batches without replacement whose size follows a schedule over the whole training.

    Epoch e of E uses size ⌊N e / E⌋ of the N sizes, so what Arbiter or batch adaptive training found over one number
    of epochs can be used over another. Every iteration is one epoch; the next one begins where this one ended. Examples
    that are left at the end of an epoch and do not fill a batch are dropped.

    Args:
        length: Number of examples of the data set, at least 1.
        sizes: The N sizes, rounded to whole numbers; each in [1, ``length``].
        epochs: E, number of epochs that the schedule is spread over, at least 1. Later epochs keep the last size.
        seed: Of the order; epoch e's order depends on the seed and e alone.

    Raises:
        ValueError: In one line, if an argument is not allowed.
    """

    def __init__(self, length: int, sizes: Sequence[float], epochs: int, seed: int = 0) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; it must be at least 1, the number of examples")
        if epochs < 1:
            raise ValueError(f"epochs is {epochs}; it must be at least 1")
        self.length, self.epochs, self.seed = length, epochs, seed
        self.sizes = [round(size) for size in sizes]
        if not self.sizes or not all(1 <= size <= length for size in self.sizes):
            raise ValueError(f"sizes is {list(sizes)}; it must hold numbers in [1, {length}]")
        self.epoch = 0

    @property
    def batch_size(self) -> int:
        """Size of the batches of the next epoch."""
        last = min(self.epoch, self.epochs - 1)
        return self.sizes[len(self.sizes) * last // self.epochs]

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch.

        Args:
            epoch: Its index, at least 0.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the next epoch."""
        size, epoch = self.batch_size, self.epoch
        self.epoch += 1
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        for first in range(0, self.length - size + 1, size):
            yield order[first : first + size].tolist()

    def __len__(self) -> int:
        """Number of batches in the next epoch."""
        return self.length // self.batch_size

    def state_dict(self) -> dict[str, int]:
        """The position, for a checkpoint."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from :meth:`state_dict`.

        Args:
            state: What :meth:`state_dict` gave.
        """
        self.epoch = state["epoch"]
