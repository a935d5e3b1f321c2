from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raytune_hyperlearn.algorithms.groups import layers
from raytune_hyperlearn.algorithms.objectives import Objective, label_smoothing, weighted
from raytune_hyperlearn.algorithms.tangent_steps import as_tensors
from raytune_hyperlearn.algorithms.update_maps import SGD, STATISTICS, Adam, AdamW, GradientUpdate, UpdateMap
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, GradientBound, NormBound
from tests.plain_networks import NETWORKS, Network, cross_entropy

MASKS, STEPS = 3, 12


@dataclass(frozen=True)
class Case:
    """An optimizer, ours and PyTorch's.

    Attributes:
        update: Ours.
        torch: PyTorch's, with the options under its own names.
        values: Our hyperparameters; the others keep their defaults.
    """

    update: Callable[[FunctionalModel], UpdateMap]
    torch: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    values: Mapping[str, float] = field(default_factory=dict)


def sgd(lr: float, momentum: float = 0, dampening: float = 0, weight_decay: float = 0, nesterov: bool = False) -> Case:
    values = {"learning_rate": lr, "momentum": momentum, "weight_decay": weight_decay}
    return Case(
        lambda model: SGD(model, nesterov=nesterov),
        lambda parameters: torch.optim.SGD(parameters, lr, momentum, dampening, weight_decay, nesterov),
        values if nesterov else {**values, "dampening": dampening},
    )


def adam(
    ours: type[Adam],
    theirs: type[torch.optim.Adam],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> Case:
    values = {"learning_rate": lr, "beta1": betas[0], "beta2": betas[1], "epsilon": eps, "weight_decay": weight_decay}
    options: dict[str, Any] = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
    return Case(
        lambda model: ours(model, amsgrad=amsgrad), lambda parameters: theirs(parameters, lr, **options), values
    )


CASES = {
    "sgd": sgd(0.3),
    "sgd, defaults": Case(SGD, torch.optim.SGD),
    "sgd with decay": sgd(0.3, weight_decay=0.05),
    "sgd, dampening without momentum": sgd(0.3, dampening=0.5),
    "momentum": sgd(0.2, 0.9),
    "momentum with decay": sgd(0.2, 0.7, weight_decay=0.03),
    "momentum, dampened": sgd(0.2, 0.9, 0.4),
    "momentum, dampened, with decay": sgd(0.2, 0.5, 1.0, 0.02),
    "nesterov": sgd(0.2, 0.9, nesterov=True),
    "nesterov with decay": sgd(0.1, 0.6, weight_decay=0.04, nesterov=True),
}
for _kind, _ours, _theirs in (("adam", Adam, torch.optim.Adam), ("adamw", AdamW, torch.optim.AdamW)):
    CASES |= {
        f"{_kind}, defaults": Case(_ours, _theirs),
        f"{_kind}, quick": adam(_ours, _theirs, 0.1),
        f"{_kind}, other betas": adam(_ours, _theirs, 0.05, (0.5, 0.8)),
        f"{_kind}, betas of zero": adam(_ours, _theirs, 0.05, (0.0, 0.0)),
        f"{_kind}, large epsilon": adam(_ours, _theirs, 0.05, eps=0.1),
        f"{_kind} with decay": adam(_ours, _theirs, 0.05, weight_decay=0.1),
        f"{_kind}, amsgrad": adam(_ours, _theirs, 0.1, (0.8, 0.3), weight_decay=0.02, amsgrad=True),
    }


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters() if p.requires_grad])


def torch_steps(module: nn.Module, optimizer: torch.optim.Optimizer, network: Network, loss: Any) -> list[Tensor]:
    """Parameters after every step of PyTorch's optimizer."""
    found = []
    for step in range(STEPS):
        inputs, targets = network.examples(8, step)
        optimizer.zero_grad()
        loss(module(inputs.to(flat(module).dtype)), targets).backward()
        optimizer.step()
        found.append(flat(module).clone())
    return found


def map_steps(update: UpdateMap, values: Mapping[str, float], network: Network) -> tuple[list[Tensor], Tensor]:
    """Parameters after every step of an update map, and the running statistics after the last."""
    w, state = update.model.parameters, update.initial_state()
    scalars = as_tensors({**update.defaults, **values}, w.device)
    found = []
    for step in range(STEPS):
        inputs, targets = network.examples(8, step)
        w, state, _ = update(w, state, scalars, (inputs.to(w.dtype), targets))
        found.append(w)
    return found, state[STATISTICS]


def assert_same_course(one: list[Tensor], other: list[Tensor], tolerance: float) -> None:
    assert len(one) == len(other) == STEPS
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.abs().max()))
    assert not torch.allclose(one[0], one[-1], atol=1e-4)


