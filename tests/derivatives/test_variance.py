"""Mean, variance along the gradient and trace of growing batches against explicit per-instance gradients (≤ 1e-8)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives import variance as module
from raytune_hyperlearn.derivatives.instance_gradients import looped_gradients
from raytune_hyperlearn.derivatives.micro_batches import MicroBatches
from raytune_hyperlearn.derivatives.projections import Instances
from raytune_hyperlearn.derivatives.variance import (
    GrowingBatch,
    InstanceMoments,
    PieceVariance,
    ProjectedVariance,
    growing_batch,
)
from tests.derivatives.networks import CASES, build, cross_entropy, explicit_gradients, flat, plain_losses

TOLERANCE = {"rtol": 1e-8, "atol": 1e-12}
PER_INSTANCE = ["mlp", "cnn with dropout", "frozen weight", "tied weights"]
SIZES = (6, 4, 5)


def chunks(name: str) -> tuple[nn.Module, list[Instances]]:
    """A network and three chunks for it, each with dropout masks of its own."""
    model, _ = build(CASES[name])
    return model, [build(CASES[name], n, seed=index + 1)[1] for index, n in enumerate(SIZES)]


def grown(batch: GrowingBatch, parts: list[Instances]) -> GrowingBatch:
    batch.begin()
    for part in parts:
        batch.enlarge(part)
    return batch


def covariance(gradients: Tensor) -> Tensor:
    return torch.cov(gradients.T)


def assert_mean(batch: GrowingBatch, gradients: Tensor) -> Tensor:
    mean = gradients.mean(0)
    assert batch.size == len(gradients)
    torch.testing.assert_close(flat(batch.gradient), mean, **TOLERANCE)
    return mean


@pytest.mark.parametrize("name", CASES)
def test_exact_variance_of_a_batch_at_once_and_grown(name: str) -> None:
    model, parts = chunks(name)
    gradients = [explicit_gradients(model, part) for part in parts]
    batch = ProjectedVariance(model, cross_entropy, MicroBatches())
    for k in (1, 3, 2):  # the same object serves one batch after another
        mean = assert_mean(grown(batch, parts[:k]), torch.cat(gradients[:k]))
        expected = mean @ covariance(torch.cat(gradients[:k])) @ mean
        torch.testing.assert_close(batch.variance_along(batch.gradient), expected, **TOLERANCE)
    assert batch.method == CASES[name].chosen
    losses = torch.cat([plain_losses(model, part) for part in parts[:2]])
    torch.testing.assert_close(batch.mean_loss, losses.mean().detach())


@pytest.mark.parametrize("name", ["cnn with dropout", "batch norm", "lstm"])
def test_newest_variance_is_that_of_the_last_enlargement(name: str) -> None:
    model, parts = chunks(name)
    gradients = [explicit_gradients(model, part) for part in parts]
    batch = grown(ProjectedVariance(model, cross_entropy, MicroBatches(), scope="newest"), parts)
    mean = assert_mean(batch, torch.cat(gradients))
    torch.testing.assert_close(
        batch.variance_along(batch.gradient), mean @ covariance(gradients[-1]) @ mean, **TOLERANCE
    )


def test_newest_variance_keeps_the_older_chunk_beside_a_single_instance() -> None:
    model, parts = chunks("mlp")
    single = parts[2].part(0, 1)
    batch = grown(ProjectedVariance(model, cross_entropy, MicroBatches(), scope="newest"), [*parts[:2], single])
    gradients = torch.cat([explicit_gradients(model, part) for part in (parts[1], single)])
    mean = flat(batch.gradient)
    torch.testing.assert_close(batch.variance_along(batch.gradient), mean @ covariance(gradients) @ mean, **TOLERANCE)


def test_newest_variance_is_nearly_unbiased_in_expectation() -> None:
    """Over many draws its mean is the exact one's, within four standard errors of their difference."""
    model, pool = build(CASES["mlp"], n=400)
    exact = ProjectedVariance(model, cross_entropy, MicroBatches())
    newest = ProjectedVariance(model, cross_entropy, MicroBatches(), scope="newest")
    generator = torch.Generator().manual_seed(0)
    differences = []
    for _ in range(200):
        rows = torch.randperm(400, generator=generator)[:64]
        parts = [Instances(pool.inputs[r], pool.targets[r], 0) for r in rows.split(16)]
        values = [float(grown(b, parts).variance_along(b.gradient)) for b in (newest, exact)]
        differences.append(values[0] / values[1] - 1)
    ratios = torch.tensor(differences)
    assert abs(ratios.mean()) < 4 * ratios.std() / len(ratios) ** 0.5 + 0.05


