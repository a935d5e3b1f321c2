"""The verdict in one sentence, each number with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable

from raytune_hyperlearn.comparison.analysis.curves import quartiles
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import FEWEST
from raytune_hyperlearn.comparison.analysis.summary import final_regret
from raytune_hyperlearn.comparison.analysis.verdict import Estimate, Verdict
from raytune_hyperlearn.comparison.counted import counted
from raytune_hyperlearn.comparison.reporting.styles import BLACK_BOX, Styles
from raytune_hyperlearn.comparison.reporting.wording import number, quantity_name, regret_text


def verdict_sentence(study: Study, found: Verdict | None, styles: Styles) -> str:
    """Who is lowest at the end, by how much, and how much sooner, each with its uncertainty."""
    if found is None:
        return "No method has a result in at least half of its runs, so it is open who is ahead."
    what = quantity_name(study, "validation")
    lead = summary_text(study, found.leader)
    sentence = f"{styles[found.leader].heading} has the lowest median {what} at the end, {lead}"
    if found.rival is None or found.margin is None:
        return sentence + "; there is no other method to compare it with."
    return sentence + _margin_clause(study, found, styles) + _sooner_clause(study, found, styles)


def summary_text(study: Study, method: str) -> str:
    """A method's final median validation regret."""
    finals = [final_regret(study, result, "validation") for result in study.runs_of(method)]
    return regret_text(quartiles(finals).median, study.metric)


def _margin_clause(study: Study, found: Verdict, styles: Styles) -> str:
    margin, rival = found.margin, styles[found.rival or ""].label
    assert margin is not None
    if not margin.is_known:
        few = counted(found.seeds, "seed")
        by = f", {regret_text(margin.value, study.metric)} below {rival}" if margin.value else f", level with {rival}"
        return f"{by}; from {few} it is open whether that is more than luck (an interval takes {FEWEST})"
    span = interval_text(margin, lambda value: regret_text(value, study.metric))
    if found.is_certain:
        return f", {regret_text(margin.value, study.metric)} below {rival} ({span})"
    return f", but that it is below {rival} is not certain: the difference is {number(margin.value)} ({span})"


def _sooner_clause(study: Study, found: Verdict, styles: Styles) -> str:
    sooner = found.sooner
    if sooner is None or found.black_box is None or math.isnan(sooner.value):
        return "."
    featured, box = styles[found.featured].label, styles[found.black_box].label
    subject = "it" if found.featured == found.leader else featured
    level = f"the final level of {box}, the best {'other ' if found.leader in BLACK_BOX else ''}black-box method,"
    if found.leader == found.black_box:
        level = f"the final level of {box}"
    if sooner.value == 0:
        return f"; {subject} did not reach {level.rstrip(',')} within the limit."
    span = f" ({interval_text(sooner, _times)})" if sooner.is_known else ""
    if sooner.is_known and sooner.lower <= 1 <= sooner.upper:
        return f"; that {subject} was at {level} sooner is not certain: {_times(sooner.value)} as soon{span}."
    if sooner.value >= 1:
        return f"; {subject} was at {level} {_times(sooner.value)} sooner{span}."
    slower = f"took {_times(1 / sooner.value)} as long as {box}{_flipped(sooner)} to reach"
    return f"; {subject} {slower} {level.rstrip(',')}."


def interval_text(estimate: Estimate, shown: Callable[[float], str]) -> str:
    """The 95 % interval in words."""
    return f"95 % interval {shown(estimate.lower)} to {shown(estimate.upper)}"


def _flipped(sooner: Estimate) -> str:
    if not sooner.is_known:
        return ""
    ends = (math.inf if end == 0 else 1 / end for end in (sooner.upper, sooner.lower))
    return f" ({interval_text(Estimate(sooner.value, *ends), _times)})"


def _times(factor: float) -> str:
    if math.isinf(factor):
        return "without bound"
    return f"{factor:.2g} times"
