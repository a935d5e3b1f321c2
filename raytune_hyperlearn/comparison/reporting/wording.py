"""Numbers as a reader wants them, and the headline in sentences computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from raytune_hyperlearn.comparison.analysis.curves import Quantity, Quartiles
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import SIGNIFICANCE, PairedComparison, needed_seeds
from raytune_hyperlearn.comparison.analysis.summary import (
    MethodSummary,
    best_method,
    median_reaches,
    same_evaluations,
    speed_up,
)
from raytune_hyperlearn.comparison.experiment import Metric
from raytune_hyperlearn.comparison.records import Finish
from raytune_hyperlearn.comparison.reporting.styles import BLACK_BOX, GRADIENT_BASED, Styles


def number(value: float, digits: int = 3) -> str:
    """Three significant digits or so many, with a true minus sign."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "no result"
    text = f"{value:.{digits}g}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def seconds(value: float) -> str:
    """Seconds with three significant digits, in full beyond a thousand."""
    return f"{value:,.0f} s" if 1000 <= value < math.inf else f"{number(value)} s"


def regret_text(value: float, metric: Metric, digits: int = 3) -> str:
    """A regret in the metric's unit: a loss as it is, an accuracy in percent."""
    if metric == "validation_accuracy" and math.isfinite(value):
        return f"{number(100 * value, digits)} %"
    return number(value, digits)


def quartiles_text(value: Quartiles | None, metric: Metric, digits: int = 3) -> str:
    """Median and, in brackets, the quartiles."""
    if value is None:
        return "–"
    low, median, high = (regret_text(part, metric, digits) for part in (value.lower, value.median, value.upper))
    return median if low == high else f"{median} [{low},\N{NO-BREAK SPACE}{high}]"


def schedule_text(values: Iterable[float]) -> str:
    """A schedule's values; one number where it does not move."""
    values = list(values)
    shown = values[:1] if len(set(values)) == 1 else values
    return ", ".join(map(number, shown)) or "–"


def values_text(values: Iterable[float]) -> str:
    """A schedule's values."""
    return ", ".join(map(number, values)) or "–"


