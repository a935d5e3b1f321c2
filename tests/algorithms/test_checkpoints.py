"""States from the last to the first: the same bits whatever is kept and wherever, or an error that names the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.adjoint_steps import AdjointStep, MapAdjoint, SGDAdjoint, Training
from raytune_hyperlearn.algorithms.checkpoints import InMemory, Keeping, OnHost, Plan, Visited, digest
from raytune_hyperlearn.algorithms.reverse_mode import ReverseHypergradient, hypergradient
from raytune_hyperlearn.algorithms.update_maps import AdamW, Batch
from raytune_hyperlearn.derivatives.adjoint_products import AdjointProductOptions
from raytune_hyperlearn.derivatives.column_chunks import random_state
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from tests.plain_networks import NETWORKS, cross_entropy

VALUES = {"learning_rate": [0.1, 0.05], "momentum": [0.9], "weight_decay": [0.01]}


def state_size(inner: AdjointStep, batch: Batch) -> int:
    return Visited(0, inner.begin(1, batch), random_state(torch.device("cpu"))).bytes()


def found(network: str, steps: int, states: int, recorded: bool = False, **options: object) -> ReverseHypergradient:
    """With ``states`` states; batches come from a function that makes them anew each time."""
    written = NETWORKS[network]
    model = FunctionalModel(written.build(), cross_entropy)
    inner: AdjointStep = SGDAdjoint(model, options=AdjointProductOptions(record_from=1 if recorded else steps + 1))
    values = VALUES
    if options.pop("adamw", False):
        inner, values = MapAdjoint(AdamW(model)), {"learning_rate": [0.05, 0.02], "weight_decay": [0.1]}

    def batches(first: int, end: int) -> Iterator[Batch]:
        return (written.examples(8, 10 + step) for step in range(first, end))

    size = state_size(inner, next(batches(0, 1)))
    disk = int(options.pop("disk", 0))  # type: ignore[call-overload]
    keeping = Keeping(states * size, disk_limit=disk * size, **options)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return hypergradient(inner, batches, [written.examples(9, 1)], values, steps, tuple(values), keeping=keeping)


def assert_same(one: ReverseHypergradient, other: ReverseHypergradient) -> None:
    assert one.values == other.values
    assert (one.validation_loss, one.training_loss) == (other.validation_loss, other.training_loss)
    assert torch.equal(one.parameters, other.parameters)
    assert all(torch.equal(own, other.per_step[name]) for name, own in one.per_step.items())


@pytest.mark.parametrize("states", [1, 3, 6, 11])
@pytest.mark.parametrize(
    ("network", "options"),
    [("dropout", {}), ("batch norm mlp", {"recorded": True}), ("mlp", {"adamw": True})],
)
def test_checkpointed_equals_stored_bit_for_bit(network: str, options: dict[str, object], states: int) -> None:
    whole, part = (found(network, 20, count, **options) for count in (20, states))
    assert whole.recomputed == 0
    assert part.recomputed == part.plan.recomputed() > 0
    assert part.plan.memory == states
    assert_same(part, whole)


@pytest.mark.parametrize("steps", [1, 2, 3, 150])
def test_any_number_of_steps(steps: int) -> None:
    states = 2 * math.isqrt(steps)
    whole, part = found("mlp", steps, steps), found("mlp", steps, states)
    assert_same(part, whole)
    assert part.recomputed <= steps


def test_states_on_disk_are_the_same_and_are_deleted(tmp_path: Path) -> None:
    assert_same(found("dropout", 20, 2, disk=4, folder=tmp_path), found("dropout", 20, 20))
    assert found("dropout", 20, 2, disk=4, folder=tmp_path).plan == Plan(20, memory=2, disk=4)
    assert list(tmp_path.iterdir()) == []


def test_states_beyond_the_hosts_room_go_on() -> None:
    beyond = InMemory()
    place = OnHost(2, beyond)
    kept = [
        Visited(step, Training(torch.full((3,), float(step)), {}), random_state(torch.device("cpu")))
        for step in range(3)
    ]
    for visited in kept:
        place.put(visited)
    assert beyond.get(2) is kept[2]
    for step in (2, 1, 0):
        assert place.get(step).training.parameters.tolist() == [step] * 3
        assert place.take(step).training.parameters.tolist() == [step] * 3
    with pytest.raises(KeyError):
        place.take(1)


@pytest.mark.parametrize("steps", [500, 5000, 50_000])
def test_twice_the_root_of_t_states_compute_no_step_three_times(steps: int) -> None:
    states = 2 * math.isqrt(steps)
    plan = Plan(steps, states)
    assert plan.recomputed() <= steps
    assert steps < 50_000 or states < 500


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="memory_limit is 99; it must be at least 100, the size of a state"):
        Keeping(99).plan(100, 10)
    with pytest.raises(ValueError, match="disk_limit is -1; it must be a number of bytes of at least 0"):
        Keeping(disk_limit=-1)
    assert Keeping(1000).plan(100, 5) == Plan(5, 4)
    assert Keeping(250, host_limit=150, disk_limit=10_000).plan(100, 10) == Plan(10, 2, 1, 6)


def test_a_digest_changes_with_every_bit() -> None:
    training = Training(torch.tensor([1.0, -2.0, 0.0]), {"count": torch.tensor(3), "half": torch.ones(2).bfloat16()})
    changed = [
        Training(torch.tensor([1.0, -2.0, -0.0]), training.memory),
        Training(torch.tensor([-2.0, 1.0, 0.0]), training.memory),
        Training(training.parameters, {**training.memory, "count": torch.tensor(4)}),
        Training(torch.nextafter(training.parameters, torch.tensor([9.0, -9.0, 0.0])), training.memory),
    ]
    assert not any(torch.equal(digest(training), digest(other)) for other in changed)
    assert torch.equal(digest(training), digest(Training(training.parameters.clone(), training.memory)))


class Unsteady(nn.Module):
    """Multiplies by numbers of its own generator, which nobody puts back."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * torch.rand((), generator=self.generator, dtype=inputs.dtype)


def run(model: nn.Module, drifting: bool = False) -> ReverseHypergradient:
    inner = SGDAdjoint(FunctionalModel(model.double(), cross_entropy))
    calls = [0]

    def batches(first: int, end: int) -> Iterator[Batch]:
        calls[0] += drifting
        seeds = torch.Generator().manual_seed(first + calls[0])
        return ((torch.randn(6, 4, generator=seeds).double(), torch.arange(6) % 3) for _ in range(first, end))

    size = state_size(inner, next(batches(0, 1)))
    held_out = [(torch.ones(3, 4).double(), torch.arange(3))]
    return hypergradient(inner, batches, held_out, VALUES, 12, ("momentum",), keeping=Keeping(4 * size))


def test_an_unsteady_layer_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"when it was computed again; 1\.0 \(Unsteady\) computes another result"):
        run(nn.Sequential(nn.Linear(4, 5), nn.Sequential(Unsteady(), nn.Tanh()), nn.Linear(5, 3)))


def test_unsteady_batches_are_named() -> None:
    with pytest.raises(RuntimeError, match="no layer does so by itself: batches must give the same ones"):
        run(nn.Linear(4, 3), drifting=True)
