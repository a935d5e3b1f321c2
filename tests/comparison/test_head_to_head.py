"""A comparison from Python: the same settings as on the command line, and a study back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from raytune_hyperlearn import SearchSpace, compare, extend
from raytune_hyperlearn.comparison.head_to_head import seeds_from

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
