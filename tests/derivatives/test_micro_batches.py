"""Dividing batches by memory: a device with a known limit is simulated by raising what torch raises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raytune_hyperlearn.derivatives.micro_batches import CLOSE_ENOUGH, MicroBatches, coupled_layer


class Memory:
    """Evaluates at most ``limit`` instances at once; remembers what it did."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.done: list[tuple[int, int]] = []
        self.failures = 0

    def evaluate(self, start: int, stop: int) -> None:
        if stop - start > self.limit:
            self.failures += 1
            raise torch.OutOfMemoryError("simulated")
        self.done.append((start, stop))

    def covered(self) -> list[int]:
        return [row for start, stop in self.done for row in range(start, stop)]


def nothing_to_release() -> bool:
    return False


def test_everything_at_once_where_it_fits() -> None:
    memory, micro_batches = Memory(100), MicroBatches()
    micro_batches.run(100, memory.evaluate, nothing_to_release)
    assert memory.done == [(0, 100)]
    assert (micro_batches.fitted, micro_batches.failed) == (100, None)


@pytest.mark.parametrize("limit", [1, 2, 7, 33, 64, 99])
@pytest.mark.parametrize("n", [1, 5, 64, 100, 257])
def test_every_instance_once_whatever_fits(limit: int, n: int) -> None:
    memory, micro_batches = Memory(limit), MicroBatches()
    for _ in range(3):
        memory.done.clear()
        micro_batches.run(n, memory.evaluate, nothing_to_release)
        assert memory.covered() == list(range(n))


def test_the_largest_size_is_found_and_then_nothing_fails_any_more() -> None:
    memory, micro_batches = Memory(300), MicroBatches()
    for _ in range(20):
        micro_batches.run(1000, memory.evaluate, nothing_to_release)
    failures = memory.failures
    memory.done.clear()
    micro_batches.run(1000, memory.evaluate, nothing_to_release)
    assert memory.failures == failures <= 5
    assert len(memory.done) == 4  # 250 each: no fewer parts than the limit asks for
    assert micro_batches.failed is not None
    assert micro_batches.fitted <= 300 < micro_batches.failed


def test_memory_that_becomes_scarce_shrinks_the_size_again() -> None:
    memory, micro_batches = Memory(1000), MicroBatches()
    micro_batches.run(800, memory.evaluate, nothing_to_release)
    memory.limit = 50
    memory.done.clear()
    micro_batches.run(800, memory.evaluate, nothing_to_release)
    assert memory.covered() == list(range(800))
    assert micro_batches.fitted <= 50


def test_memory_that_can_be_released_is_released_before_dividing() -> None:
    memory, micro_batches = Memory(10), MicroBatches()

    def release() -> bool:
        grew = memory.limit == 10
        memory.limit = 20
        return grew

    micro_batches.run(20, memory.evaluate, release)
    assert memory.done == [(0, 20)]
    assert micro_batches.failed is None


def test_a_single_instance_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="simulated"):
        MicroBatches().run(8, Memory(0).evaluate, nothing_to_release)


def test_a_given_size_is_never_exceeded_and_parts_are_equal() -> None:
    memory = Memory(1000)
    MicroBatches(32).run(80, memory.evaluate, nothing_to_release)
    assert memory.done == [(0, 27), (27, 54), (54, 80)]
    with pytest.raises(ValueError, match="micro_batch_size is 0; it must be at least 1"):
        MicroBatches(0)


def test_the_search_stops_close_to_the_limit() -> None:
    memory, micro_batches = Memory(300), MicroBatches()
    for n in (1000, 450, 350, 320, 310, 305):
        micro_batches.run(n, memory.evaluate, nothing_to_release)
    assert micro_batches.failed is not None
    assert micro_batches.failed <= 2 * micro_batches.fitted
    assert micro_batches.next_part(10_000) <= 300 * CLOSE_ENOUGH


def test_the_layer_in_which_instances_meet_is_named() -> None:
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "norm": nn.BatchNorm2d(3)})
    assert coupled_layer(model) == "norm"
    assert coupled_layer(model.eval()) is None
    assert coupled_layer(nn.BatchNorm1d(2, track_running_stats=False).eval()) == ""
