"""A comparison from Python: the same settings as on the command line, and a study back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from raytune_hyperlearn import SearchSpace, compare, extend
from raytune_hyperlearn.comparison.head_to_head import seeds_from
from raytune_hyperlearn.comparison.records import RUNS_FILE, read_runs
from raytune_hyperlearn.comparison.running.extension import history
from raytune_hyperlearn.tune.kept_state import KEPT_FILE, PREVIOUS_FILE, remove_run

SETTINGS: dict[str, Any] = {"time_limit": 1.5, "epochs": 0.2, "replicates": 1, "confirmations": 0, "reference": None}


@pytest.mark.usefixtures("ray_session")
def test_a_comparison_returns_its_study_and_can_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = SearchSpace(momentum=0.9, weight_decay=0.0)
    study = compare("digits", ["rs"], seeds=[4], space=space, output=tmp_path / "out", **SETTINGS)
    assert list(study.runs) == [("rs", 4)]
    assert study.runs["rs", 4].chosen
    assert study.experiment.space["momentum"] == 0.9
    assert capsys.readouterr().out == ""
    assert ray.is_initialized()  # it was running before
    with pytest.raises(ValueError, match="holds this experiment's records"):
        compare("digits", ["rs"], seeds=[4], space=space, output=tmp_path / "out", **SETTINGS)
    again = compare("digits", ["rs"], seeds=[4], space=space, output=tmp_path / "out", resume=True, **SETTINGS)
    assert again.runs["rs", 4].records == study.runs["rs", 4].records
    grown = extend(tmp_path / "out", seeds=[5])
    assert list(grown.runs) == [("rs", 4), ("rs", 5)]
    assert grown.runs["rs", 4].records == study.runs["rs", 4].records
    assert grown.runs["rs", 5].chosen


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_runs_that_are_given_more_time_go_on_from_where_they_were_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "1")  # Tune's own is 10, longer than these runs
    output = tmp_path / "out"
    settings = {**SETTINGS, "epochs": 0.5, "min_epochs": 0.1, "time_limit": 5.0}
    options = {"fds": {"differentiation": "reverse"}}
    short = compare("digits", ["fds", "hb", "rs"], seeds=1, method_options=options, output=output, **settings)
    assert {run.finished for run in read_runs(output / RUNS_FILE)} == {"time_limit"}
    assert sorted(path.name for path in (output / "tune" / "hb-0").iterdir()) == [PREVIOUS_FILE, KEPT_FILE]
    remove_run(output / "tune" / "rs-0")  # so that there is nothing to go on from
    long = extend(output, time_limit=9.0)
    assert history(output) == [
        "0 new runs; 0 of 3 finished ones are kept, 3 stopped at the limit of 5 s: "
        "2 of them go on from their last states, 1 is run anew"
    ]
    for method in ("fds", "hb"):
        before, after = short.runs[method, 0].records, long.runs[method, 0].records
        kept = [old for old, new in zip(before, after, strict=False) if old == new]
        assert len(kept) > len(before) / 3
        assert len(after) > len(before)
        assert max(record.time for record in after) > 5.5
        times = [record.time for record in after]
        assert times == sorted(times)
    steps = [record.info["outer_step"] for record in long.runs["fds", 0].records]
    assert steps == list(range(len(steps)))
    assert long.runs["rs", 0].records[0] != short.runs["rs", 0].records[0]
    for run in read_runs(output / RUNS_FILE):
        assert run.finished == "time_limit"
        assert 9.0 <= run.wall_seconds < 12.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problem": "cats"}, r"problem is 'cats'; it must be one of digits, "),
        ({"methods": ["luck"]}, r"method is 'luck'; it must be one of fds, "),
        ({"seeds": 0}, r"seeds is 0; it must be a number of seeds of at least 1, or a list of seeds"),
        ({"speed": 9}, r"'speed'"),
        ({"method_options": {"fds": {"speed": 1}}}, r"option of fds is 'speed'"),
        ({"address": "127.0.0.1:1"}, r"address is '127.0.0.1:1'; it must be auto, HOST:PORT"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(
    settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as refused:
        compare(**settings)
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_a_number_of_seeds_counts_from_zero() -> None:
    assert [seeds_from(given) for given in (3, [7, 4], (1,), None)] == [[0, 1, 2], [7, 4], [1], None]
