from __future__ import annotations

import logging

import pytest
import torch

from raytune_hyperlearn.derivatives.column_chunks import ColumnChunks

CPU = torch.device("cpu")


class Memory:
    """Doubles columns while no more than ``room`` of them are asked for at once; notes every attempt."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def __call__(self, part: slice) -> list[int]:
        columns = list(range(7))[part]
        self.asked.append(len(columns))
        if len(columns) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * column for column in columns]


def test_columns_are_halved_until_they_fit_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    memory, chunks = Memory(room=2), ColumnChunks(None)
    with caplog.at_level(logging.WARNING):
        found = chunks(memory, 7, CPU)
    assert found == [[0, 2], [4, 6], [8, 10], [12]]
    assert memory.asked == [7, 4, 2, 2, 2, 1]
    assert "memory is too short for 7 columns at once; from now on 4 are taken" in caplog.text
    memory.asked.clear()
    assert chunks(memory, 3, CPU) == [[0, 2], [4]]
    assert memory.asked == [2, 1]


def test_running_out_in_a_later_pass_starts_all_over() -> None:
    calls: list[slice] = []

    def compute(part: slice) -> int:
        calls.append(part)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return part.start

    assert ColumnChunks(4)(compute, 7, CPU) == [0, 2, 4, 6]


def test_one_column_that_does_not_fit_is_an_error() -> None:
    memory = Memory(room=0)
    with pytest.raises(torch.OutOfMemoryError):
        ColumnChunks(None)(memory, 7, CPU)
    assert memory.asked == [7, 4, 2, 1]


def test_every_pass_draws_the_same_random_numbers_even_after_a_failure() -> None:
    drawn: list[float] = []
    failures = iter([False, True])

    def compute(part: slice) -> float:
        drawn.append(torch.rand(()).item())
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return drawn[-1]

    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = torch.rand(()).item(), torch.rand(()).item()
        torch.manual_seed(3)
        found = ColumnChunks(2)(compute, 3, CPU)
        assert found == [expected[0]] * 3
        assert torch.rand(()).item() == expected[1]
    assert len(drawn) == 5


def test_a_chunk_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"^chunk is 0; it must be at least 1 or None$"):
        ColumnChunks(0)
