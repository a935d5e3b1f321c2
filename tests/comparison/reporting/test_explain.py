"""Figures explained by their rows, and records written for other viewers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from raytune_hyperlearn.comparison.analysis.results import load_studies
from raytune_hyperlearn.comparison.reporting.explain import OF_ONE_PROBLEM, explain
from raytune_hyperlearn.comparison.reporting.export import export
from tests.comparison.synthetic import records_of


def test_every_figure_can_be_explained(result_folder: Path) -> None:
    studies = load_studies([result_folder])
    for figure in OF_ONE_PROBLEM:
        (problem,) = explain(studies, figure)
        data = explain(studies, figure)[problem]
        assert problem == "digits"
        assert len(data.formula) > 40
        assert all(len(row) == len(data.columns) for row in data.rows)
    with pytest.raises(ValueError, match=r"^explain is 'nothing'; it must be one of regret-wall-clock, "):
        explain(studies, "nothing")


def test_the_rows_of_the_regret_figure_follow_from_the_records(result_folder: Path) -> None:
    studies = load_studies([result_folder])
    data = explain(studies, "regret-wall-clock")["digits"]
    rows = list(csv.DictReader(data.to_csv().splitlines()))
    own = [row for row in rows if (row["clock"], row["quantity"]) == ("time", "validation")]
    last = [row for row in own if (row["method"], row["seed"]) == ("rs", "1")][-1]
    found = [r for r in records_of(result_folder) if (r["method"], r["seed"]) == ("rs", 1) and r["time"] <= 60]
    best = min((r for r in found if r["status"] == "completed"), key=lambda r: r["validation_loss"])
    assert float(last["position"]) == best["time"]
    assert float(last["value"]) == pytest.approx(best["validation_loss"] - 0.105)


def test_export_to_csv_has_every_record(result_folder: Path, tmp_path: Path) -> None:
    path = export(load_studies([result_folder]), "csv", tmp_path / "records.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == len(records_of(result_folder))
    with pytest.raises(ValueError, match=r"^output is .*; it must be a file that does not exist yet"):
        export(load_studies([result_folder]), "csv", path)
    with pytest.raises(ValueError, match=r"^to is 'xls'; it must be one of csv, optuna"):
        export(load_studies([result_folder]), "xls", tmp_path / "records.xls")


def test_optuna_reads_the_export(result_folder: Path, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    path = export(load_studies([result_folder]), "optuna", tmp_path / "journal.log")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="digits rs seed 2", storage=storage)
    rows = [r for r in records_of(result_folder) if (r["method"], r["seed"]) == ("rs", 2) and r["time"] <= 60]
    best = min((r for r in rows if r["status"] == "completed"), key=lambda r: r["validation_loss"])
    assert len(study.trials) == len(rows)
    assert study.best_value == pytest.approx(best["validation_loss"])
    assert study.best_params["learning_rate[3]"] == pytest.approx(best["hyperparameters"]["learning_rate"][3])
