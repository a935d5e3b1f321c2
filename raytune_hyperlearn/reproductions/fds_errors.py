"""How far hypergradients are from the best ones: errors over seeds, split into noise and bias.

The best hypergradient of a step is taken to be the mean over seeds of the unshared, non-greedy ones ([FDS] section
4.1). With R seeds that mean is itself off by σ²/R, and nearer to the very draws that it was made of. Errors here are
free of that: noise is the variance with R − 1 in the denominator, and the squared bias is taken less its own noise. At
the paper's 100 seeds this changes little, at a dozen it matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from raytune_hyperlearn.comparison.curves import FloatArray
from raytune_hyperlearn.reproductions.fds_sharing import bound, shared, window_sizes

SURE = 2.0
"""Standard errors by which two errors must differ to be told apart."""


@dataclass(frozen=True)
class Ensemble:
    """Hypergradients of every step and seed.

    Attributes:
        unshared: [R, T].
        greedy: [R, T].
    """

    unshared: FloatArray
    greedy: FloatArray

    def without(self, seed: int) -> Ensemble:
        """All seeds but one."""
        return Ensemble(np.delete(self.unshared, seed, 0), np.delete(self.greedy, seed, 0))

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
    """Of greedy hypergradients."""
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
        greedy: Greedy hypergradients'.
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
        greedy_error(ensemble),
        standard_error(ensemble, lambda e: greedy_error(e).total),
        np.array([bound(variance, correlation, drift, window) for window in windows]),
        np.array([bound(variance, 0.0, drift, window) for window in windows]),
    )


def told(value: float, deviation: float) -> bool | None:
    """Whether a difference is positive, if it is more than noise."""
    return None if abs(value) <= SURE * deviation else value > 0
