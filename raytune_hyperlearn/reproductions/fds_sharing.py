"""What sharing does to the error of hypergradients: [FDS] theorem 4.1 and appendix B as functions.

h_t is the hypergradient of step t = 0 … T − 1, with mean μ_t and covariance Σ over seeds. Sharing over windows of W
contiguous steps (W divides T) puts the window's mean in the place of each of its W entries. The error of a step is
its squared distance from μ_t; errors are means over steps:

    MSE_W = 1/T Σ_windows [ 1ᵀΣ_w 1 / W + Σ_{t in window} (μ̄_w − μ_t)² ]                 exactly (equations 13–15)
          ≤ σ̄² (1 + c (W − 1)) / W + ε² (W² − 1) / 12                                      the theorem (equation 11)

with σ̄² the mean variance, c the largest correlation and ε the largest change of the mean from a step to the next. The
first term is attained by equal variances and correlations, the second by means on a straight line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raytune_hyperlearn.comparison.curves import FloatArray


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
