"""Models under autocast: outputs, copies and hypergradients, alike for every method."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hyperlearn.problems.mixed_precision import with_precision
from raytune_hyperlearn.tune import ArbiterTrainable, BatchAdaptiveTrainable, FDSTrainable, RetrainingTrainable
from tests.tune.small import SPACE, VALUES, small_model, small_problem

MIXED: dict[str, Any] = {"problem": small_problem, "space": SPACE, "seed": 5, "epochs": 1.0, "precision": "bf16-mixed"}


def layers() -> nn.Module:
    torch.manual_seed(0)
    return small_model().eval()


def test_a_model_computes_in_bfloat16_and_gives_float32() -> None:
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    plain, mixed = layers(), with_precision(layers(), "bf16-mixed")
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(inputs)
    assert expected.dtype == torch.bfloat16
    for model in (mixed, deepcopy(mixed)):
        found = model(inputs)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected.float())
        assert not torch.is_autocast_enabled("cpu")
    assert list(mixed.state_dict()) == list(plain.state_dict())
    assert torch.equal(with_precision(layers(), "full")(inputs), plain(inputs))
    with pytest.raises(RuntimeError, match="shape"):
        mixed(inputs[:, :3])
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("differentiation", "recorded"), [("forward", False), ("forward", True), ("reverse", True)])
def test_hypergradients_are_near_those_of_full_precision(differentiation: str, recorded: bool) -> None:
    way = {"differentiation": differentiation, "hessian": {"recorded": recorded, "record_after": 4}}
    mixed = FDSTrainable({**MIXED, **way}).train()
    full = FDSTrainable({**MIXED, **way, "precision": "full"}).train()
    assert mixed["validation_loss"] == pytest.approx(full["validation_loss"], rel=0.02)
    assert mixed["validation_loss"] != full["validation_loss"]
    for name, entries in full["hypergradient"].items():
        scale = max(map(abs, entries))
        assert mixed["hypergradient"][name] == pytest.approx(entries, rel=0.1, abs=0.1 * scale)


def test_black_box_methods_train_with_it_as_well() -> None:
    def loss(precision: str) -> float:
        trainable = RetrainingTrainable({**MIXED, "precision": precision, "hyperparameters": VALUES, "retrainings": 1})
        return float(trainable.train()["validation_loss"])

    assert loss("bf16-mixed") == pytest.approx(loss("full"), rel=0.02)
    assert loss("bf16-mixed") != loss("full")


@pytest.mark.parametrize("trainable", [ArbiterTrainable, BatchAdaptiveTrainable])
def test_methods_that_measure_gradients_refuse_it(trainable: type[Any]) -> None:
    with pytest.raises(ValueError, match=rf"^precision is 'bf16-mixed'; {trainable.__name__} needs 'full'$"):
        trainable(dict(MIXED))