DROPOUT = ["momentum with decay", "nesterov", "adam, large epsilon", "adamw, large epsilon"]
"""Without the Adams of small epsilon: the network has a bias before BatchNorm, whose gradient is nothing but rounding,
and they divide rounding by rounding."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("relu cnn", "batch norm mlp", "frozen") for kind in CASES),
        *(("dropout", kind) for kind in DROPOUT),
    ],
)
def test_every_step_is_that_of_torch_optim(name: str, kind: str) -> None:
    network, case = NETWORKS[name], CASES[kind]
    module = network.build()
    update = case.update(FunctionalModel(network.build(), cross_entropy))
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        optimizer = case.torch([p for p in module.parameters() if p.requires_grad])
        expected = torch_steps(module, optimizer, network, F.cross_entropy)
        torch.manual_seed(MASKS)
        found, statistics = map_steps(update, case.values, network)
    assert_same_course(found, expected, 1e-12)
    torch.testing.assert_close(statistics, FunctionalModel(module, cross_entropy).buffers, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["momentum with decay", "nesterov", "adam, quick", "adamw with decay"])
def test_single_precision_is_that_of_torch_optim(kind: str) -> None:
    """Bias corrections as small as 1 − 0.999 keep their digits."""
    network, case = NETWORKS["mlp"], CASES[kind]
    module = network.build().float()
    update = case.update(FunctionalModel(network.build().float(), cross_entropy))
    expected = torch_steps(module, case.torch(list(module.parameters())), network, F.cross_entropy)
    found, _ = map_steps(update, case.values, network)
    assert found[0].dtype == torch.float32
    assert_same_course(found, expected, 2e-6)


def test_a_step_changes_nothing_that_it_is_given() -> None:
    network = NETWORKS["batch norm mlp"]
    for case in (CASES["momentum, dampened"], CASES["adamw, amsgrad"]):
        update = case.update(FunctionalModel(network.build(), cross_entropy))
        w, state = update.model.parameters, update.initial_state()
        scalars = as_tensors({**update.defaults, **case.values}, w.device)
        before = [tensor.clone() for tensor in (w, *state.values(), *scalars.values())]
        update(w, state, scalars, network.examples(8, 0))
        assert all(map(torch.equal, before, (w, *state.values(), *scalars.values())))


def test_the_loss_is_that_of_the_batch_before_the_step() -> None:
    network = NETWORKS["cnn"]
    update = AdamW(FunctionalModel(network.build(), cross_entropy))
    inputs, targets = network.examples(8, 0)
    scalars = as_tensors(update.defaults, inputs.device)
    updated = update(update.model.parameters, update.initial_state(), scalars, (inputs, targets))
    assert float(updated.loss) == pytest.approx(F.cross_entropy(network.build()(inputs), targets).item(), rel=1e-12)


# ----------------------------------------------------------------------------------- more hyperparameters


@pytest.mark.parametrize("ours", [SGD, AdamW])
def test_layers_with_rates_of_their_own_are_parameter_groups(ours: type[GradientUpdate]) -> None:
    network = NETWORKS["cnn"]
    module = network.build()
    model = FunctionalModel(network.build(), cross_entropy)
    own = layers(list(model.unflatten(model.parameters)))
    assert own == {name: [f"{name}.weight", f"{name}.bias"] for name in ("0", "4", "6")}
    update = ours(model, groups={"learning_rate": own, "weight_decay": own})
    rates, decays = {"0": 0.2, "4": 0.05, "6": 0.01}, {"0": 0.0, "4": 0.1, "6": 0.3}
    values = {f"learning_rate@{name}": rate for name, rate in rates.items()}
    values |= {f"weight_decay@{name}": decay for name, decay in decays.items()}
    assert update.defaults.keys() >= values.keys()
    assert not update.defaults.keys() & {"learning_rate", "weight_decay"}
    groups = [
        {"params": list(module[int(name)].parameters()), "lr": rates[name], "weight_decay": decays[name]}
        for name in rates
    ]
    theirs = torch.optim.SGD if ours is SGD else torch.optim.AdamW
    found, _ = map_steps(update, values, network)
    assert_same_course(found, torch_steps(module, theirs(groups), network, F.cross_entropy), 1e-12)


def squares(outputs: Tensor, _targets: Tensor) -> Tensor:
    return outputs.square().mean(dim=1)


OBJECTIVES: dict[str, tuple[Objective, dict[str, float], Callable[[Tensor, Tensor], Tensor]]] = {
    "label smoothing": (
        label_smoothing(),
        {"label_smoothing": 0.2},
        lambda outputs, targets: F.cross_entropy(outputs, targets, label_smoothing=0.2),
    ),
    "loss weight": (
        weighted(cross_entropy, squares),
        {"loss_weight": 0.3},
        lambda outputs, targets: F.cross_entropy(outputs, targets) + 0.3 * outputs.square().mean(),
    ),
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_objectives_are_trained_on(kind: str) -> None:
    network = NETWORKS["mlp"]
    objective, values, plain = OBJECTIVES[kind]
    module = network.build()
    update = SGD(FunctionalModel(network.build(), cross_entropy), objective)
    found, _ = map_steps(update, {"learning_rate": 0.3, **values}, network)
    assert_same_course(found, torch_steps(module, torch.optim.SGD(module.parameters(), 0.3), network, plain), 1e-12)
    unchanged, _ = map_steps(update, {"learning_rate": 0.3, **dict.fromkeys(values, 0.0)}, network)
    assert not torch.allclose(unchanged[-1], found[-1], atol=1e-3)


@pytest.mark.parametrize("bound", [ElementBound(0.02), NormBound(0.1)], ids=str)
def test_gradients_are_bounded(bound: GradientBound) -> None:
    network = NETWORKS["mlp"]
    module = network.build()
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    optimizer.register_step_pre_hook(lambda *_: bound.apply_to(module.parameters()))
    expected = torch_steps(module, optimizer, network, F.cross_entropy)
    functional = FunctionalModel(network.build(), cross_entropy)
    found, _ = map_steps(Adam(functional, bound=bound), {"learning_rate": 0.05}, network)
    assert_same_course(found, expected, 1e-12)
    free, _ = map_steps(Adam(functional), {"learning_rate": 0.05}, network)
    assert not torch.allclose(free[-1], found[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"groups": {"rate": {"all": ["*"]}}},
            "groups hold 'rate'; they must be of learning_rate, momentum, weight_decay, .*",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SGD(FunctionalModel(NETWORKS["mlp"].build(), cross_entropy), **options)
