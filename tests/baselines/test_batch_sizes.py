"""Peers of batch adaptive training: their sizes by hand, their statistics by explicit gradients, one training code."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.batch_adaptive import BatchAdaptiveSGD
from raytune_hyperlearn.algorithms.ruled_sgd import BatchSizeRule, BatchStatistics, Progress, RuledSGD
from raytune_hyperlearn.algorithms.sampler import EpochSampler
from raytune_hyperlearn.baselines.batch_sizes import CABS, Average, Constant, GradientNoiseScale, Manual
from tests.derivatives.networks import CASES, build, cross_entropy, explicit_gradients

RULES: dict[str, Callable[[], BatchSizeRule]] = {
    "constant": lambda: Constant(12),
    "manual": lambda: Manual(4, 0.5, 16),
    "cabs": lambda: CABS(start=8, min_batch_size=4),
    "cabs by pieces": lambda: CABS(start=8, min_batch_size=4, trace="pieces"),
    "noise scale": lambda: GradientNoiseScale(start=8, min_batch_size=4),
    "noise scale by instances": lambda: GradientNoiseScale(start=8, min_batch_size=4, trace="diagonal"),
}


def at(epochs: float = 0.0, max_batch_size: int = 1000, learning_rate: float = 0.1) -> Progress:
    return Progress(instances=0, epochs=epochs, max_batch_size=max_batch_size, learning_rate=learning_rate)


def seen(size: int, loss: float, norm: float, trace: float) -> BatchStatistics:
    return BatchStatistics(size, loss, gradient_norm_squared=norm, drift=norm, trace=lambda: trace)


def trained(rule: BatchSizeRule, updates: int = 12, momentum: float = 0.0) -> tuple[list[int], Tensor]:
    model, data = build(CASES["mlp"], 60)
    sampler = EpochSampler(data.inputs, data.targets, seed=4)
    optimizer = RuledSGD(model, cross_entropy, sampler, rule, lr=0.3, momentum=momentum)
    sizes = [optimizer.step().batch_size for _ in range(updates)]
    return sizes, torch.cat([p.detach().flatten() for p in model.parameters()])


def test_constant_is_constant() -> None:
    assert trained(Constant(12))[0] == [12] * 12


def test_constant_is_batch_adaptive_training_that_never_enlarges() -> None:
    """The same code, the same draws: with a bound of m0 both are one run."""
    model, data = build(CASES["mlp"], 60)
    sampler = EpochSampler(data.inputs, data.targets, seed=4)
    optimizer = BatchAdaptiveSGD(model, cross_entropy, sampler, lr=0.3, momentum=0.9, m0=12, max_batch_size=12)
    for _ in range(12):
        optimizer.step()
    parameters = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(parameters, trained(Constant(12), momentum=0.9)[1], rtol=1e-10, atol=1e-12)


def test_manual_doubles_up_to_its_maximum() -> None:
    rule = Manual(start=32, double_every=25, max_batch_size=256)
    sizes = [rule.choose_size(at(epochs), None) for epochs in (0, 24.99, 25, 50, 74, 75, 99, 100, 1e9)]
    assert sizes == [32, 32, 64, 128, 128, 256, 256, 256, 256]
    assert Manual(3, 1, 10).choose_size(at(2.0), None) == 10


def test_manual_follows_the_epochs_of_training() -> None:
    sizes, _ = trained(Manual(start=5, double_every=1, max_batch_size=20), updates=20)
    assert sizes == [5] * 12 + [10] * 6 + [20] * 2


class TestCABS:
    def test_first_decision_by_hand(self) -> None:
        rule = CABS(start=16, min_batch_size=4, minimum_loss=0.5)
        assert rule.choose_size(at(), None) == 16
        assert rule.choose_size(at(), seen(16, loss=2.5, norm=1.0, trace=700.0)) == 16  # this batch is complete
        assert rule.choose_size(at(), None) == 35  # 0.1 · 700 / (2.5 − 0.5)

    def test_averages_over_updates(self) -> None:
        rule = CABS(start=16, min_batch_size=4, decay=0.5)
        for loss, trace in ((2.0, 400.0), (1.0, 1000.0)):
            rule.choose_size(at(), seen(16, loss, 1.0, trace))
        xi, loss = (0.25 * 400 + 0.5 * 1000) / 0.75, (0.25 * 2 + 0.5 * 1) / 0.75
        assert rule.choose_size(at(), None) == round(0.1 * xi / loss)

    def test_bounds_and_exhausted_loss(self) -> None:
        rule = CABS(start=16, min_batch_size=8, decay=0.0)
        rule.choose_size(at(), seen(16, 1.0, 1.0, 1e-9))
        assert rule.choose_size(at(), None) == 8
        rule.choose_size(at(max_batch_size=100), seen(8, 1.0, 1.0, 1e9))
        assert rule.choose_size(at(max_batch_size=100), None) == 100
        rule.choose_size(at(max_batch_size=100), seen(8, 0.0, 1.0, 1.0))
        assert rule.choose_size(at(max_batch_size=100), None) == 100
        rule.choose_size(at(max_batch_size=100), seen(8, math.nan, 1.0, math.nan))  # diverged: nothing learned
        assert rule.choose_size(at(max_batch_size=100), None) == 100


class TestGradientNoiseScale:
    def test_first_decision_by_hand(self) -> None:
        rule = GradientNoiseScale(start=32, min_batch_size=8)
        rule.choose_size(at(), seen(32, 1.0, norm=5.0, trace=64.0))
        assert rule.choose_size(at(), None) == round(64.0 / (5.0 - 2.0))

    def test_hidden_gradient_takes_the_largest_batch(self) -> None:
        rule = GradientNoiseScale(start=32, min_batch_size=8)
        rule.choose_size(at(max_batch_size=77), seen(32, 1.0, norm=1.0, trace=64.0))
        assert rule.choose_size(at(max_batch_size=77), None) == 77

    def test_averages_settle_at_the_noise_scale_of_the_training_set(self) -> None:
        """Parameters do not move, so the truth is tr Σ / |G|² of all instances."""
        model, data = build(CASES["mlp"], 200)
        model[3].bias.data[0] += 2.0  # a gradient that the noise does not hide
        gradients = explicit_gradients(model, data)
        truth = float(gradients.var(dim=0, correction=0).sum() / gradients.mean(0).square().sum())
        for trace in ("pieces", "diagonal"):
            rule = GradientNoiseScale(start=20, min_batch_size=20, decay=0.995, trace=trace)
            sampler = EpochSampler(data.inputs, data.targets, seed=0)
            optimizer = RuledSGD(model, cross_entropy, sampler, rule, lr=1e-12, max_batch_size=20)
            for _ in range(400):
                optimizer.step()
            estimate = rule.state_dict()["numerator"]["sum"] / rule.state_dict()["denominator"]["sum"]
            assert estimate == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("name", RULES)
def test_rules_train_and_go_on_after_a_restore(name: str) -> None:
    def run(seed: int) -> tuple[nn.Module, RuledSGD]:
        model, data = build(CASES["mlp"], 60)
        sampler = EpochSampler(data.inputs, data.targets, seed=seed)
        return model, RuledSGD(model, cross_entropy, sampler, RULES[name](), lr=0.2, momentum=0.5)

    model, optimizer = run(1)
    for _ in range(7):
        optimizer.step()
    restored_model, restored = run(2)
    restored_model.load_state_dict(model.state_dict())
    restored.load_state_dict(optimizer.state_dict())
    sizes = [(optimizer.step().batch_size, restored.step().batch_size) for _ in range(10)]
    assert all(a == b for a, b in sizes)
    for p, q in zip(model.parameters(), restored_model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_batch_norm_trains_by_pieces_and_is_refused_by_instances() -> None:
    model, data = build(CASES["batch norm"], 60)
    sampler = EpochSampler(data.inputs, data.targets, seed=0)
    with pytest.raises(ValueError, match="layer '1'"):
        RuledSGD(model, cross_entropy, sampler, CABS(), lr=0.1)
    optimizer = RuledSGD(model, cross_entropy, sampler, CABS(trace="pieces"), lr=0.1)
    assert all(optimizer.step().batch_size >= 16 for _ in range(5))


def test_average_forgets_its_start() -> None:
    average = Average(0.9)
    assert math.isnan(average.value)
    average.add(5.0)
    assert average.value == pytest.approx(5.0)
    average.add(math.inf)
    assert average.value == pytest.approx(5.0)
    average.add(1.0)
    assert average.value == pytest.approx((0.09 * 5 + 0.1 * 1) / 0.19)


@pytest.mark.parametrize(
    ("build_rule", "message"),
    [
        (lambda: Constant(0), r"batch_size is 0; it must be a whole number in \[1, "),
        (lambda: Manual(0, 1, 8), r"start is 0; it must be a whole number in \[1, "),
        (lambda: Manual(16, 1, 8), r"max_batch_size is 8; it must be a whole number in \[16, "),
        (lambda: Manual(8, 0, 8), "double_every is 0; it must be a positive number of epochs"),
        (lambda: CABS(start=4, min_batch_size=8), r"start is 4; it must be a whole number in \[8, "),
        (lambda: CABS(min_batch_size=1), r"min_batch_size is 1; it must be a whole number in \[2, "),
        (lambda: CABS(decay=1.0), r"decay is 1.0; it must lie in \[0, 1\)"),
        (lambda: CABS(minimum_loss=math.nan), "minimum_loss is nan; it must be finite"),
        (lambda: GradientNoiseScale(trace="exact"), "trace is 'exact'; it must be 'pieces' or 'diagonal'"),
    ],
)
def test_bad_settings_are_refused(build_rule: Callable[[], BatchSizeRule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_rule()


def test_pieces_of_a_batch_see_its_instances_once() -> None:
    model, data = build(CASES["mlp"], 30)
    counted: list[int] = []

    def counting(outputs: Tensor, targets: Tensor) -> Tensor:
        counted.append(len(targets))
        return cross_entropy(outputs, targets)

    sampler = EpochSampler(data.inputs, data.targets, seed=0)
    RuledSGD(model, counting, sampler, GradientNoiseScale(start=10, min_batch_size=4), lr=0.1).step()
    assert sum(counted) == 10
    assert len(counted) == 4
