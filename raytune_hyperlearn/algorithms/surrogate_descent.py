"""An outer rule for FDS that learns from all outer steps at once: a Gaussian process of their losses and slopes.

Beyond the paper. The sign rule ([FDS] appendix G, :mod:`raytune_hyperlearn.algorithms.sign_descent`) forgets of every
hypergradient all but its sign, and every loss. Both are noisy observations of one function of the values, of its
height and of its slope. Here all of them together are the data of a Gaussian process, which averages the noise of
single runs and knows where the function bends. With x the learned values in units of their first step sizes γ_0, L
the validation loss (L_0 the first), W the steps that share a value and h its hypergradient:

    f(x) = asinh(1000 L / |L_0|), a logarithm that is defined for zero and negative losses as well
    f ~ GP(m, s² exp(−|x − x'|² / 2ℓ²))
    y_i = f(x_i) + noise of deviation 0.15
    g_i = ∂f/∂x = γ_0 W h df/dL, + noise of deviation σ and half of |g_i|

ℓ, s and σ are those of a grid with the highest marginal likelihood, m is its best constant. The next values are where
the posterior mean is lowest within a radius r around the best position so far, which is the one whose posterior mean is
lowest, and not the one with the luckiest loss. r is one first step size; it is halved by an outer step whose height
exceeds the lowest before by 0.3, and grows again by a half with every other.

Trainings that ended worse than the untrained network, where slopes explode, keep a height alone and are never the best
position.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import Bounds, minimize

from raytune_hyperlearn.algorithms.sign_descent import OuterState, check_shape, sign, with_loss
from raytune_hyperlearn.algorithms.values import Numbers, Ranges, Values

Array = NDArray[np.float64]

VALUE_NOISE = 0.15
RELATIVE_SLOPE_NOISE = 0.5
STEEPEST = 3.0
"""Slopes are clamped to ± so much: per first step size, the loss then changes by a factor of 20."""
WORST = 0.5
"""Heights are cut at so much above the first: beyond, training diverged, and how far says nothing."""
RISE = 0.3
"""A height by so much above the lowest before has risen; r shrinks."""
SHRINKING, GROWING = 0.5, 1.5
"""Factors on r, which is at most 1."""
LENGTHS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""The grid of ℓ, in first step sizes."""
DEVIATIONS = (0.3, 1.0, 3.0, 10.0)
"""The grid of s."""
SLOPE_NOISES = (0.1, 0.3, 1.0)
"""The grid of σ."""
REMEMBERED = 20
"""Outer steps that are remembered: the first, which is the measure of all, and the last ones."""


def surrogate_step(
    state: OuterState,
    hypergradient: Values,
    loss: float,
    ranges: Ranges,
    scales: Values,
    horizon: int,
    inner_loss: float | None = None,
    comparable: bool = True,
) -> OuterState:
    """The state after one outer step.

    Args:
        state: Before the step; its ``history`` holds the outer steps before.
        hypergradient: One entry per learned value.
        loss: Validation loss at ``state.values``; not finite where training diverged.
        ranges: (lowest, highest) allowed value of every learned hyperparameter.
        scales: First step size γ_0 > 0 of every learned value.
        horizon: Steps of the training that was differentiated.
        inner_loss: Its own validation loss, where ``loss`` is the mean of several others; slopes are relative to it.
        comparable: Whether the loss may be held against others: not where training was shorter. Such a step moves by
            its own observation alone and is not remembered.

    Returns:
        With the sizes of the moves as step sizes, so that the search has converged when they are small.

    Raises:
        ValueError: If the hypergradient does not have the learned values' shape.
    """
    observed = _observation(state, hypergradient, loss, loss if inner_loss is None else inner_loss, horizon)
    history = _remembered([*state.history, observed]) if comparable else [observed]
    units = _flat(scales)
    low, high = (np.repeat([ranges[n][end] for n in scales], [len(scales[n]) for n in scales]) for end in (0, 1))
    positions, heights, slopes = _data(history, scales)
    trained = positions[np.isfinite(slopes).any(axis=1)]
    process = fitted(positions, heights, slopes)
    center = min(trained if len(trained) else positions, key=lambda position: process.mean(position)[0])
    target = _lowest(process, center, radius(heights), low / units, high / units) * units
    values = _named(np.clip(target, low, high), scales)
    sizes = {
        name: [abs(after - before) for before, after in zip(state.values[name], values[name], strict=True)]
        for name in scales
    }
    signs = {
        name: [sign(entry) or last for entry, last in zip(hypergradient[name], state.signs[name], strict=True)]
        for name in scales
    }
    scored = with_loss(state, loss) if comparable else state
    return replace(
        scored,
        accepted=state.values if math.isfinite(loss) else state.accepted,
        index=state.index + 1,
        values={**state.values, **values},
        step_sizes=sizes,
        signs=signs,
        history=history if comparable else state.history,
    )


@dataclass(frozen=True)
class SlopedProcess:
    """A Gaussian process given noisy heights and slopes at n positions in d dimensions.

    Attributes:
        positions: [n, d].
        known: Which of the n heights and then n·d slopes are observed, [n + n d].
        length: ℓ.
        deviation: s.
        slope_noise: σ.
        constant: m.
        weights: Of the observed entries' covariances in the posterior mean.
        evidence: Log marginal likelihood, up to a constant.
    """

    positions: Array
    known: NDArray[np.bool_]
    length: float
    deviation: float
    slope_noise: float
    constant: float
    weights: Array
    evidence: float

    def mean(self, position: Array) -> tuple[float, Array]:
        """Posterior mean and its gradient at one position [d]."""
        shared = self.deviation**2 * covariance(position[None], self.positions, self.length)[:, self.known]
        height, *slopes = shared @ self.weights
        return self.constant + float(height), np.array(slopes)


