"""Data are loaded once per node: workers share the memory of Ray's object store, and none waits for a dead one."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
import torch
from ray.exceptions import RayActorError

from raytune_hyperlearn.problems import Examples, ProblemSource, load, source_of
from raytune_hyperlearn.problems.examples import ChosenExamples
from raytune_hyperlearn.problems.loading import WORTH_SHARING, loaded_once, sharing
from raytune_hyperlearn.tune.node_board import Board, Process
from raytune_hyperlearn.tune.node_data import PackedExamples, load_for_all, shared_on_node

COUNT, WIDTH = 260, 16_384
SIZE = COUNT * WIDTH * 4
SAMPLED = 32
"""Examples that each process reads to estimate a size: 16, twice."""
CODE = f"""
import os, signal
from pathlib import Path
import torch
from torch import nn
from raytune_hyperlearn import Problem


class Rows:
    def __init__(self, count, reads, mortal):
        self.count, self.reads, self.mortal, self.here = count, reads, mortal, 0

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        if row >= self.count:
            raise IndexError(row)
        with open(self.reads, "a") as file:
            file.write("x")
        self.here += 1
        if self.mortal and self.here > {SAMPLED + 100} and not Path(self.mortal).exists():
            Path(self.mortal).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full(({WIDTH},), float(row)), row % 3


def problem(reads, mortal="", shift=0):
    train, test = Rows({COUNT} - shift, reads, mortal), Rows(10, os.devnull, "")
    return Problem.from_datasets("rows", lambda: nn.Linear({WIDTH}, 3), train, test, batch_size=8)
"""


@ray.remote(num_cpus=0)
class Worker:
    """Loads a problem as a trial does."""

    def load(self, source: ProblemSource) -> tuple[float, tuple[str, int]]:
        """The sum of the training inputs and where they lie: a file of shared memory and the place in it."""
        with shared_on_node(source):
            train = load(source).train
        assert isinstance(train, ChosenExamples)
        total = sum(float(train[slice(row, row + 1)].inputs.sum()) for row in range(len(train)))
        return total, place_of(train.whole.inputs.data_ptr())


def place_of(address: int) -> tuple[str, int]:
    """Device and inode of the shared file that is mapped at an address of this process, and the place in it."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, flags, offset, device, inode = line.split()[:5]
        start, end = (int(number, 16) for number in span.split("-"))
        if start <= address < end:
            assert flags[-1] == "s", line
            return f"{device} {inode}", int(offset, 16) + address - start
    raise AssertionError(f"nothing is mapped at {address:x}")


@pytest.fixture(scope="module")
def workers(ray_session: str) -> Iterator[list[Any]]:
    """Two; the last test that uses them kills one."""
    found = [Worker.remote() for _ in range(2)]
    yield found
    for worker in found:
        ray.kill(worker)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.py"
    path.write_text(CODE)
    return path


def source(file: Path, **arguments: Any) -> ProblemSource:
    found = source_of(f"{file}:problem", {"reads": str(file.with_suffix(".reads")), **arguments})
    assert isinstance(found, ProblemSource)
    return found


def reads(file: Path) -> int:
    return len(file.with_suffix(".reads").read_text())


def test_the_workers_of_a_node_load_once_and_share_the_memory(workers: list[Any], file: Path) -> None:
    assert SIZE > WORTH_SHARING
    first, second = ray.get([worker.load.remote(source(file)) for worker in workers])
    assert reads(file) == COUNT + 2 * SAMPLED
    assert first == second
    assert first[0] == WIDTH * sum(range(COUNT))
    # Another problem of the same file, with other arguments, is loaded as well.
    total, _ = ray.get(workers[1].load.remote(source(file, shift=1)))
    assert total == WIDTH * sum(range(COUNT - 1))
    assert reads(file) == COUNT + 2 * SAMPLED + COUNT - 1 + SAMPLED


def test_a_worker_that_is_killed_while_it_loads_blocks_nobody(workers: list[Any], file: Path, tmp_path: Path) -> None:
    asked = source(file, mortal=str(tmp_path / "marker"))
    survivors = []
    for reference in [worker.load.remote(asked) for worker in workers]:
        try:
            survivors.append(ray.get(reference, timeout=60))
        except RayActorError:
            continue
    assert [total for total, _ in survivors] == [WIDTH * sum(range(COUNT))]


