"""The regret figure that a reader can turn: its curves on every clock, ready for the page's script."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import (
    CLOCKS,
    Clock,
    FloatArray,
    Quantity,
    across_seeds,
)
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reporting.regret_figures import CLOCK_NAMES, LINEAR_BELOW, curve_end
from raytune_hyperlearn.comparison.reporting.styles import MethodStyle, Styles
from raytune_hyperlearn.comparison.reporting.wording import quantity_name, schedule_text

SHORT_CLOCKS: dict[Clock, str] = {
    "time": "s",
    "worker_seconds": "worker-seconds",
    "evaluations": "evaluations",
    "epochs": "epochs",
}
CLOCK_LABELS: dict[Clock, str] = {
    "time": "wall-clock",
    "worker_seconds": "worker-seconds",
    "evaluations": "evaluations",
    "epochs": "epochs",
}


def shown_clocks(study: Study) -> tuple[Clock, ...]:
    """The clocks that differ: with one trial at a time worker-seconds are the wall-clock without its overhead."""
    return tuple(clock for clock in CLOCKS if clock != "worker_seconds" or study.experiment.workers > 1)


def regret_explorer(study: Study, styles: Styles) -> dict[str, Any]:
    """Every view of the regret figure as plain data."""
    clocks = shown_clocks(study)
    quantities: tuple[Quantity, ...] = ("validation", "test")
    return {
        "clocks": [
            {"id": clock, "label": CLOCK_LABELS[clock], "name": CLOCK_NAMES[clock], "short": SHORT_CLOCKS[clock]}
            for clock in clocks
        ],
        "quantities": [{"id": q, "label": q, "name": quantity_name(study, q)} for q in quantities],
        "views": {
            clock: {
                quantity: {
                    "band": [_band(study, styles, method, quantity, clock) for method in study.methods],
                    "seeds": [_line(study, styles, result, quantity, clock) for result in study.runs.values()],
                }
                for quantity in quantities
            }
            for clock in clocks
        },
        "notes": {_key(result): [record_note(record) for record in result.chosen] for result in study.runs.values()},
        "methods": legend_entries(study.methods, styles),
        "linearBelow": LINEAR_BELOW,
        "hasZero": study.reference is not None,
        "logValues": True,
    }


def legend_entries(methods: tuple[str, ...], styles: Styles) -> list[dict[str, Any]]:
    """What the buttons that show and hide methods need."""
    return [
        {
            "method": method,
            "label": styles[method].short,
            "name": styles[method].label,
            "color": styles[method].color,
            "dash": dash_of(styles[method]) is not None,
        }
        for method in methods
    ]


def dash_of(style: MethodStyle) -> list[float] | None:
    """The style's dashes in pixels; None for a solid line."""
    return None if style.line == "-" else [2.2 * part for part in style.line[1]]


def json_block(data: object) -> str:
    """JSON that can stand inside a ``<script>`` element: no ``<`` can end it."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def short_numbers(values: FloatArray) -> list[float | None]:
    """Six significant digits, more than any screen shows; None for what is not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]


def record_note(record: Record) -> str:
    """The hyperparameters of a row on one line."""
    parts = (f"{name.replace('_', ' ')} {schedule_text(values)}" for name, values in record.hyperparameters.items())
    return "; ".join(parts)


def _band(study: Study, styles: Styles, method: str, quantity: Quantity, clock: Clock) -> dict[str, Any]:
    results = study.runs_of(method)
    band = across_seeds([study.curve(result, quantity, clock) for result in results])
    known = np.isfinite(band.median)
    closed = _Closed(band.times[known], curve_end(study, method, clock))
    single = len(results) == 1
    parts = {"y": band.median} if single else {"y": band.median, "lower": band.lower, "upper": band.upper}
    return {
        **_look(styles, method),
        "name": styles[method].label if single else f"{styles[method].label}, median of {len(results)} seeds",
        "label": styles[method].short,
        "width": 2.2,
        "x": short_numbers(closed.positions()),
        **{
            name: short_numbers(closed.values(part[known])) for name, part in parts.items() if name == "y" or not single
        },
        **({"run": _key(results[0])} if single else {}),
    }


def _line(study: Study, styles: Styles, result: RunResult, quantity: Quantity, clock: Clock) -> dict[str, Any]:
    curve = study.curve(result, quantity, clock)
    closed = _Closed(curve.times, study.experiment.time_limit if clock == "time" else result.spent[clock])
    first = study.runs_of(result.method)[0] is result
    return {
        **_look(styles, result.method),
        "name": f"{styles[result.method].label}, seed {result.seed}",
        "label": styles[result.method].short if first else "",
        "width": 1.4,
        "run": _key(result),
        "x": short_numbers(closed.positions()),
        "y": short_numbers(closed.values(curve.values)),
    }


class _Closed:
    """A step function drawn on until its run's end."""

    def __init__(self, events: FloatArray, end: float) -> None:
        self.events = events
        self.ends = [end] if events.size and end > events[-1] else []

    def positions(self) -> FloatArray:
        return np.concatenate([self.events, self.ends])

    def values(self, values: FloatArray) -> FloatArray:
        return np.concatenate([values, values[-1:] if self.ends else []])


def _look(styles: Styles, method: str) -> dict[str, Any]:
    style = styles[method]
    return {"method": method, "color": style.color, "dash": dash_of(style)}


def _key(result: RunResult) -> str:
    return f"{result.method} {result.seed}"
