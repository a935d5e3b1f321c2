"""The tables of what went in: what all methods and each one were given, the reference, the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.reporting.styles import Styles
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number, plain_text, seconds, values_text
from raytune_hyperlearn.results import SCORES


def shared_table(study: Study) -> Table:
    """What all methods were given alike."""
    experiment = study.experiment
    clamp, norm = experiment.gradient_clamp, experiment.gradient_norm
    rows = [
        ("problem", experiment.problem),
        ("wall-clock per run", seconds(experiment.time_limit)),
        ("full budget", f"{experiment.epochs:g} epochs"),
        ("smallest budget, where a method uses several", f"{experiment.min_epochs:g} epochs"),
        ("trials at a time, where a method can run several", str(experiment.workers)),
        ("runs at a time", str(experiment.concurrent)),
        ("processors per trial", str(experiment.cpus_per_trial)),
        ("GPUs per trial", f"{experiment.gpus_per_trial:g}"),
        ("bound on every gradient element", "none" if clamp is None else f"±{clamp:g}"),
        ("bound on every gradient's norm", "none" if norm is None else f"{norm:g}"),
        ("precision of training", experiment.precision),
        ("networks per evaluation", str(experiment.replicates)),
        ("chosen by", experiment.metric.replace("_", " ")),
        ("seeds", ", ".join(map(str, experiment.seeds))),
        *((f"space: {name.replace('_', ' ')}", plain_text(values)) for name, values in experiment.space.items()),
    ]
    return Table("What all methods were given", ("setting", "value"), tuple(rows))


def given_table(study: Study, styles: Styles) -> Table:
    """What each method was given beyond the shared space and resources."""
    rows = []
    for method in study.methods:
        runs = [result.run for result in study.runs_of(method) if result.run is not None]
        variants = [run.options for run in runs] or [study.experiment.method_options.get(method, {})]
        distinct = [options for i, options in enumerate(variants) if options not in variants[:i]]
        rows.append((styles[method].heading, " | ".join(plain_text(options) or "defaults" for options in distinct)))
    return Table("What each method was given", ("method", "options"), tuple(rows))


def reference_table(study: Study) -> Table | None:
    """How regret's zero was obtained; None without a reference."""
    reference = study.reference
    if reference is None:
        return None

    def mean(name: str) -> str:
        spread = reference.deviations.get(name)
        return number(getattr(reference, name)) + ("" if spread is None else f" ± {number(spread)}")

    rows = [
        *((name.replace("_", " "), mean(name)) for name in SCORES if math.isfinite(getattr(reference, name))),
        ("trained for", f"{reference.epochs:g} epochs, batches of {reference.batch_size}"),
        *((name.replace("_", " "), values_text(values)) for name, values in reference.hyperparameters.items()),
        ("searched", plain_text(reference.grid)),
        ("seeds", ", ".join(map(str, reference.seeds))),
        ("made by", reference.how),
        ("date", reference.date),
        ("versions", plain_text(reference.versions)),
    ]
    return Table(
        "The reference: where regret is zero",
        ("", "value"),
        tuple(rows),
        "Mean ± standard deviation over seeds of the best setting of a grid around the usual ones. It was frozen "
        "before the comparison and does not move when a method is added.",
    )


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Machine and versions."""
    rows = tuple((name.replace("_", " "), plain_text(value) or "none") for name, value in environment.items())
    return Table("Machine and versions", ("", "value"), rows)
