"""Batch-size schedules without learning, to set against
:class:`~raytune_hyperlearn.algorithms.arbiter.Arbiter`.

Each control answers one question about a schedule B_0, B_1, … (one batch size per epoch) that Arbiter has
learned:

- :class:`ConstantBatchSize` of its mean: does it matter that the batch size changes?
- :class:`ReplayedSchedule` on a new initialization: does it matter that the agent watches this very training
  run?
- :class:`RandomWalk` with its step sizes: does it matter in which direction the batch size goes?

Arbiter's own options ``response="frozen"`` and ``agent_input="noise"`` ask what the response map and the
agent's input contribute.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from raytune_hyperlearn.algorithms.arbiter import OuterStep
from raytune_hyperlearn.algorithms.arbiter_agent import require


class BatchSizeAgent(Protocol):
    """Chooses the batch size of a training run, epoch by epoch.

    Attributes:
        batch_size: the batch size to train with now.
    """

    batch_size: int

    def warm_up(self, batch_size: int) -> int:
        """Prepare for training from this batch size on.

        Args:
            batch_size: Size of the first batches, at least 1.

        Returns:
            Number of gradient steps that it took.
        """
        ...

    def observe(self) -> OuterStep | None:
        """Called after every inner step; returns what was learned from it, if anything."""
        ...

    def end_epoch(self) -> int:
        """Called after every epoch; returns the batch size of the next one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during a run."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Args:
            state: What :meth:`state_dict` gave.
        """
        ...


def refuse_unusable(recorded: Sequence[int]) -> None:
    """Refuses a recorded schedule that is empty or holds batch sizes below 1.

    Raises:
        ValueError: in one line.
    """
    usable = len(recorded) > 0 and min(recorded) >= 1
    require("recorded", list(recorded), usable, "at least one batch size, each at least 1")


class ReplayedSchedule:
    """A recorded schedule, epoch by epoch; after its end the last batch size stays.

    Attributes:
        batch_size: the entry of the current epoch.
    """

    def __init__(self, recorded: Sequence[int]) -> None:
        """Takes the schedule.

        Args:
            recorded: one batch size per epoch, in order.

        Raises:
            ValueError: if it is empty or holds batch sizes below 1.
        """
        refuse_unusable(recorded)
        self.recorded = tuple(recorded)
        self.batch_size = self.recorded[0]
        self._epoch = 0

    def warm_up(self, batch_size: int) -> int:
        """Nothing: the record already holds what another schedule had dictated."""
        return 0

    def observe(self) -> None:
        """Nothing is learned."""
        return

    def end_epoch(self) -> int:
        """Moves to the next entry and returns it."""
        self._epoch += 1
        self.batch_size = self.recorded[min(self._epoch, len(self.recorded) - 1)]
        return self.batch_size

    def state_dict(self) -> dict[str, Any]:
        """The epoch and its batch size."""
        return {"epoch": self._epoch, "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self._epoch, self.batch_size = state["epoch"], state["batch_size"]


class ConstantBatchSize(ReplayedSchedule):
    """The mean of a recorded schedule, in every epoch.

    The mean is over epochs. Since an epoch makes |X| / B updates, it is the epochs and not the number of
    updates that this control holds equal.
    """

    def __init__(self, recorded: Sequence[int]) -> None:
        """Takes the mean, rounded to the nearest integer.

        Args:
            recorded: one batch size per epoch.

        Raises:
            ValueError: if it is empty or holds batch sizes below 1.
        """
        refuse_unusable(recorded)
        super().__init__([round(sum(recorded) / len(recorded))])


class RandomWalk:
    """From the recorded start, the recorded steps |B_{n+1} − B_n| with signs drawn at random.

    A step that would leave the range takes the other sign; where neither fits, the walk stops at the nearer
    end of the drawn direction. After the record's end the batch size stays.

    Attributes:
        batch_size: the batch size of the current epoch.
    """

    def __init__(self, recorded: Sequence[int], min_batch_size: int, max_batch_size: int, seed: int) -> None:
        """Takes the start and the step sizes.

        Args:
            recorded: one batch size per epoch, in order.
            min_batch_size: the smallest batch size allowed.
            max_batch_size: the largest batch size allowed.
            seed: seeds the signs.

        Raises:
            ValueError: if the record is empty or leaves the range.
        """
        refuse_unusable(recorded)
        inside = 1 <= min_batch_size <= min(recorded) <= max(recorded) <= max_batch_size
        range_ = f"between min_batch_size = {min_batch_size} (at least 1) and max_batch_size = {max_batch_size}"
        require("recorded", list(recorded), inside, range_)
        self.min_batch_size, self.max_batch_size = min_batch_size, max_batch_size
        self.steps = tuple(abs(after - before) for before, after in itertools.pairwise(recorded))
        self.batch_size = recorded[0]
        self._epoch = 0
        self._generator = torch.Generator().manual_seed(seed)

    def warm_up(self, batch_size: int) -> int:
        """Walks on from this batch size."""
        allowed = f"between {self.min_batch_size} and {self.max_batch_size}"
        require("batch_size", batch_size, self.min_batch_size <= batch_size <= self.max_batch_size, allowed)
        self.batch_size = batch_size
        return 0

    def observe(self) -> None:
        """Nothing is learned."""
        return

    def end_epoch(self) -> int:
        """Takes the next step and returns where it led."""
        step = self.steps[self._epoch] if self._epoch < len(self.steps) else 0
        self._epoch += 1
        signed = step if int(torch.randint(2, (), generator=self._generator)) else -step
        moves = (self.batch_size + signed, self.batch_size - signed)
        inside = [move for move in moves if self.min_batch_size <= move <= self.max_batch_size]
        self.batch_size = inside[0] if inside else min(max(moves[0], self.min_batch_size), self.max_batch_size)
        return self.batch_size

    def state_dict(self) -> dict[str, Any]:
        """The epoch, its batch size and the generator's state."""
        return {"epoch": self._epoch, "batch_size": self.batch_size, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self._epoch, self.batch_size = state["epoch"], state["batch_size"]
        self._generator.set_state(state["generator"].cpu())
