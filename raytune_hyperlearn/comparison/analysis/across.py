"""Methods over several problems: how often and how soon they reach targets, and aggregates with intervals.

- **ECDF of runtimes** over (problem, seed, target) triples, as COCO and IOHanalyzer draw it: the fraction of triples
  reached by each fraction of the time limit. Targets are regrets relative to the reference's own value, the same for
  every problem, and do not move when a method is added.
- **Performance profile** (E. D. Dolan, J. J. Moré. Benchmarking Optimization Software with Performance Profiles. Math.
  Programming 2002): for each (problem, target) the ratio of a method's median time to the fastest method's;
  ρ(τ) is the fraction of them with a ratio of at most τ. **AlgoPerf's score** is the mean of ρ over 1 ≤ τ ≤ 4.
- **Interquartile mean** of relative regrets and **probability of improvement** with stratified bootstrap intervals
  (R. Agarwal et al. Deep RL at the Edge of the Statistical Precipice. NeurIPS 2021): runs are resampled within each
  problem. P(X < Y) is averaged over problems, ties count half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import FloatArray, across_seeds, time_to_target
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.summary import final_regret
from raytune_hyperlearn.comparison.analysis.verdict import Estimate, interval

TARGETS: FloatArray = np.append(10.0 ** np.linspace(0, -2, 31), 0.0)
"""Regrets relative to the reference's value, from as bad as twice the reference's loss down to the reference."""
FRACTIONS: FloatArray = np.geomspace(0.005, 1.0, 200)
LARGEST_RATIO = 4.0
"""Where AlgoPerf's score stops to count."""
RATIOS: FloatArray = np.geomspace(1.0, 16.0, 200)
RESAMPLES = 2000
FEWEST_RUNS = 3
"""Runs per problem below which no interval is given: a bootstrap of two runs has three outcomes."""


@dataclass(frozen=True)
class Improvement:
    """How probably one method's run is better than another's, averaged over problems."""

    first: str
    second: str
    probability: Estimate


def common_methods(studies: Sequence[Study]) -> tuple[str, ...]:
    """The methods that have a run on every problem."""
    return tuple(m for m in studies[0].methods if all(m in study.methods for study in studies))


def scale(study: Study) -> float:
    """What a regret on this problem is divided by: the reference's value, 1 without one."""
    value = abs(study.zero("validation")) if study.reference is not None else 1.0
    if study.metric == "validation_accuracy":
        value = 1.0 - value  # an accuracy's regret is compared with the reference's error
    return value if value > 0 else 1.0


def runtimes(studies: Sequence[Study], method: str) -> FloatArray:
    """Fractions of the time limit at which each (problem, seed, target) was reached, infinite where never, [n]."""
    times = [
        time_to_target(study.curve(result, "validation"), target) / study.experiment.time_limit
        for study in studies
        for result in study.runs_of(method)
        for target in TARGETS * scale(study)
    ]
    return np.array(times, dtype=float)


def ecdf(values: FloatArray, grid: FloatArray) -> FloatArray:
    """Fraction of ``values`` [n] at or below each point of ``grid`` [G]; infinite values are never reached."""
    return np.searchsorted(np.sort(values), grid, side="right") / max(len(values), 1)


def profile_ratios(studies: Sequence[Study], methods: Sequence[str]) -> FloatArray:
    """Median time of each method over the fastest's, infinite where never, shape [instances, k].

    An instance is a (problem, target) that at least one method reached in half of its runs.
    """
    rows = []
    for study in studies:
        bands = [across_seeds([study.curve(r, "validation") for r in study.runs_of(method)]) for method in methods]
        for target in TARGETS * scale(study):
            times = [_first(band.times, band.median, target) for band in bands]
            if math.isfinite(min(times)):
                fastest = max(min(times), 1e-9)
                rows.append([max(time, 1e-9) / fastest for time in times])
    return np.array(rows, dtype=float).reshape(-1, len(methods))


