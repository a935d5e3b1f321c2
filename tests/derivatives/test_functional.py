from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives.functional import FunctionalModel
from tests.plain_networks import NETWORKS, cross_entropy, plain_cross_entropy

MASKS = 3


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def running_statistics(model: nn.Module) -> Tensor:
    named = [b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))]
    return flat(named) if named else torch.zeros(0, dtype=torch.float64)


def trained_a_little(name: str) -> nn.Module:
    """A module whose running statistics are not the initial ones."""
    network = NETWORKS[name]
    model = network.build()
    with torch.random.fork_rng(), torch.no_grad():
        for seed in range(3):
            model(network.examples(8, seed)[0])
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_the_module_and_leaves_no_trace_in_it(name: str) -> None:
    network, model = NETWORKS[name], trained_a_little(name)
    functional = FunctionalModel(model, cross_entropy)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    inputs, targets = network.examples(8, seed=20)
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        loss, updated = functional.training_loss(functional.parameters, functional.buffers, inputs, targets)
    assert [module.training for module in model.modules()] == modes
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        expected = cross_entropy(model(inputs), targets).mean()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(updated, running_statistics(model), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_is_that_of_the_module(name: str) -> None:
    network, model = NETWORKS[name], trained_a_little(name)
    functional = FunctionalModel(model, cross_entropy)
    modes = [module.training for module in model.modules()]
    inputs, targets = network.examples(8, seed=20)
    outputs = functional.evaluation_outputs(functional.parameters, functional.buffers, inputs)
    losses = functional.evaluation_loss(functional.parameters, functional.buffers, inputs, targets)
    assert [module.training for module in model.modules()] == modes
    model.eval()
    torch.testing.assert_close(outputs, model(inputs).detach(), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(losses, cross_entropy(outputs, targets), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_has_gradients_with_respect_to_parameters_and_running_statistics(name: str) -> None:
    network, model = NETWORKS[name], trained_a_little(name)
    functional = FunctionalModel(model, cross_entropy)
    inputs, targets = network.examples(8, seed=20)
    leaves = functional.parameters.clone().requires_grad_(), functional.buffers.clone().requires_grad_()
    losses = functional.evaluation_loss(*leaves, inputs, targets)
    found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)

    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    statistics = {
        n: b.clone().requires_grad_() for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))
    }
    outputs, _ = network.forward({**trainable, **frozen}, statistics, inputs, False)
    total = plain_cross_entropy(outputs, targets).sum()
    torch.testing.assert_close(losses.sum().detach(), total.detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(total, [*trainable.values(), *statistics.values()])
    torch.testing.assert_close(found[0], flat(list(expected[: len(trainable)])), rtol=1e-11, atol=1e-13)
    if statistics:
        torch.testing.assert_close(found[1], flat(list(expected[len(trainable) :])), rtol=1e-11, atol=1e-13)
    else:
        assert functional.buffers.numel() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_flat_vectors_go_to_the_module_and_back(name: str) -> None:
    source, target = NETWORKS[name].build(seed=1), NETWORKS[name].build(seed=2)
    there, here = FunctionalModel(source, cross_entropy), FunctionalModel(target, cross_entropy)
    assert not torch.equal(there.parameters, here.parameters)
    here.load(there.parameters, there.buffers + 1)
    for name_of, parameter in source.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter, dict(target.named_parameters())[name_of])
            assert torch.equal(there.unflatten(there.parameters)[name_of], parameter)
    assert torch.equal(running_statistics(target), running_statistics(source) + 1)


def test_the_initial_vectors_are_copies() -> None:
    model = NETWORKS["batch norm mlp"].build()
    functional = FunctionalModel(model, cross_entropy)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    functional.parameters.add_(1)
    functional.buffers.add_(1)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_tied_parameters_count_once_and_frozen_ones_do_not_count() -> None:
    tied, frozen = (FunctionalModel(NETWORKS[name].build(), cross_entropy) for name in ("tied", "frozen"))
    assert len(tied.parameters) == (16 + 4) + 4 + (4 + 4) + (4 * 3 + 3)
    assert len(frozen.parameters) == 5 + (5 + 5) + (5 + 5) + (5 * 3 + 3)
    assert "first.weight" not in frozen.unflatten(frozen.parameters)