def test_without_a_worker_of_ray_every_process_loads_its_own(file: Path) -> None:
    with shared_on_node("anything"):
        problem = load(source(file))
    assert type(problem.train) is Examples
    assert reads(file) == COUNT + SAMPLED


def test_what_is_shared_is_asked_for_by_key_and_only_within() -> None:
    asked = []

    def load() -> tuple[Examples, ...]:
        return (Examples(torch.ones(2, 1), torch.ones(2)),)

    def share(key: str, load: Any) -> tuple[Examples, ...]:
        asked.append(key)
        return tuple(load())

    with sharing(share):
        assert len(loaded_once("one", load)) == 1
    loaded_once("two", load)
    assert asked == ["one"]


def test_the_board_lets_one_load_and_takes_a_dead_loaders_place() -> None:
    board, this = Board(), Process.this()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        loader = Process(other.pid, psutil.Process(other.pid).create_time())
        assert board.ask("key", loader) == "load"
        assert board.ask("key", this) == "wait"
        assert board.ask("other", this) == "load"
        other.kill()
    assert board.ask("key", this) == "load"
    board.give("key", this, ["reference"])
    assert board.ask("key", this) == ["reference"]
    board.withdraw("key", loader)  # of no account: it is another's now
    assert board.ask("key", this) == ["reference"]
    board.withdraw("key", this)
    assert board.ask("key", this) == "load"
    board.give("key", this, "alone")
    assert board.ask("key", this) == "alone"


def test_a_later_process_with_the_same_number_is_another() -> None:
    this = Process.this()
    assert this.runs()
    assert not Process(this.number, this.born - 100).runs()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_what_comes_out_of_the_store_is_what_went_in(dtype: torch.dtype) -> None:
    tensor = torch.randint(2, (6, 4, 5, 3)).to(dtype)
    for inputs in (tensor, tensor.permute(0, 3, 1, 2), tensor[:, ::2], tensor[:, :1]):
        packed = PackedExamples.of(Examples({"a": inputs, "b": inputs[:, 0]}, inputs[:, 0, 0, 0]))
        for value in (*packed.inputs.values(), packed.targets):  # type: ignore[union-attr]
            value.array.flags.writeable = False
        found = packed.examples()
        assert torch.equal(found.inputs.tensors["a"], inputs)
        assert torch.equal(found.inputs.tensors["b"], inputs[:, 0])
        assert torch.equal(found.targets, inputs[:, 0, 0, 0])
        rows = torch.tensor([5, 0, 2])
        assert found[rows].inputs.tensors["a"].stride() == inputs[rows].stride()
        one = PackedExamples.of(Examples(inputs, inputs[:, 0, 0, 0])).examples()
        assert torch.equal(one.inputs, inputs)


def test_batches_and_parts_of_shared_data_can_be_written_to() -> None:
    packed = PackedExamples.of(Examples(torch.ones(6, 2), torch.zeros(6)))
    packed.targets.array.flags.writeable = False
    found = packed.examples()
    for part in (found[slice(0, 6)], found[torch.arange(6)], found.read(), found, found.chosen(torch.arange(6))):
        part.inputs.add_(1)
        part.targets.add_(1)
    assert torch.equal(found.whole.inputs, torch.ones(6, 2))
    assert torch.equal(found.whole.targets, torch.zeros(6))


def test_data_that_the_store_cannot_take_stay_the_workers_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []
    board = SimpleNamespace(give=SimpleNamespace(remote=lambda *arguments: given.append(arguments)))
    context = SimpleNamespace(get_node_id=lambda: "here")
    nodes = [{"NodeID": name, "Resources": {"object_store_memory": room}} for name, room in (("x", 99), ("here", 10))]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    own = (Examples(torch.ones(6, 2), torch.zeros(6)),)
    with caplog.at_level(logging.WARNING):
        found = load_for_all(board, "key", Process.this(), lambda: own)
    assert found is own
    assert [entry[2] for entry in given] == ["alone"]
    assert "they take 72 bytes; Ray's object store on this node has 10" in caplog.text
