import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raytune_hyperlearn.algorithms.arbiter_gate import (
    evaluation_mode,
    feature_count,
    feature_layer,
    outer_loss,
)
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers

CLASSES = 3


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5))
        self.middle = nn.Conv2d(5, 4, 3)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.middle(self.body(inputs)).flatten(1))


@pytest.fixture
def model() -> Network:
    with private_random_numbers(0, torch.device("cpu")):
        model = Network().double()
        model(torch.randn(30, 1, 6, 6, dtype=torch.float64))  # running statistics other than 0 and 1
    return model


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(9, 1, 6, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (9,), generator=generator)


def response_of(size: int) -> Tensor:
    return torch.linspace(-0.7, 1.3, size, dtype=torch.float64).requires_grad_()


def loss_at(model: Network, name: str | None, response: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    return outer_loss(model, feature_layer(model, name), response, *batch, functional.cross_entropy)


def test_a_linear_layer_is_gated_by_feature(model: Network, batch: tuple[Tensor, Tensor]) -> None:
    response = response_of(16)
    outer = loss_at(model, None, response, batch)
    model.eval()
    gated = model.middle(model.body(batch[0])).flatten(1) * (1 + response)
    expected = functional.cross_entropy(model.head(gated), batch[1])
    assert outer.item() == pytest.approx(expected.item(), rel=1e-12)
    found, wanted = torch.autograd.grad(outer, response)[0], torch.autograd.grad(expected, response)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_a_named_convolution_is_gated_by_channel(model: Network, batch: tuple[Tensor, Tensor]) -> None:
    response = response_of(5)
    outer = loss_at(model, "middle", response, batch)
    model.eval()
    gated = model.body(batch[0]) * (1 + response)[:, None, None]
    expected = functional.cross_entropy(model.head(model.middle(gated).flatten(1)), batch[1])
    assert outer.item() == pytest.approx(expected.item(), rel=1e-12)
    found, wanted = torch.autograd.grad(outer, response)[0], torch.autograd.grad(expected, response)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_no_graph_is_recorded_before_the_layer(model: Network, batch: tuple[Tensor, Tensor]) -> None:
    seen: list[bool] = []
    for module in (model.body, model.middle, model.head):
        module.register_forward_hook(lambda _module, _args, output: seen.append(output.requires_grad))
    loss_at(model, "middle", response_of(5), batch)
    loss_at(model, "head", response_of(16), batch)
    assert seen == [False, True, True, False, False, True]


@pytest.mark.parametrize("fails", [False, True])
def test_modes_hooks_statistics_and_random_numbers_are_put_back_even_after_an_error(
    model: Network, batch: tuple[Tensor, Tensor], fails: bool
) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if fails:
            raise ArithmeticError("of the user's loss")
        return functional.cross_entropy(outputs, targets)

    model.train()
    model.body[1].eval()  # a frozen BatchNorm must stay frozen
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    if fails:
        with pytest.raises(ArithmeticError):
            outer_loss(model, model.head, response_of(16), *batch, loss)
    else:
        outer_loss(model, model.head, response_of(16), *batch, loss).backward()
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


def test_evaluation_mode_holds_inside_only() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[0].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True]


def test_the_last_linear_layer_is_the_default(model: Network) -> None:
    assert feature_layer(model, None) is model.head
    assert feature_layer(model, "middle") is model.middle
    assert [feature_count(model.head), feature_count(model.middle)] == [16, 5]


def test_a_model_without_a_linear_layer_needs_a_name() -> None:
    model = nn.Sequential(nn.Conv2d(1, CLASSES, 6), nn.Flatten())
    with pytest.raises(ValueError, match=r"^layer must be named for Sequential, which has no Linear layer, got None$"):
        feature_layer(model, None)


@pytest.mark.parametrize("name", ["tail", "body", "body.1", ""])
def test_a_layer_that_cannot_be_gated_is_refused(model: Network, name: str) -> None:
    with pytest.raises(ValueError, match=r"^layer must be one of .*\['body.0', 'middle', 'head'\], got '.*'$"):
        feature_layer(model, name)


def test_a_layer_that_the_forward_pass_never_reaches_is_an_error(model: Network, batch: tuple[Tensor, Tensor]) -> None:
    model.add_module("spare", nn.Linear(4, 4))
    with pytest.raises(RuntimeError, match="the outer loss of Network does not depend on its layer Linear"):
        loss_at(model, None, response_of(4).detach(), batch)
    with pytest.raises(RuntimeError, match="the outer loss of Network does not depend on its layer Linear"):
        loss_at(model, None, response_of(4), batch)