@pytest.mark.parametrize("name", NETWORKS)
def test_another_initialization_takes_the_place_of_the_first_one(name: str) -> None:
    """Frozen parameters, frozen statistics and constant buffers as well."""
    network = NETWORKS[name]
    inputs, targets = network.examples(8, seed=20)
    reused = FunctionalModel(network.build(seed=1), cross_entropy)
    other = network.build(seed=2)
    for key, buffer in other.named_buffers():
        if key == "scale":
            buffer.mul_(2)
    reused.load_initial(other)
    fresh = FunctionalModel(other, cross_entropy)
    assert torch.equal(reused.parameters, fresh.parameters)
    assert torch.equal(reused.buffers, fresh.buffers)
    with torch.random.fork_rng():
        pairs = []
        for functional in (reused, fresh):
            torch.manual_seed(MASKS)
            pairs.append(functional.training_loss(functional.parameters, functional.buffers, inputs, targets))
    assert torch.equal(pairs[0][0], pairs[1][0])
    assert torch.equal(pairs[0][1], pairs[1][1])


class Skipping(nn.Module):
    """Has a BatchNorm layer that no forward pass reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.skipped = nn.BatchNorm1d(2, momentum=1.0), nn.BatchNorm1d(2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.used(inputs)


def test_a_layer_that_is_not_called_keeps_its_statistics() -> None:
    functional = FunctionalModel(Skipping(), cross_entropy)
    inputs = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    _, updated = functional.training_loss(
        functional.parameters, functional.buffers, inputs, torch.zeros(2, dtype=torch.int64)
    )
    assert updated.tolist() == [2.0, 2.0, 2.0, 8.0, 0.0, 0.0, 1.0, 1.0]


def test_a_failing_forward_pass_leaves_the_module_as_it_was() -> None:
    network = NETWORKS["batch norm mlp"]
    model = network.build()
    functional = FunctionalModel(model, cross_entropy)
    vectors = functional.parameters, functional.buffers
    with pytest.raises(RuntimeError):
        functional.training_loss(*vectors, torch.zeros(2, 9, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RuntimeError):
        functional.evaluation_outputs(*vectors, torch.zeros(2, 9, dtype=torch.float64))
    assert all(module.training for module in model.modules())
    inputs, _ = network.examples(8, seed=1)
    model(inputs)
    assert not torch.equal(running_statistics(model), functional.buffers)  # BatchNorm keeps statistics again


def frozen_linear() -> nn.Module:
    return nn.Linear(2, 2).requires_grad_(False)


def mixed_types() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (frozen_linear(), "model has no trainable parameter; at least one parameter must require gradients"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, momentum=None)),
            r"momentum of 1 is None; running statistics need a fixed momentum in \(0, 1\]",
        ),
        (mixed_types(), "model has parameters of torch.float32, torch.float64; trainable parameters must share one"),
        (
            nn.Sequential(nn.Conv1d(2, 2, 1), nn.InstanceNorm1d(2, track_running_stats=True)),
            "1 is InstanceNorm with track_running_stats=True; it must be False",
        ),
    ],
)
def test_what_cannot_be_differentiated_is_refused_in_one_line(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        FunctionalModel(model, cross_entropy)
    assert "\n" not in str(caught.value)


def test_instance_norm_without_running_statistics_is_fine() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.InstanceNorm1d(3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    assert FunctionalModel(model, cross_entropy).buffers.numel() == 0


@pytest.mark.parametrize("offset", [1.0, 1000.0])
def test_batch_norm_in_single_precision_loses_no_more_digits_than_pytorch(offset: float) -> None:
    """Channels whose mean is far above their deviation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten())
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 3, 6, 6, generator=generator) + offset
    targets = torch.randint(3, (8,), generator=generator)

    def ours(dtype: torch.dtype) -> Tensor:
        model = FunctionalModel(copy.deepcopy(module).to(dtype), cross_entropy)
        w = model.parameters.requires_grad_()
        loss, _ = model.training_loss(w, model.buffers, inputs.to(dtype), targets)
        return torch.autograd.grad(loss, w)[0].double()

    cross_entropy(module(inputs), targets).mean().backward()
    native = torch.cat([p.grad.flatten() for p in module.parameters()]).double()
    exact = ours(torch.float64)
    assert torch.linalg.vector_norm(ours(torch.float32) - exact) < 2 * torch.linalg.vector_norm(native - exact)


def test_batch_norm_refuses_one_value_per_channel() -> None:
    model = FunctionalModel(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), cross_entropy)
    message = r"^1 normalizes 1 value per channel; a training batch must hold at least 2$"
    with pytest.raises(ValueError, match=message):
        model.training_loss(model.parameters, model.buffers, torch.ones(1, 4), torch.zeros(1, dtype=torch.int64))


def test_a_batch_norm_of_ones_own_is_called_as_it_is() -> None:
    class Doubled(nn.BatchNorm1d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = FunctionalModel(nn.Sequential(Doubled(4)), cross_entropy)
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    outputs, updated = model.training_outputs(model.parameters, model.buffers, inputs)
    torch.testing.assert_close(outputs, 2 * (inputs - inputs.mean(0)) / (inputs.var(0, correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(updated, torch.cat([0.1 * inputs.mean(0), 0.9 + 0.1 * inputs.var(0)]))
