from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import forward_over_reverse
from raytune_hyperlearn.derivatives.recording import recorded
from tests.plain_networks import cross_entropy


def program(function: Callable[..., Any], *arguments: Tensor) -> fx.GraphModule:
    found = recorded(function, arguments)
    assert isinstance(found, fx.GraphModule)
    return found


def operations(found: fx.GraphModule) -> Counter[str]:
    called = (node.target for node in found.graph.nodes if isinstance(node.target, torch._ops.OpOverload))
    return Counter(target.overloadpacket.__name__ for target in called)


def matrix(seed: int, rows: int = 3, columns: int = 4) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def copied_into_zeros(x: Tensor, y: Tensor) -> Tensor:
    return torch.zeros_like(x).copy_(x.T.contiguous().T) * y


def changed_copy(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    copy = torch.zeros_like(x).copy_(x)
    copy[0] += y[0]
    return copy, x * y


def copy_of_what_changes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    product = x * y
    before = product.clone(memory_format=torch.contiguous_format)
    shifted = product + torch.zeros_like(x)
    product.view(-1)[2:5] += 1
    return before + y, shifted * product


def sums_of_products(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    shared = x * y
    row, column = x[0], y[:, :1]
    return x + x * y, x * y + y, y - x * y, x * y - y, shared + x, shared.sum(), x + row * column, row + column * 2


def sums_of_products_of_what_changes(x: Tensor, y: Tensor) -> Tensor:
    copy = x.clone()
    product = copy * y
    copy[0] += 1
    return y + product + copy


def sums_of_two_types(x: Tensor, y: Tensor) -> Tensor:
    return x.float() + x * y


def zeros_that_change(x: Tensor, y: Tensor) -> Tensor:
    zeros = torch.zeros_like(x)
    zeros[1] = y[1]
    return x * zeros + zeros.view(-1).sum()


def broadcast_zero(x: Tensor, y: Tensor) -> Tensor:
    return x[0] + torch.zeros_like(y)


def zero_terms(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    zeros = torch.zeros_like(x)
    return zeros + y, x - zeros, zeros - y, (zeros @ y.T) + x @ y.T, -zeros.sum(dim=0) + y


def double_zeros(x: Tensor, y: Tensor) -> Tensor:
    return x.float() + torch.zeros_like(y)


def read_again(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    product = x * y
    above = product + 1
    part = product[1:]
    return above * 2, part - 1, (x - y).neg()


def multiplied_by_itself(x: Tensor, y: Tensor) -> Tensor:
    product = x @ y.T
    return product * product.T + product


def spread(x: Tensor, y: Tensor) -> Tensor:
    row = (x * y).sum(dim=0, keepdim=True).expand(3, 4)
    return row * y - x


def returned_and_read(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    total = x * 3
    return total, total.view(-1).mul(2).view(3, 4) + y


def slopes(x: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(x * 2, y, 0) + torch.ops.aten.threshold_backward(x, y, 0)


def in_halves(x: Tensor, y: Tensor) -> Tensor:
    product = x * y
    before = product.clone(memory_format=torch.contiguous_format)
    left, _right = product.split(2, dim=1)
    left += 1
    return before * product


class Shifted(nn.Module):
    """Adds a zero to a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", matrix(7))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.shift + torch.zeros_like(x) + x * y


SHIFTED = Shifted()


def with_a_constant(x: Tensor, y: Tensor) -> Tensor:
    return SHIFTED(x, y)


FUNCTIONS = [
    with_a_constant,
    read_again,
    multiplied_by_itself,
    spread,
    returned_and_read,
    slopes,
    in_halves,
    copied_into_zeros,
    changed_copy,
    copy_of_what_changes,
    zeros_that_change,
    sums_of_products,
    sums_of_products_of_what_changes,
    sums_of_two_types,
    broadcast_zero,
    zero_terms,
    double_zeros,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_what_is_recorded_computes_the_same_and_changes_no_argument(function: Callable[..., Any]) -> None:
    found = program(function, matrix(1), matrix(2))
    for seed in (3, 4):
        arguments = matrix(seed), matrix(seed + 10)
        torch.testing.assert_close(found(*arguments), function(*arguments), rtol=1e-14, atol=1e-15)
        assert torch.equal(arguments[0], matrix(seed))
        assert torch.equal(arguments[1], matrix(seed + 10))


def test_zeros_and_copies_are_taken_out() -> None:
    assert operations(program(copied_into_zeros, matrix(1), matrix(2)))["copy_"] == 0
    assert operations(program(changed_copy, matrix(1), matrix(2)))["copy_"] == 2  # one is the change
    counts = operations(program(zero_terms, matrix(1), matrix(2)))
    assert counts["mm"] == 1
    assert counts["add"] == 0
    assert counts["sub"] == 1


def test_only_convolutions_that_contribute_are_left() -> None:
    """Two layers: two of the gradient, and six per layer of the products but four in the first, whose input stays."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    model = FunctionalModel(module.double(), cross_entropy)
    generator = torch.Generator().manual_seed(1)
    w, b = model.parameters, model.buffers
    Z = torch.randn(4, len(w), generator=generator, dtype=torch.float64)
    images = torch.randn(5, 1, 6, 6, generator=generator, dtype=torch.float64)
    arguments = (w, b, Z, b.new_zeros(4, 0), images, torch.tensor([0, 1, 2, 0, 1]))

    def way(*tensors: Tensor) -> Any:
        return forward_over_reverse(model, *tensors)

    found = program(way, *arguments)
    counts = operations(found)
    assert counts["convolution"] == 2 + 1 + 2
    assert counts["convolution_backward"] == 2 + 1 + 4
    torch.testing.assert_close(found(*arguments), way(*arguments), rtol=1e-12, atol=1e-14)


def test_a_product_with_a_structural_zero_is_zero_whatever_the_factor() -> None:
    def function(x: Tensor) -> Tensor:
        return x * torch.zeros_like(x) + x.sign()

    infinite = torch.tensor([torch.inf, 1.0])
    assert torch.equal(program(function, infinite)(infinite), torch.ones(2))


def test_control_flow_on_values_is_not_recorded() -> None:
    assert recorded(lambda x: F.relu(x) if x.sum() > 0 else x, (torch.ones(2),)) is None


def test_recording_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    found = program(lambda x: F.dropout(x, 0.5, training=True), torch.ones(20))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        once = found(torch.ones(20))
        torch.manual_seed(5)
        assert torch.equal(once, F.dropout(torch.ones(20), 0.5, training=True))
