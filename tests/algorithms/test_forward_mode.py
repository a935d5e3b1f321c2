from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from raytune_hyperlearn.algorithms import forward_mode as module
from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.curves import named_curve
from raytune_hyperlearn.algorithms.fds import Clamps, SGDStep, greedy_hypergradients
from raytune_hyperlearn.algorithms.fds import hypergradient as fds_hypergradient
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient, InnerStep, hypergradient, hypergradients
from raytune_hyperlearn.algorithms.objectives import Hyperparameters, label_smoothing, weighted
from raytune_hyperlearn.algorithms.reverse_mode import hypergradient as backwards
from raytune_hyperlearn.algorithms.schedules import Coordinates, Hats, Shape, Shapes, Windows
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, MapStep, inner_step
from raytune_hyperlearn.algorithms.update_maps import SGD, Adam, AdamW, Batch, GradientUpdate, State, Updated, UpdateMap
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import ElementBound, NormBound
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts, Linearized
from raytune_hyperlearn.problems import Examples
from raytune_hyperlearn.problems import batches as problem_batches
from raytune_hyperlearn.problems.data import crop_and_flip
from tests.algorithms import unrolled_optimizers as reverse_mode
from tests.algorithms.test_update_maps import squares
from tests.algorithms.unrolled import training_batches, validation_batches
from tests.algorithms.unrolled_optimizers import (
    Curve,
    Loss,
    Rule,
    Unrolled,
    cosine_with_warm_up,
    plain_loss,
    straight_lines,
)
from tests.plain_networks import NETWORKS, Network, cross_entropy

MASKS, STEPS = 7, 7
aten = torch.ops.aten
needs_gpu = pytest.mark.gpu
SGD_VALUES = {"learning_rate": [0.3, 0.1, 0.2], "momentum": [0.9, 0.5], "weight_decay": [0.03]}
ADAM_VALUES = {
    "learning_rate": [0.05, 0.02],
    "beta1": [0.8, 0.6],
    "beta2": [0.9],
    "epsilon": [1e-2],
    "weight_decay": [0.05],
}


@dataclass(frozen=True)
class Case:
    """An optimizer as an update map, and as the reference has it.

    Attributes:
        update: Ours.
        rule: The reference's optimizer.
        values: Schedules; all are learned.
        loss: The reference's training loss.
        network: The network that it is tested on in most tests.
    """

    update: Callable[[FunctionalModel], GradientUpdate]
    rule: Rule
    values: Mapping[str, Sequence[float]]
    loss: Loss = plain_loss
    network: str = "batch norm mlp"


BY_LAYER = {layer: [f"{layer}.*"] for layer in ("0", "4", "6")}
RATES = {f"learning_rate@{layer}": [0.3, rate] for layer, rate in (("0", 0.1), ("4", 0.2), ("6", 0.4))}
CASES = {
    "sgd": Case(SGD, reverse_mode.sgd_rule, SGD_VALUES | {"dampening": [0.2, 0.1]}, network="batch norm cnn"),
    "nesterov": Case(lambda model: SGD(model, nesterov=True), reverse_mode.nesterov_rule, SGD_VALUES),
    "adam": Case(Adam, reverse_mode.adam_rule, ADAM_VALUES, network="cnn"),
    "amsgrad": Case(lambda model: Adam(model, amsgrad=True), reverse_mode.amsgrad_rule, ADAM_VALUES, network="tied"),
    "adamw": Case(AdamW, reverse_mode.adamw_rule, ADAM_VALUES),
    "label smoothing": Case(
        lambda model: AdamW(model, label_smoothing()),
        reverse_mode.adamw_rule,
        ADAM_VALUES | {"label_smoothing": [0.1, 0.3]},
        reverse_mode.smoothed_loss,
        "frozen",
    ),
    "loss weight": Case(
        lambda model: SGD(model, weighted(cross_entropy, squares)),
        reverse_mode.sgd_rule,
        SGD_VALUES | {"loss_weight": [0.3, 0.1, 0.0]},
        reverse_mode.weighted_loss,
        "dropout",
    ),
    "rates of layers": Case(
        lambda model: SGD(model, groups={"learning_rate": BY_LAYER}),
        reverse_mode.sgd_rule,
        RATES | {"momentum": [0.6]},
        network="cnn",
    ),
}
STEPS_OF = {
    "whole map": lambda update: MapStep(update),
    "gradient first": lambda update: GradientStep(update),
    "by reverse over reverse": lambda update: GradientStep(update, HessianProductOptions(way="reverse_over_reverse")),
    "whole map in chunks": lambda update: inner_step(_Opaque(update), HessianProductOptions(chunk=3)),
}
WAYS_OF_RECORDING = {
    "whole map": lambda update: inner_step(_Opaque(update), HessianProductOptions(record_after=0)),
    "gradient first": lambda update: inner_step(update, HessianProductOptions(record_after=0)),
}