@pytest.mark.parametrize("name", PER_INSTANCE)
def test_diagonal_variance_and_trace(name: str) -> None:
    model, parts = chunks(name)
    gradients = torch.cat([explicit_gradients(model, part) for part in parts])
    batch = grown(InstanceMoments(model, cross_entropy, MicroBatches()), parts)
    mean = assert_mean(batch, gradients)
    diagonal = gradients.var(dim=0, correction=1)
    torch.testing.assert_close(batch.variance_along(batch.gradient), (mean**2 * diagonal).sum(), **TOLERANCE)
    torch.testing.assert_close(batch.trace(), diagonal.sum(), **TOLERANCE)


def test_diagonal_is_an_approximation_not_the_exact_value() -> None:
    model, parts = chunks("cnn with dropout")
    exact = grown(ProjectedVariance(model, cross_entropy, MicroBatches()), parts)
    diagonal = grown(InstanceMoments(model, cross_entropy, MicroBatches()), parts)
    ratio = exact.variance_along(exact.gradient) / diagonal.variance_along(diagonal.gradient)
    assert not 0.9 < float(ratio) < 1.1


def test_diagonal_of_a_recurrent_network_falls_back_to_a_loop() -> None:
    model, parts = chunks("lstm")
    model.lstm.dropout = 0.0  # looped instances draw masks of their own; without masks both must agree
    gradients = torch.cat([explicit_gradients(model, part) for part in parts])
    batch = InstanceMoments(model, cross_entropy, MicroBatches())
    mean = assert_mean(grown(batch, parts), gradients)
    assert batch.instance_gradients is looped_gradients
    expected = (mean**2 * gradients.var(dim=0)).sum()
    torch.testing.assert_close(batch.variance_along(batch.gradient), expected, **TOLERANCE)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_diagonal_of_a_recurrent_network_in_single_precision() -> None:
    """Its fused kernels are another path: vectorized by torch instance by instance, with a warning of its own."""
    model, parts = chunks("lstm")
    model.lstm.dropout = 0.0
    model = model.float()
    gradients = torch.cat([explicit_gradients(model, part) for part in parts])
    batch = grown(InstanceMoments(model, cross_entropy, MicroBatches()), parts)
    expected = (gradients.mean(0) ** 2 * gradients.var(dim=0)).sum()
    value = batch.variance_along(batch.gradient)
    torch.testing.assert_close(value, expected.double(), rtol=1e-4, atol=0)


def test_diagonal_in_parts_of_few_gradient_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = chunks("mlp")
    whole = grown(InstanceMoments(model, cross_entropy, MicroBatches()), parts)
    monkeypatch.setattr(module, "GRADIENT_ELEMENTS", 2 * sum(p.numel() for p in model.parameters()) + 1)
    divided = grown(InstanceMoments(model, cross_entropy, MicroBatches()), parts)
    torch.testing.assert_close(
        divided.variance_along(whole.gradient), whole.variance_along(whole.gradient), **TOLERANCE
    )


