"""Is the difference more than luck? Paired tests over seeds on one problem, rank tests over several problems.

- One problem: one method, named beforehand, against each other one: the median difference over the seeds both have
  with a bootstrap interval, and Wilcoxon's signed-rank test with Holm's correction over these k − 1 tests. The leader
  found afterwards is never what is tested: being chosen as the best of k, it would win too often.
- Several problems: Friedman's test on the methods' ranks with Nemenyi's critical difference,
  CD = q_α sqrt(k (k + 1) / (6 N)), k methods, N problems, q_α the studentized range's quantile over sqrt 2
  (J. Demšar. Statistical Comparisons of Classifiers over Multiple Data Sets. JMLR 2006).

A signed-rank test of n differences cannot fall below 2 / 2^n. With so few seeds that no p-value can be significant
(or fewer than five problems) there is a sentence in place of a test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

FEWEST = 5
SIGNIFICANCE = 0.05
BOOTSTRAP_SEED = 0
"""Of the intervals that a report shows: the same records give the same page."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on one problem, paired by seed.

    Attributes:
        first: the method that was named beforehand.
        second: another.
        seeds: number of seeds both have.
        difference: median over seeds of first − second (negative: the first is better).
        lower: lower end of the difference's 95 % bootstrap interval; NaN for a single seed.
        upper: upper end; likewise.
        p_value: Wilcoxon's signed-rank test, two-sided; NaN where too few seeds can reach significance.
        adjusted_p_value: the same after Holm's correction over all tests.
    """

    first: str
    second: str
    seeds: int
    difference: float
    lower: float
    upper: float
    p_value: float
    adjusted_p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the corrected test rejects equality at 5 %."""
        return self.adjusted_p_value <= SIGNIFICANCE


@dataclass(frozen=True)
class CriticalDifference:
    """Mean ranks of methods over problems and which of them are indistinguishable.

    Attributes:
        methods: names, best mean rank first, shape [k].
        mean_ranks: mean rank of each, 1 is best, shape [k].
        problems: number of problems.
        p_value: Friedman's test that all methods are alike; NaN where it has no power or needs more methods.
        difference: Nemenyi's critical difference at 5 %; NaN where the test has no power.
        groups: index ranges (first, last) into ``methods`` of maximal groups within the critical difference.
    """

    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    problems: int
    p_value: float
    difference: float
    groups: tuple[tuple[int, int], ...]


def power_sentence(count: int, what: str = "seeds") -> str:
    """Why no test is shown for so few seeds or problems; empty where there are enough."""
    if count >= FEWEST:
        return ""
    noun = what.removesuffix("s") if count == 1 else what
    return f"With {count} {noun} no test has power, so none is shown: it takes at least {FEWEST} {what}."