class _Opaque(UpdateMap):
    """An update map that nothing is known of but what it computes."""

    def __init__(self, inside: UpdateMap) -> None:
        super().__init__(inside.model, inside.defaults)
        self.inside = inside

    def initial_state(self) -> State:
        return self.inside.initial_state()

    def __call__(self, parameters: Tensor, state: State, hyperparameters: Hyperparameters, batch: Batch) -> Updated:
        return self.inside(parameters, state, hyperparameters, batch)


def functional(network: Network) -> FunctionalModel:
    return FunctionalModel(network.build(), cross_entropy)


def forward_mode(
    inner: InnerStep, network: Network, values: Values, horizon: int = STEPS, **options: Any
) -> list[Hypergradient]:
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        batches, held_out = training_batches(network, horizon), validation_batches(network)
        return list(hypergradients(inner, batches, held_out, values, horizon, list(values), **options))


def reference(
    case: Case,
    network: Network,
    horizon: int = STEPS,
    every: int | None = None,
    windows: Mapping[str, Sequence[int]] | None = None,
    values: Sequence[Values] | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> list[tuple[float, dict[str, list[float]]]]:
    stride = every or horizon
    ends = [min(first + stride, horizon) for first in range(0, horizon, stride)]
    run = Unrolled(network, case.rule, case.loss, training_batches(network, horizon), windows or {}, curves or {})
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        return run.hypergradients(values or [case.values] * len(ends), ends)


def assert_agree(
    found: Sequence[Hypergradient], expected: Sequence[tuple[float, dict[str, list[float]]]], relative: float = 1e-8
) -> None:
    assert len(found) == len(expected)
    for one, (loss, entries) in zip(found, expected, strict=True):
        assert one.validation_loss == pytest.approx(loss, rel=1e-10)
        assert one.values.keys() == entries.keys()
        for name, schedule in entries.items():
            assert one.values[name] == pytest.approx(schedule, rel=relative, abs=1e-12)


# -------------------------------------------------------------------------------------- any hyperparameter


@pytest.mark.parametrize("way", STEPS_OF)
@pytest.mark.parametrize("kind", CASES)
def test_hypergradients_are_those_of_reverse_mode_through_the_unrolled_run(kind: str, way: str) -> None:
    case = CASES[kind]
    network = NETWORKS[case.network]
    found = forward_mode(STEPS_OF[way](case.update(functional(network))), network, case.values)
    assert_agree(found, reference(case, network))
    assert found[0].steps == STEPS
    assert all(any(abs(entry) > 1e-7 for entry in schedule) for schedule in found[0].values.values())


@pytest.mark.parametrize("way", WAYS_OF_RECORDING)
def test_recorded_operations_give_the_same(way: str) -> None:
    case, network = CASES["label smoothing"], NETWORKS["dropout"]
    values = {name: schedule[:1] for name, schedule in case.values.items()}
    inner = WAYS_OF_RECORDING[way](case.update(functional(network)))
    again = [forward_mode(inner, network, values, horizon=3)[0].values for _ in range(2)]
    plain = forward_mode(MapStep(case.update(functional(network))), network, values, horizon=3)[0].values
    for found in again:
        for name, schedule in plain.items():
            assert found[name] == pytest.approx(schedule, rel=1e-9)


TORCH: dict[str, Callable[[nn.Module, dict[str, float]], torch.optim.Optimizer]] = {
    "sgd": lambda module, v: torch.optim.SGD(
        module.parameters(), v["learning_rate"], v["momentum"], v["dampening"], v["weight_decay"]
    ),
    "nesterov": lambda module, v: torch.optim.SGD(
        module.parameters(), v["learning_rate"], v["momentum"], 0, v["weight_decay"], True
    ),
    "adam": lambda module, v: torch.optim.Adam(
        module.parameters(), v["learning_rate"], (v["beta1"], v["beta2"]), v["epsilon"], v["weight_decay"]
    ),
    "adamw": lambda module, v: torch.optim.AdamW(
        module.parameters(), v["learning_rate"], (v["beta1"], v["beta2"]), v["epsilon"], v["weight_decay"]
    ),
    "label smoothing": lambda module, v: torch.optim.AdamW(
        module.parameters(), v["learning_rate"], (v["beta1"], v["beta2"]), v["epsilon"], v["weight_decay"]
    ),
    "rates of layers": lambda module, v: torch.optim.SGD(
        [{"params": module[int(i)].parameters(), "lr": v[f"learning_rate@{i}"]} for i in "046"], momentum=v["momentum"]
    ),
}


@pytest.mark.parametrize("kind", TORCH)
def test_hypergradients_are_finite_differences_of_training_with_torch_optim(kind: str) -> None:
    case = CASES[kind]
    network = NETWORKS["cnn"]
    values = {name: schedule[0] for name, schedule in case.values.items()}

    def loss(name: str, change: float) -> float:
        moved = values | {name: values[name] + change}
        module = network.build()
        optimizer = TORCH[kind](module, moved)
        smoothing = moved.get("label_smoothing", 0.0)
        for inputs, targets in training_batches(network, STEPS):
            optimizer.zero_grad()
            F.cross_entropy(module(inputs), targets, label_smoothing=smoothing).backward()
            optimizer.step()
        with torch.no_grad():
            return float(torch.cat([cross_entropy(module(x), y) for x, y in validation_batches(network)]).mean())

    schedules = {name: [value] for name, value in values.items()}
    (found,) = forward_mode(GradientStep(case.update(functional(network))), network, schedules)
    for name in values:
        difference = (loss(name, 1e-5) - loss(name, -1e-5)) / 2e-5
        assert found.values[name] == pytest.approx([difference / STEPS], rel=1e-4, abs=1e-9)


class SharpnessAware(UpdateMap):
    """Descends along the gradient at w + ρ g: uses the batch's gradient twice."""

    def __init__(self, model: FunctionalModel) -> None:
        super().__init__(model, {"learning_rate": 0.1, "radius": 0.05})

    def __call__(self, parameters: Tensor, state: State, hyperparameters: Hyperparameters, batch: Batch) -> Updated:
        def loss(w: Tensor) -> tuple[Tensor, Tensor]:
            return self.model.training_loss(w, state["statistics"], *batch)

        def gradient(w: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return torch.func.grad_and_value(loss, has_aux=True)(w)

        slope, (value, statistics) = gradient(parameters)
        steeper, _ = gradient(parameters + hyperparameters["radius"] * slope)
        return Updated(parameters - hyperparameters["learning_rate"] * steeper, {"statistics": statistics}, value)


def test_an_own_optimizer_is_differentiated_as_it_is() -> None:
    network = NETWORKS["batch norm cnn"]
    values = {"learning_rate": [0.3, 0.2], "radius": [0.1]}
    (found,) = forward_mode(inner_step(SharpnessAware(functional(network))), network, values)

    def loss(name: str, index: int, change: float) -> float:
        moved = {key: list(schedule) for key, schedule in values.items()}
        moved[name][index] += change
        module = network.build()
        for step, (inputs, targets) in enumerate(training_batches(network, STEPS)):
            rate, radius = moved["learning_rate"][2 * step // STEPS], moved["radius"][0]
            start = [p.detach().clone() for p in module.parameters()]
            slopes = torch.autograd.grad(F.cross_entropy(module(inputs), targets), list(module.parameters()))
            kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
            with torch.no_grad():
                for p, g in zip(module.parameters(), slopes, strict=True):
                    p.add_(radius * g)
            slopes = torch.autograd.grad(F.cross_entropy(module(inputs), targets), list(module.parameters()))
            with torch.no_grad():
                for p, w, g in zip(module.parameters(), start, slopes, strict=True):
                    p.copy_(w - rate * g)
                for name_, buffer in module.named_buffers():
                    buffer.copy_(kept[name_])
        module.eval()
        with torch.no_grad():
            return float(torch.cat([cross_entropy(module(x), y) for x, y in validation_batches(network)]).mean())

    assert found.validation_loss == pytest.approx(loss("radius", 0, 0.0), rel=1e-10)
    for name, index, steps in (("learning_rate", 0, 4), ("learning_rate", 1, 3), ("radius", 0, 7)):
        difference = (loss(name, index, 1e-5) - loss(name, index, -1e-5)) / 2e-5
        assert found.values[name][index] == pytest.approx(difference / steps, rel=1e-5, abs=1e-9)


# ------------------------------------------------------------------------------ shapes and greedy horizons

UNEQUAL = {"learning_rate": [1, 4, 2], "momentum": [5, 2]}
OF_ANY_SIZE = Shapes({name: Windows(len(lengths), tuple(lengths)) for name, lengths in UNEQUAL.items()})
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "non-greedy": ({}, {}),
    "windows of any sizes": ({"shapes": OF_ANY_SIZE}, {"windows": UNEQUAL}),
    **{f"horizon of {h}": ({"every": h}, {"every": h}) for h in range(1, STEPS + 1)},
    "greedy, windows of any sizes": ({"every": 3, "shapes": OF_ANY_SIZE}, {"every": 3, "windows": UNEQUAL}),
}


SHAPED_VALUES = {"learning_rate": [0.3, 0.1, 0.2], "momentum": [0.9, 0.5], "weight_decay": [0.03, 0.01]}
SHAPED: dict[str, tuple[Shape, Curve]] = {
    "learning_rate": (Hats(3), straight_lines),
    "momentum": (Hats(2), straight_lines),
    "weight_decay": (Windows(2, (2, 5)), lambda leaf, step, horizon: leaf[int(step >= 2)]),
}
COSINE: tuple[Shape, Curve] = (named_curve("cosine"), cosine_with_warm_up)


def by_hand(model: FunctionalModel) -> SGDStep:
    return SGDStep(model, HessianProducts(model))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["batch norm mlp", "dropout"])
def test_every_setting_is_that_of_reverse_mode_by_hand_and_in_general(name: str, setting: str) -> None:
    network, (options, expected_options) = NETWORKS[name], SETTINGS[setting]
    case = Case(SGD, reverse_mode.sgd_rule, SGD_VALUES)
    expected = reference(case, network, **expected_options)
    model = functional(network)
    for inner in (by_hand(model), GradientStep(SGD(model)), MapStep(SGD(model))):
        assert_agree(forward_mode(inner, network, SGD_VALUES, **options), expected)


@pytest.mark.parametrize("setting", ["horizon of 3", "windows of any sizes"])
def test_every_setting_serves_adaptive_optimizers(setting: str) -> None:
    options, expected_options = SETTINGS[setting]
    case, network = CASES["label smoothing"], NETWORKS["batch norm mlp"]
    if "shapes" in options:
        options = {"shapes": Shapes({"learning_rate": Windows(2, (2, 5))})}
        expected_options = {"windows": {"learning_rate": [2, 5]}}
    found = forward_mode(GradientStep(case.update(functional(network))), network, case.values, **options)
    assert_agree(found, reference(case, network, **expected_options))


def test_segments_report_their_own_training_and_add_up_to_one_run() -> None:
    network = NETWORKS["batch norm mlp"]
    found = forward_mode(by_hand(functional(network)), network, SGD_VALUES, every=3)
    (whole,) = forward_mode(by_hand(functional(network)), network, SGD_VALUES)
    assert [one.steps for one in found] == [3, 6, 7]
    torch.testing.assert_close(found[-1].parameters, whole.parameters, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[-1].statistics, whole.statistics, rtol=1e-10, atol=1e-12)
    assert not torch.equal(found[0].parameters, found[1].parameters)
    losses = [3 * found[0].training_loss, 3 * found[1].training_loss, found[2].training_loss]
    assert sum(losses) / STEPS == pytest.approx(whole.training_loss, rel=1e-12)
    assert found[-1].validation_loss == pytest.approx(whole.validation_loss, rel=1e-12)


def test_values_can_be_changed_after_every_segment() -> None:
    network, case = NETWORKS["batch norm mlp"], Case(SGD, reverse_mode.sgd_rule, SGD_VALUES)
    changed = {name: [value / 2 for value in schedule] for name, schedule in SGD_VALUES.items()}
    model = functional(network)
    run = greedy_hypergradients(
        model,
        HessianProducts(model),
        training_batches(network, STEPS),
        validation_batches(network),
        SGD_VALUES,
        STEPS,
        every=3,
    )
    found = [next(run), run.send(changed), run.send(SGD_VALUES)]
    assert next(run, None) is None
    assert_agree(found, reference(case, network, every=3, values=[SGD_VALUES, changed, SGD_VALUES]))
    assert_agree(found[:1], reference(case, network, every=3)[:1])
    assert found[1].values["momentum"] != pytest.approx(reference(case, network, every=3)[1][1]["momentum"], rel=1e-3)


def test_learning_rates_from_greedy_signs_end_below_those_of_the_whole_horizon() -> None:
    """The short-horizon bias ([FDS] section 5.2) in a narrow valley: steep directions forbid what flat ones need."""

    class Valley(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.tensor([1.0, 30.0], dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.position * torch.tensor([1.0, 0.05], dtype=torch.float64).sqrt() + inputs

    model = FunctionalModel(Valley(), lambda outputs, targets: (outputs - targets).square().sum(dim=1) / 2)
    horizon, noise = 20, torch.Generator().manual_seed(0)
    scale = torch.tensor([2.0, 0.0])
    batches = [
        (scale * torch.randn(1, 2, generator=noise).double(), torch.zeros(1, 2).double()) for _ in range(horizon)
    ]
    held_out = [(torch.zeros(1, 2).double(), torch.zeros(1, 2).double())]

    def learned(every: int) -> float:
        rate = 0.0
        for outer in range(8):
            run = hypergradients(
                by_hand(model), batches, held_out, {"learning_rate": [rate]}, horizon, ["learning_rate"], every=every
            )
            slope = sum(found.values["learning_rate"][0] for found in run)
            rate = max(0.0, rate - 0.2 * 0.8**outer * float(torch.tensor(slope).sign()))
        return rate

    greedy, whole = learned(1), learned(horizon)
    assert 0 < greedy < 0.7 * whole


@pytest.mark.parametrize("name", ["batch norm mlp"])
@pytest.mark.parametrize("coordinates", ["plain", "effective"])
@pytest.mark.parametrize("rates", [SHAPED["learning_rate"], COSINE], ids=["straight lines", "cosine"])
def test_schedules_of_every_shape_by_hand_and_in_general(
    name: str, rates: tuple[Shape, Curve], coordinates: Coordinates
) -> None:
    """Against a graph through the run whose values at every step are torch's own functions of the parameters."""
    shaped = SHAPED | {"learning_rate": rates}
    network, shapes = NETWORKS[name], Shapes({key: shape for key, (shape, _) in shaped.items()}, coordinates)
    rule = reverse_mode.effective_sgd_rule if coordinates == "effective" else reverse_mode.sgd_rule
    case = Case(SGD, rule, SHAPED_VALUES)
    ((loss, slopes),) = reference(case, network, curves={key: curve for key, (_, curve) in shaped.items()})
    expected = {
        key: [slope / by for slope, by in zip(entries, divisors, strict=True)]
        for key, entries in slopes.items()
        for divisors in [shapes.divisors(key, len(entries), range(STEPS), STEPS)]
    }
    model = functional(network)
    for inner in (by_hand(model), GradientStep(SGD(model)), MapStep(SGD(model))):
        assert_agree(forward_mode(inner, network, SHAPED_VALUES, shapes=shapes), [(loss, expected)])
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        batches, held_out = training_batches(network, STEPS), validation_batches(network)
        found = backwards(SGDAdjoint(model), batches, held_out, SHAPED_VALUES, STEPS, list(SHAPED_VALUES), shapes)
    assert_agree([found], [(loss, expected)])


# ------------------------------------------------------------------------------------------------- costs


class Counting(HessianProducts):
    """Hessian products that count their columns."""

    def __init__(self, model: FunctionalModel) -> None:
        super().__init__(model)
        self.columns: list[int] = []

    def __call__(self, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor) -> Linearized:
        self.columns.append(len(Z))
        return super().__call__(w, b, Z, B, inputs, targets)


COLUMNS = {
    "non-greedy": ({}, [0, 3, 3, 3, 4, 5, 6]),  # the rates' windows begin at 0, 3 and 5, the momentum's at 0 and 4
    "greedy": ({"every": 3}, [0, 3, 3, 0, 3, 4, 0]),
    "most greedy": ({"every": 1}, [0] * 7),
    "straight lines": ({"shapes": Shapes({"learning_rate": Hats(3)})}, [0, 3, 4, 4, 4, 6, 6]),  # hats at 0, 1 and 4
}


@pytest.mark.parametrize("setting", COLUMNS)
def test_columns_without_tangents_need_no_product(setting: str) -> None:
    options, expected = COLUMNS[setting]
    network = NETWORKS["mlp"]
    model = functional(network)
    products = Counting(model)
    forward_mode(SGDStep(model, products), network, SGD_VALUES, **options)
    assert products.columns == expected
    general = GradientStep(SGD(model))
    general.products = again = Counting(model)
    forward_mode(general, network, SGD_VALUES, **options)
    assert again.columns == expected


@pytest.mark.parametrize("way", ["whole map", "gradient first"])
def test_memory_does_not_grow_with_the_horizon(way: str) -> None:
    from tests.algorithms.test_fds import peak_bytes

    network = NETWORKS["batch norm mlp"]
    inner = STEPS_OF[way](AdamW(functional(network), label_smoothing()))
    values = {"learning_rate": [0.1, 0.01], "beta1": [0.9], "label_smoothing": [0.1]}
    batch = network.examples(16, seed=0)

    def run(horizon: int) -> Callable[[], object]:
        return lambda: hypergradient(inner, itertools.repeat(batch), [batch], values, horizon, list(values))

    short, long = (peak_bytes(run(horizon)) for horizon in (6, 24))
    assert long == short


class NoReading(TorchDispatchMode):
    """Refuses operations that make the host wait for a value on the device."""

    refused = (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.refused, f"{func} reads a value back"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_synchronization(device: torch.device) -> Iterator[None]:
    """On a GPU PyTorch's own watch, which sees every kind; elsewhere operations that would be one there."""
    if device.type == "cpu":
        with NoReading():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


QUEUED: dict[str, tuple[Callable[[FunctionalModel], InnerStep], Values]] = {
    "by hand": (
        lambda model: SGDStep(
            model,
            HessianProducts(model, HessianProductOptions(record_after=2)),
            Clamps(gradient=NormBound(0.1), product=1.0),
        ),
        SGD_VALUES,
    ),
    "by hand, on half": (
        lambda model: SGDStep(model, HessianProducts(model, HessianProductOptions(fraction=0.5, recorded=False))),
        SGD_VALUES,
    ),
    "by hand, reverse over reverse": (
        lambda model: SGDStep(model, HessianProducts(model, HessianProductOptions(way="reverse_over_reverse"))),
        SGD_VALUES,
    ),
    "gradient first": (
        lambda model: GradientStep(
            AdamW(model, label_smoothing(), groups={"learning_rate": {"0": ["0.*"], "others": ["[!0]*"]}})
        ),
        {"learning_rate@0": [0.3, 0.1], "learning_rate@others": [0.1], "beta2": [0.9], "label_smoothing": [0.1]},
    ),
    "whole map": (lambda model: MapStep(SGD(model)), SGD_VALUES),
}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("kind", QUEUED)
def test_the_inner_loop_never_waits_for_the_device(kind: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, values = QUEUED[kind]
    network, on = NETWORKS["batch norm cnn"], torch.device(device)
    inner = make(FunctionalModel(network.build().to(on), cross_entropy))
    examples = Examples(*network.examples(24, seed=0)).to(on)
    held_out = [(examples.inputs, examples.targets)]

    def run() -> Hypergradient:
        order = problem_batches(examples, 8, STEPS, seed=0, augmentation=crop_and_flip)
        return hypergradient(inner, order, held_out, values, STEPS, list(values))

    expected = run()  # what is recorded or compiled once may wait
    train, entered = module.train_segment, []

    def watched(*arguments: Any) -> Any:
        with no_synchronization(on):
            entered.append(True)
            return train(*arguments)

    monkeypatch.setattr(module, "train_segment", watched)
    assert run().validation_loss == pytest.approx(expected.validation_loss, rel=1e-6)
    assert entered


def test_the_watch_sees_a_value_that_is_read() -> None:
    with pytest.raises(AssertionError, match="reads a value back"), no_synchronization(torch.device("cpu")):
        torch.ones(2).sum().item()


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {"rate": [0.1]}}, "values hold 'rate'; they must be of learning_rate, momentum, weight_decay"),
        ({"learned": ["momentum"]}, "learned holds 'momentum'; it must be among the values' names learning_rate"),
        ({"every": 0}, r"every is 0; it must lie in \[1, 7\], from one step to the whole horizon"),
        ({"every": 8}, r"every is 8; it must lie in \[1, 7\], from one step to the whole horizon"),
        ({"shapes": Shapes({"rate": Windows(1)})}, "shapes hold 'rate'; they must be of learning_rate"),
        ({"shapes": Shapes({"learning_rate": Hats(2)})}, "learning_rate has 1 values; its shape needs 2"),
        ({"validation": []}, "validation holds no example; it must hold at least one, each time it is read"),
        ({"batches": []}, "batches ended after 0 steps; horizon asks for 7"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    network = NETWORKS["mlp"]
    arguments: dict[str, Any] = {
        "batches": training_batches(network, STEPS),
        "validation": validation_batches(network),
        "values": {"learning_rate": [0.1]},
        "horizon": STEPS,
        "learned": ["learning_rate"],
    }
    with pytest.raises(ValueError, match=f"^{message}$"):
        next(hypergradients(by_hand(functional(network)), **(arguments | changes)))


def test_new_values_must_fit() -> None:
    network = NETWORKS["mlp"]
    batches, held_out = training_batches(network, STEPS), validation_batches(network)
    run = hypergradients(
        by_hand(functional(network)), batches, held_out, {"learning_rate": [0.1]}, STEPS, ["learning_rate"], every=1
    )
    next(run)
    with pytest.raises(ValueError, match=r"^new values have lengths .*2.*; they must be .*1.*$"):
        run.send({"learning_rate": [0.1, 0.2]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GradientStep(SGD(functional(NETWORKS["mlp"])), product_clamp=0.0),
            "product_clamp is 0.0; it must be positive or None",
        ),
        (
            lambda: inner_step(_Opaque(SGD(functional(NETWORKS["mlp"]))), HessianProductOptions(fraction=0.5)),
            "way is 'forward_over_reverse' and fraction 0.5; _Opaque is not a GradientUpdate: .*",
        ),
    ],
)
def test_options_are_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_clamped_products_are_those_of_the_path_by_hand() -> None:
    network = NETWORKS["batch norm mlp"]
    model, bound = functional(network), 0.01
    clamped = GradientStep(SGD(model, bound=ElementBound(0.05)), product_clamp=bound)
    (found,) = forward_mode(clamped, network, SGD_VALUES)
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        expected = fds_hypergradient(
            model,
            HessianProducts(model),
            training_batches(network, STEPS),
            validation_batches(network),
            SGD_VALUES,
            STEPS,
            clamps=Clamps(gradient=ElementBound(0.05), product=bound),
        )
    (free,) = forward_mode(GradientStep(SGD(model, bound=ElementBound(0.05))), network, SGD_VALUES)
    for name, schedule in expected.values.items():
        assert found.values[name] == pytest.approx(schedule, rel=1e-10)
        assert free.values[name] != pytest.approx(schedule, rel=1e-3)
