"""Importance against numbers worked by hand, and Optuna's evaluators on a function whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.algorithms.windows import REMEMBERED
from raytune_hyperlearn.comparison.analysis import importance
from raytune_hyperlearn.comparison.analysis.importance import (
    budget_correlations,
    hypergradient_importance,
    importances,
    outer_steps,
    range_width,
    shared_out,
)
from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import Record, RecordWriter
from raytune_hyperlearn.comparison.reporting.figure_data import windows_data
from raytune_hyperlearn.comparison.reporting.insight_figures import BEHIND_WINDOWS, draw_windows, windows_panels
from raytune_hyperlearn.comparison.reporting.insight_tables import importance_table
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, method_styles
from tests.comparison.synthetic import make_experiment, make_record


def study_of(folder: Path, rows: list[Record], **changes: Any) -> Study:
    methods = tuple(dict.fromkeys(row.method for row in rows))
    seeds = tuple(sorted({row.seed for row in rows}))
    write_experiment(make_experiment(methods=methods, seeds=seeds, **changes), folder / "experiment.yaml")
    with RecordWriter(folder / "records.jsonl") as writer:
        for row in rows:
            writer.append(row)
    return load_study(folder)


def outer_step(step: int, rates: list[float], gradients: list[float], decay: float, **changes: Any) -> Record:
    return make_record(
        time=1.0 + step,
        hyperparameters={"learning_rate": rates, "weight_decay": [decay]},
        info={"outer_step": step, "hypergradient": {"learning_rate": gradients, "weight_decay": [decay - 1]}},
        **changes,
    )


def test_hypergradients_are_averaged_over_outer_steps_and_scaled_by_the_range(tmp_path: Path) -> None:
    rows = [outer_step(0, [0.1, 0.2], [-3.0, 1.0], 0.5), outer_step(1, [0.2, 0.3], [1.0, 0.0], 0.0)]
    rows.append(outer_step(2, [0.2, 0.3], [float("nan"), 0.0], 0.0, status="diverged"))
    study = study_of(tmp_path, rows)
    rates, decay = outer_steps(study, study.runs["fds", 0])
    np.testing.assert_array_equal(rates.steps, [0, 1])
    np.testing.assert_array_equal(rates.values, [[0.1, 0.2], [0.2, 0.3]])
    np.testing.assert_allclose(rates.importance, [2.0, 0.5])  # the learning rate's range is [0, 1]
    np.testing.assert_allclose(decay.importance, [0.75 * 0.003])  # (|-0.5| + |-1|) / 2 · 0.003
    expected = {"learning rate 1": 2.0, "learning rate 2": 0.5, "weight decay": 0.00225}
    assert hypergradient_importance(study, "fds") == pytest.approx(expected)
    shares = importances(study, frozenset()).columns["hypergradients (fds)"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning rate 1"] == pytest.approx(2.0 / 2.50225)


def test_windows_stand_over_the_hypergradients_that_they_were_chosen_by(tmp_path: Path) -> None:
    assert BEHIND_WINDOWS == REMEMBERED
    rows = []
    for step, gradients in enumerate([[3.0, 3.0, -3.0], [9.0, 1.0, -1.0], [1.0, 1.0, 1.0]]):
        row = outer_step(step, [0.1, 0.2, 0.2], gradients, 0.5)
        rows.append(replace(row, info={**row.info, "windows": {"learning_rate": [2, 1]} if step else {}}))
    study = study_of(tmp_path, rows)
    rates, decay = outer_steps(study, study.runs["fds", 0])
    assert (rates.windows, decay.windows) == ((2, 1), ())
    (panel,) = windows_panels(study, method_styles(study.methods))
    np.testing.assert_allclose(panel.entries, [[1, 1, -1], np.array([9, 1, -1]) / np.sqrt(83 / 3)])
    np.testing.assert_allclose(panel.ends, [2 / 3, 1])
    data = windows_data([panel])
    assert [row[2:4] for row in data.rows[:3]] == [(0, 0), (1, 0), (2, 1)]
    draw_windows([panel])


def test_optuna_finds_the_hyperparameter_that_the_loss_depends_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    generator = np.random.default_rng(0)
    rows = []
    for i in range(60):
        rate, momentum = generator.uniform(size=2)
        values = {"learning_rate": [float(rate)], "momentum": [float(momentum)], "weight_decay": [0.0]}
        loss = 0.1 + 3 * (rate - 0.6) ** 2 + 0.001 * momentum
        rows.append(make_record(method="rs", time=0.5 + 0.5 * i, validation_loss=float(loss), hyperparameters=values))
    found = importances(study_of(tmp_path, rows), frozenset({"rs"}))
    assert found.rows_used == 60
    assert found.source == "random search"
    assert set(found.columns) == {"PED-ANOVA", "fANOVA"}
    for shares in found.columns.values():
        assert "weight decay" not in shares  # it never moved
        assert shares["learning rate"] > 0.8


def test_of_many_evaluations_some_are_drawn_with_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(importance, "MOST_ROWS", 25)
    generator = np.random.default_rng(0)
    rows = [
        make_record(
            method="rs",
            seed=i % 2,
            time=0.5 + i,
            validation_loss=float(rate),
            hyperparameters={"learning_rate": [float(rate)], "momentum": [float(1 - rate)]},
        )
        for i, rate in enumerate(generator.uniform(size=40))
    ]
    study = study_of(tmp_path, rows)
    found = importances(study, frozenset({"rs"}))
    assert (found.rows_used, found.rows_known) == (25, 40)
    assert found == importances(study, frozenset({"rs"}))
    table = importance_table(study, found, METHOD_STYLES)
    assert table is not None
    assert "from 25 evaluations of random search at 27 epochs, drawn at random from 40;" in table.note


def test_too_few_evaluations_tell_nothing(tmp_path: Path) -> None:
    found = importances(study_of(tmp_path, [make_record(method="rs")] * 19), frozenset({"rs"}))
    assert found.columns == {}
    assert found.rows_used == 0


def test_correlation_between_budgets_pairs_the_same_settings(tmp_path: Path) -> None:
    rows = []
    for i in range(6):
        values = {"learning_rate": [0.1 * i]}
        small = make_record(method="hb", time=1 + i, budget=9, validation_loss=1 + i, hyperparameters=values)
        large = make_record(method="hb", time=11 + i, budget=27, validation_loss=3 - 0.1 * i, hyperparameters=values)
        rows += [small, large] if i < 5 else [small]
    correlations = budget_correlations(study_of(tmp_path, rows), "hb")
    assert correlations == {(9.0, 27.0): (5, pytest.approx(-1.0))}


def test_shares_and_widths() -> None:
    assert shared_out({"a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}
    assert shared_out({"a": 0.0}) == {}
    assert range_width({"range": [0.5, 2.0]}) == 1.5
    assert range_width(0.9) == 1.0
