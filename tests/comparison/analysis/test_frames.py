"""Frames, figure and notebook cell hold what the study holds."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.curves import across_seeds
from raytune_hyperlearn.comparison.analysis.results import study_of_records
from raytune_hyperlearn.comparison.analysis.summary import summarize
from raytune_hyperlearn.comparison.reporting.notebook import study_html
from raytune_hyperlearn.comparison.study import Study, load_study
from tests.comparison.synthetic import make_experiment, records_of


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


def test_a_study_is_plotted_over_the_clock_that_is_asked_for(study: Study) -> None:
    (axes,) = study.plot("evaluations", "test").axes
    assert axes.get_title(loc="left") == "Test regret"
    assert axes.get_xlabel() == "evaluations (log scale)"
    drawn = {line.get_label(): line for line in axes.lines}
    band = across_seeds([study.curve(run, "test", "evaluations") for run in study.runs_of("rs")])
    np.testing.assert_array_equal(np.asarray(drawn["Random search"].get_ydata())[: len(band.median)], band.median)
    assert len([label for label in drawn if not str(label).startswith("_")]) == len(study.methods)
    with pytest.raises(ValueError, match=r"^quantity is 'training'; it must be one of validation, test$"):
        study.plot(quantity="training")
    with pytest.raises(ValueError, match=r"^clock is 'time'; it must be one of wall_clock, "):
        study.plot("time")


def test_a_notebook_shows_who_is_ahead(study: Study) -> None:
    shown = study._repr_html_()
    assert shown.startswith("<p><b>digits, 60 s per run.</b> FDS has the lowest median validation regret at the end")
    assert shown.count("<tr>") == 1 + len(study.methods)
    none = study_of_records(make_experiment(problem="<mine>", reference=None), [])
    assert study_html(none) == "<p><b>&lt;mine&gt;, 60 s per run.</b> No run has begun.</p>"


def test_the_pages_block_runs_in_a_notebook(
    result_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a cell shows that ends with the study or its figure, by the methods that notebooks call."""
    monkeypatch.chdir(tmp_path)
    Path("compared").symlink_to(result_folder)
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "numbers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert "validation_loss" in capsys.readouterr().out
    assert "<svg" in Path("regret.svg").read_text()
    image = names["figure"]._repr_png_()
    assert matplotlib.image.imread(BytesIO(image), format="png").std() > 0.01  # something is drawn
    assert "<table>" in names["study"]._repr_html_()
