"""Data are loaded once per node: its workers read them in Ray's object store, in the same memory.

The first worker that needs data loads them and puts them into the store. The others wait for it and read them there
without a copy. A :class:`.Board` on each node says who loads. It ends with the worker that has made it, and data end
with the worker that has loaded them. Who has them by then keeps them, and the next to need them loads them again, so a
node never holds more than one copy per worker.

The store's memory cannot be written to. :class:`.ChosenExamples` hand out copies of rows, never the memory itself.
"""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import ray
import torch
from ray import cloudpickle
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from raytune_hyperlearn.problems.examples import ChosenExamples, Examples
from raytune_hyperlearn.problems.fields import Fields
from raytune_hyperlearn.problems.loading import Load, sharing
from raytune_hyperlearn.tune.node_board import Board, Process

LOGGER = logging.getLogger(__name__)
POLL_SECONDS = 0.2
"""Between two questions of a worker that waits for another."""
PATIENCE_SECONDS = 120.0
"""For an answer of the board and for data that have been loaded; not for the loading itself."""
ATTEMPTS = 30
"""Of finding a board and data whose processes live until they have answered."""


def shared_on_node(asked: object) -> AbstractContextManager[None]:
    """Within it, data are shared with the other workers of this node; in a process that is none, nothing changes.

    Args:
        asked: What is loaded, as in a trial's config: two workers share data only if they were asked for the same.
    """
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return nullcontext()
    return sharing(partial(_shared, asked))


def _shared(asked: object, key: str, load: Load) -> tuple[Examples, ...]:
    """What ``load`` gives, from the store if possible; without a store that works it is just called."""
    try:
        whole_key = hashlib.sha256(cloudpickle.dumps((asked, key))).hexdigest()
    except Exception as error:
        return _alone(f"what is asked for cannot be pickled ({type(error).__name__})", load)
    this, failure = Process.this(), "it was lost"
    for _ in range(ATTEMPTS):
        try:
            board = _this_board()
            answer = _answer(board, whole_key, this)
            if isinstance(answer, list):
                return _stored(answer[0])
        except (RayError, ValueError) as error:  # the maker of the board, or who loaded the data, has ended
            failure = type(error).__name__
            if isinstance(error, RayActorError):
                _board.cache_clear()
            time.sleep(POLL_SECONDS)
            continue
        return load() if answer == "alone" else load_for_all(board, whole_key, this, load)
    return _alone(failure, load)


def _alone(why: str, load: Load) -> tuple[Examples, ...]:
    LOGGER.warning("data are not shared with the other workers of this node: %s", why)
    return load()


def _this_board() -> Any:
    context = ray.get_runtime_context()
    return _board(context.get_job_id(), context.get_node_id())


