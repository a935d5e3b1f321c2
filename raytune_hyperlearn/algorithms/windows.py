r"""Windows chosen by the theorem: where steps may share a value and where they had better not.

Sharing replaces the hypergradients g_t of W contiguous steps by their mean. [FDS] theorem 4.1 bounds the mean squared
error of that: with σ² the variance of one entry, c the correlation of two and ε the drift of g_t from step to step,

    E(W) ≤ σ² (1 + c (W − 1)) / W + ε² (W² − 1) / 12

a variance that falls with W and a squared bias that grows. With entries h_t of n replicas at hand both can be
estimated for any window instead. Let m_t be the entries' mean over replicas, s_t² their variance, and m̄ the mean of m_t
over a window. Then, summed over the window's steps,

    variance      V = Σ_t s_t² / W · (1 + c (W − 1)) / n
    squared bias  Σ_t (m_t − m̄)² − Σ_t s_t² / n + V          noise in m_t is not bias: its expectation is taken off

:func:`risk` is the sum of the two over all windows of a partition, an unbiased estimate of its squared error, and may
be negative. :func:`best_windows` finds the partition of equal bins of steps that minimizes it, by dynamic programming.
It is exact for every number of windows. The lowest of many noisy estimates is too low, the more so the more partitions
there are, so the *number* of windows is chosen with M. Lebarbier's penalty for it (Signal Processing 85, 2005): for N
windows of B bins, V counts 2 ln(B / N) + 5 times in place of twice.

[FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DEGREES_OF_FREEDOM = 60
"""Of smoothed variances; the standard error is then 18 %."""


@dataclass(frozen=True)
class PerStep:
    """What replicas say of the hypergradients of every step.

    Attributes:
        mean: m_t [T], float64.
        variance: s_t² [T], of one replica, smoothed: few replicas tell the variance of a single step badly, and windows
            would gather where it happens to look small. The mean of as many neighboring steps as give 60 degrees of
            freedom.
        correlation: c ∈ [0, 1], of two steps of one replica, the mean over all pairs.
        replicas: n, at least 2.
    """

    mean: Tensor
    variance: Tensor
    correlation: float
    replicas: int

    @classmethod
    def of(cls, entries: Sequence[Sequence[float]]) -> PerStep:
        """From the per-step entries of n replicas, or of n consecutive outer steps.

        Args:
            entries: [n, T], finite.

        Raises:
            ValueError: In one line, if there are fewer than two replicas, or entries are missing or not finite.
        """
        if len(entries) < 2:
            raise ValueError(f"entries has {len(entries)} replicas; it must have at least 2 to tell signal from noise")
        if len({len(own) for own in entries}) != 1 or not entries[0]:
            raise ValueError(
                f"entries has rows of {[len(own) for own in entries]} steps; they must be equal and positive"
            )
        given = torch.tensor([list(own) for own in entries], dtype=torch.float64)
        if not given.isfinite().all():
            raise ValueError("entries hold numbers that are not finite; diverged replicas must be left out")
        variance = given.var(dim=0)
        return cls(given.mean(dim=0), _smoothed(variance, len(entries)), _correlation(given, variance), len(entries))


def _smoothed(variance: Tensor, replicas: int) -> Tensor:
    """Means over the neighbors on both sides, as far as there are any."""
    reach = math.ceil((DEGREES_OF_FREEDOM / (replicas - 1) - 1) / 2)
    sums = torch.cat([variance.new_zeros(1), variance.cumsum(0)])
    steps = torch.arange(len(variance))
    first, end = (steps - reach).clamp(min=0), (steps + reach + 1).clamp(max=len(variance))
    return (sums[end] - sums[first]) / (end - first)


def _correlation(entries: Tensor, variance: Tensor) -> float:
    """c from Var(Σ_t z_t) = T (1 + c (T − 1)), z_t the deviations [n, T] in units of their own standard deviations."""
    noisy = variance > 0
    count = int(noisy.sum())
    if count < 2:
        return 0.0
    z = (entries - entries.mean(dim=0))[:, noisy] / variance[noisy].sqrt()
    return min(max((float(z.sum(dim=1).var()) / count - 1) / (count - 1), 0.0), 1.0)


@dataclass(frozen=True)
class Partition:
    """Contiguous windows.

    Attributes:
        lengths: Steps of every window; their sum is T.
        risk: Estimated squared error, summed over steps.
    """

    lengths: tuple[int, ...]
    risk: float


def risk(per_step: PerStep, lengths: Sequence[int]) -> float:
    """Estimated squared error of sharing in windows of these lengths, summed over the steps.

    Raises:
        ValueError: In one line, if the lengths are not positive or do not add up to T.
    """
    horizon = len(per_step.mean)
    if sum(lengths) != horizon or min(lengths, default=0) < 1:
        raise ValueError(f"lengths is {list(lengths)}; they must be positive and add up to {horizon} steps")
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    bias, variance = _costs(per_step, ends)
    return sum(float(bias[i, i + 1] + 2 * variance[i, i + 1]) for i in range(len(lengths)))


def best_windows(per_step: PerStep, count: int | None = None, bins: int = 64) -> Partition:
    """The windows of the lowest estimated risk.

    Args:
        per_step: Of the replicas.
        count: Number N of windows; None chooses it as well.
        bins: The windows' borders are among those of so many equal bins of steps (of all steps if T is smaller).

    Raises:
        ValueError: In one line, if ``count`` or ``bins`` is not allowed.
    """
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins is {bins!r}; it must be a whole number of at least 1")
    horizon = len(per_step.mean)
    bins = min(bins, horizon)
    if count is not None and (not isinstance(count, int) or not 1 <= count <= bins):
        raise ValueError(f"count is {count!r}; it must be a whole number from 1 to {bins}, the number of bins")
    ends = [index * horizon // bins for index in range(bins + 1)]
    bias, variance = _costs(per_step, ends)
    every = _partitions((bias + 2 * variance).tolist(), bins if count is None else count)
    if count is None:
        by_number = range(1, bins + 1)
        chosen = min(by_number, key=lambda n: _penalized(every[n], bias.tolist(), variance.tolist(), bins))
    else:
        chosen = count
    borders = every[chosen]
    lengths = tuple(ends[right] - ends[left] for left, right in itertools.pairwise(borders))
    return Partition(lengths, risk(per_step, lengths))


def _costs(per_step: PerStep, ends: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Σ_t (m_t − m̄)² − Σ_t s_t² / n, and V, of the window from border i to border j > i: [B + 1, B + 1] each."""
    at = torch.tensor(ends)  # lengths are float64: the default type has too few digits for sums of squares
    zero = per_step.mean.new_zeros(1)
    centered = per_step.mean - per_step.mean.mean()  # sums of squares lose fewer digits
    sums = [torch.cat([zero, part.cumsum(0)])[at] for part in (centered, centered**2, per_step.variance)]
    first, second, noise = (total[None, :] - total[:, None] for total in sums)
    steps = (at[None, :] - at[:, None]).clamp(min=1).double()
    of_means = noise / per_step.replicas
    variance = of_means / steps * (1 + per_step.correlation * (steps - 1))
    return second - first**2 / steps - of_means, variance


