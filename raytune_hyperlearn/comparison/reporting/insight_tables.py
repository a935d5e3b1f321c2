"""Tables of what mattered, of failures with their settings, of the methods themselves and of how to repeat it all."""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from raytune_hyperlearn.comparison.analysis.across import (
    LARGEST_RATIO,
    aggregate,
    algoperf_score,
    common_methods,
    improvements,
    profile_ratios,
    relative_regrets,
)
from raytune_hyperlearn.comparison.analysis.importance import (
    FEWEST_ROWS,
    Importances,
    budget_correlations,
    hypergradient_importance,
)
from raytune_hyperlearn.comparison.analysis.overhead import overhead
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.statistics import BOOTSTRAP_SEED
from raytune_hyperlearn.comparison.analysis.summary import failures_by_status
from raytune_hyperlearn.comparison.analysis.verdict import Estimate
from raytune_hyperlearn.comparison.experiment import experiment_to_yaml
from raytune_hyperlearn.comparison.reporting.explorer import record_note
from raytune_hyperlearn.comparison.reporting.styles import Styles
from raytune_hyperlearn.comparison.reporting.tables import Table, failures_text
from raytune_hyperlearn.comparison.reporting.wording import number, seconds

MOST_FAILURES = 30


def importance_table(study: Study, found: Importances, styles: Styles) -> Table | None:
    """Shares of importance by value and evaluator; None where there is no evaluator with an answer."""
    if not found.columns:
        return None
    names = list(dict.fromkeys(name for shares in found.columns.values() for name in shares))
    raw = {method: hypergradient_importance(study, method) for method in study.methods}
    raw = {method: amounts for method, amounts in raw.items() if amounts}
    columns = [
        "hyperparameter",
        *(f"{styles[method].short}: mean |h| × range" for method in raw),
        *(_column_name(name, styles) for name in found.columns),
    ]
    rows = tuple(
        (
            name,
            *(number(amounts[name]) if name in amounts else "–" for amounts in raw.values()),
            *(f"{100 * shares[name]:.1f} %" if name in shares else "–" for shares in found.columns.values()),
        )
        for name in names
    )
    return Table("Importance of each value", tuple(columns), rows, _importance_note(found))


def correlation_table(study: Study, styles: Styles) -> Table | None:
    """How well a small budget foretells a large one; None where no settings were evaluated on several."""
    rows = tuple(
        (styles[method].heading, f"{small:g} → {large:g}", str(count), number(correlation))
        for method in study.methods
        for (small, large), (count, correlation) in budget_correlations(study, method).items()
    )
    note = (
        "Spearman's correlation of validation values over the settings that were evaluated on both budgets. Settings "
    )
    note += "that a bracket stopped are missing, which lowers the correlation of those that went on."
    columns = ("method", "epochs", "settings", "correlation")
    return Table("Correlation between budgets", columns, rows, note) if rows else None


def aggregate_table(studies: Sequence[Study], styles: Styles) -> Table:
    """Interquartile mean of relative regrets and AlgoPerf's score, by method."""
    methods = common_methods(studies)
    ratios = profile_ratios(studies, methods)
    rows = []
    for i, method in enumerate(methods):
        estimate = aggregate(relative_regrets(studies, method), np.random.default_rng(BOOTSTRAP_SEED))
        rows.append(
            (
                styles[method].heading,
                number(estimate.value),
                interval_cell(estimate),
                number(algoperf_score(ratios[:, i])),
            )
        )
    columns = ("method", "interquartile mean of relative regret", "95 % interval", "AlgoPerf score")
    note = (
        "Relative regret: final validation regret over the reference's value, of every run on every problem; lower is "
        "better. The interval resamples runs within each problem. AlgoPerf's score is the mean of the performance "
        f"profile from 1 to {LARGEST_RATIO:g} times the fastest method's time; higher is better."
    )
    return Table("Aggregates over problems", columns, tuple(rows), note)


def improvement_table(studies: Sequence[Study], styles: Styles) -> Table | None:
    """How probably the focus's run is better than another method's."""
    found = improvements(studies, studies[0].focus, np.random.default_rng(BOOTSTRAP_SEED))
    if not found:
        return None
    rows = tuple(
        (
            f"{styles[one.first].short} better than {styles[one.second].short}",
            number(one.probability.value),
            interval_cell(one.probability),
        )
        for one in found
    )
    note = "Mean over problems of P(X < Y) + P(X = Y) / 2 for two runs drawn at random; 0.5 means alike."
    return Table("Probability of improvement", ("", "probability", "95 % interval"), rows, note)


def interval_cell(estimate: Estimate) -> str:
    """An interval in brackets; a dash where there are too few runs for one."""
    return f"[{number(estimate.lower)}, {number(estimate.upper)}]" if estimate.is_known else "–"