def plain_text(value: object) -> str:
    """Plain data on one line, without quotes and braces at the outermost level."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_nested_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_nested_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nested_text(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({plain_text(value)})"
    return f"[{plain_text(value)}]" if isinstance(value, (list, tuple)) else plain_text(value)


def quantity_name(study: Study, quantity: Quantity) -> str:
    """What a figure or table shows: the regret, loss or error rate of validation or test."""
    return f"{quantity} {measure_name(study)}"


def measure_name(study: Study) -> str:
    """Regret, or without a reference the loss or the error rate itself."""
    if study.reference is not None:
        return "regret"
    return "loss" if study.metric == "validation_loss" else "error"


def finish_text(finish: Finish) -> str:
    """Why a run ended."""
    texts: Mapping[Finish, str] = {
        "time_limit": "time limit",
        "converged": "converged",
        "outer_steps": "last outer step",
        "ended": "nothing left to try",
    }
    return texts[finish]


def time_text(time: float, reached: int, runs: int, time_limit: float) -> str:
    """Median time to a target with the number of runs that reached it; after the limit it is censored."""
    shown = f"> {seconds(time_limit)}" if math.isinf(time) else seconds(time)
    return f"{shown} ({reached}/{runs})"


def speed_up_text(faster: float, slower: float, time_limit: float) -> str:
    """How many times sooner ``faster`` is; a bound where one of the two never reached the target."""
    factor = speed_up(faster, slower)
    if math.isnan(factor):
        return "–"
    if math.isinf(slower):
        return f"> {time_limit / faster:.2g}×" if faster > 0 else "–"
    if math.isinf(faster):
        return f"< {slower / time_limit:.2g}×"
    return f"{factor:.2g}×" if math.isfinite(factor) else "–"


def power_text(focus: str, pairs: Sequence[PairedComparison]) -> str:
    """Whether the tests of the focus against each other method can tell anything; empty without pairs."""
    if not pairs:
        return ""
    return seeds_text(focus, len(pairs), min(pair.seeds for pair in pairs))


def seeds_text(focus: str, others: int, seeds: int) -> str:
    """How many seeds the tests of one method against each other one need, and how many there are.

    Args:
        focus: The method's name.
        others: Number of methods that it is tested against, at least 1.
        seeds: Seeds that all have.
    """
    needed = needed_seeds(others)
    against = "one other method" if others == 1 else f"each of {others} other methods"
    sentence = f"To test {focus} against {against} takes at least {needed} seeds; there {_are(seeds)}"
    if seeds >= needed:
        return sentence + "."
    return sentence + ", so the differences are shown without a test."


def _are(seeds: int) -> str:
    return "is 1" if seeds == 1 else f"are {seeds}"


def same_sentences(study: Study, styles: Styles) -> list[str]:
    """Says of each two methods that evaluated the same settings that they did."""
    return [
        f"{styles[first].heading} and {styles[second].label} made the same evaluations, so "
        "their results are one result."
        for first, second in same_evaluations(study)
    ]


def headline(
    study: Study,
    summaries: Mapping[str, MethodSummary],
    styles: Styles,
    pairs: Sequence[PairedComparison],
) -> list[str]:
    """Who is ahead, by how much, who was there first, and what the tests say, in sentences.

    Args:
        study: What was run.
        summaries: By method.
        styles: Names of the methods.
        pairs: The focus compared with each other method.
    """
    if not summaries:
        return ["No run has begun, so there is nothing to compare."]
    sentences = [_settings(study, summaries), *_ranking(study, summaries, styles)]
    if study.reference is not None:
        sentences += _first_at_targets(study, summaries, styles)
    sentences += [*same_sentences(study, styles), *_significance(study, styles, pairs)]
    return [sentence for sentence in sentences if sentence]


def _significance(study: Study, styles: Styles, pairs: Sequence[PairedComparison]) -> list[str]:
    """What the tests of the focus against each other method came to."""
    if any(math.isnan(pair.p_value) for pair in pairs):
        return [power_text(styles[study.focus].label, pairs)]
    if not pairs:
        return []
    groups = {
        "is significantly better than": [pair for pair in pairs if pair.is_significant and pair.difference < 0],
        "is significantly worse than": [pair for pair in pairs if pair.is_significant and pair.difference >= 0],
        "is indistinguishable from": [pair for pair in pairs if not pair.is_significant],
    }
    groups_text = [
        f"{verb} {_listed([styles[pair.second].label for pair in group])}" for verb, group in groups.items() if group
    ]
    level = f"Wilcoxon's test over {min(pair.seeds for pair in pairs)} seeds, Holm's correction, {SIGNIFICANCE:.0%}"
    return [f"{styles[study.focus].heading} {_listed(groups_text)} ({level})."]


def _listed(names: Sequence[str]) -> str:
    *firsts, last = names
    return f"{', '.join(firsts)} and {last}" if firsts else last


def _settings(study: Study, summaries: Mapping[str, MethodSummary]) -> str:
    counts = sorted({summary.seeds for summary in summaries.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    many = "method" if len(summaries) == 1 else "methods"
    return (
        f"{len(summaries)} {many} on {study.experiment.problem}, {seeds} seed{'' if seeds == '1' else 's'} each, "
        f"{seconds(study.experiment.time_limit)} of wall-clock per run."
    )


def _ranking(study: Study, summaries: Mapping[str, MethodSummary], styles: Styles) -> list[str]:
    what = quantity_name(study, "validation")
    best = best_method(summaries)
    lead = summaries[best].validation
    if study.error_of_all:
        return [f"Every evaluation of every method crashed, the first with: {study.error_of_all}"]
    if not math.isfinite(lead.median):
        return ["No method has a result in at least half of its runs, so none is ahead."]
    shown = f"{regret_text(lead.median, study.metric)} (quartiles {_range(lead, study.metric)})"
    sentences = [
        f"At the end {styles[best].label} has the lowest median {what}, {shown}"
        f"{_margin(study, summaries, styles, best)}."
    ]
    if study.reference is not None and lead.median < 0:
        sentences.append("Below zero means better than the reference.")
    if study.focus in summaries and best != study.focus:
        sentences.append(_focus_behind(study, summaries[study.focus], lead.median, styles[study.focus].heading))
    sentences.append(_overtaking(study, summaries, styles))
    sentences += [_test_sentence(study, summaries, styles), _confirmed_sentence(study, summaries, styles)]
    return sentences


def _margin(study: Study, summaries: Mapping[str, MethodSummary], styles: Styles, best: str) -> str:
    """Distance to the runner-up: for a gradient-based winner, to the best black-box method where there is one."""
    rivals = {method: summary for method, summary in summaries.items() if method != best}
    black_box = {method: summary for method, summary in rivals.items() if method in BLACK_BOX}
    named = ", the best black-box method" if best in GRADIENT_BASED and black_box else ""
    rivals = black_box if named else rivals
    if not rivals:
        return ""
    rival = best_method(rivals)
    value = rivals[rival].validation.median
    if not math.isfinite(value):
        return "; no other has a result in at least half of its runs"
    gap = value - summaries[best].validation.median
    name = f"{styles[rival].label}{named}"
    if gap == 0:
        return f", level with {name}"
    return f", {regret_text(gap, study.metric)} below {name} ({regret_text(value, study.metric)})"


def _focus_behind(study: Study, focus: MethodSummary, best: float, name: str) -> str:
    value = focus.validation.median
    if not math.isfinite(value):
        return f"{name} is not ahead: it has no result in at least half of its runs."
    if value == best:
        return f"{name} is level with it."
    gap = regret_text(value - best, study.metric)
    return f"{name} is not ahead: its median is {regret_text(value, study.metric)}, {gap} higher."


def _overtaking(study: Study, summaries: Mapping[str, MethodSummary], styles: Styles) -> str:
    """When FDS passed what the best black-box method had at the end, beside when that method got there itself."""
    black_box = {method: summary for method, summary in summaries.items() if method in BLACK_BOX}
    if study.focus not in summaries or study.focus in black_box or not black_box:
        return ""
    rival = best_method(black_box)
    level = summaries[rival].validation.median
    passed = median_reaches(study, study.focus, level)
    if not (math.isfinite(level) and math.isfinite(passed)):
        return ""
    name, own = styles[rival].label, median_reaches(study, rival, level)
    return (
        f"The median of {styles[study.focus].label} was at the final level of {name} "
        f"({regret_text(level, study.metric)}), the best black-box method, after {seconds(passed)}; {name} itself "
        f"after {seconds(own)}."
    )


def _test_sentence(study: Study, summaries: Mapping[str, MethodSummary], styles: Styles) -> str:
    medians = {method: summary.test.median for method, summary in summaries.items()}
    what = quantity_name(study, "test")
    return _lowest(study, medians, styles, "On the test data, which chose nothing, {} has", what)


def _confirmed_sentence(study: Study, summaries: Mapping[str, MethodSummary], styles: Styles) -> str:
    medians = {method: summary.confirmed.median for method, summary in summaries.items() if summary.confirmed}
    what = quantity_name(study, "validation")
    return _lowest(study, medians, styles, "Trained again with fresh seeds, what {} found has", what)


def _lowest(study: Study, medians: Mapping[str, float], styles: Styles, beginning: str, what: str) -> str:
    """Which method has the lowest of ``medians``, and where the focus is; empty where none is known."""
    known = {method: value for method, value in medians.items() if math.isfinite(value)}
    if not known:
        return ""
    best = min(known, key=lambda method: known[method])
    shown = regret_text(known[best], study.metric)
    sentence = f"{beginning.format(styles[best].label)} the lowest median {what} ({shown})"
    if study.focus in known and best != study.focus:
        sentence += f"; {styles[study.focus].label} has {regret_text(known[study.focus], study.metric)}"
    return sentence + "."


def _first_at_targets(study: Study, summaries: Mapping[str, MethodSummary], styles: Styles) -> list[str]:
    sentences = []
    unreached = []
    for index, target in sorted(enumerate(study.experiment.targets), key=lambda pair: -pair[1]):
        times = {method: summary.times[index] for method, summary in summaries.items()}
        order = sorted((method for method in times if math.isfinite(times[method])), key=lambda name: times[name])
        shown = regret_text(target, study.metric)
        if order:
            sentences.append(_first_at_target(study, times, order, styles, shown))
        else:
            unreached.append(shown)
    if unreached:
        sentences.append(f"No method reached validation regret {' or '.join(unreached)} in half of its runs.")
    return sentences


def _first_at_target(study: Study, times: Mapping[str, float], order: list[str], styles: Styles, target: str) -> str:
    first, others = order[0], order[1:]
    sentence = f"{styles[first].heading} reached validation regret {target} first, after {seconds(times[first])}"
    if not others:
        sentence += "; no other method reached it in half of its runs"
    elif times[others[0]] == times[first]:
        sentence += f", together with {styles[others[0]].label}"
    else:
        factor = speed_up_text(times[first], times[others[0]], study.experiment.time_limit).removesuffix("×")
        other = f"{styles[others[0]].label} ({seconds(times[others[0]])})"
        sentence += f", about when {other} did" if factor == "1" else f", {factor} times sooner than {other}"
    if study.focus in times and study.focus not in order[:2]:
        name = styles[study.focus].label
        reached = study.focus in order
        sentence += f"; {name} needed {seconds(times[study.focus])}" if reached else f"; {name} did not reach it"
    return sentence + "."


def _range(value: Quartiles, metric: Metric) -> str:
    return f"{regret_text(value.lower, metric)} to {regret_text(value.upper, metric)}"