@lru_cache(maxsize=1)
def _board(job: str, node: str) -> Any:
    """A node's board; one per job, so that no job finds another's data.

    The handle is kept: Ray ends an actor when the handle of its maker is gone.
    """
    return (
        ray.remote(Board)
        .options(
            name=f"hyperlearn-data-{job}-{node}",
            get_if_exists=True,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote()
    )


def _answer(board: Any, key: str, this: Process) -> Any:
    """A list of one reference, ``load`` or ``alone``, as soon as nobody else is loading."""
    while (answer := ray.get(board.ask.remote(key, this), timeout=PATIENCE_SECONDS)) == "wait":
        time.sleep(POLL_SECONDS)
    return answer


def load_for_all(board: Any, key: str, this: Process, load: Load) -> tuple[Examples, ...]:
    """Load, put into the store and go on with what lies there; with the own data if the store cannot take them.

    Args:
        board: Tells the other workers.
        key: What they ask the board for.
        this: The calling process.
        load: Gives the examples.
    """
    try:
        loaded = load()
    except BaseException:
        board.withdraw.remote(key, this)
        raise
    try:
        packed = [PackedExamples.of(examples) for examples in loaded]
        _check_room(sum(examples.size for examples in packed))
        reference = ray.put(packed)
        _give(board, key, this, reference)
        return _stored(reference)
    except (RayError, ValueError) as error:
        board.give.remote(key, this, "alone")
        return _alone(" ".join(str(error).split()), lambda: loaded)


def _give(board: Any, key: str, this: Process, reference: Any) -> None:
    """Tell the board where the data are; if its maker has ended meanwhile, the board after it.

    Raises:
        RayError: If there is none that lives.
    """
    for attempt in range(ATTEMPTS):
        try:
            ray.get(board.give.remote(key, this, [reference]), timeout=PATIENCE_SECONDS)
            return
        except RayActorError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(POLL_SECONDS)
            _board.cache_clear()
            board = _this_board()


def _stored(reference: Any) -> tuple[Examples, ...]:
    return tuple(packed.examples() for packed in ray.get(reference, timeout=PATIENCE_SECONDS))


def _check_room(size: int) -> None:
    """Refuse data that the node's store has no room for; Ray would write them to its disk.

    Raises:
        ValueError: In one line.
    """
    node = ray.get_runtime_context().get_node_id()
    resources: dict[str, float] = next((found["Resources"] for found in ray.nodes() if found["NodeID"] == node), {})
    room = resources.get("object_store_memory", 0)
    if size > room:
        raise ValueError(f"they take {size:,} bytes; Ray's object store on this node has {room:,.0f}")


@dataclass(frozen=True)
class PackedTensor:
    """A tensor's bytes, because NumPy has not all types, as they lie in memory.

    Which dimension lies where is kept: it decides how sums over a batch round.

    Attributes:
        array: The bytes [n].
        dtype: Of the tensor.
        order: Its dimensions from the outermost to the innermost in memory.
        shape: Their lengths, in this order.
    """

    array: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: torch.dtype
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> PackedTensor:
        """The tensor's bytes, without a copy if they lie densely."""
        strides = tensor.stride()
        order = tuple(sorted(range(tensor.ndim), key=lambda dim: -strides[dim]))
        dense = tensor.detach().permute(order).contiguous()
        return cls(dense.view(-1).view(torch.uint8).numpy(), tensor.dtype, order, tuple(dense.shape))

    def tensor(self) -> Tensor:
        """The tensor in the memory of the array, which may not be written to."""
        with warnings.catch_warnings():
            # True, and the reason for ChosenExamples: nothing else gets at this tensor.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            dense = torch.from_numpy(self.array)
        return (
            dense.view(self.dtype).view(self.shape).permute([self.order.index(dim) for dim in range(len(self.order))])
        )


@dataclass(frozen=True)
class PackedExamples:
    """Examples as arrays, which Ray's store hands out without a copy.

    Attributes:
        inputs: By name where there are several.
        targets: One.
    """

    inputs: PackedTensor | dict[Any, PackedTensor]
    targets: PackedTensor

    @classmethod
    def of(cls, examples: Examples) -> PackedExamples:
        """Examples in the memory of this machine.

        Raises:
            ValueError: In one line, if they are on a GPU.
        """
        if examples.device.type != "cpu":
            raise ValueError(f"they are on {examples.device}")
        targets, inputs = PackedTensor.of(examples.targets), examples.inputs
        if isinstance(inputs, Fields):
            return cls({name: PackedTensor.of(tensor) for name, tensor in inputs.tensors.items()}, targets)
        return cls(PackedTensor.of(inputs), targets)

    def examples(self) -> ChosenExamples:
        """All of the examples, in the memory of the arrays."""
        if isinstance(self.inputs, dict):
            inputs: Any = Fields({name: packed.tensor() for name, packed in self.inputs.items()})
        else:
            inputs = self.inputs.tensor()
        whole = Examples(inputs, self.targets.tensor())
        return ChosenExamples(whole, torch.arange(len(whole)))

    @property
    def size(self) -> int:
        """In bytes."""
        inputs = self.inputs.values() if isinstance(self.inputs, dict) else [self.inputs]
        return sum(packed.array.nbytes for packed in (*inputs, self.targets))
