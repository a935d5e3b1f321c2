"""The tables of what came out, as data: titles, column names and rows of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raytune_hyperlearn.comparison.analysis.curves import Quantity, Quartiles, metric_value
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.rows import STATUSES
from raytune_hyperlearn.comparison.analysis.statistics import PairedComparison
from raytune_hyperlearn.comparison.analysis.summary import (
    MethodSummary,
    area_limits,
    confirmed_regret,
    failures_by_status,
    median_reaches,
    record_regret,
    summarize,
)
from raytune_hyperlearn.comparison.analysis.verdict import Verdict
from raytune_hyperlearn.comparison.experiment import Metric
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reporting.styles import Styles, method_styles
from raytune_hyperlearn.comparison.reporting.wording import (
    finish_text,
    measure_name,
    number,
    power_text,
    quantity_name,
    quartiles_text,
    regret_text,
    same_sentences,
    schedule_text,
    seconds,
    speed_up_text,
    time_text,
)

MOST_ERRORS = 100
Summaries = Mapping[str, MethodSummary]


@dataclass(frozen=True)
class Table:
    """A table to draw anywhere.

    Attributes:
        title: what it shows.
        columns: names of the columns [C].
        rows: cells [R, C]; the first of each row names it.
        note: how to read it; may be empty.
        name: its file's name without ending, unique within a study; the title in lower case where none is given.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        """Letters, digits and dashes."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name or self.title.lower()).split())


def summary_table(study: Study) -> Table:
    """The short table that ends a run on the terminal: one row per method, of words short enough for 80 columns.

    Args:
        study: What was compared.
    """
    summaries = summarize(study)
    styles = method_styles(summaries)
    targets = study.experiment.targets[:1] if study.reference is not None else ()
    again = any(summary.confirmed is not None for summary in summaries.values())
    rows = []
    for method, summary in summaries.items():
        shown = [summary.validation, summary.test, *([summary.confirmed] if again else [])]
        times = [
            time_text(summary.times[i], summary.reached[i], summary.seeds, study.experiment.time_limit)
            for i in range(len(targets))
        ]
        rows.append(
            (
                styles[method].short,
                *("–" if value is None else regret_text(value.median, study.metric) for value in shown),
                *times,
                str(summary.evaluations),
                failures_text(summary.failures),
            )
        )
    return Table(
        f"{study.experiment.problem}: median {measure_name(study)} over seeds, "
        f"{seconds(study.experiment.time_limit)} per run",
        (
            "method",
            "validation",
            "test",
            *(["again"] if again else []),
            *(f"time to {regret_text(target, study.metric)}" for target in targets),
            "results",
            "failures",
        ),
        tuple(rows),
        " ".join(
            [
                *(["Again: validation, trained with fresh seeds."] if again else []),
                *(["In brackets how many runs reached it."] if targets else []),
                "The report has the quartiles.",
                *same_sentences(study, styles),
            ]
        ),
    )


def glance_table(study: Study, summaries: Summaries, styles: Styles, found: Verdict | None) -> Table:
    """The few numbers of the first screen: at most five columns."""
    again = any(summary.confirmed is not None for summary in summaries.values())
    box = found.black_box if found is not None else None
    columns = ["method", quantity_name(study, "validation"), quantity_name(study, "test")]
    columns += ["trained again"] if again else []
    columns += [f"at {styles[box].short}’s end level after"] if box else []
    rows = []
    for method, summary in sorted(summaries.items(), key=lambda item: _known_first(item[1].validation.median)):
        style = styles[method]
        cells = [style.heading if style.short == style.heading else f"{style.heading} ({style.short})"]
        cells += [quartiles_text(value, study.metric, 2) for value in (summary.validation, summary.test)]
        cells += [quartiles_text(summary.confirmed, study.metric, 2)] if again else []
        if box and found is not None:
            reached = median_reaches(study, method, found.level)
            cells.append(seconds(reached) if math.isfinite(reached) else "never")
        rows.append(tuple(cells))
    note = "Medians [quartiles] over seeds; lower is better."
    if again:
        note += " Trained again: the validation value of what was found, with fresh seeds that chose nothing."
    return Table("At a glance", tuple(columns), tuple(rows), note)


