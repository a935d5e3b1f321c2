"""Training by a rule: equal to torch.optim.SGD, resumable, the same in micro-batches, on every kind of network."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.batch_adaptive import BatchAdaptiveSGD
from raytune_hyperlearn.algorithms.ruled_sgd import BatchStatistics, Progress, RuledSGD, WithoutMemory
from raytune_hyperlearn.algorithms.sampler import EpochSampler
from tests.derivatives.networks import CASES, build, cross_entropy

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


class Sizes(WithoutMemory):
    """Given sizes, one batch after another, each in draws of ``increment``."""

    def __init__(self, sizes: list[int], variance: str = "none", increment: int | None = None) -> None:
        self.sizes = sizes
        self.variance = variance
        self.increment = increment
        self.asked = 0

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        self.asked += batch is None
        return self.sizes[(self.asked - 1) % len(self.sizes)]


def problem(name: str = "mlp", n: int = 60) -> tuple[nn.Module, EpochSampler]:
    model, data = build(CASES[name], n)
    return model, EpochSampler(data.inputs, data.targets, seed=4)


def parameters_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("increment", [None, 3])
def test_is_torch_sgd_on_the_same_batches(momentum: float, increment: int | None) -> None:
    """However many draws make up a batch: the momentum buffers move once per update."""
    model, sampler = problem()
    twin, twin_sampler = problem()
    rule = Sizes([9, 15, 6], increment=increment)
    optimizer = RuledSGD(model, cross_entropy, sampler, rule, lr=0.3, momentum=momentum)
    reference = torch.optim.SGD(twin.parameters(), lr=0.3, momentum=momentum)
    for index in range(12):
        update = optimizer.step()
        size = rule.sizes[index % 3]
        twin_sampler.begin_batch()
        inputs, targets = twin_sampler.draw(size)
        loss = cross_entropy(twin(inputs), targets).mean()
        reference.zero_grad()
        loss.backward()
        reference.step()
        assert update.batch_size == size
        assert update.enlargements == (1 if increment is None else math.ceil(size / increment))
        assert update.loss == pytest.approx(loss.item(), rel=1e-10)
        torch.testing.assert_close(parameters_of(model), parameters_of(twin), **TOLERANCE)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            if momentum > 0:
                buffers = (optimizer.state[p]["momentum_buffer"], reference.state[q]["momentum_buffer"])
                torch.testing.assert_close(*buffers, **TOLERANCE)


def test_reports_alignment_with_the_new_buffer() -> None:
    model, sampler = problem()
    optimizer = RuledSGD(model, cross_entropy, sampler, Sizes([10]), lr=0.1, momentum=0.5)
    first = optimizer.step()
    assert first.drift == pytest.approx(first.gradient_norm_squared)
    before = torch.cat([optimizer.state[p]["momentum_buffer"].flatten().clone() for p in model.parameters()])
    second = optimizer.step()
    after = torch.cat([optimizer.state[p]["momentum_buffer"].flatten() for p in model.parameters()])
    gradient = after - 0.5 * before
    assert second.drift == pytest.approx(float(gradient @ after), rel=1e-9)
    assert math.isnan(second.variance_along_gradient)  # nobody asked


def test_learning_rate_schedulers_apply() -> None:
    model, sampler = problem()
    optimizer = RuledSGD(model, cross_entropy, sampler, Sizes([5]), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    moved = []
    for _ in range(3):
        before = parameters_of(model)
        norm = math.sqrt(optimizer.step().gradient_norm_squared)
        moved.append(float((parameters_of(model) - before).norm()) / norm)
        schedule.step()
    assert moved == pytest.approx([1.0, 0.5, 0.25])


@pytest.mark.parametrize("name", ["cnn with dropout", "lstm", "batch norm"])
def test_a_restored_run_goes_on_exactly(name: str) -> None:
    """In the middle of an epoch, through a file, into a freshly built run with other seeds."""

    def run(seed: int) -> tuple[nn.Module, BatchAdaptiveSGD]:
        model, data = build(CASES[name], 50, seed=0)
        sampler = EpochSampler(data.inputs, data.targets, seed=seed)
        return model, BatchAdaptiveSGD(
            model, cross_entropy, sampler, lr=0.1, momentum=0.9, m0=4, max_batch_size=24, seed=seed
        )

    model, optimizer = run(seed=1)
    for _ in range(5):
        optimizer.step()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = [optimizer.step() for _ in range(6)]
    file.seek(0)
    state = torch.load(file, weights_only=True)
    restored_model, restored = run(seed=2)
    restored_model.load_state_dict(state["model"])
    restored.load_state_dict(state["optimizer"])
    assert restored.updates == 5
    for update, again in zip(expected, (restored.step() for _ in range(6)), strict=True):
        assert (again.batch_size, again.loss) == (update.batch_size, update.loss)
    assert torch.equal(parameters_of(restored_model), parameters_of(model))


@pytest.mark.parametrize("covariance", ["exact", "newest"])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_network_trains(name: str, covariance: str) -> None:
    model, sampler = problem(name)
    optimizer = BatchAdaptiveSGD(
        model, cross_entropy, sampler, lr=0.1, momentum=0.5, m0=6, max_batch_size=30, covariance=covariance
    )
    sizes = [optimizer.step().batch_size for _ in range(12)]
    assert all(6 <= size <= 30 for size in sizes)
    assert torch.isfinite(parameters_of(model)).all()


def test_training_leaves_the_global_generator_alone_and_seeds_decide() -> None:
    def trained(seed: int) -> Tensor:
        model, sampler = problem("cnn with dropout")
        optimizer = BatchAdaptiveSGD(model, cross_entropy, sampler, lr=0.1, m0=8, seed=seed)
        for _ in range(3):
            optimizer.step()
        return parameters_of(model)

    state = torch.get_rng_state()
    first = trained(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert torch.equal(trained(0), first)
    assert not torch.equal(trained(1), first)


@pytest.mark.parametrize("covariance", ["exact", "newest", "diagonal"])
def test_micro_batches_change_nothing(covariance: str) -> None:
    runs = []
    for size in (None, 1, 5):
        model, sampler = problem()
        optimizer = BatchAdaptiveSGD(
            model, cross_entropy, sampler, lr=0.3, momentum=0.9, m0=8, covariance=covariance, micro_batch_size=size
        )
        runs.append(([optimizer.step().batch_size for _ in range(15)], parameters_of(model)))
    for sizes, parameters in runs[1:]:
        assert sizes == runs[0][0]
        torch.testing.assert_close(parameters, runs[0][1], rtol=1e-7, atol=1e-9)


def test_running_out_of_memory_changes_nothing() -> None:
    def limited(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) > 7:
            raise torch.OutOfMemoryError("simulated")
        return cross_entropy(outputs, targets)

    runs: list[tuple[list[int], Tensor]] = []
    for loss in (cross_entropy, limited):
        model, sampler = problem()
        optimizer = RuledSGD(model, loss, sampler, Sizes([40, 20]), lr=0.3, momentum=0.9)
        runs.append(([optimizer.step().batch_size for _ in range(6)], parameters_of(model)))
    assert runs[0][0] == runs[1][0]
    torch.testing.assert_close(runs[0][1], runs[1][1], **TOLERANCE)


def test_batch_norm_statistics_move_once_per_draw_as_in_plain_training() -> None:
    model, sampler = problem("batch norm")
    optimizer = BatchAdaptiveSGD(model, cross_entropy, sampler, lr=0.1, m0=6, max_batch_size=30)
    draws = sum(optimizer.step().enlargements for _ in range(5))
    counted: Any = model[1].num_batches_tracked
    assert int(counted) == draws


def test_bounds_apply_to_every_rule() -> None:
    model, sampler = problem(n=20)
    optimizer = RuledSGD(model, cross_entropy, sampler, Sizes([1000]), lr=0.1)
    update = optimizer.step()
    assert (update.batch_size, update.chosen_size) == (20, 1000)
    assert optimizer.progress().epochs == 1.0