def failure_table(study: Study, styles: Styles) -> Table | None:
    """Evaluations that failed, with their settings; None where none did."""
    every = [(result, study.records_in_time(result)) for result in study.runs.values()]
    failed = [(result, rows.only(~rows.is_completed)) for result, rows in every]
    total = sum(len(rows) for _, rows in failed)
    if not total:
        return None
    first = itertools.islice(((result, row) for result, rows in failed for row in rows), MOST_FAILURES)
    rows = tuple(
        (
            styles[result.method].heading,
            str(result.seed),
            seconds(row.time),
            row.status.replace("_", " "),
            f"{row.budget:g}",
            record_note(row) or "–",
            row.error or "–",
        )
        for result, row in first
    )
    note = f"In all: {failures_text(failures_by_status(rows for _, rows in failed))}."
    note += f" The first {MOST_FAILURES} are shown." if total > MOST_FAILURES else ""
    columns = ("method", "seed", "after", "status", "epochs", "settings", "error")
    return Table("Failed evaluations", columns, rows, note)


def overhead_table(study: Study, styles: Styles) -> Table | None:
    """What every method's wall-clock went into; None where no run has a summary and a result."""
    by_method = {
        method: [part for part in (overhead(study, result) for result in study.runs_of(method)) if part is not None]
        for method in study.methods
    }
    rows = tuple(
        (
            styles[method].heading,
            *(seconds(median(getattr(part, name) for part in parts)) for name in ("seconds", "training", "searcher")),
            seconds(median(part.rest for part in parts)),
            seconds(median(part.rest / part.evaluations for part in parts)),
            f"{median(part.rest / part.seconds for part in parts if part.seconds > 0):.1%}".replace("%", " %"),
        )
        for method, parts in by_method.items()
        if any(part.seconds > 0 for part in parts)
    )
    note = (
        "Medians over runs, from the clock's start, when the first worker is up, to the last result in time. Training: "
        "at least one worker trained or validated. The rest is the harness's: starts of further trials, scheduling, "
        "checkpoints, messages, and what crashed. A searcher may compute while a worker trains; then both are taken "
        "off and the rest is a lower bound."
    )
    columns = ("method", "wall-clock", "training", "searcher", "rest", "rest per evaluation", "share")
    return Table("The harness's own overhead", columns, rows, note) if rows else None


def methods_table(study: Study, styles: Styles) -> Table:
    """Every method with its description, the packages it runs on, in the versions of the run, and its reference."""
    from raytune_hyperlearn.comparison.running.methods import METHODS

    versions: dict[str, str] = {}
    for environment in study.environments:
        versions.update(environment.get("versions", {}))
    rows = []
    for name in study.methods:
        method = METHODS.get(name)
        packages = method.packages if method is not None else ()
        rows.append(
            (
                styles[name].heading,
                method.description if method is not None else "a method of another package",
                ", ".join(f"{package} {versions.get(package, '')}".strip() for package in packages) or "this package",
                (method.reference if method is not None else "") or "–",
            )
        )
    return Table("The methods", ("method", "what it does", "packages", "reference"), tuple(rows))


def repeat_code(study: Study) -> str:
    """Commands that repeat the comparison, with the digest that tells whether the settings are the same."""
    lines = []
    for folder in study.folders:
        target = f"{folder.name or 'results'}-again"
        digest = hashlib.sha256(experiment_to_yaml(study.experiment).encode()).hexdigest()
        settings = f"{folder.name}/experiment.yaml"
        lines += [
            f"hyperlearn compare --config {shlex.quote(settings)} --output {shlex.quote(target)}",
            f"# settings sha256 {digest[:16]}, records sha256 {records_digest(folder)[:16]}",
        ]
    versions = {
        name: version
        for environment in study.environments[:1]
        for name, version in environment.get("versions", {}).items()
        if version != "not installed"
    }
    pins = " ".join(f"{name}=={version}" for name, version in versions.items() if name != "raytune-hyperlearn")
    return "\n".join([*lines, *([f"# with pip install {pins}"] if pins else [])])


def records_digest(folder: Path) -> str:
    """SHA-256 of a folder's records; of nothing where there are none."""
    path = folder / "records.jsonl"
    digest = hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _column_name(name: str, styles: Styles) -> str:
    method = name.removeprefix("hypergradients (").removesuffix(")")
    return f"{styles[method].short}: share" if method in styles and method != name else f"{name}: share"


def _importance_note(found: Importances) -> str:
    note = (
        "h is the hypergradient dL/dλ of one value, divided by the training steps that share it. Mean |h| × range over "
        "outer steps and seeds, is to first order one step's share of what the loss would change over the range. It is "
        "local to the path that the method took and costs nothing, for the method computes h anyway. Each share column "
        "sums to 100 %."
    )
    if found.rows_used:
        drawn = f", drawn at random from {found.rows_known:,}" if found.rows_known > found.rows_used else ""
        return note + (
            f" PED-ANOVA and fANOVA are Optuna's, from {found.rows_used} evaluations of {found.source} at "
            f"{found.budget:g} epochs{drawn}; they are global over what was sampled, so the columns need not agree."
        )
    return note + f" Optuna's evaluators need the package optuna and at least {FEWEST_ROWS} evaluations at one budget."


def kept(*tables: Table | None) -> tuple[Table, ...]:
    """The tables that there are."""
    return tuple(table for table in tables if table is not None)
