from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian

from raytune_hyperlearn.derivatives import hessian_products
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import (
    WAYS,
    HessianProductOptions,
    HessianProducts,
    Linearized,
    gradient,
    kept_bytes,
)
from tests.plain_networks import NETWORKS, Network, State, cross_entropy, plain_cross_entropy

COLUMNS, ROWS, MASKS = 5, 8, 11

OPTIONS = {
    "forward over reverse": HessianProductOptions(recorded=False),
    "forward over reverse, column by column": HessianProductOptions(recorded=False, chunk=1),
    "forward over reverse in unequal chunks": HessianProductOptions(recorded=False, chunk=2),
    "recorded": HessianProductOptions(record_after=0),
    "reverse over reverse": HessianProductOptions(way="reverse_over_reverse"),
    "reverse over reverse in unequal chunks": HessianProductOptions(way="reverse_over_reverse", chunk=2),
    "sequential": HessianProductOptions(way="sequential"),
    "sequential in chunks": HessianProductOptions(way="sequential", chunk=4),
    "auto": HessianProductOptions(way="auto"),
}


needs_gpu = pytest.mark.gpu


def unpacked(vector: Tensor, like: State) -> State:
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(like[name].shape) for name, part in zip(like, parts, strict=True)}


def point(network: Network, seed: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """w [D], b [B], Z [K, D] and B [K, B]; frozen statistics have no tangent."""
    generator = torch.Generator().manual_seed(seed)
    functional = FunctionalModel(network.build(), cross_entropy)
    w, b = functional.parameters, functional.buffers
    w = w + 0.3 * torch.randn(len(w), generator=generator, dtype=w.dtype)
    Z, B = (torch.randn(COLUMNS, len(v), generator=generator, dtype=w.dtype) for v in (w, b))
    moving = [torch.full((b.numel(),), float("frozen" not in name)) for name, b in network.initial()[2].items()]
    return w, b, Z, B * torch.cat(moving) if moving else B


def explicit(network: Network, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, x: Tensor, y: Tensor) -> Linearized:
    """The whole Hessian and the whole Jacobian of b', multiplied."""
    trainable, frozen, statistics = network.initial()

    def step(w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(MASKS)
            outputs, updated = network.forward({**unpacked(w, trainable), **frozen}, unpacked(b, statistics), x, True)
        return plain_cross_entropy(outputs, y).mean(), torch.cat([b[:0], *(u for u in updated.values())])

    loss, updated = step(w, b)
    slope = jacobian(lambda p: step(p, b)[0], w)
    products = Z @ hessian(lambda p: step(p, b)[0], w)
    if b.numel():
        by_w, by_b = jacobian(lambda p, s: step(p, s)[1], (w, b))
        B = Z @ by_w.T + B @ by_b.T
    return loss, slope, updated, products, B


def assert_agree(found: Linearized, expected: Linearized, relative: float = 1e-12) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=relative * scale)


@cache
def whole_hessian(name: str, seed: int) -> Linearized:
    return explicit(NETWORKS[name], *point(NETWORKS[name], seed), *NETWORKS[name].examples(ROWS, seed))


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_gives_the_products_with_the_whole_hessian(name: str, kind: str) -> None:
    network, options = NETWORKS[name], OPTIONS[kind]
    products = HessianProducts(FunctionalModel(network.build(), cross_entropy), options)
    with torch.random.fork_rng():
        for seed in (5, 6):  # what is recorded on the first batch serves the second
            torch.manual_seed(MASKS)
            found = products(*point(network, seed), *network.examples(ROWS, seed))
    assert_agree(found, whole_hessian(name, seed))
    assert not any(tensor.requires_grad for tensor in found)


def test_what_a_backward_pass_keeps_is_counted_once() -> None:
    """A linear layer keeps its input and its weight's view of the parameters, a second use of either costs nothing."""
    module = nn.Linear(3, 2, bias=False).double()
    model = FunctionalModel(module, lambda outputs, targets: (outputs**2).sum(dim=1))
    inputs, targets = torch.ones(5, 3, dtype=torch.float64), torch.zeros(5)
    state = torch.get_rng_state()
    found = kept_bytes(model, model.parameters, model.buffers, inputs, targets)
    assert torch.equal(torch.get_rng_state(), state)
    assert 8 * (5 * 3 + 5 * 2) <= found <= 8 * (5 * 3 + 5 * 2 + 3 * 2) + 64


def test_on_a_cpu_so_many_columns_are_taken_at_once_as_memory_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["mlp"]
    at, batch = point(network), network.examples(ROWS, 5)
    model = FunctionalModel(network.build(), cross_entropy)
    w, b, Z, _ = at
    kept = kept_bytes(model, w, b, *batch)
    for room, expected in ((2 * kept, 2), (kept // 2, 1), (100 * kept, 100)):
        monkeypatch.setattr(hessian_products, "KEPT_ON_CPU", room)
        products = HessianProducts(model, HessianProductOptions(record_after=0))
        assert_agree(products(*at, *batch), explicit(network, *at, *batch))
        assert products.choices()["chunk"] == expected
        assert len(products.recorded) == len({Z[i : i + expected].shape for i in range(0, len(Z), expected)})
    assert HessianProducts(model, HessianProductOptions(chunk=3)).choices()["chunk"] == 3


def test_every_shape_is_recorded_apart() -> None:
    """Three and then two columns, and batches of two sizes."""
    network = NETWORKS["mlp"]
    products = HessianProducts(
        FunctionalModel(network.build(), cross_entropy), HessianProductOptions(record_after=0, chunk=3)
    )
    for seed, rows in ((5, ROWS), (6, 3), (7, ROWS)):
        at, batch = point(network, seed), network.examples(rows, seed)
        assert_agree(products(*at, *batch), explicit(network, *at, *batch))


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_way_draws_as_many_random_numbers_as_one_forward_pass(kind: str) -> None:
    network = NETWORKS["dropout"]
    inputs, targets = network.examples(ROWS, seed=1)
    products = HessianProducts(FunctionalModel(network.build(), cross_entropy), OPTIONS[kind])
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        network.build()(inputs)
        expected = torch.get_rng_state()
        for _ in range(2):
            torch.manual_seed(MASKS)
            products(*point(network), inputs, targets)
            assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_module_is_left_as_it_was(kind: str) -> None:
    network = NETWORKS["batch norm mlp"]
    model = network.build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    HessianProducts(FunctionalModel(model, cross_entropy), OPTIONS[kind])(*point(network), *network.examples(ROWS, 1))
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("kind", OPTIONS)
def test_statistics_may_all_be_frozen(kind: str) -> None:
    network = NETWORKS["batch norm mlp"]
    model = network.build()
    model[1].eval()
    w, b, Z, B = point(network)
    products = HessianProducts(FunctionalModel(model, cross_entropy), OPTIONS[kind])
    inputs, targets = network.examples(ROWS, seed=1)
    loss, slope, updated, found, tangents = products(w, b, Z, B, inputs, targets)
    assert torch.equal(updated, b)
    assert torch.equal(tangents, B)
    trainable, _, statistics = network.initial()

    def frozen_loss(p: Tensor) -> Tensor:
        outputs, _ = network.forward(unpacked(p, trainable), statistics, inputs, False)
        return plain_cross_entropy(outputs, targets).mean()

    expected = Z @ hessian(frozen_loss, w)
    assert_agree((loss, slope, updated, found, tangents), (frozen_loss(w), jacobian(frozen_loss, w), b, expected, B))


@pytest.mark.parametrize("options", [HessianProductOptions(record_after=0), OPTIONS["reverse over reverse"]])
def test_frozen_values_of_another_initialization_reach_what_was_recorded(options: HessianProductOptions) -> None:
    network = NETWORKS["frozen"]
    reused = FunctionalModel(network.build(seed=0), cross_entropy)
    products = HessianProducts(reused, options)
    at, batch = point(network), network.examples(ROWS, seed=1)
    first = products(*at, *batch)
    reused.load_initial(network.build(seed=9))
    again = products(*at, *batch)
    assert_agree(again, HessianProducts(FunctionalModel(network.build(seed=9), cross_entropy))(*at, *batch))
    assert not torch.allclose(first[0], again[0])


@pytest.mark.parametrize("way", WAYS)
def test_short_memory_halves_the_columns_and_changes_nothing_else(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, full, asked = NETWORKS["dropout"], WAYS[way], []

    def short_of_memory(model: FunctionalModel, w: Tensor, b: Tensor, Z: Tensor, *rest: Tensor) -> Linearized:
        asked.append(len(Z))
        if len(Z) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return full(model, w, b, Z, *rest)

    monkeypatch.setattr(hessian_products, "WAYS", {**WAYS, way: short_of_memory})
    products = HessianProducts(FunctionalModel(network.build(), cross_entropy), HessianProductOptions(way=way))
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        found = products(*point(network), *network.examples(ROWS, seed=4))
    assert asked == [5, 3, 2, 2, 1]
    assert products.way == way
    assert_agree(found, whole_hessian("dropout", 4))


@pytest.mark.long
@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("cudagraphs", marks=needs_gpu)])
def test_compiled_operations_give_the_same(compiler: str) -> None:
    network = NETWORKS["batch norm mlp"]
    device = torch.device("cuda" if compiler == "cudagraphs" else "cpu")
    products = HessianProducts(
        FunctionalModel(network.build().to(device), cross_entropy),
        HessianProductOptions(record_after=0, compiler=compiler),
    )
    for seed in (5, 6, 7):
        arguments = [tensor.to(device) for tensor in (*point(network, seed), *network.examples(ROWS, seed))]
        found = products(*arguments)
        assert_agree(tuple(tensor.cpu() for tensor in found), whole_hessian("batch norm mlp", seed))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ bfloat16


@pytest.mark.parametrize(
    ("name", "recorded"), [("mlp", True), ("mlp", False), ("batch norm cnn", False), ("frozen", False)]
)
def test_products_in_bfloat16_are_near_and_leave_the_gradient_alone(name: str, recorded: bool) -> None:
    network = NETWORKS[name]
    model = FunctionalModel(network.build().float(), cross_entropy)
    options = HessianProductOptions(precision="bfloat16", recorded=recorded, record_after=0)
    arguments = [t.float() if t.is_floating_point() else t for t in (*point(network), *network.examples(ROWS, seed=1))]
    loss, slope, updated, products, tangents = HessianProducts(model, options)(*arguments)
    w, b, _, _, x, y = arguments
    for one, other in zip((loss, slope, updated), gradient(model, w, b, x, y), strict=True):
        assert torch.equal(one, other)
    exact = HessianProducts(model, HessianProductOptions(recorded=False))(*arguments)[3]
    error = torch.linalg.vector_norm(products - exact) / torch.linalg.vector_norm(exact)
    assert products.dtype == tangents.dtype == torch.float32
    assert 1e-4 < error < 0.05


# ------------------------------------------------------------------------------- a part of the batch


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "batch norm cnn"])
def test_a_fraction_takes_products_on_the_first_rows_and_the_gradient_on_all(name: str, way: str) -> None:
    network = NETWORKS[name]
    products = HessianProducts(
        FunctionalModel(network.build(), cross_entropy), HessianProductOptions(way=way, fraction=0.5)
    )
    at, (x, y) = point(network), network.examples(ROWS, seed=1)
    whole, half = explicit(network, *at, x, y), explicit(network, *at, x[:4], y[:4])
    assert_agree(products(*at, x, y), (*whole[:3], *half[3:]))
    assert not torch.allclose(whole[3], half[3])


