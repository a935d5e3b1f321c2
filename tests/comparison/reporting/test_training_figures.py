"""Training curves hold what the records say, in time and of completed epochs alone; and so does the drawing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.experiment import Experiment, write_experiment
from raytune_hyperlearn.comparison.records import RecordWriter
from raytune_hyperlearn.comparison.reporting import training_figures
from raytune_hyperlearn.comparison.reporting.page import build_report
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.reporting.training_figures import draw_training, training_panels
from tests.comparison.synthetic import make_experiment, make_record

METHODS = ("ba-momentum", "mini-32", "rs")


def write(folder: Path, losses: dict[str, list[float]]) -> Experiment:
    experiment = make_experiment(methods=METHODS, seeds=(0,), epochs=4.0, min_epochs=1.0, reference=None)
    folder.mkdir()
    write_experiment(experiment, folder / "experiment.yaml")
    with RecordWriter(folder / "records.jsonl") as writer:
        for method, values in losses.items():
            for epoch, loss in enumerate(values, start=1):
                info = {"training_loss": loss, "mean_batch_size": 32.0 * epoch}
                writer.append(
                    make_record(
                        experiment=experiment.name,
                        method=method,
                        time=20.0 * epoch,
                        budget=float(epoch),
                        validation_loss=loss + 0.1,
                        status="completed" if math.isfinite(loss) else "diverged",
                        info={} if method == "rs" else info,
                    )
                )
    return experiment


@pytest.fixture
def study(tmp_path: Path) -> Study:
    write(tmp_path / "run", {"ba-momentum": [2.0, 0.5, 0.1, 0.05], "mini-32": [1.0, 0.4, math.inf], "rs": [0.5, 0.3]})
    return load_study(tmp_path / "run")


def test_panels_hold_the_records(study: Study) -> None:
    by_epoch, by_second, sizes = training_panels(study, METHOD_STYLES)
    adaptive, constant = by_epoch.lines
    assert (adaptive.style.short, constant.style.short) == ("BA-M", "Mini-32")
    # The time limit is 60 s: the fourth epoch, seen after 80 s, does not count.
    np.testing.assert_array_equal(adaptive.xs, [1, 2, 3])
    np.testing.assert_array_equal(adaptive.values, [2.0, 0.5, 0.1])
    np.testing.assert_array_equal(by_second.lines[0].xs, [20, 40, 60])
    np.testing.assert_array_equal(constant.values, [1.0, 0.4])
    np.testing.assert_array_equal(sizes.lines[0].values, [32, 64, 96])


def test_of_a_long_line_evenly_spaced_points_are_drawn(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_figures, "MOST_POINTS", 2)
    (adaptive, constant) = training_panels(study, METHOD_STYLES)[0].lines
    np.testing.assert_array_equal(adaptive.xs, [1, 3])
    assert (adaptive.left_out, constant.left_out) == (1, 0)


def test_drawing_shows_the_lines(study: Study) -> None:
    panels = training_panels(study, METHOD_STYLES)
    figure = draw_training(panels)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "linear"]
    for axes, panel in zip(figure.axes, panels, strict=True):
        drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
        for line in panel.lines:
            np.testing.assert_array_equal(drawn[line.style.heading], np.column_stack([line.xs, line.values]))
        assert {text.get_text() for text in axes.texts} == {"BA-M", "Mini-32"}


def test_no_panel_where_no_method_tells_its_training_loss(result_folder: Path) -> None:
    assert training_panels(load_study(result_folder), METHOD_STYLES) == ()


def test_report_shows_the_curves(tmp_path: Path) -> None:
    write(tmp_path / "run", {"ba-momentum": [2.0, 0.5], "mini-32": [1.0, 0.4], "rs": [0.5, 0.3]})
    page = build_report([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "Training loss" in page
    assert (tmp_path / "figures" / "training-loss.svg").is_file()
