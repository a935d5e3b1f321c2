"""Adam as an outer rule: PyTorch's own trajectory, ranges, scales, and what happens to steps that failed."""

from __future__ import annotations

import json
import math

import pytest
import torch

from raytune_hyperlearn.algorithms.adam_descent import adam_step
from raytune_hyperlearn.algorithms.sign_descent import OuterState

WIDE = {"weight": (-100.0, 100.0), "rate": (-100.0, 100.0)}


def start(sizes: tuple[float, float] = (0.5, 0.5)) -> OuterState:
    return OuterState.start({"weight": [3.0, -2.0], "rate": [1.0], "fixed": [7.0]}, {"weight": sizes, "rate": [0.25]})


def slope(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """Of the sum of a w₀² + w₁⁴ + |r| for steep and shallow a."""
    w, r = values["weight"], values["rate"][0]
    return {"weight": [2e-6 * w[0], 4 * w[1] ** 3], "rate": [math.copysign(1.0, r)]}


def test_the_trajectory_is_torchs_adam() -> None:
    state = start()
    weights, rate = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([3.0, -2.0], [1.0]))
    groups = [{"params": [weights], "lr": 0.5}, {"params": [rate], "lr": 0.25}]
    optimizer = torch.optim.Adam(groups, eps=0.0)
    for _ in range(25):
        found = slope(state.values)
        weights.grad, rate.grad = (torch.tensor(found[n], dtype=torch.float64) for n in ("weight", "rate"))
        optimizer.step()
        state = adam_step(state, found, 1.0, WIDE)
        assert state.values["weight"] == pytest.approx(weights.tolist(), rel=1e-10)
        assert state.values["rate"] == pytest.approx(rate.tolist(), rel=1e-10)
    assert state.values["fixed"] == [7.0]
    assert (state.index, state.moved) == (25, 25)


def test_the_size_of_the_hypergradient_does_not_matter() -> None:
    one, other = start(), start()
    for _ in range(4):
        found = slope(one.values)
        one = adam_step(one, found, 1.0, WIDE)
        other = adam_step(other, {n: [1e-12 * h for h in entries] for n, entries in found.items()}, 1.0, WIDE)
    assert one.values["weight"] == pytest.approx(other.values["weight"], rel=1e-9)


def test_values_stay_in_their_ranges() -> None:
    state = start()
    for _ in range(10):
        state = adam_step(state, slope(state.values), 1.0, {"weight": (2.2, 4.0), "rate": (0.9, 1.0)})
        assert all(2.2 <= value <= 4.0 for value in state.values["weight"])
    assert state.values["rate"] == [0.9]


@pytest.mark.parametrize("entry", [0.0, math.nan, math.inf])
def test_a_value_without_a_slope_rests(entry: float) -> None:
    state = start()
    for _ in range(3):
        state = adam_step(state, {"weight": [entry, 1.0], "rate": [1.0]}, 1.0, WIDE)
    assert state.values["weight"][0] == 3.0
    assert state.values["weight"][1] < -2.0
    assert state.means["weight"][0] == 0.0


def test_a_failed_step_goes_half_way_back_and_halves_the_step_sizes() -> None:
    accepted = adam_step(start(), slope(start().values), 1.0, WIDE, tolerance=1.4)
    failed = adam_step(accepted, slope(accepted.values), 1.5, WIDE, tolerance=1.4)
    assert failed.values["weight"][0] == pytest.approx((3.0 + accepted.values["weight"][0]) / 2)
    assert failed.step_sizes == {"weight": [0.25, 0.25], "rate": [0.125]}
    assert failed.means == accepted.means
    short = adam_step(accepted, slope(accepted.values), 1.5, WIDE, tolerance=1.4, comparable=False)
    assert short.step_sizes == accepted.step_sizes, "the loss of a shorter training is not compared"


def test_the_state_survives_as_plain_values() -> None:
    state = adam_step(start(), slope(start().values), 1.0, WIDE)
    read = OuterState.from_mapping(json.loads(json.dumps(state.to_mapping())))
    assert read == state
    assert adam_step(read, slope(read.values), 0.9, WIDE) == adam_step(state, slope(state.values), 0.9, WIDE)


def test_the_shape_is_checked() -> None:
    with pytest.raises(ValueError, match="hypergradient of weight has 1 entries; it must have 2"):
        adam_step(start(), {"weight": [1.0], "rate": [1.0]}, 1.0, WIDE)
    with pytest.raises(ValueError, match=r"tolerance is 1.0; it must be greater than 1 or None"):
        adam_step(start(), slope(start().values), 1.0, WIDE, tolerance=1.0)