def test_diagonal_refuses_batch_norm_by_name() -> None:
    model, parts = chunks("batch norm")
    with pytest.raises(ValueError, match="covariance is 'diagonal'; layer '1'"):
        InstanceMoments(model, cross_entropy, MicroBatches()).enlarge(parts[0])


def test_trace_from_pieces_is_the_variance_between_them() -> None:
    model, parts = chunks("mlp")
    batch = PieceVariance(model, cross_entropy, MicroBatches(), pieces=2)
    batch.begin()
    assert batch.trace() is None
    grown(batch, parts)
    pieces = [p for part in parts for p in (part.part(0, len(part) // 2), part.part(len(part) // 2, len(part)))]
    means = torch.stack([explicit_gradients(model, piece).mean(0) for piece in pieces])
    sizes = torch.tensor([len(piece) for piece in pieces], dtype=torch.float64)
    overall = (sizes[:, None] * means).sum(0) / sizes.sum()
    expected = (sizes * (means - overall).square().sum(1)).sum() / (len(pieces) - 1)
    torch.testing.assert_close(batch.trace(), expected, **TOLERANCE)


def test_trace_from_pieces_is_unbiased() -> None:
    model, pool = build(CASES["mlp"], n=300)
    gradients = explicit_gradients(model, pool)
    batch = PieceVariance(model, cross_entropy, MicroBatches())
    generator = torch.Generator().manual_seed(1)
    estimates = []
    for _ in range(300):
        rows = torch.randint(300, (16,), generator=generator)  # independent draws from the pool
        estimates.append(float(grown(batch, [Instances(pool.inputs[rows], pool.targets[rows], 0)]).trace()))
    values = torch.tensor(estimates, dtype=torch.float64)
    truth = gradients.var(dim=0, correction=0).sum()
    assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("kind", ["none", "exact", "newest", "diagonal"])
@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_give_the_same_result(kind: str, size: int) -> None:
    model, parts = chunks("mlp")
    whole = grown(growing_batch(kind, model, cross_entropy, MicroBatches()), parts)
    divided = grown(growing_batch(kind, model, cross_entropy, MicroBatches(size)), parts)
    torch.testing.assert_close(flat(divided.gradient), flat(whole.gradient), **TOLERANCE)
    torch.testing.assert_close(divided.mean_loss, whole.mean_loss, **TOLERANCE)
    if kind != "none":
        expected = whole.variance_along(whole.gradient)
        torch.testing.assert_close(divided.variance_along(whole.gradient), expected, **TOLERANCE)


@pytest.mark.parametrize("name", ["cnn with dropout", "lstm", "attention"])
def test_instances_no_longer_held_are_projected_again_on_their_own_masks(name: str) -> None:
    model, parts = chunks(name)
    gradients = torch.cat([explicit_gradients(model, part) for part in parts])
    batch = grown(ProjectedVariance(model, cross_entropy, MicroBatches(6)), parts)
    assert batch.held == [False, False, True]
    mean = flat(batch.gradient)
    torch.testing.assert_close(batch.variance_along(batch.gradient), mean @ covariance(gradients) @ mean, **TOLERANCE)


def test_projecting_again_moves_no_buffer() -> None:
    model, parts = chunks("batch norm")
    batch = grown(ProjectedVariance(model, cross_entropy, MicroBatches(6)), parts)
    before = [buffer.clone() for buffer in model.buffers()]
    batch.variance_along(batch.gradient)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))


@pytest.mark.parametrize("kind", ["none", "exact", "newest", "diagonal"])
def test_running_out_of_memory_divides_the_batch_and_changes_nothing(kind: str) -> None:
    model, parts = chunks("mlp")
    whole = grown(growing_batch(kind, model, cross_entropy, MicroBatches()), parts)
    passed: list[int] = []

    def limited(outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.dim() > 0 and len(targets) > 2:
            raise torch.OutOfMemoryError("simulated")
        passed.append(len(targets))
        return cross_entropy(outputs, targets)

    batch = growing_batch(kind, model, limited, MicroBatches())
    if isinstance(batch, ProjectedVariance):
        batch = ProjectedVariance(model, limited, MicroBatches(), scope=batch.scope, method="layers")
    if kind == "diagonal":
        batch = LimitedMoments(model, cross_entropy, MicroBatches())
    grown(batch, parts)
    assert batch.micro_batches.fitted == 2
    torch.testing.assert_close(flat(batch.gradient), flat(whole.gradient), **TOLERANCE)
    if kind != "none":
        expected = whole.variance_along(whole.gradient)
        torch.testing.assert_close(batch.variance_along(whole.gradient), expected, **TOLERANCE)


class LimitedMoments(InstanceMoments):
    """Runs out of memory on more than two instances (under vmap the loss sees one at a time)."""

    def _evaluate(self, batch: Instances) -> tuple[Tensor, tuple[Tensor, ...]]:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("simulated")
        return super()._evaluate(batch)


def test_running_out_of_memory_lets_go_of_held_linearizations_first() -> None:
    model, parts = chunks("mlp")
    expected = grown(ProjectedVariance(model, cross_entropy, MicroBatches()), parts)
    batch = ProjectedVariance(model, cross_entropy, MicroBatches(), method="layers")

    def scarce(outputs: Tensor, targets: Tensor) -> Tensor:
        if sum(batch.held) > 1:
            raise torch.OutOfMemoryError("simulated")
        return cross_entropy(outputs, targets)

    batch.loss = scarce
    grown(batch, parts)
    assert batch.micro_batches.failed is None  # nothing had to be divided
    direction = expected.gradient
    torch.testing.assert_close(batch.variance_along(direction), expected.variance_along(direction), **TOLERANCE)


def test_batch_norm_is_not_divided_unasked() -> None:
    model, parts = chunks("batch norm")
    before = [buffer.clone() for buffer in model.buffers()]

    def limited(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) > 3:
            raise torch.OutOfMemoryError("simulated")
        return cross_entropy(outputs, targets)

    with pytest.raises(RuntimeError, match=r"layer '1' .* set micro_batch_size") as error:
        GrowingBatch(model, limited, MicroBatches()).enlarge(parts[0])
    assert "\n" not in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))
    batch = GrowingBatch(model, limited, MicroBatches(3))
    batch.enlarge(parts[0])
    assert batch.size == len(parts[0])


