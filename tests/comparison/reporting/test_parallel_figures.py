"""Parallel coordinates: which settings and values they show, where these stand, and what is said to be left out."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.results import Study, study_of_records
from raytune_hyperlearn.comparison.reporting.parallel_figures import (
    MOST_AXES,
    MOST_LINES,
    draw_parallel,
    parallel_data,
    parallel_panels,
    thinned_text,
)
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from tests.comparison.synthetic import SPACE, make_experiment, make_record


def study_of_rates(rates: int, rows: int) -> Study:
    """Random search whose loss is the third rate; the last row is the best, at a larger budget."""
    space = {**SPACE, "learning_rate": {**SPACE["learning_rate"], "values": rates}}
    generator = np.random.default_rng(0)
    records = []
    for i in range(rows):
        values = generator.uniform(0.1, 1, rates)
        values[2] = 0.05 if i == rows - 1 else values[2]
        setting = {"learning_rate": values.tolist(), "momentum": [float(generator.uniform())], "weight_decay": [0.0]}
        budget = 81.0 if i == rows - 1 else 27.0
        loss = float(values[2])
        records.append(
            make_record(method="rs", time=i / rows, budget=budget, validation_loss=loss, hyperparameters=setting)
        )
    return study_of_records(make_experiment(methods=("rs",), seeds=(0,), space=space, reference=None), records)


def test_a_line_runs_through_its_values_to_its_score() -> None:
    study = study_of_rates(3, 5)
    (panel,) = parallel_panels(study, method_styles(("rs",)))
    assert panel.names == (
        "learning rate 1",
        "learning rate 2",
        "learning rate 3",
        "momentum",
        "weight decay",
        "validation loss",
    )
    assert len(panel.tried) == panel.evaluations == 4  # at the budget that most had
    np.testing.assert_array_equal(panel.tried[:, 2], panel.tried[:, -1])
    ((style, best),) = panel.found
    assert (style.short, best[2], best[-1]) == ("RS", 0.05, 0.05)
    assert thinned_text([panel]) == ""
    (axes,) = draw_parallel([panel]).axes
    heights = np.asarray(next(line for line in axes.lines if line.get_label() == "Random search").get_ydata())
    np.testing.assert_allclose(heights[:3], best[:3])  # the range is [0, 1]
    assert heights[-1] == pytest.approx(0)  # the lowest score of all
    assert len(parallel_data([panel]).rows) == 5 * 6


def test_too_many_values_and_evaluations_are_thinned_and_said_to_be() -> None:
    study = study_of_rates(20, MOST_LINES + 51)
    (panel,) = parallel_panels(study, method_styles(("rs",)))
    assert panel.tried.shape == (MOST_LINES, MOST_AXES + 1)
    assert "learning rate 3" in panel.names  # what the loss depends on stays
    said = thinned_text([panel])
    assert said.startswith(
        f" {MOST_LINES} of {MOST_LINES + 50} evaluations are drawn, chosen at random. Of 22 values the 9"
    )
    assert parallel_data([panel]).formula.endswith(said)


def test_without_two_moving_values_there_is_no_figure() -> None:
    experiment = make_experiment(methods=("rs",), seeds=(0,), space={"learning_rate": SPACE["learning_rate"]})
    assert parallel_panels(study_of_records(experiment, []), method_styles(("rs",))) == ()
    one = [make_record(method="rs", hyperparameters={"learning_rate": [0.1]})]
    assert parallel_panels(study_of_records(experiment, one), method_styles(("rs",))) == ()


def test_a_method_of_other_schedules_is_left_out_and_named() -> None:
    common = {"learning_rate": [0.1, 0.2], "momentum": [0.9], "weight_decay": [0.0]}
    other = {"learning_rate": [0.1, 0.2, 0.3], "momentum": [0.9, 0.8, 0.8], "weight_decay": [0.0, 0.1, 0.1]}
    space = {**SPACE, "learning_rate": {**SPACE["learning_rate"], "values": 2}}
    settings = {"rs": common, "fds": {**common, "momentum": [0.5]}, "hd": other}
    records = [
        make_record(method=method, time=1.0, validation_loss=loss, hyperparameters=setting)
        for loss, (method, setting) in enumerate(settings.items(), start=1)
    ]
    experiment = make_experiment(methods=tuple(settings), seeds=(0,), space=space, reference=None)
    (panel,) = parallel_panels(study_of_records(experiment, records), method_styles(tuple(settings)))
    assert [style.short for style, _ in panel.found] == ["RS", "FDS"]
    assert len(panel.tried) == panel.evaluations == 2
    assert thinned_text([panel]) == " Left out, because their schedules have other values: hypergradient descent."
