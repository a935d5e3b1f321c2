"""The surrogate rule: its process against finite differences and dense algebra, and searches with known ends."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.algorithms import surrogate_descent
from raytune_hyperlearn.algorithms.sign_descent import OuterState, converged, outer_step
from raytune_hyperlearn.algorithms.surrogate_descent import (
    DEVIATIONS,
    LENGTHS,
    REMEMBERED,
    SLOPE_NOISES,
    Array,
    covariance,
    fitted,
    radius,
    surrogate_step,
)

RANGES = {"learning_rate": (0.0, 1.0), "momentum": (0.0, 0.9)}
SCALES = {"learning_rate": [0.1, 0.1], "momentum": [0.3]}
HORIZON = 40
NAN, INF = math.nan, math.inf


def start(rates: tuple[float, float] = (0.0, 0.0), momentum: float = 0.0) -> OuterState:
    values = {"learning_rate": list(rates), "momentum": [momentum], "weight_decay": [1e-4]}
    return OuterState.start(values, SCALES)


def step(state: OuterState, found: dict[str, list[float]], loss: float, **settings: Any) -> OuterState:
    return surrogate_step(state, found, loss, RANGES, SCALES, HORIZON, **settings)


def heights(positions: Array, length: float) -> Array:
    """Covariance of heights alone, by the kernel's definition."""
    squares = ((positions[:, None] - positions[None]) ** 2).sum(-1)
    return np.asarray(np.exp(-squares / (2 * length**2)))


# --------------------------------------------------------------------------------------- the process


def test_covariances_of_slopes_are_derivatives_of_those_of_heights() -> None:
    draws = np.random.default_rng(0)
    left, right = draws.normal(size=(3, 4)), draws.normal(size=(2, 4))
    n, m, d, eps = 3, 2, 4, 1e-4
    found = covariance(left, right, 1.7)
    assert found.shape == (n * (1 + d), m * (1 + d))
    np.testing.assert_allclose(found, covariance(right, left, 1.7).T, atol=1e-14)

    def between(a: Array, b: Array) -> float:
        return float(heights(np.stack([a, b]), 1.7)[0, 1])

    unit = np.eye(d) * eps
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            assert found[i, j] == pytest.approx(between(a, b), abs=1e-14)
            for p in range(d):
                slope = (between(a, b + unit[p]) - between(a, b - unit[p])) / (2 * eps)
                assert found[i, m + j * d + p] == pytest.approx(slope, abs=1e-7)
                for q in range(d):
                    corners = [between(a + s * unit[p], b + t * unit[q]) * s * t for s in (1, -1) for t in (1, -1)]
                    assert found[n + i * d + p, m + j * d + q] == pytest.approx(sum(corners) / (4 * eps**2), abs=1e-6)


def test_the_posterior_mean_and_evidence_are_those_of_dense_algebra() -> None:
    draws = np.random.default_rng(1)
    positions, values = draws.normal(size=(4, 2)), draws.normal(size=4)
    slopes = draws.normal(size=(4, 2))
    slopes[2] = NAN
    process = fitted(positions, values, slopes)

    known = np.isfinite(np.concatenate([values, slopes.ravel()]))
    data = np.concatenate([values, slopes.ravel()])[known]
    ones = (np.arange(12) < 4)[known].astype(float)

    def evidence(length: float, deviation: float, slope_noise: float) -> tuple[float, float, Array]:
        noise = np.concatenate([np.full(4, 0.15**2), slope_noise**2 + (0.5 * slopes.ravel()) ** 2])[known]
        total = deviation**2 * covariance(positions, positions, length)[np.ix_(known, known)] + np.diag(noise)
        inverse = np.linalg.inv(total)
        mean = ones @ inverse @ data / (ones @ inverse @ ones)
        residual = data - mean * ones
        logarithm = np.linalg.slogdet(total)[1]
        return -0.5 * residual @ inverse @ residual - 0.5 * logarithm, mean, inverse @ residual

    grid = {chosen: evidence(*chosen) for chosen in itertools.product(LENGTHS, DEVIATIONS, SLOPE_NOISES)}
    chosen = max(grid, key=lambda numbers: grid[numbers][0])
    assert (process.length, process.deviation, process.slope_noise) == chosen
    assert process.evidence == pytest.approx(grid[chosen][0])
    assert process.constant == pytest.approx(grid[chosen][1])
    where = np.array([0.3, -0.2])
    shared = chosen[1] ** 2 * covariance(where[None], positions, chosen[0])[0, known]
    assert process.mean(where)[0] == pytest.approx(grid[chosen][1] + shared @ grid[chosen][2])


def test_the_posterior_gradient_is_the_means_derivative() -> None:
    draws = np.random.default_rng(2)
    process = fitted(draws.normal(size=(5, 3)), draws.normal(size=5), draws.normal(size=(5, 3)))
    where, eps = draws.normal(size=3), 1e-5
    numeric = [(process.mean(where + e)[0] - process.mean(where - e)[0]) / (2 * eps) for e in np.eye(3) * eps]
    np.testing.assert_allclose(process.mean(where)[1], numeric, atol=1e-8)