def algoperf_score(ratios: FloatArray, largest: float = LARGEST_RATIO) -> float:
    """Mean over 1 ≤ τ ≤ ``largest`` of the fraction of instances with a ratio of at most τ, exactly.

    Args:
        ratios: one method's ratios, each >= 1 or infinite, shape [instances].
        largest: end of the range, > 1.
    """
    if ratios.size == 0:
        return math.nan
    return float(np.mean(np.clip(largest - ratios, 0.0, None)) / (largest - 1.0))


def relative_regrets(studies: Sequence[Study], method: str) -> list[FloatArray]:
    """By problem the final relative validation regret of each run; infinite without a result."""
    return [
        np.array([final_regret(study, result, "validation") / scale(study) for result in study.runs_of(method)])
        for study in studies
    ]


def interquartile_mean(values: FloatArray) -> float:
    """Mean of the middle half: rliable's ``scipy.stats.trim_mean(values, 0.25)``; infinite where an end of it is."""
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = int(0.25 * ordered.size)
    middle = ordered[cut : ordered.size - cut]
    return float(np.mean(middle)) if middle.size else math.nan


def aggregate(scores: Sequence[FloatArray], generator: np.random.Generator) -> Estimate:
    """Interquartile mean over all runs of all problems with its stratified bootstrap interval.

    Args:
        scores: one array of runs per problem.
        generator: draws the resamples.
    """
    value = interquartile_mean(np.concatenate(scores))
    if min(map(len, scores)) < FEWEST_RUNS:
        return Estimate(value, math.nan, math.nan)
    drawn = np.concatenate([_resampled(part, generator) for part in scores], axis=1)
    ordered = np.sort(drawn, axis=1)
    cut = int(0.25 * ordered.shape[1])
    return Estimate(value, *interval(np.mean(ordered[:, cut : ordered.shape[1] - cut], axis=1)))


def improvement(first: Sequence[FloatArray], second: Sequence[FloatArray], generator: np.random.Generator) -> Estimate:
    """Mean over problems of P(X < Y) + P(X = Y) / 2 for runs X of the first and Y of the second method.

    Args:
        first: one array of runs per problem, lower is better.
        second: likewise.
        generator: draws the resamples.
    """
    value = float(np.mean([_probability(x[None], y[None])[0] for x, y in zip(first, second, strict=True)]))
    if min(map(len, (*first, *second))) < FEWEST_RUNS:
        return Estimate(value, math.nan, math.nan)
    drawn = [
        _probability(_resampled(x, generator), _resampled(y, generator)) for x, y in zip(first, second, strict=True)
    ]
    return Estimate(value, *interval(np.mean(drawn, axis=0)))


def improvements(studies: Sequence[Study], focus: str, generator: np.random.Generator) -> tuple[Improvement, ...]:
    """The focus against each other method that ran on every problem."""
    methods = common_methods(studies)
    if focus not in methods:
        return ()
    scores = {method: relative_regrets(studies, method) for method in methods}
    return tuple(
        Improvement(focus, other, improvement(scores[focus], scores[other], generator))
        for other in methods
        if other != focus
    )


def _probability(first: FloatArray, second: FloatArray) -> FloatArray:
    """P(X < Y) + P(X = Y) / 2 by rows: first [B, n], second [B, m] → [B]."""
    below = first[:, :, None] < second[:, None, :]
    equal = first[:, :, None] == second[:, None, :]
    return np.asarray(np.mean(below + 0.5 * equal, axis=(1, 2)))


def _resampled(values: FloatArray, generator: np.random.Generator) -> FloatArray:
    return values[generator.integers(len(values), size=(RESAMPLES, len(values)))]


def _first(times: FloatArray, values: FloatArray, level: float) -> float:
    reached = np.flatnonzero(values <= level)
    return float(times[reached[0]]) if reached.size else math.inf
