"""Training states from the last to the first, in little memory: some are kept, the others are computed again.

Which states to keep, and when to compute again from which, is decided by binomial schedules [Revolve], which need the
fewest steps for a given number n of states, from the package ``checkpoint-schedules``. Here their actions are carried
out: states are kept where training computes until ``memory_limit`` is reached, then in pinned host memory, then on
disk. With n = T nothing is computed twice; with n = 2 √T every step is computed twice at most.

What is computed again must be what was computed first, bit for bit, or the adjoint would belong to another course of
training. Each time a segment is computed again, a digest of its last state is compared with the first one.

[Revolve] A. Griewank, A. Walther, ACM TOMS 26(1), 2000, doi 10.1145/347837.347846.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from checkpoint_schedules import (
    Copy,
    EndForward,
    EndReverse,
    Forward,
    Move,
    MultistageCheckpointSchedule,
    Reverse,
    StorageType,
)
from torch import Tensor

from raytune_hyperlearn.algorithms.adjoint_steps import Training
from raytune_hyperlearn.algorithms.update_maps import Batch
from raytune_hyperlearn.derivatives.column_chunks import random_state, set_random_state

RandomState = tuple[Tensor, Tensor | None]
Batches = Callable[[int, int], Iterator[Batch]]
"""(first, end) ↦ the batches of the steps first … end − 1, the same ones each time."""

MEMORY = 2**30


@dataclass(frozen=True)
class Keeping:
    """Where states may be kept, in bytes.

    Attributes:
        memory_limit: In the memory of the device that trains.
        host_limit: In pinned host memory; of use where training is on a GPU.
        disk_limit: On disk.
        folder: Where on disk, in files that are deleted at the end; the system's temporary folder by default.
    """

    memory_limit: int = MEMORY
    host_limit: int = 0
    disk_limit: int = 0
    folder: Path | None = None

    def __post_init__(self) -> None:
        for name in ("memory_limit", "host_limit", "disk_limit"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number of bytes of at least 0")

    def plan(self, size: int, horizon: int) -> Plan:
        """How many states of ``size`` bytes to keep in each place, of the T − 1 that are of use.

        Raises:
            ValueError: If not even one fits.
        """
        needed = max(1, horizon - 1)
        memory = min(self.memory_limit // size, needed)
        host = min(self.host_limit // size, needed - memory)
        disk = min(self.disk_limit // size, needed - memory - host)
        if memory + host + disk < 1:
            raise ValueError(f"memory_limit is {self.memory_limit}; it must be at least {size}, the size of a state")
        return Plan(horizon, memory, host, disk)


@dataclass(frozen=True)
class Plan:
    """Numbers of states kept at once.

    Attributes:
        horizon: T.
        memory: Where training computes.
        host: In pinned host memory.
        disk: On disk.
    """

    horizon: int
    memory: int
    host: int = 0
    disk: int = 0

    def schedule(self) -> MultistageCheckpointSchedule:
        """The actions, fast places first for the states that are read most."""
        return MultistageCheckpointSchedule(self.horizon, self.memory, self.host + self.disk)

    def recomputed(self) -> int:
        """Number of steps computed again."""
        return sum(len(action) for action in self.schedule() if _advances(action)) + 1 - self.horizon


def _advances(action: object) -> bool:
    """Whether an action computes steps only to get to the next state; what precedes an adjoint step is part of it."""
    return isinstance(action, Forward) and not action.write_adj_deps


@dataclass(frozen=True)
class Visited:
    """A state of training and what is needed to go on from it.

    Attributes:
        step: t.
        training: The state before step t.
        random: Of torch's generators.
    """

    step: int
    training: Training
    random: RandomState

    def bytes(self) -> int:
        """Memory that it takes."""
        tensors = [*self.training.tensors().values(), *(part for part in self.random if part is not None)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class NotReproducedError(RuntimeError):
    """Training gave another state when it was computed again.

    Attributes:
        visited: The state, as it was this time.
    """

    def __init__(self, visited: Visited) -> None:
        super().__init__(f"training gave another state before step {visited.step} when it was computed again")
        self.visited = visited


@dataclass
class Rewound:
    """Training, then its states from the last to the first.

    Attributes:
        plan: How many states are kept, where.
        batches: By step.
        advance: (state, batch, step) ↦ the next state, and the batch loss before it [].
        start: The state before the first step.
        folder: Where states are kept on disk.
        end: The state after the last step, once it has been reached.
        loss: Sum of the batch losses of the steps 0 … T − 1 [].
        computed: Number of steps computed so far.
    """

    plan: Plan
    batches: Batches
    advance: Callable[[Training, Batch, int], tuple[Training, Tensor]]
    start: Training
    folder: Path | None = None
    end: Training | None = None
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    computed: int = 0
    _digests: dict[int, Tensor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Visited]:
        """The state after the last step, then those before the steps T − 1 … 0.

        Torch's generators stand where they stood then at each of the latter, and where training left them at the end.
        """
        device = self.start.parameters.device
        training, reached, deposit = self.start, self._now(0, self.start), None
        after: RandomState | None = None
        with ExitStack() as stack:
            places = self._places(stack)
            for action in self.plan.schedule():
                if isinstance(action, (Copy, Move)):
                    place = places[action.from_storage]
                    reached = place.take(action.n) if isinstance(action, Move) else place.get(action.n)
                    training = reached.training
                    set_random_state(device, reached.random)
                elif isinstance(action, Forward):
                    if action.write_ics:
                        places[action.storage].put(self._now(action.n0, training))
                    if action.write_adj_deps:
                        deposit = self._now(action.n0, training)
                    if not action.write_adj_deps or self.end is None:
                        training = self._forward(training, action.n0, action.n1)
                elif isinstance(action, EndForward):
                    self.end, after = training, random_state(device)
                    yield self._now(self.plan.horizon, training)
                elif isinstance(action, Reverse):
                    assert deposit is not None
                    set_random_state(device, deposit.random)
                    yield deposit
                elif isinstance(action, EndReverse):
                    break
        assert after is not None
        set_random_state(device, after)

    def _forward(self, training: Training, first: int, end: int) -> Training:
        """From the state before step ``first`` to that before step ``end``."""
        remaining = self.batches(first, end)
        for step in range(first, end):
            batch = next(remaining, None)
            if batch is None:
                raise ValueError(f"batches ended after {step} steps; horizon asks for {self.plan.horizon}")
            if step in self._digests:
                self._compare(step, training)
            elif step == end - 1 > first:
                self._digests[step] = digest(training)
            training, loss = self.advance(training, batch, step)
            self.loss = self.loss if self.end is not None else self.loss + loss
            self.computed += 1
        if end in self._digests:
            self._compare(end, training)
        return training

    def _compare(self, step: int, training: Training) -> None:
        if not torch.equal(self._digests[step], digest(training)):
            raise NotReproducedError(self._now(step, training))

    def _now(self, step: int, training: Training) -> Visited:
        return Visited(step, training, random_state(training.parameters.device))

    def _places(self, stack: ExitStack) -> dict[StorageType, Place]:
        slow: Place = InMemory()
        if self.plan.disk:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder, prefix="states-"))
            slow = OnDisk(Path(folder))
        if self.plan.host:
            slow = OnHost(self.plan.host, slow)
        return {StorageType.RAM: InMemory(), StorageType.DISK: slow}


def digest(training: Training) -> Tensor:
    """A whole number [n] for each of a state's n tensors that changes with any of their bits, made on their device."""
    return torch.stack([_digest(tensor) for tensor in training.tensors().values()])


