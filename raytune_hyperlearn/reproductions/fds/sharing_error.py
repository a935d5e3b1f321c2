"""How far hypergradients are from the best ones, and what sharing does to that: errors as functions of the window.

h_t is the hypergradient of step t = 0 … T − 1, with mean μ_t and covariance Σ over seeds. Sharing over windows of W
contiguous steps (W divides T) puts the window's mean in the place of each of its W entries. The error of a step is
its squared distance from μ_t; errors are means over steps ([FDS] theorem 4.1 and appendix B):

    MSE_W = 1/T Σ_windows [ 1ᵀΣ_w 1 / W + Σ_{t in window} (μ̄_w − μ_t)² ]                 exactly (equations 13–15)
          ≤ σ̄² (1 + c (W − 1)) / W + ε² (W² − 1) / 12                                      the theorem (equation 11)

with σ̄² the mean variance, c the largest correlation and ε the largest change of the mean from a step to the next. The
first term is attained by equal variances and correlations, the second by means on a straight line.

In measurements the best hypergradient of a step is taken to be the mean over seeds of the unshared, non-greedy ones
([FDS] section 4.1). With R seeds that mean is itself off by σ²/R, and nearer to the very draws that it was made of.
Errors here are free of that: noise is the variance with R − 1 in the denominator, and the squared bias is taken less
its own noise. At the paper's 100 seeds this changes little, at a dozen it matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import FloatArray

STANDARD_ERRORS = 2.0
"""Standard errors by which two errors must differ to be told apart."""


def window_sizes(horizon: int) -> tuple[int, ...]:
    """The sizes W that divide T, ascending: 1, …, T."""
    return tuple(size for size in range(1, horizon + 1) if horizon % size == 0)


def window_means(values: FloatArray, window: int) -> FloatArray:
    """Means of W contiguous entries: […, T] ↦ […, T / W]."""
    return np.asarray(values.reshape(*values.shape[:-1], -1, window).mean(axis=-1))


def shared(values: FloatArray, window: int) -> FloatArray:
    """Every entry replaced by its window's mean, in the same shape […, T]."""
    return np.repeat(window_means(values, window), window, axis=-1)


def errors(draws: FloatArray, means: FloatArray, window: int) -> FloatArray:
    """Mean over steps of the squared distance of shared draws [R, T] from the means [T], for each draw [R]."""
    return np.asarray(np.square(shared(draws, window) - means).mean(axis=-1))


def exact_error(means: FloatArray, covariance: FloatArray, window: int) -> float:
    """MSE_W of hypergradients with these means [T] and this covariance [T, T], in closed form."""
    count = len(means) // window
    blocks = covariance.reshape(count, window, count, window)
    noise = np.einsum("iaib->", blocks) / window
    bias = np.square(means - shared(means, window)).sum()
    return float((noise + bias) / len(means))


def bound(variance: float, correlation: float, drift: float, window: int) -> float:
    """The theorem's upper bound on MSE_W.

    Args:
        variance: σ̄², mean over steps.
        correlation: c in [0, 1].
        drift: ε ≥ 0.
        window: W.
    """
    return variance * (1 + correlation * (window - 1)) / window + drift**2 * (window**2 - 1) / 12


def single_minimum(values: Sequence[float]) -> bool:
    """Whether the values fall to one lowest place and rise after it; either part may be missing."""
    signs = np.sign(np.diff(np.asarray(values)))
    return bool((np.diff(signs[signs != 0]) >= 0).all())