def _partitions(cost: list[list[float]], most: int) -> list[list[int]]:
    """Borders of the cheapest partition into N windows, for N = 0 (none) … ``most``, by dynamic programming."""
    borders = len(cost)
    best = [[math.inf] * borders for _ in range(most + 1)]
    last = [[0] * borders for _ in range(most + 1)]
    best[0][0] = 0.0
    for number in range(1, most + 1):
        for right in range(number, borders):
            before = range(number - 1, right)
            left = min(before, key=lambda i, n=number, r=right: best[n - 1][i] + cost[i][r])  # type: ignore[misc]
            best[number][right], last[number][right] = best[number - 1][left] + cost[left][right], left
    found: list[list[int]] = [[]]
    for number in range(1, most + 1):
        path = [borders - 1]
        for remaining in range(number, 0, -1):
            path.append(last[remaining][path[-1]])
        found.append(path[::-1])
    return found


def _penalized(borders: list[int], bias: list[list[float]], variance: list[list[float]], bins: int) -> float:
    """Risk of a partition, its variance counted 2 ln(B / N) + 5 times."""
    windows = list(itertools.pairwise(borders))
    times = 2 * math.log(bins / len(windows)) + 5
    return sum(bias[i][j] + times * variance[i][j] for i, j in windows)


# ---------------------------------------------------------------------------------------------- during a search

REMEMBERED = 4
"""Outer steps that windows are chosen from: the last ones."""
Entries = Mapping[str, Sequence[float]]
"""Name of a schedule → the mean hypergradient of each of N equal parts of the training."""


@dataclass(frozen=True)
class ChosenWindows:
    """Windows over the N equal parts of a schedule, chosen anew after every outer step.

    Reverse mode gives as many entries as one asks for at no cost, so a schedule may have many more values than its
    hypergradients can tell apart. Values in one window share the mean of their entries, and so they move together.

    Attributes:
        lengths: Name → parts in each window.
        seen: Entries of the last outer steps, each schedule's with a mean square of 1: where trainings become longer or
            values better, entries change in size, and only their course is to be compared.
    """

    lengths: Mapping[str, Sequence[int]]
    seen: Sequence[Entries]

    @classmethod
    def after(cls, seen: Sequence[Entries], now: Entries) -> ChosenWindows:
        """The windows with one more outer step's entries.

        One window each after the first, which cannot tell signal from noise. Entries that are not finite are left out.
        """
        rows = {name: _unit(own) for name, own in now.items()}
        if all(math.isfinite(entry) for own in rows.values() for entry in own):
            seen = [*seen, rows][-REMEMBERED:]
        lengths = {name: cls._chosen([row[name] for row in seen], len(own)) for name, own in now.items()}
        return cls(lengths, seen)

    @staticmethod
    def _chosen(rows: Sequence[Sequence[float]], parts: int) -> tuple[int, ...]:
        if len(rows) < 2:
            return (parts,)
        return best_windows(PerStep.of(rows), bins=parts).lengths

    def shared(self, now: Entries) -> dict[str, list[float]]:
        """Every entry replaced by the mean over its window."""
        return {name: _means(own, self.lengths[name]) for name, own in now.items()}


def _unit(entries: Sequence[float]) -> list[float]:
    """Scaled to a mean square of 1; zeros stay."""
    size = math.sqrt(sum(entry**2 for entry in entries) / len(entries))
    return [entry / size if size else 0.0 for entry in entries]


def _means(entries: Sequence[float], lengths: Sequence[int]) -> list[float]:
    found: list[float] = []
    for length in lengths:
        own = entries[len(found) : len(found) + length]
        found += [sum(own) / length] * length
    return found