def final_table(study: Study, summaries: Summaries, styles: Styles) -> Table:
    """What each method had achieved at the end, and what it took."""
    start, end = area_limits(study)
    validation, test = quantity_name(study, "validation"), quantity_name(study, "test")
    columns = [
        "method",
        validation,
        test,
        "area under the curve",
        "runs",
        "evaluations",
        "by a model",
        "failures",
        "start-up",
        "searcher",
    ]
    rows = []
    for method, summary in summaries.items():
        cells: list[str] = [styles[method].heading]
        shown: list[Quartiles | None] = [summary.validation, summary.test]
        cells += [quartiles_text(value, study.metric) for value in shown]
        cells += [
            quartiles_text(summary.area, "validation_loss"),
            str(summary.seeds),
            str(summary.evaluations) + (f" (+ {summary.late} late)" if summary.late else ""),
            model_picks_text(summary),
            failures_text(summary.failures),
            seconds(summary.startup_seconds),
            seconds(summary.searcher_seconds),
        ]
        rows.append(tuple(cells))
    note = (
        f"Medians [quartiles] over runs; lower is better. The area is the integral of the {validation} over ln t from "
        f"{seconds(start)}, when the last run had its first result, to {seconds(end)}. Evaluations and failures are of "
        "all runs together; late ones came after the limit and do not count. By a model: evaluations whose setting a "
        "model of earlier results chose; HpBandSter's needs 2 (d + 1) evaluations on one budget before its first pick, "
        "for d values to learn, and leaves a third of the later picks to chance. Start-up (before the clock starts) "
        "and the searcher's own computing (inside it) are medians per run."
    )
    return Table("At the end", tuple(columns), tuple(rows), note)


def confirmation_table(study: Study, summaries: Summaries, styles: Styles) -> Table | None:
    """What the incumbents are worth when they are trained again; None where none was."""
    if all(summary.confirmed is None for summary in summaries.values()):
        return None
    validation, test = quantity_name(study, "validation"), quantity_name(study, "test")
    rows = tuple(
        (
            styles[method].heading,
            *(
                quartiles_text(value, study.metric)
                for value in (summary.validation, summary.confirmed, summary.confirmed_test)
            ),
            ", ".join(
                regret_text(confirmed_regret(study, result, "validation"), study.metric)
                for result in study.runs_of(method)
            ),
        )
        for method, summary in summaries.items()
        if summary.confirmed is not None
    )
    confirmations = [result.confirmation for result in study.runs.values() if result.confirmation is not None]
    counts = sorted({len(confirmation.validation_loss) for confirmation in confirmations})
    return Table(
        "Trained again with fresh seeds",
        ("method", f"{validation}, as found", f"{validation}, again", f"{test}, again", "again, run by run"),
        rows,
        f"Every run's incumbent, trained {' or '.join(map(str, counts))} times at the full budget after all runs, "
        "outside their clocks, each time with a new split, initialization and data order, the same for all methods. "
        "What was found is the best of many noisy evaluations and so flatters itself; these scores are not selected. "
        "Medians [quartiles] over runs of the mean over fresh seeds.",
    )


def target_table(study: Study, summaries: Summaries, styles: Styles) -> Table:
    """Median time to each target."""
    limit = study.experiment.time_limit
    return Table(
        "Time to reach a validation regret",
        ("method", *(regret_text(target, study.metric) for target in study.experiment.targets)),
        tuple(
            (
                styles[method].heading,
                *(
                    time_text(time, reached, summary.seeds, limit)
                    for time, reached in zip(summary.times, summary.reached, strict=True)
                ),
            )
            for method, summary in summaries.items()
        ),
        "Median over runs, in brackets how many runs reached it. “>” the limit: not reached by half of the runs.",
    )


def speed_up_tables(study: Study, summaries: Summaries, styles: Styles) -> list[Table]:
    """For each target that some method reached: how many times sooner each row's method is than each column's."""
    limit = study.experiment.time_limit
    tables = []
    for index, target in enumerate(study.experiment.targets):
        times = {method: summary.times[index] for method, summary in summaries.items()}
        if all(map(math.isinf, times.values())):
            continue
        rows = tuple(
            (
                styles[method].heading,
                *("" if method == other else speed_up_text(times[method], times[other], limit) for other in times),
            )
            for method in times
        )
        tables.append(
            Table(
                f"to regret {regret_text(target, study.metric)}",
                ("sooner than →", *(styles[method].short for method in times)),
                rows,
            )
        )
    return tables