def test_the_method_is_chosen_again_when_the_mode_changes() -> None:
    model, parts = chunks("batch norm")
    batch = ProjectedVariance(model, cross_entropy, MicroBatches())
    grown(batch, parts)
    assert batch.method == "double-backward"
    model.eval()
    grown(batch, parts)
    assert batch.method == "layers"


@pytest.mark.parametrize("kind", ["exact", "diagonal", "pieces"])
def test_single_precision_agrees_with_double(kind: str) -> None:
    model, parts = chunks("mlp")
    expected = grown(growing_batch(kind, model, cross_entropy, MicroBatches()), parts)
    values = (expected.variance_along(expected.gradient), expected.trace())
    narrow = [Instances(part.inputs.float(), part.targets, part.seed) for part in parts]
    batch = grown(growing_batch(kind, model.float(), cross_entropy, MicroBatches()), narrow)
    for value, reference in zip((batch.variance_along(batch.gradient), batch.trace()), values, strict=True):
        if reference is not None:
            torch.testing.assert_close(value, reference, rtol=1e-4, atol=0)


def test_unknown_variance_and_too_few_pieces_are_refused() -> None:
    model, _ = build(CASES["mlp"])
    with pytest.raises(ValueError, match="variance is 'full'; it must be 'none', 'exact'"):
        growing_batch("full", model, cross_entropy, MicroBatches())
    with pytest.raises(ValueError, match="pieces is 1; it must be at least 2"):
        PieceVariance(model, cross_entropy, MicroBatches(), pieces=1)