def test_the_process_recovers_a_function_between_its_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, noise in (("VALUE_NOISE", 1e-3), ("SLOPE_NOISES", (1e-3,)), ("RELATIVE_SLOPE_NOISE", 0.0)):
        monkeypatch.setattr(surrogate_descent, name, noise)
    positions = np.random.default_rng(3).uniform(-2, 2, size=(14, 2))
    process = fitted(
        positions,
        np.sin(positions[:, 0]) + np.cos(positions[:, 1]),
        np.cos(positions) * [1, 0] - np.sin(positions) * [0, 1],
    )
    for where in np.random.default_rng(4).uniform(-1, 1, size=(20, 2)):
        assert process.mean(where)[0] == pytest.approx(np.sin(where[0]) + np.cos(where[1]), abs=0.05)


# --------------------------------------------------------------------------------------- one step


def test_the_first_step_goes_down_by_one_first_step_size_where_the_slope_says_so() -> None:
    after = step(start(), {"learning_rate": [-1.0, -1.0], "momentum": [0.0]}, 2.3)
    assert after.values["learning_rate"] == pytest.approx([0.1, 0.1])
    assert after.values["momentum"] == [0.0]
    assert after.values["weight_decay"] == [1e-4]
    assert (after.index, after.best_index, after.best_loss) == (1, 0, 2.3)
    assert after.step_sizes["learning_rate"] == pytest.approx([0.1, 0.1])
    assert after.signs == {"learning_rate": [-1.0, -1.0], "momentum": [0.0]}


def test_what_is_remembered_is_the_loss_and_the_slope_of_one_value() -> None:
    state = start((0.2, 0.3), 0.5)
    after = step(state, {"learning_rate": [1.0, -2.0], "momentum": [0.5]}, 0.4)
    slopes = {"learning_rate": [20.0, -40.0], "momentum": [20.0]}  # the mean over 20, 20 and 40 steps times these
    values = {"learning_rate": [0.2, 0.3], "momentum": [0.5]}
    assert after.history == [{"values": values, "loss": 0.4, "inner_loss": 0.4, "slopes": slopes}]


def test_slopes_are_those_of_the_logarithm_in_first_step_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Array] = []

    def recorded(positions: Array, values: Array, slopes: Array) -> Any:
        given.extend([positions, values, slopes])
        return fitted(positions, values, slopes)

    monkeypatch.setattr(surrogate_descent, "fitted", recorded)
    step(start((0.2, 0.3), 0.6), {"learning_rate": [0.01, -0.02], "momentum": [-9.0]}, 0.5)
    np.testing.assert_allclose(given[0], [[2.0, 3.0, 2.0]])
    np.testing.assert_allclose(given[1], [math.asinh(1000.0)])
    np.testing.assert_allclose(given[2], [[0.1 * 20 * 0.01 / 0.5, -0.1 * 20 * 0.02 / 0.5, -3.0]], rtol=1e-5)


def test_ranges_are_kept() -> None:
    state = start((1.0, 0.0), 0.85)
    for _ in range(4):
        state = step(state, {"learning_rate": [-1.0, 1.0], "momentum": [-1.0]}, 1.0)
        assert state.values["learning_rate"] == [1.0, 0.0]
        assert 0 <= state.values["momentum"][0] <= 0.9
    assert state.values["momentum"] == pytest.approx([0.9])


@pytest.mark.parametrize("loss", [NAN, INF, 1e6])
def test_a_step_that_diverged_is_gone_back_from(loss: float) -> None:
    state = step(start((0.1, 0.1)), {"learning_rate": [-0.1, -0.1], "momentum": [0.0]}, 1.0)
    assert state.values["learning_rate"] == pytest.approx([0.2, 0.2])
    after = step(state, {"learning_rate": [NAN, 1e30], "momentum": [-1e9]}, loss)
    assert after.history[-1]["loss"] == (loss if math.isfinite(loss) else None)
    assert after.values["learning_rate"] == pytest.approx([0.1, 0.1], abs=0.05 + 1e-9)  # half of a first step size
    assert after.best_loss == 1.0
    again = step(after, {"learning_rate": [NAN, NAN], "momentum": [NAN]}, loss)
    assert again.values["learning_rate"] == pytest.approx([0.1, 0.1], abs=0.025 + 1e-9)


def test_where_nothing_is_known_nothing_moves() -> None:
    state = start((0.2, 0.2), 0.3)
    after = step(state, {"learning_rate": [NAN, NAN], "momentum": [NAN]}, NAN)
    for name, values in state.values.items():
        assert after.values[name] == pytest.approx(values)
    assert after.best == {}


