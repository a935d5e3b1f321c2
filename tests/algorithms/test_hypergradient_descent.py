from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.hypergradient_descent import SGDHD, AdamHD, HyperRates
from tests.plain_networks import NETWORKS, plain_cross_entropy

STEPS = 6
FIXED = HyperRates(learning_rate=0.0)
NETWORK = NETWORKS["batch norm cnn"]


def batch_loss(model: nn.Module, step: int) -> Tensor:
    inputs, targets = NETWORK.examples(8, seed=step)
    return plain_cross_entropy(model(inputs), targets).mean()


def trajectory(optimizer: Any, model: nn.Module, first: int = 0, end: int = STEPS) -> list[Tensor]:
    """Flat parameters after every step."""
    states = []
    for step in range(first, end):
        optimizer.zero_grad()
        batch_loss(model, step).backward()
        optimizer.step()
        states.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    return states


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    """Adam divides the rounding of gradients that are 0 (a bias before BatchNorm) by a small ε: hence 1e-11."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("momentum", "decay"), list(itertools.product([0.0, 0.5, 0.95], [0.0, 0.02])))
def test_sgdhd_that_learns_nothing_is_torch_sgd(momentum: float, decay: float) -> None:
    model, other = NETWORK.build(), NETWORK.build()
    found = trajectory(SGDHD(model.parameters(), 0.1, momentum, decay, FIXED), model)
    torch_sgd = torch.optim.SGD(other.parameters(), lr=0.1, momentum=momentum, weight_decay=decay)
    assert_same(found, trajectory(torch_sgd, other))


@pytest.mark.parametrize(("betas", "decay"), list(itertools.product([(0.9, 0.999), (0.0, 0.5)], [0.0, 0.02])))
def test_adamhd_that_learns_nothing_is_torch_adam(betas: tuple[float, float], decay: float) -> None:
    model, other = NETWORK.build(), NETWORK.build()
    found = trajectory(AdamHD(model.parameters(), 0.01, betas, 1e-6, decay, hyper_rate=0.0), model)
    torch_adam = torch.optim.Adam(other.parameters(), lr=0.01, betas=betas, eps=1e-6, weight_decay=decay)
    assert_same(found, trajectory(torch_adam, other))


# ------------------------------------------------------------------------------- computed by hand


def scalar() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0], dtype=torch.float64))


def step_on_half_square(optimizer: SGDHD | AdamHD, w: nn.Parameter) -> dict[str, float]:
    """One step on ½ w², whose gradient is w."""
    w.grad = w.detach().clone()
    optimizer.step()
    return {"w": w.item(), **{name: value.item() for name, value in optimizer.hyperparameters.items()}}


def test_sgdhd_by_hand() -> None:
    """α = 0.1, μ = 0.5, ξ = 0.2 at the start; β = 0.01, 0.02, 0.03; the gradient of ½ w² is w."""
    w = scalar()
    optimizer = SGDHD([w], 0.1, 0.5, 0.2, HyperRates(0.01, 0.02, 0.03))
    # v = 1 + 0.2 · 1 = 1.2
    expected = {"w": 0.88, "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.2}
    assert step_on_half_square(optimizer, w) == pytest.approx(expected, rel=1e-14)
    # g = 0.88 + 0.2 · 0.88 = 1.056: α + 0.01 · 1.056 · 1.2; μ + 0.02 · 0.1 · 1.056 · 0; ξ + 0.03 · 0.1 · 1.056 · 1
    # v = 0.5 · 1.2 + 0.88 + 0.203168 · 0.88 = 1.65878784
    expected = {
        "w": 0.88 - 0.112672 * 1.65878784,
        "learning_rate": 0.112672,
        "momentum": 0.5,
        "weight_decay": 0.203168,
    }
    assert step_on_half_square(optimizer, w) == pytest.approx(expected, rel=1e-14)
    # the derivatives of the second update: −1.65878784 by α, −0.112672 · 1.2 by μ, −0.112672 · 0.88 by ξ
    last = 0.6931010564915200
    g = last + 0.203168 * last
    rate = 0.112672 + 0.01 * g * 1.65878784
    momentum = 0.5 + 0.02 * 0.112672 * g * 1.2
    decay = 0.203168 + 0.03 * 0.112672 * g * 0.88
    v = momentum * 1.65878784 + last + decay * last
    expected = {"w": last - rate * v, "learning_rate": rate, "momentum": momentum, "weight_decay": decay}
    assert step_on_half_square(optimizer, w) == pytest.approx(expected, rel=1e-12)


def test_adamhd_by_hand() -> None:
    """β1 = 0.5, β2 = 0.75, ε = 0.5, α = 0.1, β = 0.01."""
    w = scalar()
    optimizer = AdamHD([w], 0.1, (0.5, 0.75), 0.5, hyper_rate=0.01)
    # m = 0.5, v = 0.25; corrected 1 and 1; direction 1 / 1.5
    first = 1 - 0.1 / 1.5
    assert step_on_half_square(optimizer, w) == pytest.approx({"w": first, "learning_rate": 0.1}, rel=1e-14)
    rate = 0.1 + 0.01 * first / 1.5
    m, v = 0.5 * 0.5 + 0.5 * first, 0.75 * 0.25 + 0.25 * first**2
    direction = m / (1 - 0.25) / ((v / (1 - 0.5625)) ** 0.5 + 0.5)
    second = first - rate * direction
    assert step_on_half_square(optimizer, w) == pytest.approx({"w": second, "learning_rate": rate}, rel=1e-14)
    third = rate + 0.01 * second * direction
    assert step_on_half_square(optimizer, w)["learning_rate"] == pytest.approx(third, rel=1e-14)


# --------------------------------------------------------- the hypergradient is the derivative it claims


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_sgdhd_descends_the_derivative_of_the_loss_by_the_last_values(decay: float) -> None:
    """By reverse mode through the last update, whose α, μ and ξ are leaves; the loss includes ½ ξ |w|²."""
    model = NETWORKS["mlp"].build()
    parameters = list(model.parameters())
    start = {"learning_rate": 0.2, "momentum": 0.6, "weight_decay": decay}
    rates = HyperRates(0.05, 0.1, 0.02)
    optimizer = SGDHD(parameters, *start.values(), rates=rates)
    velocity = [torch.zeros_like(p) for p in parameters]

    def loss(weights: list[Tensor], step: int) -> Tensor:
        inputs, targets = NETWORKS["mlp"].examples(8, seed=step)
        named = dict(zip(dict(model.named_parameters()), weights, strict=True))
        return plain_cross_entropy(torch.func.functional_call(model, named, (inputs,)), targets).mean()

    values: dict[str, Tensor] = {}
    after: list[Tensor] = []
    for step in range(4):
        weights = [p.detach().clone().requires_grad_() for p in parameters]
        slopes = torch.autograd.grad(loss(weights, step), weights)
        if values:
            norm = sum((p**2).sum() for p in after) / 2
            found = torch.autograd.grad(
                loss(after, step) + values["weight_decay"].detach() * norm, list(values.values())
            )
            for (name, value), slope in zip(values.items(), found, strict=True):
                start[name] = (value - getattr(rates, name) * slope).item()
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = slope
        optimizer.step()
        learned = {name: value.item() for name, value in optimizer.hyperparameters.items()}
        assert learned == pytest.approx(start, rel=1e-10)
        values = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in start.items()}
        velocity = [v.detach() for v in velocity]
        velocity = [
            values["momentum"] * v + g + values["weight_decay"] * w.detach()
            for v, g, w in zip(velocity, slopes, weights, strict=True)
        ]
        after = [w.detach() - values["learning_rate"] * v for w, v in zip(weights, velocity, strict=True)]
        for parameter, expected in zip(parameters, after, strict=True):
            torch.testing.assert_close(parameter.detach(), expected.detach(), rtol=1e-12, atol=1e-14)


def test_learning_rates_may_go_negative_unless_bounds_forbid_it() -> None:
    def run(bounds: dict[str, tuple[float, float]]) -> float:
        w = scalar()
        optimizer = SGDHD([w], 0.1, rates=HyperRates(learning_rate=1.0), bounds=bounds)
        step_on_half_square(optimizer, w)
        w.grad = torch.tensor([-5.0], dtype=torch.float64)  # against the last direction
        optimizer.step()
        return float(optimizer.hyperparameters["learning_rate"])

    assert run({}) == pytest.approx(0.1 - 5.0)
    assert run({"learning_rate": (0.0, 1.0)}) == 0.0
    assert run({"learning_rate": (0.05, 1.0)}) == pytest.approx(0.05)
    assert run({"momentum": (0.0, 1.0)}) == pytest.approx(-4.9)


def test_bounds_hold_for_every_hyperparameter() -> None:
    w = scalar()
    bounds = {"learning_rate": (0.0, 0.11), "momentum": (0.4, 0.5), "weight_decay": (0.0, 0.21)}
    optimizer = SGDHD([w], 0.1, 0.5, 0.2, HyperRates(10.0, 10.0, 10.0), bounds)
    for _ in range(3):
        step_on_half_square(optimizer, w)
    learned = {name: value.item() for name, value in optimizer.hyperparameters.items()}
    assert learned == pytest.approx({"learning_rate": 0.11, "momentum": 0.5, "weight_decay": 0.21})


def test_adamhd_keeps_its_learning_rate_in_its_bounds() -> None:
    w = scalar()
    optimizer = AdamHD([w], 0.1, hyper_rate=10.0, bounds={"learning_rate": (0.0, 0.3)})
    step_on_half_square(optimizer, w)
    assert step_on_half_square(optimizer, w)["learning_rate"] == pytest.approx(0.3)


def test_the_clamp_bounds_every_hypergradient() -> None:
    w = scalar()
    optimizer = SGDHD([w], 0.1, 0.5, 0.2, HyperRates(0.01, 0.02, 0.03, hypergradient_clamp=0.05))
    for _ in range(3):
        found = step_on_half_square(optimizer, w)
    # all three of the third step are larger than 0.05; of the second, momentum's is 0
    assert found["learning_rate"] == pytest.approx(0.1 + 2 * 0.01 * 0.05)
    assert found["momentum"] == pytest.approx(0.5 + 0.02 * 0.05)
    assert found["weight_decay"] == pytest.approx(0.2 + 2 * 0.03 * 0.05)


def test_a_rate_of_zero_keeps_its_hyperparameter() -> None:
    for name in ("learning_rate", "momentum", "weight_decay"):
        model = NETWORK.build()
        rates = HyperRates(**({"learning_rate": 0.0} | {name: 1e-3}))
        start = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.01}
        optimizer = SGDHD(model.parameters(), *start.values(), rates=rates)
        trajectory(optimizer, model)
        changed = {n for n, value in optimizer.hyperparameters.items() if value.item() != start[n]}
        assert changed == {name}


def test_hyperparameters_are_copies() -> None:
    optimizer = SGDHD([scalar()], 0.1)
    optimizer.hyperparameters["learning_rate"].fill_(7.0)
    assert optimizer.hyperparameters["learning_rate"].item() == 0.1


# ------------------------------------------------------------------------------------ state, errors

MAKERS: dict[str, Callable[[nn.Module], SGDHD | AdamHD]] = {
    "sgd": lambda model: SGDHD(model.parameters(), 0.1, 0.5, 0.01, HyperRates(1e-3, 1e-3, 1e-3)),
    "sgd, learning rate only": lambda model: SGDHD(model.parameters(), 0.1, 0.5, 0.01, HyperRates(1e-3)),
    "adam": lambda model: AdamHD(model.parameters(), 0.01, weight_decay=0.01, hyper_rate=1e-3),
}


@pytest.mark.parametrize("done", [0, 1, 3])
@pytest.mark.parametrize("kind", MAKERS)
def test_training_goes_on_bit_for_bit_from_a_saved_state(kind: str, done: int) -> None:
    whole = NETWORK.build()
    expected = trajectory(MAKERS[kind](whole), whole)
    model = NETWORK.build()
    optimizer = MAKERS[kind](model)
    trajectory(optimizer, model, end=done)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    trajectory(optimizer, model, first=done)  # the saved state must not move with it
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed = NETWORK.build(seed=5)
    resumed.load_state_dict(weights)
    again = MAKERS[kind](resumed)
    again.load_state_dict(state)
    found = trajectory(again, resumed, first=done)
    assert all(torch.equal(one, other) for one, other in zip(found, expected[done:], strict=True))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_state_does_not_change_as_training_goes_on(kind: str) -> None:
    model = NETWORK.build()
    optimizer = MAKERS[kind](model)
    trajectory(optimizer, model, end=2)
    state = optimizer.state_dict()
    reference = NETWORK.build()
    other = MAKERS[kind](reference)
    trajectory(other, reference, end=2)
    trajectory(optimizer, model, first=2)
    for key, one in state["state"].items():
        torch.testing.assert_close(one, other.state_dict()["state"][key], rtol=0, atol=0)
    assert state["param_groups"] == other.state_dict()["param_groups"]


def two_groups(kind: str, model: nn.Module) -> SGDHD | AdamHD:
    """One optimizer for the first parameter and for all others, the latter with a learning rate of their own."""
    first, *others = model.parameters()
    groups = [{"params": [first]}, {"params": others, "lr": 0.03}]
    if kind == "adam":
        return AdamHD(groups, 0.01, weight_decay=0.01, hyper_rate=1e-3)
    return SGDHD(groups, 0.1, 0.5, 0.01, HyperRates(1e-3, 1e-3, 1e-3))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_groups_learn_apart(kind: str) -> None:
    """A group's values and parameters are those of an optimizer of its own."""
    together, apart = NETWORK.build(), NETWORK.build()
    grouped = two_groups(kind, together)
    first, *others = apart.parameters()
    single = [two_groups(kind, nn.ParameterList([first, *others])) for _ in range(2)]
    single[0].param_groups.pop(1)
    single[1].param_groups.pop(0)
    for step in range(STEPS):
        for model in (together, apart):
            model.zero_grad()
            batch_loss(model, step).backward()
        for optimizer in (grouped, *single):
            optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(together.parameters(), apart.parameters(), strict=True))
    found = [group["lr"].item() for group in grouped.param_groups]
    assert found == [optimizer.param_groups[0]["lr"].item() for optimizer in single]
    assert len({*found, 0.1, 0.01, 0.03}) == 5


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_torchs_own_tools_work(kind: str) -> None:
    """A closure, a copy, a state of two groups, a scheduler of the learning rate, a hook, a group added later."""
    model = NETWORK.build()
    optimizer = two_groups(kind, model)
    assert isinstance(optimizer, torch.optim.Optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = batch_loss(model, 0)
        loss.backward()
        return loss

    assert optimizer.step(closure) == batch_loss(NETWORK.build(), 0)
    copied, again = copy.deepcopy((model, optimizer))
    again.load_state_dict(optimizer.state_dict())
    for one, other in ((model, optimizer), (copied, again)):
        trajectory(other, one, first=1, end=3)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), copied.parameters(), strict=True))
    rates = [group["lr"].item() for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.LambdaLR(again, lambda epoch: 0.5**epoch)
    calls: list[int] = []
    again.register_step_post_hook(lambda *_: calls.append(1))
    trajectory(again, copied, first=3, end=4)
    scheduler.step()
    assert [group["lr"].item() for group in again.param_groups] == pytest.approx([rate / 2 for rate in rates])
    assert calls == [1]
    again.param_groups[0]["lr"] = 0.25  # a plain number, as users assign it
    again.add_param_group({"params": scalar(), "lr": 0.5})
    trajectory(again, copied, first=4, end=5)
    assert all(isinstance(group["lr"], Tensor) for group in again.param_groups)
    assert again.param_groups[2]["lr"].item() == 0.5


@pytest.mark.parametrize("make", [SGDHD, AdamHD])
def test_parameters_without_gradients_are_left_alone(make: Any) -> None:
    trained, unused, frozen = scalar(), scalar(), scalar().requires_grad_(False)
    optimizer = make([trained, unused, frozen], 0.1)
    for _ in range(2):
        step_on_half_square(optimizer, trained)
    assert trained.item() < 1
    assert unused.item() == frozen.item() == 1.0
    optimizer.zero_grad()
    assert trained.grad is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HyperRates(learning_rate=-1.0), "hyper rate of learning_rate is -1.0; it must be at least 0"),
        (lambda: HyperRates(momentum=float("nan")), "hyper rate of momentum is nan; it must be at least 0"),
        (lambda: HyperRates(hypergradient_clamp=0.0), "hypergradient_clamp is 0.0; it must be positive or None"),
        (lambda: AdamHD([scalar()], 0.1, hyper_rate=-1.0), "hyper_rate is -1.0; it must be at least 0"),
        (lambda: AdamHD([scalar()], 0.1, (0.9, 1.0)), r"betas are \(0.9, 1.0\); each must lie in \[0, 1\)"),
        (lambda: AdamHD([scalar()], 0.1, eps=0.0), "eps is 0.0; it must be positive"),
        (lambda: SGDHD([], 0.1), "params is without a trainable tensor; at least one must require gradients"),
        (
            lambda: SGDHD([scalar()], 0.1, bounds={"lr": (0, 1)}),
            "bounds hold 'lr'; they must be of learning_rate, momentum, weight_decay",
        ),
        (
            lambda: AdamHD([scalar()], 0.1, bounds={"learning_rate": (1.0, 0.0)}),
            r"bounds of learning_rate are \(1.0, 0.0\); the lower one must not exceed the upper one",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