def wilcoxon_p_value(differences: npt.ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; 1 where all differences [n] are zero."""
    differences = np.asarray(differences, dtype=float)
    if not np.any(differences):
        return 1.0
    return float(scipy.stats.wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values [m] that hold for all m tests together, in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors), 1.0)
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return [float(value) for value in adjusted]


def bootstrap_median_interval(
    values: npt.ArrayLike, generator: np.random.Generator, confidence: float = 0.95, resamples: int = 4000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median.

    Args:
        values: one number per seed, shape [n].
        generator: draws the resamples, so the interval is the same for the same seed.
        confidence: probability of the interval, in (0, 1).
        resamples: number of resamples.
    """
    values = np.asarray(values, dtype=float)
    drawn = generator.integers(len(values), size=(resamples, len(values)))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    # Medians of an odd or even number of finite or infinite values; "nearest" never subtracts two infinities.
    low, high = np.quantile(np.median(values[drawn], axis=1), tails, method="nearest")
    return float(low), float(high)


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> FloatArray:
    """first − second over the seeds both have; zero where both are infinite (neither has a result)."""
    seeds = sorted(set(first) & set(second))
    pairs = [(first[seed], second[seed]) for seed in seeds]
    return np.array([0.0 if a == b else a - b for a, b in pairs])


def needed_seeds(tests: int, significance: float = SIGNIFICANCE) -> int:
    """The fewest seeds n with which each of ``tests`` corrected tests can be significant: tests · 2 / 2^n ≤ α.

    Args:
        tests: Number of signed-rank tests that Holm's correction covers, at least 1.
        significance: α, in (0, 1).
    """
    return math.ceil(math.log2(2 * tests / significance))


def compare_with(
    focus: str, final_values: Mapping[str, Mapping[int, float]], generator: np.random.Generator
) -> tuple[PairedComparison, ...]:
    """Compares one method with each other one that shares a seed with it.

    Args:
        focus: the method that was named before the run.
        final_values: by method and seed the final validation regret, infinite where a run has no result.
        generator: for the bootstrap.

    Returns:
        In the order of ``final_values``; none where ``focus`` has no run.
    """
    own = final_values.get(focus, {})
    compared = {name: paired_differences(own, other) for name, other in final_values.items() if name != focus}
    compared = {name: differences for name, differences in compared.items() if differences.size}
    needed = needed_seeds(max(len(compared), 1))
    tested = {name: wilcoxon_p_value(found) for name, found in compared.items() if found.size >= needed}
    # A test that cannot be made still counts: leaving it out would make the correction milder than was planned.
    adjusted = dict(zip(compared, holm([tested.get(name, 1.0) for name in compared]), strict=True))
    return tuple(
        PairedComparison(
            focus,
            name,
            differences.size,
            float(np.median(differences)),
            *_interval(differences, generator),
            tested.get(name, math.nan),
            adjusted[name] if name in tested else math.nan,
        )
        for name, differences in compared.items()
    )


def _interval(differences: FloatArray, generator: np.random.Generator) -> tuple[float, float]:
    if differences.size < 2:
        return math.nan, math.nan
    return bootstrap_median_interval(differences, generator)


def ranks(values: npt.ArrayLike) -> FloatArray:
    """Ranks along the last axis, 1 for the lowest; ties share their mean rank, NaN counts as worst."""
    values = np.asarray(values, dtype=float)
    return np.asarray(scipy.stats.rankdata(np.where(np.isnan(values), np.inf, values), axis=-1), dtype=float)


def nemenyi_critical_difference(methods: int, problems: int, significance: float = 0.05) -> float:
    """How far two methods' mean ranks over problems must lie apart to differ significantly."""
    quantile = float(scipy.stats.studentized_range.ppf(1 - significance, methods, np.inf))
    return quantile / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * problems))


def critical_difference(methods: Sequence[str], scores: npt.ArrayLike) -> CriticalDifference:
    """Mean ranks over problems with Friedman's and Nemenyi's tests.

    Args:
        methods: names [k].
        scores: one score per problem and method, lower is better, shape [N, k].
    """
    ranked = ranks(scores)
    problems = len(ranked)
    mean_ranks = ranked.mean(axis=0)
    order = np.argsort(mean_ranks, kind="stable")
    p_value = difference = math.nan
    if problems >= FEWEST and len(methods) >= 3:
        p_value = float(scipy.stats.friedmanchisquare(*ranked.T).pvalue)
        difference = nemenyi_critical_difference(len(methods), problems)
    sorted_ranks = tuple(float(mean_ranks[i]) for i in order)
    return CriticalDifference(
        tuple(methods[i] for i in order), sorted_ranks, problems, p_value, difference, _groups(sorted_ranks, difference)
    )


def _groups(sorted_ranks: Sequence[float], difference: float) -> tuple[tuple[int, int], ...]:
    """Maximal runs of at least two methods whose mean ranks lie within ``difference``."""
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(sorted_ranks):
        last = max((i for i, other in enumerate(sorted_ranks) if other - rank <= difference), default=first)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return tuple(runs)
