"""Drawing instances for batches whose size is not known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Sampler(Protocol):
    """Draws the instances of one batch after another.

    Attributes:
        instances: Drawn so far, over all batches: the budget spent, in instances.
    """

    instances: int

    def __len__(self) -> int:
        """|X|, instances in the training set."""
        ...

    def begin_batch(self) -> None:
        """Starts the next batch."""
        ...

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw instances that are not yet in the batch.

        Args:
            n: How many, at least 1.

        Returns:
            Inputs [n, …] and targets [n, …].
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while drawing, between two batches."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Args:
            state: What :meth:`state_dict` gave.
        """
        ...


class EpochSampler:
    """Draws without replacement: every instance once per epoch, in a new random order each epoch.

    A batch may straddle two epochs and still holds no instance twice: those that it took from the end of one
    epoch come last in the next.

    Args:
        inputs: [N, …], on the training device.
        targets: [N, …], on the same device.
        seed: Of the orders and of the augmentation.
        augmentation: Maps inputs [n, …] and a generator to augmented inputs, or None.

    Attributes:
        instances: Drawn so far; one epoch is N.

    Raises:
        ValueError: If inputs and targets differ in length or are empty.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        seed: int,
        augmentation: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        if len(inputs) == 0 or len(inputs) != len(targets):
            raise ValueError(
                f"targets has {len(targets)} rows; it must have as many as inputs, {len(inputs)}, and not 0"
            )
        self.inputs = inputs
        self.targets = targets
        self.augmentation = augmentation
        self.instances = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(len(inputs), generator=self._generator)
        self._position = 0
        self._batch: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def epochs(self) -> float:
        """Passes over the data so far."""
        return self.instances / len(self)

    def begin_batch(self) -> None:
        """Starts the next batch: it may hold what the last one held."""
        self._batch = []

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Inputs [n, …] and targets [n, …] of instances that are not yet in the batch.

        Raises:
            ValueError: If fewer than ``n`` are left.
        """
        left = len(self) - sum(len(rows) for rows in self._batch)
        if not 1 <= n <= left:
            raise ValueError(f"n is {n}; the batch can take 1 to {left} further instances")
        rows = self._take(n)
        if len(rows) < n:
            self._begin_epoch()
            rows = torch.cat([rows, self._take(n - len(rows))])
        self.instances += n
        rows = rows.to(self.inputs.device, non_blocking=True)
        inputs, targets = self.inputs[rows], self.targets[rows]
        return (inputs if self.augmentation is None else self.augmentation(inputs, self._generator)), targets

    def state_dict(self) -> dict[str, Any]:
        """Order, position in it, generator and count, between two batches."""
        return {
            "order": self._order,
            "position": self._position,
            "generator": self._generator.get_state(),
            "instances": self.instances,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`, at the start of a batch.

        Raises:
            ValueError: If the state belongs to a training set of another size.
        """
        if len(state["order"]) != len(self):
            raise ValueError(f"state has {len(state['order'])} instances; this sampler has {len(self)}")
        self._order = state["order"]
        self._position = state["position"]
        self._generator.set_state(state["generator"])
        self.instances = state["instances"]
        self.begin_batch()

    def _take(self, n: int) -> Tensor:
        rows = self._order[self._position : self._position + n]
        self._position += len(rows)
        self._batch.append(rows)
        return rows

    def _begin_epoch(self) -> None:
        order = torch.randperm(len(self), generator=self._generator)
        in_batch = torch.zeros(len(self), dtype=torch.bool)
        in_batch[torch.cat(self._batch)] = True
        self._order = torch.cat([order[~in_batch[order]], order[in_batch[order]]])
        self._position = 0
