"""Figures explained by their rows, and records written for other viewers."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from ConfigSpace import Configuration, ConfigurationSpace, Float

from raytune_hyperlearn.comparison.analysis.results import load_studies, study_of_records
from raytune_hyperlearn.comparison.reporting.explain import OF_ONE_PROBLEM, explain
from raytune_hyperlearn.comparison.reporting.export import export
from tests.comparison.synthetic import make_experiment, make_record, records_of


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
    with pytest.raises(ValueError, match=r"^output is .*; it must be a file or folder that does not exist yet"):
        export(load_studies([result_folder]), "csv", path)
    with pytest.raises(ValueError, match=r"^to is 'xls'; it must be one of csv, optuna, deepcave, ioh"):
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


def test_ioh_files_hold_every_run_by_evaluations(result_folder: Path, tmp_path: Path) -> None:
    folder = export(load_studies([result_folder]), "ioh", tmp_path / "ioh")
    described = [json.loads(path.read_text()) for path in folder.glob("*/*.json")]
    assert sorted(one["algorithm"]["name"] for one in described) == ["bo", "bohb", "fds", "hb", "hd", "rs"]
    assert {one["function_name"] for one in described} == {"digits"}
    (own,) = [one for one in described if one["algorithm"]["name"] == "rs"]
    (scenario,) = own["scenarios"]
    header, *blocks = (folder / "rs" / scenario["path"]).read_text().split("evaluations raw_y\n")
    assert header == ""
    for run, block in zip(scenario["runs"], blocks, strict=True):
        rows = [(int(at), float(value)) for at, value in (line.split() for line in block.splitlines())]
        done = [r for r in records_of(result_folder) if (r["method"], r["seed"]) == ("rs", run["instance"])]
        losses = [r["validation_loss"] if r["status"] == "completed" else math.inf for r in done if r["time"] <= 60]
        assert rows[0] == (1, losses[0])
        assert all(value == min(losses[:at]) for at, value in rows)
        assert (run["evals"], run["best"]["y"]) == rows[-1] == (len(losses), min(losses))
        assert losses[run["best"]["evals"] - 1] == min(losses)
        assert len(run["best"]["x"]) == scenario["dimension"] == 9


def test_ioh_runs_begin_at_the_first_evaluation_even_if_it_failed(tmp_path: Path) -> None:
    rows = [make_record(time=1.0, status="crashed", hyperparameters={}), make_record(time=2.0, validation_accuracy=0.9)]
    study = study_of_records(make_experiment(methods=("fds",), seeds=(0, 1), metric="validation_accuracy"), rows)
    folder = export([study], "ioh", tmp_path / "ioh")
    (table,) = folder.glob("fds/*/*.dat")
    (at, value), (last, error) = (line.split() for line in table.read_text().splitlines()[1:])
    assert (at, value, last) == ("1", "inf", "2")
    assert float(error) == pytest.approx(0.1)


def test_deepcave_tables_hold_settings_within_their_space(result_folder: Path, tmp_path: Path) -> None:
    folder = export(load_studies([result_folder]), "deepcave", tmp_path / "deepcave")
    assert len(list(folder.iterdir())) == 18
    spaces, metrics = set(), set()
    for own in folder.iterdir():
        method, seed = own.name.removeprefix("digits-").split("-seed-")
        given = list(csv.DictReader((own / "configspace.csv").read_text().splitlines()))
        space = ConfigurationSpace()
        space.add([Float(one["name"], (float(one["lower"]), float(one["upper"])), log=False) for one in given])
        trials = list(csv.DictReader((own / "trials.csv").read_text().splitlines()))
        done = [r for r in records_of(result_folder) if (r["method"], r["seed"]) == (method, int(seed))]
        done = [r for r in done if r["time"] <= 60]
        (metric,) = [name for name in trials[0] if name.startswith("metric:")]
        for trial, record in zip(trials, done, strict=True):
            Configuration(space, values={name: float(trial[name]) for name in space})  # refuses what is out of bounds
            assert float(trial["learning_rate_6"]) == record["hyperparameters"]["learning_rate"][6]
            assert float(trial["end_time"]) == record["time"]
            completed = record["status"] == "completed"
            assert trial["status"] == ("success" if completed else "failed")
            assert trial[metric] == (repr(record["validation_loss"]) if completed else "")
        spaces.add((own / "configspace.csv").read_text())
        metrics.add(metric)
    assert len(spaces) == len(metrics) == 1  # what DeepCAVE asks of runs that it groups
    assert (
        "failed"
        in (folder / "digits-rs-seed-1" / "trials.csv").read_text()
        + (folder / "digits-hb-seed-1" / "trials.csv").read_text()
    )
