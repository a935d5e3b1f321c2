"""The data of the figures against the records they show, and that what is drawn is that data."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.analysis.statistics import critical_difference
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import RecordWriter
from raytune_hyperlearn.comparison.reporting import figure_blocks, method_figures
from raytune_hyperlearn.comparison.reporting.figure_blocks import FigureFiles, cost_blocks
from raytune_hyperlearn.comparison.reporting.figure_data import evaluation_data
from raytune_hyperlearn.comparison.reporting.line_figures import draw_lines, line_source, rank_panel
from raytune_hyperlearn.comparison.reporting.method_figures import (
    CROWDED,
    draw_evaluations,
    draw_schedules,
    draw_values,
    evaluation_panels,
    schedule_panels,
    value_panels,
)
from raytune_hyperlearn.comparison.reporting.rank_figures import (
    draw_critical_difference,
    final_ranks,
    ranks_over_time,
)
from raytune_hyperlearn.comparison.reporting.regret_figures import draw_regret, regret_panels
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, method_styles
from tests.comparison.synthetic import make_experiment, make_record, make_reference


@pytest.fixture(scope="module")
def study(result_folder: Path) -> Study:
    return load_study(result_folder)


def texts(figure: Figure) -> list[str]:
    axes = figure.axes
    titles = [ax.get_title(loc="left") for ax in axes]
    return titles + [text.get_text() for ax in axes for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label)]


def test_regret_panels_hold_medians_over_seeds(study: Study, result_folder: Path) -> None:
    validation, test = regret_panels(study, METHOD_STYLES, "time")
    assert [line.style.short for line in validation.lines] == ["FDS", "HD", "RS", "BO", "HB", "BOHB"]
    rows = [json.loads(line) for line in (result_folder / "records.jsonl").read_text().splitlines()]
    random = [row for row in rows if row["method"] == "rs" and row["status"] == "completed" and row["time"] <= 60]
    best = [min((r for r in random if r["seed"] == s), key=lambda r: r["validation_loss"]) for s in range(3)]
    reference = make_reference()
    line, of_test = validation.lines[2], test.lines[2]
    assert line.band.median[-1] == pytest.approx(
        np.median([row["validation_loss"] for row in best]) - reference.validation_loss
    )
    assert of_test.band.median[-1] == pytest.approx(np.median([r["test_loss"] for r in best]) - reference.test_loss)
    assert line.end == 60
    assert np.all(np.diff(line.band.median) <= 0)


def test_worker_seconds_end_with_the_median_run(study: Study) -> None:
    panel, _ = regret_panels(study, METHOD_STYLES, "worker_seconds")
    ends = {line.style.short: line.end for line in panel.lines}
    assert ends["FDS"] < 62
    assert 100 < ends["RS"] <= 121


def test_regret_is_drawn_as_steps_to_the_limit(study: Study) -> None:
    panels = regret_panels(study, METHOD_STYLES, "time")
    figure = draw_regret(panels)
    assert len(figure.axes) == 2
    axes = figure.axes[0]
    drawn = {line.get_label(): line for line in axes.lines}
    for line in panels[0].lines:
        artist = drawn[line.style.heading]
        assert artist.get_drawstyle() == "steps-post"
        times, values = artist.get_data()
        assert times[-1] == 60
        np.testing.assert_array_equal(values[:-1], line.band.median)
        assert values[-1] == line.band.median[-1]
    assert axes.get_xscale() == "log"
    shown = texts(figure)
    assert {"FDS", "BOHB", "Validation regret", "Test regret", "wall-clock seconds (log scale)"} <= set(shown)


def test_line_ends_are_labeled_without_overlap(study: Study) -> None:
    figure = draw_regret(regret_panels(study, METHOD_STYLES, "time"))
    figure.canvas.draw()
    for axes in figure.axes:
        labels = [text for text in axes.texts if text.get_text() in ("FDS", "HD", "RS", "BO", "HB", "BOHB")]
        assert len(labels) == 6
        # Where each label stands: its line's end, moved by its offset in points; a line of text is 10 points high.
        heights = [axes.transData.transform(label.xy)[1] * 72 / figure.dpi + label.xyann[1] for label in labels]
        assert min(np.diff(sorted(heights))) >= 10
        for label in labels:
            box = label.get_window_extent()
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1


def one_study(folder: Path, **settings: object) -> Study:
    experiment = make_experiment(methods=("fds", "bohb"), seeds=(0, 1), **settings)
    write_experiment(experiment, folder / "experiment.yaml")
    with RecordWriter(folder / "records.jsonl") as writer:
        for seed in (0, 1):
            writer.append(make_record(method="fds", seed=seed, time=2 + seed, budget=9, validation_loss=0.3))
            writer.append(make_record(method="fds", seed=seed, time=9 + seed, validation_loss=0.2))
        writer.append(make_record(method="bohb", seed=0, time=4, test_loss=math.nan, test_accuracy=math.nan))
        writer.append(make_record(method="bohb", seed=1, time=4, status="diverged", validation_loss=math.nan))
    return load_study(folder)


def test_methods_without_a_result_in_most_of_their_runs_are_named(tmp_path: Path) -> None:
    study = one_study(tmp_path)
    validation, _ = regret_panels(study, METHOD_STYLES, "time")
    assert [line.style.short for line in validation.lines] == ["FDS"]
    assert validation.absent == ("BOHB",)
    figure = draw_regret([validation])
    assert any("not shown: BOHB" in text for text in texts(figure))


def test_figures_without_a_reference_show_the_metric(tmp_path: Path) -> None:
    study = one_study(tmp_path, reference=None, metric="validation_accuracy")
    validation, _ = regret_panels(study, METHOD_STYLES, "time")
    assert validation.lines[0].band.median[-1] == pytest.approx(1 - 0.9)
    shown = texts(draw_regret([validation]))
    assert "Validation error" in shown
    assert not any("reference" in text for text in shown)


def test_an_empty_figure_says_so(tmp_path: Path) -> None:
    write_experiment(make_experiment(), tmp_path / "experiment.yaml")
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.append(make_record(status="crashed", validation_loss=math.nan))
    study = load_study(tmp_path)
    panels = regret_panels(study, METHOD_STYLES, "time")
    assert "no method with a result in most of its runs" in texts(draw_regret(panels))
    assert evaluation_panels(study, METHOD_STYLES) == ()
    assert schedule_panels(study, METHOD_STYLES) == ()
    assert value_panels(study, METHOD_STYLES) == ()


def test_every_evaluation_is_a_dot_or_a_cross(study: Study) -> None:
    panels = evaluation_panels(study, METHOD_STYLES)
    figure = draw_evaluations(panels)
    assert len(figure.axes) == 6
    for panel, method, axes in zip(panels, study.methods, figure.axes, strict=True):
        rows = [row for result in study.runs_of(method) for row in result.records if row.time <= 60]
        assert panel.times.size + panel.failed.size == len(rows)
        assert panel.failed.size == sum(row.status != "completed" for row in rows)
        assert len(panel.incumbents) == 3
        (dots,) = axes.collections
        assert len(dots.get_offsets()) == panel.times.size
        assert axes.get_ylim()[1] > np.max(panel.losses)


def test_of_very_many_evaluations_some_are_drawn_and_the_figure_says_so(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluation_panels(study, METHOD_STYLES)
    assert not any(panel.left_out for panel in whole)
    monkeypatch.setattr(method_figures, "MOST_DOTS", 4)
    monkeypatch.setattr(figure_blocks, "MOST_DOTS", 4)
    panels = evaluation_panels(study, METHOD_STYLES)
    for panel, full in zip(panels, whole, strict=True):
        assert len(panel.losses) == min(4, len(full.losses))
        assert set(panel.losses) <= set(full.losses)
        left = len(full.losses) - len(panel.losses) + len(full.failed) - len(panel.failed)
        assert panel.left_out == left
        assert panel.span == full.span
    left_out = sum(panel.left_out for panel in panels)
    assert evaluation_data(panels).formula.endswith(f" {left_out} are left out, as in the figure.")
    (_, block) = cost_blocks(study, METHOD_STYLES, FigureFiles(tmp_path, ""))
    assert f"4 are drawn, chosen at random; {left_out} are left out." in block.caption


def test_crowds_of_dots_are_drawn_as_pixels(study: Study) -> None:
    few = evaluation_panels(study, METHOD_STYLES)[0]
    many = np.linspace(1, 50, CROWDED + 1)
    crowd = dataclasses.replace(few, times=many, losses=np.full_like(many, 0.3), budgets=np.ones_like(many))
    figure = draw_evaluations([few, crowd])
    assert [axes.collections[0].get_rasterized() for axes in figure.axes] == [False, True]


def test_schedules_show_every_seed_and_the_best_thick(study: Study) -> None:
    panels = schedule_panels(study, METHOD_STYLES)
    assert {panel.name for panel in panels} == {"learning_rate"}
    drawn = {style.short: schedules for style, schedules in panels[0].schedules}
    assert list(drawn) == ["FDS", "HD", "RS", "BO", "HB", "BOHB"]
    best = min((run.incumbent for run in study.runs_of("fds") if run.incumbent), key=lambda row: row.validation_loss)
    assert drawn["FDS"][-1] == tuple(best.hyperparameters["learning_rate"])
    axes = draw_schedules(panels).axes[0]
    assert len(axes.lines) == 6 * 3
    thick = next(line for line in axes.lines if line.get_label() == "FDS")
    assert thick.get_linewidth() == max(line.get_linewidth() for line in axes.lines)
    edges, values = thick.get_data()
    np.testing.assert_allclose(edges, np.arange(8) / 7)
    np.testing.assert_array_equal(values[:-1], drawn["FDS"][-1])
    assert thick.get_drawstyle() == "steps-post"


def test_single_values_have_a_row_per_method(study: Study) -> None:
    panels = value_panels(study, METHOD_STYLES)
    assert [panel.name for panel in panels] == ["momentum", "weight_decay"]
    figure = draw_values(panels)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["FDS", "HD", "RS", "BO", "HB", "BOHB"]
    assert [len(line.get_xdata()) for line in axes.lines] == [3] * 6


def test_ranks_over_time_by_hand(tmp_path: Path) -> None:
    studies = []
    for problem, last in (("p", 0.1), ("q", 0.4)):
        folder = tmp_path / problem
        folder.mkdir()
        experiment = make_experiment(
            problem=problem, name="n", methods=("fds", "bohb"), seeds=(0,), time_limit=100, reference=None
        )
        write_experiment(experiment, folder / "experiment.yaml")
        with RecordWriter(folder / "records.jsonl") as writer:
            for method, time, loss in (("bohb", 5, 0.3), ("fds", 20, 0.5), ("fds", 60, last)):
                writer.append(
                    make_record(experiment="n", problem=problem, method=method, time=time, validation_loss=loss)
                )
        studies.append(load_study(folder))
    data = ranks_over_time(studies, METHOD_STYLES)
    assert data.fractions[0] == pytest.approx(0.05, rel=0.03)
    by_method = dict(zip([style.short for style in data.styles], data.mean_ranks.T, strict=True))
    early, late = data.fractions < 0.6, data.fractions >= 0.6
    np.testing.assert_array_equal(by_method["FDS"][early], 2)
    np.testing.assert_array_equal(by_method["BOHB"][early], 1)
    np.testing.assert_array_equal(by_method["FDS"][late], 1.5)
    final = final_ranks(studies)
    assert final.mean_ranks == (1.5, 1.5)
    assert math.isnan(final.difference)
    panel = rank_panel(data, ("fds", "bohb"))
    assert "mean rank (1 is best)" in texts(draw_lines([panel], METHOD_STYLES))
    assert line_source(panel, METHOD_STYLES)["series"][0]["y"][-1] == 1.5
    assert "FDS 1.50" in texts(draw_critical_difference(final, METHOD_STYLES))


def test_critical_difference_is_drawn_with_its_groups() -> None:
    final = critical_difference(("a", "b", "c"), np.tile([[0.1, 0.2, 0.3]], (6, 1)))
    figure = draw_critical_difference(final, method_styles(final.methods))
    shown = texts(figure)
    assert any("critical difference 1.35" in text for text in shown)
    assert {"a 1.00", "b 2.00", "c 3.00"} <= set(shown)
    bars = [
        segment for lines in figure.axes[0].collections for segment in lines.get_segments() if lines.get_lw()[0] > 3
    ]
    assert len(bars) == 2