def test_a_loss_of_another_budget_moves_the_values_and_is_not_remembered() -> None:
    state = step(start(), {"learning_rate": [-1.0, -1.0], "momentum": [0.0]}, 2.3)
    after = step(state, {"learning_rate": [-1.0, -1.0], "momentum": [-1.0]}, 0.1, comparable=False)
    assert after.history == state.history
    assert (after.best_index, after.best_loss) == (0, 2.3)
    assert min(after.values["learning_rate"]) > 0.15
    assert after.values["momentum"][0] > 0.15


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.6], 1.0),
        ([7.6, 5.0, 4.0], 1.0),
        ([7.6, 5.0, 5.4], 0.5),
        ([7.6, 5.0, 5.4, 5.29], 0.75),
        ([7.6, 5.0, 5.4, 5.2, 5.1], 1.0),
        ([7.6, 5.0, 5.4, 5.4, 8.1], 0.125),
    ],
)
def test_the_radius_halves_where_the_loss_rose_and_grows_again(values: list[float], expected: float) -> None:
    assert radius(np.array(values)) == pytest.approx(expected)


def test_the_first_and_the_last_outer_steps_are_remembered() -> None:
    state = start()
    for index in range(REMEMBERED + 3):
        state = step(state, {"learning_rate": [0.1, 0.1], "momentum": [0.1]}, 1.0 + index)
    assert [entry["loss"] for entry in state.history] == [1.0, *(1.0 + index for index in range(4, REMEMBERED + 3))]


def test_the_state_survives_json_bit_for_bit() -> None:
    state = start()
    for loss, entry in ((2.3, -0.7), (NAN, NAN), (1.1, 0.3)):
        state = step(state, {"learning_rate": [entry, -0.01], "momentum": [0.001]}, loss)
    again = OuterState.from_mapping(json.loads(json.dumps(state.to_mapping())))
    assert json.dumps(again.to_mapping()) == json.dumps(state.to_mapping())
    found = {"learning_rate": [0.2, -0.3], "momentum": [0.1]}
    assert step(again, found, 0.9).values == step(state, found, 0.9).values


def test_a_hypergradient_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^hypergradient of learning_rate has 1 entries; it must have 2$"):
        step(start(), {"learning_rate": [1.0], "momentum": [1.0]}, 1.0)


# --------------------------------------------------------------------------------------- searches


def bowl(state: OuterState, draws: np.random.Generator, noise: float) -> tuple[dict[str, list[float]], float]:
    """A loss that rises with the distance from (0.25, 0.12, 0.35), and its hypergradient, both with noise."""
    (first, second), (momentum,) = state.values["learning_rate"], state.values["momentum"]
    off = np.array([(first - 0.25) / 0.1, (second - 0.12) / 0.1, (momentum - 0.35) / 0.3])
    loss = 0.05 * 3 ** (off @ off / 2) * math.exp(0.3 * noise * draws.normal())
    slopes = loss * (math.log(3) * off + noise * draws.normal(size=3)) / [0.1, 0.1, 0.3]
    found = slopes / [HORIZON / 2, HORIZON / 2, HORIZON]
    return {"learning_rate": found[:2].tolist(), "momentum": found[2:].tolist()}, float(loss)


def off_by(state: OuterState) -> float:
    (first, second), (momentum,) = state.values["learning_rate"], state.values["momentum"]
    return max(abs(first - 0.25) / 0.1, abs(second - 0.12) / 0.1, abs(momentum - 0.35) / 0.3)


def test_a_search_without_noise_finds_the_minimum_and_converges() -> None:
    state, draws = start(), np.random.default_rng(0)
    for _ in range(15):
        found, loss = bowl(state, draws, 0.0)
        state = step(state, found, loss)
    assert off_by(state) < 0.1
    assert converged(state, RANGES)


def test_under_noise_it_ends_nearer_than_the_sign_rule() -> None:
    ends: dict[str, list[float]] = {"sign": [], "surrogate": []}
    for seed in range(10):
        for rule, found_ends in ends.items():
            state, draws = start(), np.random.default_rng(seed)
            for _ in range(10):
                found, loss = bowl(state, draws, 1.0)
                state = step(state, found, loss) if rule == "surrogate" else outer_step(state, found, loss, RANGES)
            found_ends.append(off_by(state))
    assert np.median(ends["surrogate"]) < 0.6 * np.median(ends["sign"])


@pytest.mark.parametrize("lowest", [0.0, -2.0])
def test_losses_at_and_below_zero_are_no_obstacle(lowest: float) -> None:
    state = start()
    for _ in range(15):
        off = [(rate - 0.25) / 0.1 for rate in state.values["learning_rate"]]
        loss = lowest + 0.5 * sum(x * x for x in off)
        slopes = [x / 0.1 / (HORIZON / 2) for x in off]
        state = step(state, {"learning_rate": slopes, "momentum": [0.0]}, loss)
    assert state.best_loss < lowest + 0.2