def _digest(tensor: Tensor) -> Tensor:
    """Σ_i (2 i + 1) bits_i modulo 2⁶⁴: every factor is odd, so no single difference is lost."""
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.reshape(-1).view(kinds[tensor.element_size()]).to(torch.int64)
    return (bits * torch.arange(1, 2 * len(bits) + 1, 2, device=bits.device)).sum()


# --------------------------------------------------------------------------------------- where states are kept


class Place(Protocol):
    """Keeps states by their step."""

    def put(self, visited: Visited) -> None:
        """Keep one."""

    def get(self, step: int) -> Visited:
        """Give one and keep it."""

    def take(self, step: int) -> Visited:
        """Give one and forget it."""


class InMemory:
    """States as they are."""

    def __init__(self) -> None:
        self._kept: dict[int, Visited] = {}

    def put(self, visited: Visited) -> None:
        """Keep one."""
        self._kept[visited.step] = visited

    def get(self, step: int) -> Visited:
        """Give one and keep it."""
        return self._kept[step]

    def take(self, step: int) -> Visited:
        """Give one and forget it."""
        return self._kept.pop(step)


class OnHost:
    """The first ``room`` states in pinned host memory, others in another place.

    Args:
        room: Most states here.
        beyond: For the others.
    """

    def __init__(self, room: int, beyond: Place) -> None:
        self._room = room
        self._beyond = beyond
        self._kept: dict[int, tuple[Visited, torch.device]] = {}

    def put(self, visited: Visited) -> None:
        """Keep one; nothing waits for the copy but what reads it on the device."""
        if len(self._kept) == self._room:
            self._beyond.put(visited)
            return
        device = visited.training.parameters.device
        self._kept[visited.step] = _moved(visited, _pinned), device

    def get(self, step: int) -> Visited:
        """Give one and keep it."""
        if step not in self._kept:
            return self._beyond.get(step)
        visited, device = self._kept[step]
        return _moved(visited, lambda tensor: tensor.to(device, non_blocking=True))

    def take(self, step: int) -> Visited:
        """Give one and forget it."""
        if step not in self._kept:
            return self._beyond.take(step)
        found = self.get(step)
        if found.training.parameters.is_cuda:
            torch.cuda.synchronize(found.training.parameters.device)  # the host's copy is about to be freed
        del self._kept[step]
        return found


