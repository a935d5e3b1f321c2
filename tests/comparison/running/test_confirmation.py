"""What was found, trained again: the scores are those of fresh trainings, and the report says what they are worth."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.analysis.statistics import compare_with
from raytune_hyperlearn.comparison.analysis.summary import confirmed_regret, final_by_seed, summarize
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import Confirmation, RecordWriter, read_confirmations
from raytune_hyperlearn.comparison.reporting.page import build_report
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.tables import confirmation_table, summary_table
from raytune_hyperlearn.comparison.reporting.wording import headline
from raytune_hyperlearn.comparison.running import confirmation
from raytune_hyperlearn.comparison.running.confirmation import confirm
from raytune_hyperlearn.tune.retraining import RetrainingTrainable
from tests.comparison.synthetic import make_experiment, make_record, make_run, write_folder

CONSOLE = Console(file=io.StringIO())
FOUND = {
    "rs": {"learning_rate": [0.1], "momentum": [0.5], "weight_decay": [0.0]},
    "bo": {"learning_rate": [0.1], "momentum": [0.5], "weight_decay": [0.0]},  # the same: it is trained once
    "fds": {"learning_rate": [0.0, 0.3, 0.1], "momentum": [0.8], "weight_decay": [1e-3]},
    "mini-32": {"batch_size": [32.0]},
}


def small_folder(path: Path, **changes: Any) -> Path:
    """One run per method with two rows each, the later one better."""
    experiment = make_experiment(
        name="tiny", methods=tuple(FOUND), seeds=(4,), epochs=0.2, min_epochs=0.1, reference=None, **changes
    )
    path.mkdir()
    write_experiment(experiment, path / "experiment.yaml")
    with RecordWriter(path / "records.jsonl") as records, RecordWriter(path / "runs.jsonl") as runs:
        for method, found in FOUND.items():
            for index in (0, 1):
                values = {name: [0.1 * value for value in schedule] for name, schedule in found.items()}
                records.append(
                    make_record(
                        experiment="tiny",
                        method=method,
                        seed=4,
                        time=1.0 + index,
                        budget=0.2,
                        validation_loss=0.9 - 0.1 * index,
                        hyperparameters=found if index else values,
                    )
                )
            runs.append(make_run(method=method, seed=4, evaluations=2))
    return path


def with_confirmations(folder: Path, losses: dict[tuple[str, int], list[float]]) -> Path:
    with RecordWriter(folder / "confirmations.jsonl") as writer:
        for (method, seed), values in losses.items():
            accuracies = [0.9] * len(values)
            writer.append(Confirmation(method, seed, values, accuracies, [2 * value for value in values], accuracies))
    return folder


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_incumbents_are_trained_again_as_if_by_hand(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "made", confirmations=2)
    experiment = load_study(folder).experiment
    confirm(experiment, folder, CONSOLE)
    rows = {row.method: row for row in read_confirmations(folder / "confirmations.jsonl")}
    assert set(rows) == {"rs", "bo", "fds"}  # a batch size is no schedule of the optimizer's hyperparameters
    for method in ("rs", "fds"):
        config = {"problem": "digits", "space": experiment.space, "epochs": 0.2, "resplit": True, "retrainings": 2}
        expected = RetrainingTrainable({**config, "hyperparameters": FOUND[method]}).step()["scores"]
        assert rows[method].validation_loss == [scores["validation_loss"] for scores in expected]
        assert rows[method].test_accuracy == [scores["test_accuracy"] for scores in expected]
        assert len(set(rows[method].validation_loss)) == 2
    assert replace(rows["bo"], method="rs") == rows["rs"]


def test_nothing_is_trained_where_nothing_is_asked_for_or_all_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def retrain(_experiment: Any, settings: list[Any], *_rest: Any) -> list[None]:
        asked.append(len(settings))
        return [None] * len(settings)

    monkeypatch.setattr(confirmation, "retrain", retrain)
    monkeypatch.setattr(confirmation.ray, "cluster_resources", lambda: {"CPU": 2.0})
    folder = small_folder(tmp_path / "none")
    confirm(load_study(folder).experiment, folder, CONSOLE)
    assert asked == []
    folder = small_folder(tmp_path / "some", confirmations=2)
    with_confirmations(folder, {("fds", 4): [0.3, 0.4]})  # the others were added to the folder after it
    confirm(load_study(folder).experiment, folder, CONSOLE)
    assert asked == [2]
    # A training that failed has the worst scores, not none.
    rows = [row.validation_loss for row in read_confirmations(folder / "confirmations.jsonl")]
    assert rows == [[0.3, 0.4], [math.inf] * 2, [math.inf] * 2]
    confirm(load_study(folder).experiment, folder, CONSOLE)
    assert asked == [2]
    assert {path.name for path in folder.iterdir()} == {
        "confirmations.jsonl",
        "experiment.yaml",
        "records.jsonl",
        "runs.jsonl",
    }


def test_the_report_shows_means_over_fresh_seeds_beside_what_was_found(tmp_path: Path) -> None:
    experiment = make_experiment(methods=("fds", "rs"), seeds=(0, 1))
    folder = with_confirmations(
        write_folder(tmp_path / "made", experiment),
        {("fds", 0): [0.2, 0.4], ("fds", 1): [0.5, 0.7], ("rs", 0): [0.1, math.inf], ("rs", 1): [0.2, 0.2]},
    )
    study = load_study(folder)
    zero, test_zero = 0.105, 0.128  # of the synthetic reference
    assert confirmed_regret(study, study.runs["fds", 0], "validation") == pytest.approx(0.3 - zero)
    assert confirmed_regret(study, study.runs["fds", 1], "test") == pytest.approx(1.2 - test_zero)
    assert confirmed_regret(study, study.runs["rs", 0], "validation") == math.inf
    summaries = summarize(study)
    assert summaries["fds"].confirmed is not None
    assert summaries["fds"].confirmed.median == pytest.approx(0.45 - zero)
    table = confirmation_table(study, summaries, method_styles(summaries))
    assert table is not None
    assert table.rows[0][2:] == (
        "0.345 [0.27,\N{NO-BREAK SPACE}0.42]",
        "0.772 [0.622,\N{NO-BREAK SPACE}0.922]",
        "0.195, 0.495",
    )
    assert table.rows[1][-1] == "no result, 0.095"
    assert "trained 2 times" in table.note
    text = sentences(study)
    assert "Trained again with fresh seeds, what FDS found has the lowest median validation regret (0.345)." in text
    terminal = summary_table(study)
    assert terminal.columns[3] == "again"
    assert terminal.rows[0][3] == "0.345"
    page = build_report([folder], tmp_path / "report.html").read_text()
    assert re.search(r"<h\d[^>]*>Trained again with fresh seeds", page)


def sentences(study: Study) -> str:
    """What the report says first."""
    summaries = summarize(study)
    pairs = compare_with(study.focus, final_by_seed(study), np.random.default_rng(0))
    return " ".join(headline(study, summaries, method_styles(summaries), pairs))


def test_without_confirmations_there_is_no_table(result_folder: Path) -> None:
    study = load_study(result_folder)
    summaries = summarize(study)
    assert summaries["fds"].confirmed is None
    assert confirmation_table(study, summaries, method_styles(summaries)) is None
    assert "Trained again" not in sentences(study)