def hyperparameter_table(study: Study, styles: Styles) -> Table:
    """The best incumbent of every run."""
    names = _hyperparameter_names(study)
    validation, test = quantity_name(study, "validation"), quantity_name(study, "test")
    rows = []
    for result in study.runs.values():
        record = result.incumbent
        if record is None:
            cells = ["no result"] + ["–"] * (len(names) + 3)
        else:
            cells = [
                seconds(record.time),
                number(record.budget),
                _scored(study, record, "validation"),
                _scored(study, record, "test"),
                *(schedule_text(record.hyperparameters.get(name, [])) for name in names),
            ]
        rows.append((styles[result.method].heading, str(result.seed), *cells))
    incumbents = [result.incumbent for result in study.runs.values() if result.incumbent is not None]
    scored = " (accuracy)" if any(math.isfinite(record.validation_accuracy) for record in incumbents) else ""
    columns = (
        "method",
        "seed",
        "found after",
        "epochs",
        f"{validation}{scored}",
        f"{test}{scored}",
        *(name.replace("_", " ") for name in names),
    )
    return Table("Learned hyperparameters", columns, tuple(rows), "The incumbent of every run at the end.")


def runs_table(study: Study, styles: Styles) -> Table:
    """Every run: how long it took and how it ended, planned runs that never began included."""
    rows = []
    for result in study.runs.values():
        name = styles[result.method].heading
        run = result.run
        times = (
            ("–", "–", "–")
            if run is None
            else tuple(map(seconds, (run.startup_seconds, run.wall_seconds, run.searcher_seconds)))
        )
        ended = "driver killed" if run is None else finish_text(run.finished)
        counted = study.records_in_time(result)
        failures = failures_text(failures_by_status([counted]))
        rows.append((name, str(result.seed), *times, str(len(counted)), failures, ended))
    rows += [(styles[method].heading, str(seed), "–", "–", "–", "0", "–", "not run") for method, seed in study.missing]
    columns = ("method", "seed", "start-up", "wall-clock", "searcher", "evaluations", "failures", "ended by")
    return Table("Runs", columns, tuple(rows))


def errors_table(study: Study, styles: Styles) -> Table | None:
    """The exceptions that ended evaluations, run by run; None where nothing crashed."""
    crashed = STATUSES.index("crashed")
    rows = tuple(
        (styles[result.method].heading, str(result.seed), str(crashes), error)
        for result in study.runs.values()
        for error, crashes in result.records.only(result.records.column("status") == crashed).errors().items()
    )
    note = "The first line of each exception. A crashed evaluation keeps its time and is never an incumbent."
    note += f" The first {MOST_ERRORS} of {len(rows):,} are shown." if len(rows) > MOST_ERRORS else ""
    columns = ("method", "seed", "evaluations", "exception")
    return Table("Crashes", columns, rows[:MOST_ERRORS], note) if rows else None


def statistics_table(study: Study, pairs: Sequence[PairedComparison], styles: Styles) -> Table:
    """The focus compared with each other method over the seeds both have; ``pairs`` holds at least one."""
    return Table(
        f"{styles[study.focus].heading} against each other method",
        ("first − second", "seeds", "median difference", "95 % interval", "p (Wilcoxon)", "p (Holm)"),
        tuple(
            (
                f"{styles[pair.first].short} − {styles[pair.second].short}",
                str(pair.seeds),
                regret_text(pair.difference, study.metric),
                interval_text(pair, study.metric),
                number(pair.p_value),
                number(pair.adjusted_p_value),
            )
            for pair in pairs
        ),
        f"Final {quantity_name(study, 'validation')}, paired by seed; negative: {styles[study.focus].label} is better. "
        "Percentile bootstrap of the median difference, from two seeds on. Two-sided signed-rank test with Holm's "
        f"correction over the {len(pairs)} tests. {power_text(styles[study.focus].label, pairs)}",
    )


def interval_text(pair: PairedComparison, metric: Metric) -> str:
    """The difference's bootstrap interval; a dash where one seed gives none."""
    if math.isnan(pair.lower):
        return "–"
    return f"[{regret_text(pair.lower, metric)}, {regret_text(pair.upper, metric)}]"


def model_picks_text(summary: MethodSummary) -> str:
    """How many evaluations a model chose; a dash where the method has none."""
    return "–" if summary.model_picks is None else f"{summary.model_picks} of {summary.evaluations}"


def failures_text(failures: Mapping[str, int]) -> str:
    """Failures by status in words."""
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in failures.items() if count) or "0"


def _known_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _hyperparameter_names(study: Study) -> list[str]:
    names = [name for result in study.runs.values() if result.incumbent for name in result.incumbent.hyperparameters]
    return list(dict.fromkeys(names))


def _scored(study: Study, record: Record, quantity: Quantity) -> str:
    value = regret_text(record_regret(study, record, quantity), study.metric)
    accuracy = metric_value(record, "validation_accuracy", quantity)
    return value if math.isnan(accuracy) else f"{value} ({100 * accuracy:.1f} %)"
