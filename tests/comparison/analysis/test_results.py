"""Result folders: read, joined, and refused where they do not fit together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.comparison.analysis.results import load_studies, load_study
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import RecordWriter
from raytune_hyperlearn.comparison.reference_record import reference_to_mapping
from tests.comparison.synthetic import make_experiment, make_record, make_reference, make_run, write_folder

FDS_ALONE = {"methods": ("fds",), "seeds": (0, 1)}


def small_folder(folder: Path, **changes: Any) -> Path:
    return write_folder(folder, make_experiment(**{**FDS_ALONE, **changes}))


def test_reads_a_whole_folder(result_folder: Path) -> None:
    study = load_study(str(result_folder))
    assert len(study.runs) == 18
    assert study.missing == ()
    assert study.reference == make_reference()
    rows = [json.loads(line) for line in (result_folder / "records.jsonl").read_text().splitlines()]
    assert sum(len(result.records) for result in study.runs.values()) == len(rows)
    best = study.runs["bohb", 2].incumbent
    assert best is not None
    own = [row for row in rows if (row["method"], row["seed"], row["budget"]) == ("bohb", 2, 27.0)]
    counted = [row["validation_loss"] for row in own if row["time"] <= 60 and row["status"] == "completed"]
    assert best.validation_loss == min(counted)


def test_runs_without_summary_or_rows(tmp_path: Path) -> None:
    experiment = make_experiment(methods=("fds", "bohb"), seeds=(0, 1))
    write_experiment(experiment, tmp_path / "experiment.yaml")
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.append(make_record(method="fds", seed=0))
        writer.append(make_record(method="fds", seed=1, status="diverged"))
    with RecordWriter(tmp_path / "runs.jsonl") as writer:
        writer.append(make_run(method="bohb", seed=0, finished="ended", evaluations=0))
    study = load_study(tmp_path)
    assert study.missing == (("bohb", 1),)
    assert study.runs["fds", 0].run is None
    assert study.runs["fds", 1].incumbent is None
    assert study.runs["bohb", 0].records == ()
    assert study.environments == ()


def test_joins_seeds_and_methods_of_one_problem(tmp_path: Path) -> None:
    folders = [
        small_folder(tmp_path / "a"),
        small_folder(tmp_path / "b", seeds=(2,)),
        small_folder(tmp_path / "c", methods=("bohb",)),
    ]
    (study,) = load_studies(folders)
    assert study.experiment.methods == ("fds", "bohb")
    assert study.experiment.seeds == (0, 1, 2)
    assert list(study.runs) == [("fds", 0), ("fds", 1), ("fds", 2), ("bohb", 0), ("bohb", 1)]
    assert study.missing == (("bohb", 2),)
    assert study.folders == tuple(folders)


def test_several_problems_stay_apart(tmp_path: Path) -> None:
    folders = [small_folder(tmp_path / name, problem=name) for name in ("digits", "fashion-mnist")]
    assert [study.experiment.problem for study in load_studies(folders)] == ["digits", "fashion-mnist"]


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "the same run": ({}, "both hold method 'fds' with seed 0"),
    "another reference": (
        {"seeds": (7,), "reference": reference_to_mapping(make_reference(validation_loss=0.2))},
        "reference must be the same in all folders",
    ),
    "no reference": ({"seeds": (7,), "reference": None}, "reference must be the same in all folders"),
    "another limit": ({"seeds": (7,), "time_limit": 30}, "has 30.0, not 60.0, time_limit"),
    "another metric": ({"seeds": (7,), "metric": "validation_accuracy"}, "metric must be the same in all folders"),
    "another space": ({"seeds": (7,), "space": {}}, "space must be the same in all folders"),
    "other options": (
        {"seeds": (7,), "method_options": {"fds": {"outer_steps": 3}}},
        "method_options must be the same in all folders",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), UNFIT.values(), ids=UNFIT)
def test_refuses_folders_that_do_not_fit_together(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folders = [small_folder(tmp_path / "a"), small_folder(tmp_path / "b", **changes)]
    with pytest.raises(ValueError, match=r".") as caught:
        load_studies(folders)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_no_folder_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^folders must name at least one result folder, not none$"):
        load_studies([])
    with pytest.raises(ValueError, match=r"^folder is '.*'; it must hold experiment\.yaml and records\.jsonl"):
        load_study(tmp_path / "nowhere")
    folder = small_folder(tmp_path / "a")
    for changes, reason in [
        ({"problem": "cifar10"}, "rows must be of experiment 'digits-comparison' on 'digits', not of"),
        ({"method": "bohb"}, "not of method 'bohb' with seed 0"),
        ({"seed": 9}, "not of method 'fds' with seed 9"),
    ]:
        rows = (folder / "records.jsonl").read_bytes()
        with RecordWriter(folder / "records.jsonl") as writer:
            writer.append(make_record(**changes))
        with pytest.raises(ValueError, match=reason):
            load_study(folder)
        (folder / "records.jsonl").write_bytes(rows)
    rows = (folder / "records.jsonl").read_bytes()
    (folder / "records.jsonl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"records\.jsonl holds 0 results of method 'fds' with seed 0; it must hold"):
        load_study(folder)
    (folder / "records.jsonl").write_bytes(rows[:-10])  # a torn last line is left out
    assert len(load_study(folder).runs) == len(load_study(small_folder(folder.with_name("whole"))).runs)
    (folder / "environment.json").write_text("[]")
    with pytest.raises(ValueError, match=r"environment\.json: entry is \[\]; it must be a mapping of date"):
        load_study(folder)


def test_experiments_are_pooled_without_losing_settings(tmp_path: Path) -> None:
    options = {"fds": {"outer_steps": 3}}
    first = small_folder(tmp_path / "a", method_options=options)
    second = small_folder(tmp_path / "b", methods=("bohb",), method_options={"bohb": {"eta": 4}})
    (study,) = load_studies([first, second])
    expected = dataclasses.replace(
        load_study(first).experiment,  # both folders' experiments have the same name
        methods=("fds", "bohb"),
        method_options={**options, "bohb": {"eta": 4}},
    )
    assert study.experiment == expected