class OnDisk:
    """States in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, visited: Visited) -> None:
        """Keep one."""
        torch.save((visited.training.parameters, visited.training.memory, visited.random), self._file(visited.step))

    def get(self, step: int) -> Visited:
        """Give one and keep it."""
        parameters, memory, random = torch.load(self._file(step), weights_only=True)
        return Visited(step, Training(parameters, memory), random)

    def take(self, step: int) -> Visited:
        """Give one and forget it."""
        found = self.get(step)
        self._file(step).unlink()
        return found

    def _file(self, step: int) -> Path:
        return self._folder / f"{step}.pt"


def _moved(visited: Visited, move: Callable[[Tensor], Tensor]) -> Visited:
    memory = {name: move(value) for name, value in visited.training.memory.items()}
    return Visited(visited.step, Training(move(visited.training.parameters), memory), visited.random)


def _pinned(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


# ------------------------------------------------------------------------------------------ batches by step


def by_step(batches: Batches | Iterable[Batch]) -> Batches:
    """Batches that can be read again from any step; those of an iterator are kept as they come."""
    if callable(batches):
        return batches
    return _Read(batches)


class _Read:
    """Remembers what an iterable has given, unless it can be indexed itself."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._known: Sequence[Batch] | list[Batch] = batches if isinstance(batches, Sequence) else []
        self._remaining = iter(()) if isinstance(batches, Sequence) else iter(batches)

    def __call__(self, first: int, end: int) -> Iterator[Batch]:
        for step in range(first, end):
            while step >= len(self._known):
                batch = next(self._remaining, None)
                if batch is None:
                    return
                assert isinstance(self._known, list)
                self._known.append(batch)
            yield self._known[step]