@dataclass(frozen=True)
class Ensemble:
    """Hypergradients of every step and seed.

    Attributes:
        unshared: [R, T].
        greedy: Those of the first G seeds [G, T].
    """

    unshared: FloatArray
    greedy: FloatArray

    def without(self, seed: int) -> Ensemble:
        """All seeds but one."""
        return Ensemble(np.delete(self.unshared, seed, 0), self.greedy[np.arange(len(self.greedy)) != seed])

    @property
    def with_greedy(self) -> Ensemble:
        """The seeds that have both."""
        return Ensemble(self.unshared[: len(self.greedy)], self.greedy)

    @property
    def moments(self) -> tuple[float, float, float]:
        """σ̄², c and ε as measured: mean variance, largest correlation, largest change of the mean."""
        variance = float(self.unshared.var(axis=0, ddof=1).mean())
        first, second = np.triu_indices(self.unshared.shape[1], k=1)
        correlations: FloatArray = np.asarray(np.corrcoef(self.unshared.T), dtype=np.float64)
        largest = float(np.nanmax(np.abs(correlations[first, second])))
        return variance, largest, float(np.abs(np.diff(self.unshared.mean(axis=0))).max())


@dataclass(frozen=True)
class Error:
    """Of an estimate.

    Attributes:
        noise: Variance over seeds, mean over steps.
        bias: Squared distance of the means, mean over steps, without what noise adds to it.
    """

    noise: float
    bias: float

    @property
    def total(self) -> float:
        """Mean square error."""
        return self.noise + self.bias


def error(estimates: FloatArray, unshared: FloatArray) -> Error:
    """Of estimates [R, T] of the means of unshared hypergradients [R, T] from the same seeds, without bias."""
    apart = estimates - unshared
    excess = apart.var(axis=0, ddof=1) / len(apart)
    bias = float((np.square(apart.mean(axis=0)) - excess).mean())
    return Error(float(estimates.var(axis=0, ddof=1).mean()), bias)


def shared_error(ensemble: Ensemble, window: int) -> Error:
    """Of FDS with windows of W steps."""
    return error(shared(ensemble.unshared, window), ensemble.unshared)


def _shared_total(window: int, ensemble: Ensemble) -> float:
    return shared_error(ensemble, window).total


def greedy_error(ensemble: Ensemble) -> Error:
    """Of greedy hypergradients, where every seed has them."""
    return error(ensemble.greedy, ensemble.unshared)


def standard_error(ensemble: Ensemble, statistic: Callable[[Ensemble], float]) -> float:
    """Of a statistic of the seeds, by the jackknife."""
    count = len(ensemble.unshared)
    left = np.array([statistic(ensemble.without(seed)) for seed in range(count)])
    return float(np.sqrt((count - 1) * left.var()))


@dataclass(frozen=True)
class Errors:
    """All errors with their standard errors.

    Attributes:
        windows: W [S].
        shared: [S].
        deviations: Standard errors of the totals [S].
        greedy: Greedy hypergradients', over the seeds that have them.
        greedy_deviation: Its standard error.
        bounds: The theorem's, from measured σ̄², c and ε [S].
        independent: The same at c = 0 [S].
    """

    windows: tuple[int, ...]
    shared: tuple[Error, ...]
    deviations: FloatArray
    greedy: Error
    greedy_deviation: float
    bounds: FloatArray
    independent: FloatArray

    @property
    def totals(self) -> FloatArray:
        """Mean square errors [S]."""
        return np.array([own.total for own in self.shared])

    @property
    def best(self) -> int:
        """Place of the window with the lowest error."""
        return int(self.totals.argmin())


def judge(ensemble: Ensemble) -> Errors:
    """All errors of the seeds."""
    windows = window_sizes(ensemble.unshared.shape[1])
    variance, correlation, drift = ensemble.moments
    return Errors(
        windows,
        tuple(shared_error(ensemble, window) for window in windows),
        np.array([standard_error(ensemble, partial(_shared_total, window)) for window in windows]),
        greedy_error(ensemble.with_greedy),
        standard_error(ensemble.with_greedy, lambda e: greedy_error(e).total),
        np.array([bound(variance, correlation, drift, window) for window in windows]),
        np.array([bound(variance, 0.0, drift, window) for window in windows]),
    )


def decided(value: float, deviation: float) -> bool | None:
    """Whether a difference is positive, if it is more than noise."""
    return None if abs(value) <= STANDARD_ERRORS * deviation else value > 0
