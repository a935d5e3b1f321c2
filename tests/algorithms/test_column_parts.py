"""Parts of the columns, differentiated apart, are the whole, and see one trajectory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from raytune_hyperlearn.algorithms.fds import SGDStep
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient, InnerStep, hypergradient
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, MapStep
from raytune_hyperlearn.algorithms.update_maps import AdamW
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts

HORIZON = 12
SGD_VALUES = {"learning_rate": [0.3, 0.2, 0.05], "momentum": [0.5, 0.7], "weight_decay": [1e-2]}
ADAM_VALUES = {"learning_rate": [0.03, 0.02, 0.01], "beta1": [0.8, 0.6], "weight_decay": [1e-2]}
KINDS: dict[str, tuple[Callable[[FunctionalModel], InnerStep], dict[str, list[float]]]] = {
    "by hand": (lambda model: SGDStep(model, HessianProducts(model)), SGD_VALUES),
    "gradient": (lambda model: GradientStep(AdamW(model)), ADAM_VALUES),
    "whole map": (lambda model: MapStep(AdamW(model)), ADAM_VALUES),
}


def found(kind: str, dtype: torch.dtype, part: slice) -> Hypergradient:
    make, values = KINDS[kind]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    model = FunctionalModel(
        network.to(dtype), lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none")
    )
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(HORIZON, 16, 1, 8, generator=draw).to(dtype)
    targets = torch.randint(0, 3, (HORIZON, 16), generator=draw)
    validation = [(inputs[0], targets[0]), (inputs[1], targets[1])]
    return hypergradient(
        make(model), zip(inputs, targets, strict=True), validation, values, HORIZON, tuple(values), part=part
    )


@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_parts_together_are_the_whole(kind: str, parts: int) -> None:
    whole = found(kind, torch.float64, slice(None))
    apart = [found(kind, torch.float64, slice(index, None, parts)) for index in range(parts)]
    for name, entries in whole.values.items():
        for index, entry in enumerate(entries):
            given = [one.values[name][index] for one in apart]
            assert sum(value != 0 for value in given) == 1
            assert sum(given) == pytest.approx(entry, rel=1e-9)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_part_sees_the_same_trajectory_bit_for_bit(kind: str) -> None:
    """Also one whose windows all begin later: gradients with and without tangents differ in rounding."""
    whole = found(kind, torch.float32, slice(None))
    for part in (slice(0, None, 2), slice(1, None, 2), slice(5, 6), slice(9, None)):
        one = found(kind, torch.float32, part)
        assert torch.equal(one.parameters, whole.parameters)
        assert torch.equal(one.statistics, whole.statistics)
        assert one.validation_loss == whole.validation_loss