def test_a_fraction_is_unbiased_over_the_order_of_the_batch() -> None:
    network = NETWORKS["cnn"]
    products = HessianProducts(FunctionalModel(network.build(), cross_entropy), HessianProductOptions(fraction=0.25))
    at, (x, y) = point(network), network.examples(ROWS, seed=1)
    parts = [products(*at, x.roll(-2 * k, 0), y.roll(-2 * k, 0))[3] for k in range(4)]
    assert_agree((torch.stack(parts).mean(dim=0),) * 5, (explicit(network, *at, x, y)[3],) * 5)


def test_a_fraction_takes_at_least_one_row() -> None:
    network = NETWORKS["mlp"]
    products = HessianProducts(FunctionalModel(network.build(), cross_entropy), HessianProductOptions(fraction=0.01))
    at, (x, y) = point(network), network.examples(ROWS, seed=1)
    assert_agree((products(*at, x, y)[3],) * 5, (explicit(network, *at, x[:1], y[:1])[3],) * 5)


# ----------------------------------------------------------------------------------- choosing, recording


@pytest.mark.parametrize("name", ["mlp", "dropout"])
def test_no_columns_cost_one_plain_gradient(name: str) -> None:
    network = NETWORKS[name]
    functional = FunctionalModel(network.build(), cross_entropy)
    w, b, Z, B = point(network)
    batch = network.examples(ROWS, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(MASKS)
        loss, slope, updated, products, tangents = HessianProducts(functional)(w, b, Z[:0], B[:0], *batch)
        torch.manual_seed(MASKS)
        plain = gradient(functional, w, b, *batch)
    expected = explicit(network, w, b, Z, B, *batch)
    assert_agree((loss, slope, updated) * 2, expected[:3] * 2)  # type: ignore[arg-type]
    assert all(torch.equal(one, other) for one, other in zip((loss, slope, updated), plain, strict=True))
    assert products.shape == (0, len(w))
    assert tangents.shape == (0, len(b))


def test_auto_measures_every_way_once_and_keeps_the_fastest() -> None:
    network = NETWORKS["mlp"]
    products = HessianProducts(FunctionalModel(network.build(), cross_entropy), HessianProductOptions(way="auto"))
    assert products.way is None
    products(*point(network), *network.examples(ROWS, seed=1))
    assert products.seconds.keys() == WAYS.keys()
    assert products.way == min(products.seconds, key=lambda way: products.seconds[way])
    assert all(0 < seconds < 10 for seconds in products.seconds.values())
    measured = dict(products.seconds)
    products(*point(network, seed=8), *network.examples(ROWS, seed=2))
    assert products.seconds == measured


class Cube(torch.autograd.Function):
    """x³ with a backward pass that can be differentiated again, but that function transformations refuse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * slope


class OnceOnly(Cube):
    """The same with a backward pass that cannot be differentiated."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return Cube.backward(ctx, slope)


class Cubic(nn.Module):
    """A linear layer and a cube."""

    def __init__(self, cube: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3).double()
        self.cube = cube

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cube.apply(self.linear(inputs))


def test_auto_leaves_out_a_way_that_a_model_does_not_allow() -> None:
    model = Cubic(Cube)
    functional = FunctionalModel(model, cross_entropy)
    products = HessianProducts(functional, HessianProductOptions(way="auto"))
    w, b = functional.parameters, functional.buffers
    Z = torch.eye(len(w), dtype=w.dtype)
    x, y = NETWORKS["mlp"].examples(ROWS, seed=1)
    found = products(w, b, Z, b.new_zeros(len(w), 0), x, y)[3]
    assert products.way == "reverse_over_reverse"

    def loss(p: Tensor) -> Tensor:
        return plain_cross_entropy((x @ p[:12].view(3, 4).T + p[12:]) ** 3, y).mean()

    torch.testing.assert_close(found, hessian(loss, w), rtol=1e-10, atol=1e-12)


def test_auto_refuses_a_model_that_no_way_can_differentiate_twice() -> None:
    functional = FunctionalModel(Cubic(OnceOnly), cross_entropy)
    products = HessianProducts(functional, HessianProductOptions(way="auto"))
    w, b = functional.parameters, functional.buffers
    batch = NETWORKS["mlp"].examples(ROWS, seed=1)
    with pytest.raises(ValueError, match=r"^model has Cubic; no way can differentiate it twice$"):
        products(w, b, w[None], b[None], *batch)


class Branching(nn.Module):
    """Takes a branch that depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3).double()

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.sum() > 0:
            return self.linear(inputs).tanh()
        return self.linear(inputs).sin()


def test_a_model_that_cannot_be_recorded_is_differentiated_all_the_same() -> None:
    model = Branching()
    functional = FunctionalModel(model, cross_entropy)
    products = HessianProducts(functional, HessianProductOptions(record_after=0))
    w, b = functional.parameters, functional.buffers
    Z = torch.eye(len(w), dtype=w.dtype)
    x, y = NETWORKS["mlp"].examples(ROWS, seed=1)
    for inputs, branch in ((x.abs(), torch.tanh), (-x.abs(), torch.sin)):

        def loss(p: Tensor, inputs: Tensor = inputs, branch: Any = branch) -> Tensor:
            return plain_cross_entropy(branch(inputs @ p[:12].view(3, 4).T + p[12:]), y).mean()

        found = products(w, b, Z, b.new_zeros(len(w), 0), inputs, y)[3]
        torch.testing.assert_close(found, hessian(loss, w), rtol=1e-10, atol=1e-12)


def test_recording_makes_later_calls_cheaper() -> None:
    """The point of recording: a call without the transformations' own overhead."""
    network = NETWORKS["batch norm mlp"]
    at, batch = point(network), network.examples(ROWS, seed=1)

    def fastest(options: HessianProductOptions) -> float:
        products = HessianProducts(FunctionalModel(network.build(), cross_entropy), options)
        products(*at, *batch)
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            products(*at, *batch)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    assert fastest(HessianProductOptions(record_after=0)) < fastest(HessianProductOptions(recorded=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "backward"}, r"way is 'backward'; it must be 'auto' or one of forward_over_reverse, .*, sequential"),
        ({"fraction": 0.0}, r"fraction is 0.0; it must lie in \(0, 1\]"),
        ({"fraction": 1.5}, r"fraction is 1.5; it must lie in \(0, 1\]"),
        ({"fraction": float("nan")}, r"fraction is nan; it must lie in \(0, 1\]"),
        ({"chunk": 0}, "chunk is 0; it must be at least 1 or None"),
        ({"precision": "half"}, "precision is 'half'; it must be one of full, bfloat16"),
        ({"compiler": "none"}, "compiler is 'none'; it must be None or a backend such as .*inductor.*"),
    ],
)
def test_options_that_are_not_allowed_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        HessianProductOptions(**options)
