"""A finished comparison that grows: what is kept, what is run, what is run anew, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from raytune_hyperlearn import build_report
from raytune_hyperlearn.comparison.experiment import read_experiment
from raytune_hyperlearn.comparison.records import (
    CONFIRMATIONS_FILE,
    EXPERIMENT_FILE,
    RECORDS_FILE,
    RUNS_FILE,
    Confirmation,
    RecordWriter,
    Run,
    read_confirmations,
    read_records,
    read_runs,
    remove_rows,
)
from raytune_hyperlearn.comparison.running.extension import (
    extend_folder,
    extended,
    extension_of,
    history,
    kept_runs,
)
from raytune_hyperlearn.comparison.running.folder import Folder
from raytune_hyperlearn.tune.kept_state import KEPT_FILE, TUNER_FILE
from tests.comparison.synthetic import make_experiment, write_folder

SMALL: dict[str, Any] = {"methods": ("fds", "rs"), "seeds": (0, 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished comparison; random search ended by itself with seed 1."""
    path = write_folder(tmp_path / "run", make_experiment(**SMALL))
    runs = read_runs(path / RUNS_FILE)
    (path / RUNS_FILE).unlink()
    with RecordWriter(path / RUNS_FILE) as writer:
        for run in runs:
            writer.append(replace(run, finished="ended") if (run.method, run.seed) == ("rs", 1) else run)
    with RecordWriter(path / CONFIRMATIONS_FILE) as writer:
        for run in runs:
            writer.append(Confirmation(run.method, run.seed, [0.1], [0.9], [0.1], [0.9]))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    names = (EXPERIMENT_FILE, RECORDS_FILE, RUNS_FILE, CONFIRMATIONS_FILE)
    return {name: (folder / name).read_bytes() for name in names}


def test_methods_and_seeds_are_added_and_every_row_stays(folder: Path) -> None:
    before, experiment = contents(folder), read_experiment(folder / EXPERIMENT_FILE)
    grown = extension_of(folder, ["+tpe", "rs"], [0, 1, 2])
    assert (grown.methods, grown.seeds, grown.focus) == (("fds", "rs", "tpe"), (0, 1, 2), "fds")
    assert grown.reference == experiment.reference
    earlier = extend_folder(experiment, grown, folder)
    assert contents(earlier) == before
    assert {**contents(folder), EXPERIMENT_FILE: b""} == {**before, EXPERIMENT_FILE: b""}
    assert read_experiment(folder / EXPERIMENT_FILE) == grown
    assert kept_runs(grown, folder) == {("fds", 0), ("fds", 1), ("rs", 0), ("rs", 1)}
    assert history(folder) == ["5 new runs; 4 of 4 finished ones are kept"]


def test_a_longer_limit_runs_anew_what_the_shorter_one_cut_off(folder: Path) -> None:
    experiment = read_experiment(folder / EXPERIMENT_FILE)
    ends = [Folder(folder).end_of(*run) for run in (("fds", 0), ("rs", 1))]
    ends[0].parent.mkdir()
    for end in ends:
        end.write_text("{}", encoding="utf-8")
    grown = extension_of(folder, time_limit=90.0)
    assert kept_runs(grown, folder) == {("rs", 1)}
    extend_folder(experiment, grown, folder)
    for rows in (read_runs(folder / RUNS_FILE), read_records(folder / RECORDS_FILE)):
        assert {(row.method, row.seed) for row in rows} == {("rs", 1)}
    assert [(row.method, row.seed) for row in read_confirmations(folder / CONFIRMATIONS_FILE)] == [("rs", 1)]
    assert [end.exists() for end in ends] == [False, True]
    assert history(folder) == [
        "0 new runs; 1 of 4 finished ones are kept, 3 stopped at the limit of 60 s: "
        "0 of them go on from their last states, 3 are run anew"
    ]


def test_a_run_whose_state_is_kept_goes_on_and_keeps_its_rows(folder: Path) -> None:
    experiment = read_experiment(folder / EXPERIMENT_FILE)
    kept = folder / "tune" / "fds-0" / KEPT_FILE
    kept.parent.mkdir(parents=True)
    with ZipFile(kept, "w") as archive:
        for name in (TUNER_FILE, "experiment_state-1.json"):
            archive.writestr(name, "state")
    extend_folder(experiment, extension_of(folder, time_limit=90.0), folder)
    assert {(row.method, row.seed) for row in read_runs(folder / RUNS_FILE)} == {("rs", 1)}
    assert {(row.method, row.seed) for row in read_records(folder / RECORDS_FILE)} == {("rs", 1), ("fds", 0)}
    assert [(row.method, row.seed) for row in read_confirmations(folder / CONFIRMATIONS_FILE)] == [("rs", 1)]
    assert history(folder) == [
        "0 new runs; 1 of 4 finished ones are kept, 3 stopped at the limit of 60 s: "
        "1 of them goes on from its last state, 2 are run anew"
    ]


def test_a_second_extension_keeps_the_first_ones_files_and_the_report_tells_both(folder: Path, tmp_path: Path) -> None:
    experiment = read_experiment(folder / EXPERIMENT_FILE)
    grown = extended(experiment, seeds=[2])
    extend_folder(experiment, grown, folder)
    write_folder(tmp_path / "other", replace(grown, seeds=(2,)))
    for name in (RECORDS_FILE, RUNS_FILE):
        with (folder / name).open("ab") as file:
            file.write((tmp_path / "other" / name).read_bytes())
    extend_folder(grown, extension_of(folder, seeds=[3]), folder)
    assert [path.name for path in sorted((folder / "earlier").iterdir())] == ["1", "2"]
    page = build_report([folder], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Extended later: 2 new runs; 4 of 4 finished ones are kept." in page
    assert "Extended later: 2 new runs; 6 of 6 finished ones are kept." in page


def test_what_cannot_be_extended_is_refused_in_one_line_and_nothing_changes(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    with pytest.raises(ValueError, match=r"^time_limit is 30; it must be at least the experiment's 60$"):
        extension_of(folder, time_limit=30.0)
    with pytest.raises(ValueError, match=r"^extend adds nothing; it must come with new methods, new seeds or a longer"):
        extension_of(folder, ["rs"], [1])
    with pytest.raises(ValueError, match=r"must be a folder that holds experiment\.yaml$"):
        extension_of(tmp_path, ["rs"])
    assert contents(folder) == before
    remove_rows(folder / RUNS_FILE, Run, lambda run: run.method == "rs")
    with pytest.raises(ValueError, match=r"it must hold a finished experiment, 2 of its 4 runs are missing"):
        extension_of(folder, ["bohb"])
