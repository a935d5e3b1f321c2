"""Frames hold what the study holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.curves import across_seeds
from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.analysis.summary import summarize
from raytune_hyperlearn.comparison.reporting.regret_figures import plot
from tests.comparison.synthetic import records_of


@pytest.fixture(scope="module")
def study(result_folder: Path) -> Study:
    return load_study(result_folder)


def test_records_have_a_row_each_and_a_column_per_value(study: Study, result_folder: Path) -> None:
    rows = records_of(result_folder)
    frame = study.records
    assert len(frame) == len(rows)
    assert {"method", "seed", "time", "learning_rate[0]", "learning_rate[6]", "momentum"} <= set(frame.columns)
    assert frame["time"].sum() == pytest.approx(sum(row["time"] for row in rows))


def test_curves_are_the_bands(study: Study) -> None:
    for clock in ("wall_clock", "evaluations"):
        frame = study.curves(clock)
        own = frame[(frame["method"] == "rs") & (frame["quantity"] == "test")]
        inner = "time" if clock == "wall_clock" else clock
        band = across_seeds([study.curve(run, "test", inner) for run in study.runs_of("rs")])  # type: ignore[arg-type]
        np.testing.assert_array_equal(own["position"], band.times)
        np.testing.assert_array_equal(own["upper"], band.upper)
    with pytest.raises(ValueError, match=r"^clock is 'sundial'; it must be one of wall_clock, "):
        study.curves("sundial")


def test_summary_has_a_row_per_method(study: Study) -> None:
    frame = study.summary()
    summaries = summarize(study)
    assert list(frame.index) == list(summaries)
    assert frame.loc["fds", "validation_median"] == summaries["fds"].validation.median
    assert frame.loc["fds", "seconds_to_0.05"] == summaries["fds"].times[3]


def test_a_study_can_be_plotted(study: Study) -> None:
    assert len(plot(study).axes) == 2
