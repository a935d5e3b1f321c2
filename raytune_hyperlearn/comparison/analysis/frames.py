"""A study as pandas frames: its records, its curves and its summary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from raytune_hyperlearn.comparison.analysis.curves import CLOCKS, QUANTITIES, Clock, Quantity, across_seeds
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.analysis.summary import summarize

WALL_CLOCK = "wall_clock"


def records_frame(study: Study) -> pd.DataFrame:
    """One row per record, late ones included, with a column per hyperparameter value (``learning_rate[0]``)."""
    return pd.DataFrame([_row(record) for result in study.runs.values() for record in result.records])


def curves_frame(study: Study, clock: str = WALL_CLOCK) -> pd.DataFrame:
    """Medians and quartiles of every method's regret at each event.

    Args:
        study: all runs.
        clock: ``wall_clock``, ``worker_seconds``, ``evaluations`` or ``epochs``.

    Returns:
        Columns method, quantity, position, lower, median, upper and seeds.

    Raises:
        ValueError: for another clock.
    """
    rows = []
    for method in study.methods:
        for quantity in ("validation", "test"):
            band = across_seeds([study.curve(r, quantity, clock_of(clock)) for r in study.runs_of(method)])
            points = zip(band.times, band.lower, band.median, band.upper, strict=True)
            rows += [(method, quantity, *map(float, point), band.seeds) for point in points]
    return pd.DataFrame(rows, columns=["method", "quantity", "position", "lower", "median", "upper", "seeds"])


def summary_frame(study: Study) -> pd.DataFrame:
    """One row per method: quartiles of the final regrets, seconds to each target, evaluations and failures."""
    rows = []
    for method, summary in summarize(study).items():
        row: dict[str, Any] = {"method": method, "seeds": summary.seeds, "evaluations": summary.evaluations}
        for quantity in ("validation", "test", "confirmed"):
            value = getattr(summary, quantity)
            row |= {f"{quantity}_{name}": number for name, number in asdict(value).items()} if value else {}
        row |= {
            f"seconds_to_{target:g}": time for target, time in zip(study.experiment.targets, summary.times, strict=True)
        }
        rows.append(row | {"failures": sum(summary.failures.values())})
    return pd.DataFrame(rows).set_index("method") if rows else pd.DataFrame()


def clock_of(name: str) -> Clock:
    """A clock by the name that users give it.

    Raises:
        ValueError: for a name that is none.
    """
    names: dict[str, Clock] = {WALL_CLOCK if clock == "time" else clock: clock for clock in CLOCKS}
    if name not in names:
        raise ValueError(f"clock is {name!r}; it must be one of {', '.join(names)}")
    return names[name]


def quantity_of(name: str) -> Quantity:
    """Validation or test by its name.

    Raises:
        ValueError: for another name.
    """
    for quantity in QUANTITIES:
        if name == quantity:
            return quantity
    raise ValueError(f"quantity is {name!r}; it must be one of {', '.join(QUANTITIES)}")


def _row(record: Any) -> dict[str, Any]:
    flat = {
        name: getattr(record, name) for name in record.__dataclass_fields__ if name not in ("hyperparameters", "info")
    }
    for name, values in record.hyperparameters.items():
        flat |= {name if len(values) == 1 else f"{name}[{i}]": value for i, value in enumerate(values)}
    return flat
