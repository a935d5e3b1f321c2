"""Curves take the values of their formulas and of PyTorch's schedulers; slopes are those of finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.curves import CURVES, Curve, named_curve

PARAMETERS = {
    "cosine": [0.5, 0.01, 0.23],
    "one-cycle": [0.05, 0.5, 0.01, 0.23],
    "polynomial": [0.5, 0.01, 1.7],
    "exponential": [0.5, 0.01],
}
HORIZON = 10


def own(share: float, theta: Tensor) -> Tensor:
    return theta[0] * torch.exp(-share * theta[1]) if share > 0.3 else theta[0]


CASES = {
    **{name: (named_curve(name), theta) for name, theta in PARAMETERS.items()},
    "own": (Curve(3, own), [0.3, 2.0, 1.0]),
}


@pytest.mark.parametrize("name", CASES)
def test_slopes_are_finite_differences(name: str) -> None:
    curve, theta = CASES[name]
    for step in range(HORIZON):
        found = curve.slopes(theta, step, HORIZON)
        for k in range(curve.count):
            up, down = ([t + by * (i == k) for i, t in enumerate(theta)] for by in (1e-6, -1e-6))
            expected = (curve.value(up, step, HORIZON) - curve.value(down, step, HORIZON)) / 2e-6
            assert found.get(k, 0.0) == pytest.approx(expected, rel=1e-6, abs=1e-9)
            assert curve.support(k, HORIZON) == (0, HORIZON)


def values(name: str, theta: list[float]) -> list[float]:
    return [named_curve(name).value(theta, step, HORIZON) for step in range(HORIZON)]


def of_pytorch(make: type[torch.optim.lr_scheduler.LRScheduler], start: float, **options: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    scheduler = make(optimizer, **options)
    found = []
    for _ in range(HORIZON):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_without_warm_up_curves_are_pytorchs() -> None:
    schedulers = torch.optim.lr_scheduler
    assert values("cosine", [0.5, 0.01, 0.0]) == pytest.approx(
        of_pytorch(schedulers.CosineAnnealingLR, 0.5, T_max=HORIZON, eta_min=0.01)
    )
    assert values("polynomial", [0.5, 0.0, 1.7]) == pytest.approx(
        of_pytorch(schedulers.PolynomialLR, 0.5, total_iters=HORIZON, power=1.7)
    )
    assert values("exponential", [0.5, 0.01]) == pytest.approx(
        of_pytorch(schedulers.ExponentialLR, 0.5, gamma=(0.01 / 0.5) ** (1 / HORIZON))
    )


def test_warm_up_rises_to_the_peak() -> None:
    cosine, cycle = values("cosine", [0.5, 0.01, 0.4]), values("one-cycle", [0.1, 0.5, 0.01, 0.4])
    assert cosine[:5] == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])
    assert cycle[:5] == pytest.approx([0.5 - 0.4 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(5)])
    assert cosine[4:] == pytest.approx(cycle[4:])
    assert cosine[9] == pytest.approx(0.01 + 0.49 * (1 + math.cos(math.pi * 5 / 6)) / 2)


def test_constants_have_no_slopes() -> None:
    assert Curve(1, lambda share, theta: torch.tensor(0.1)).slopes([0.3], 0, HORIZON) == {}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^shape is 'sine'; it must be one of cosine, one-cycle, polynomial, exponential$"
    ):
        named_curve("sine")
    with pytest.raises(ValueError, match=r"^count is 0; it must be a whole number of at least 1$"):
        Curve(0, own)
    assert set(PARAMETERS) == set(CURVES)
