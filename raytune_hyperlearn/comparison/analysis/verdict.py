"""The one question a reader asks first: who is lowest at the end, by how much, and how much sooner?

Every number comes with a percentile bootstrap interval over seeds. Both methods' runs are drawn together by seed, for
they share the split and the order of the data; a seed that one of the two lacks is left out. From few seeds such an
interval is too narrow: three seeds give 75 % in place of 95 %, five about 94 %. Below :data:`FEWEST` there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raytune_hyperlearn.comparison.analysis.curves import FloatArray, StepCurve
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import FEWEST
from raytune_hyperlearn.comparison.analysis.summary import MethodSummary, best_method, final_regret, speed_up

Seeds = npt.NDArray[np.integer[Any]]
RESAMPLES = 2000
AT_ONCE = 200
"""Resamples whose curves are in memory together."""
MOST_EVENTS = 500
"""Event times of a curve that a resample looks at; more are thinned out evenly."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the ends are NaN where there are too few seeds for one."""

    value: float
    lower: float
    upper: float

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.lower) or math.isnan(self.upper))


@dataclass(frozen=True)
class Verdict:
    """Who is lowest at the end on one problem.

    Attributes:
        leader: the method with the lowest median validation regret.
        rival: the next lowest; None where no other method has a median.
        margin: median regret of the rival − the leader's; None without a rival.
        featured: the method whose speed is reported: the leader, unless that is a black-box method itself.
        black_box: the best black-box method other than ``featured``; None where there is none.
        level: its final median regret; NaN without one.
        sooner: how many times sooner the featured method's median is at that level; None where there is no such pair.
            Infinite where the level holds from the start, 0 where that method never gets there.
        seeds: seeds that leader and rival share.
    """

    leader: str
    rival: str | None
    margin: Estimate | None
    featured: str
    black_box: str | None
    level: float
    sooner: Estimate | None
    seeds: int

    @property
    def is_certain(self) -> bool:
        """Whether the interval of the margin leaves no doubt who is lower."""
        return self.margin is not None and self.margin.is_known and self.margin.lower > 0


def verdict(
    study: Study,
    summaries: Mapping[str, MethodSummary],
    black_box: frozenset[str],
    featured: str,
    generator: np.random.Generator,
) -> Verdict | None:
    """The verdict on one problem; None where no method has a median.

    Args:
        study: all runs.
        summaries: the study's, by method.
        black_box: names of the black-box methods.
        featured: the method named beforehand; its speed is reported where a black-box method leads.
        generator: draws the resamples, so that the intervals are the same for the same seed.
    """
    known = {name: item for name, item in summaries.items() if math.isfinite(item.validation.median)}
    if not known:
        return None
    leader = best_method(known)
    others = {name: item for name, item in known.items() if name != leader}
    rival = best_method(others) if others else None
    featured = leader if leader not in black_box else featured
    rivals = {name: item for name, item in known.items() if name in black_box and name != featured}
    best_box = best_method(rivals) if rivals and featured in summaries else None
    level = known[best_box].validation.median if best_box else math.nan
    return Verdict(
        leader=leader,
        rival=rival,
        margin=_margin(study, leader, rival, generator) if rival else None,
        featured=featured,
        black_box=best_box,
        level=level,
        sooner=_sooner(study, featured, best_box, level, generator) if best_box else None,
        seeds=len(shared_seeds(study, leader, rival)) if rival else len(study.runs_of(leader)),
    )


def shared_seeds(study: Study, first: str, second: str) -> tuple[int, ...]:
    """Seeds with which both methods ran."""
    return tuple(seed for seed in study.experiment.seeds if {(first, seed), (second, seed)} <= study.runs.keys())


def interval(statistics: FloatArray, confidence: float = 0.95) -> tuple[float, float]:
    """Percentiles of bootstrap statistics [B], some of them infinite; the ends that they leave on either side."""
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(statistics, tails, method="nearest")
    return float(low), float(high)


def _margin(study: Study, leader: str, rival: str, generator: np.random.Generator) -> Estimate:
    seeds = shared_seeds(study, leader, rival)
    finals = np.array([[final_regret(study, study.runs[m, s], "validation") for s in seeds] for m in (leader, rival)])
    value = float(median_gap(finals)) if len(seeds) else math.nan
    if len(seeds) < FEWEST:
        return Estimate(value, math.nan, math.nan)
    drawn = generator.integers(len(seeds), size=(RESAMPLES, len(seeds)))
    return Estimate(value, *interval(median_gap(np.moveaxis(finals[:, drawn], 0, -2))))


def median_gap(finals: FloatArray) -> FloatArray:
    """Median of the second method − median of the first; zero where both are infinite.

    Args:
        finals: final regrets, shape [..., 2, S].
    """
    first, second = np.moveaxis(np.median(finals, axis=-1), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(first == second, 0.0, second - first))


def _sooner(study: Study, featured: str, box: str, level: float, generator: np.random.Generator) -> Estimate:
    seeds = shared_seeds(study, featured, box)
    if not seeds:
        return Estimate(math.nan, math.nan, math.nan)
    curves = [_on_events([study.curve(study.runs[m, s], "validation") for s in seeds]) for m in (featured, box)]
    every = np.arange(len(seeds))[None]
    value = speed_up(*(float(_first_times(*curve, np.array([level]), every)[0]) for curve in curves))
    if len(seeds) < FEWEST:
        return Estimate(value, math.nan, math.nan)
    drawn = generator.integers(len(seeds), size=(RESAMPLES, len(seeds)))
    ratios = [_ratios(curves, part) for part in np.array_split(drawn, max(1, RESAMPLES // AT_ONCE))]
    return Estimate(value, *interval(np.concatenate(ratios)))


def _ratios(curves: Sequence[tuple[FloatArray, FloatArray]], drawn: Seeds) -> FloatArray:
    """Speed-ups in resamples drawn [B, S]: to the resampled rival's own end, which is as uncertain as its times."""
    levels = np.median(curves[1][1][drawn, -1], axis=1) if curves[1][1].size else np.full(len(drawn), math.inf)
    times = [_first_times(*curve, levels, drawn) for curve in curves]
    ratios = [speed_up(*pair) for pair in zip(*(part.tolist() for part in times), strict=True)]
    return np.array([1.0 if math.isnan(ratio) else ratio for ratio in ratios])


def _on_events(curves: Sequence[StepCurve]) -> tuple[FloatArray, FloatArray]:
    """Event times of all curves [E] and the curves' values there [S, E], infinite before a curve begins."""
    times = np.unique(np.concatenate([curve.times for curve in curves]))
    if times.size > MOST_EVENTS:
        times = times[np.unique(np.linspace(0, times.size - 1, MOST_EVENTS).round().astype(int))]
    values = np.array([curve.at(times) for curve in curves]).reshape(len(curves), times.size)
    return times, np.where(np.isnan(values), math.inf, values)


def _first_times(times: FloatArray, values: FloatArray, levels: FloatArray, drawn: Seeds) -> FloatArray:
    """First events [B] at which the medians of the drawn curves [B, S] are at most ``levels`` [B]; else infinite."""
    if times.size == 0:
        return np.full(len(drawn), math.inf)
    reached = np.median(values[drawn], axis=1) <= levels[:, None]
    return np.where(reached.any(axis=1), times[reached.argmax(axis=1)], math.inf)