def covariance(left: Array, right: Array, length: float) -> Array:
    """Covariance of heights and slopes at positions [n, d] with those at [m, d]: [n (1 + d), m (1 + d)], s = 1.

    Heights come first, then the d slopes of the first position, of the second, and so on.
    """
    (n, d), m = left.shape, len(right)
    distance = (left[:, None] - right[None]) / length  # [n, m, d]
    k = np.exp(-0.5 * np.sum(distance**2, axis=-1))
    scaled = k[:, :, None] * distance / length
    curved = (np.eye(d) - distance[..., :, None] * distance[..., None, :]) * k[..., None, None] / length**2
    return np.block(
        [
            [k, scaled.reshape(n, m * d)],
            [-scaled.transpose(0, 2, 1).reshape(n * d, m), curved.transpose(0, 2, 1, 3).reshape(n * d, m * d)],
        ]
    )


def fitted(positions: Array, heights: Array, slopes: Array) -> SlopedProcess:
    """The process of the grid's ℓ, s and σ with the highest evidence.

    Args:
        positions: [n, d].
        heights: [n].
        slopes: [n, d]; nan where they are not known.
    """
    data = np.concatenate([heights, slopes.ravel()])
    known = np.isfinite(data)
    of_heights, of_slopes = np.full(len(heights), VALUE_NOISE), RELATIVE_SLOPE_NOISE * slopes.ravel()
    noises = {
        least: np.diag(np.concatenate([of_heights, np.hypot(least, of_slopes)])[known] ** 2) for least in SLOPE_NOISES
    }
    constant = (np.arange(len(data)) < len(heights)).astype(float)[known]
    best: SlopedProcess | None = None
    for length in LENGTHS:
        shared = covariance(positions, positions, length)[np.ix_(known, known)]
        for deviation, slope_noise in itertools.product(DEVIATIONS, SLOPE_NOISES):
            factor = cho_factor(deviation**2 * shared + noises[slope_noise], lower=True)
            level = cho_solve(factor, constant)
            mean = float(level @ data[known] / (level @ constant))
            residual = data[known] - mean * constant
            weights = cho_solve(factor, residual)
            evidence = float(-0.5 * residual @ weights - np.log(np.diag(factor[0])).sum())
            if best is None or evidence > best.evidence:
                best = SlopedProcess(positions, known, length, deviation, slope_noise, mean, weights, evidence)
    assert best is not None
    return best


def radius(heights: Array) -> float:
    """r ≤ 1 after outer steps of these heights [n]."""
    found = 1.0
    for index in range(1, len(heights)):
        rose = heights[index] > heights[:index].min() + RISE
        found = min(found * (SHRINKING if rose else GROWING), 1.0)
    return found


def _lowest(process: SlopedProcess, center: Array, within: float, low: Array, high: Array) -> Array:
    """Where the posterior mean is lowest within r of the center and in [low, high]; all [d]."""
    box = Bounds(np.maximum(low, center - within), np.minimum(high, center + within))
    starts = [np.clip(position, box.lb, box.ub) for position in process.positions]
    found = [minimize(process.mean, start, jac=True, bounds=box, method="L-BFGS-B") for start in starts]
    return np.asarray(min(found, key=lambda end: float(end.fun)).x)


def _data(history: Sequence[Mapping[str, Any]], scales: Values) -> tuple[Array, Array, Array]:
    """Positions [n, d], heights [n] and slopes [n, d] of the remembered outer steps, in units of first step sizes."""
    units = _flat(scales)
    unit = abs(next((entry["loss"] for entry in history if entry["loss"]), 1.0)) / 1000
    known = [entry["loss"] for entry in history if entry["loss"] is not None]
    cut = math.asinh(known[0] / unit) + WORST if known else WORST
    heights = [cut if entry["loss"] is None else min(math.asinh(entry["loss"] / unit), cut) for entry in history]
    slopes = []
    for entry, height in zip(history, heights, strict=True):
        if height >= cut or entry["inner_loss"] is None:
            slopes.append(np.full(len(units), np.nan))
        else:
            slope = _flat(entry["slopes"]) * units / math.hypot(entry["inner_loss"], unit)
            slopes.append(np.where(np.isfinite(slope), np.clip(slope, -STEEPEST, STEEPEST), np.nan))
    positions = np.stack([_flat(entry["values"]) / units for entry in history])
    return positions, np.array(heights), np.stack(slopes)


def _observation(
    state: OuterState, hypergradient: Values, loss: float, inner_loss: float, horizon: int
) -> dict[str, Any]:
    """What is remembered of an outer step; slopes are of one value: the mean over its steps times their number."""
    slopes = {}
    for name in state.step_sizes:
        entries = check_shape(state, hypergradient, name)
        slopes[name] = [entry * horizon / len(state.values[name]) for entry in entries]
    return {
        "values": {name: state.values[name] for name in state.step_sizes},
        "loss": loss if math.isfinite(loss) else None,
        "inner_loss": inner_loss if math.isfinite(inner_loss) else None,
        "slopes": slopes,
    }


def _remembered(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return history if len(history) <= REMEMBERED else [history[0], *history[1 - REMEMBERED :]]


def _flat(numbers: Values) -> Array:
    return np.concatenate([np.asarray(entries, dtype=np.float64) for entries in numbers.values()])


def _named(flat: Array, like: Values) -> Numbers:
    ends = np.cumsum([len(entries) for entries in like.values()])[:-1]
    return {name: part.tolist() for name, part in zip(like, np.split(flat, ends), strict=True)}
