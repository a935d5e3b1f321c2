"""What a comparison found, ready for use."""

from __future__ import annotations

from pathlib import Path

from raytune_hyperlearn.comparison.analysis.best import best_of
from raytune_hyperlearn.comparison.analysis.results import load_study
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import Confirmation, RecordWriter
from tests.comparison.synthetic import make_experiment, make_record

GOOD = {"learning_rate": [0.3] * 7, "momentum": [0.9], "weight_decay": [0.0]}
LUCKY = {"learning_rate": [0.1] * 7, "momentum": [0.5], "weight_decay": [0.0]}


def folder_with(folder: Path, *rows: dict[str, object], confirmations: dict[str, list[float]] | None = None) -> Path:
    write_experiment(make_experiment(methods=("fds", "rs", "arbiter"), seeds=(0,)), folder / "experiment.yaml")
    with RecordWriter(folder / "records.jsonl") as writer:
        for row in rows:
            writer.append(make_record(seed=0, **row))
    if confirmations is not None:
        with RecordWriter(folder / "confirmations.jsonl") as writer:
            for method, losses in confirmations.items():
                writer.append(Confirmation(method, 0, losses, [0.9, 0.9], [0.1, 0.1], [0.9, 0.9]))
    return folder


def test_the_lowest_validation_loss_is_the_best(tmp_path: Path) -> None:
    rows = [
        {"method": "fds", "validation_loss": 0.2, "hyperparameters": GOOD},
        {"method": "rs", "validation_loss": 0.1, "hyperparameters": LUCKY},
    ]
    study = load_study(folder_with(tmp_path, *rows))
    best, of_fds = best_of(study), best_of(study, "fds")
    assert best is not None
    assert of_fds is not None
    assert (best.found["method"], best.hyperparameters) == ("rs", LUCKY)
    assert (of_fds.found["validation_loss"], of_fds.at(0, 10)["learning_rate"]) == (0.2, 0.3)


def test_trainings_with_fresh_seeds_decide_where_all_were_trained_again(tmp_path: Path) -> None:
    rows = [
        {"method": "fds", "validation_loss": 0.2, "hyperparameters": GOOD},
        {"method": "rs", "validation_loss": 0.1, "hyperparameters": LUCKY},
    ]
    again = {"fds": [0.2, 0.3], "rs": [0.1, 2.3]}
    best = best_of(load_study(folder_with(tmp_path, *rows, confirmations=again)))
    assert best is not None
    assert best.found["method"] == "fds"


def test_batch_sizes_are_kept_apart(tmp_path: Path) -> None:
    schedule = {**GOOD, "learning_rate": [0.1], "batch_size": [32.0, 48.0]}
    best = best_of(load_study(folder_with(tmp_path, {"method": "arbiter", "hyperparameters": schedule})))
    assert best is not None
    assert best.batch_sizes == (32.0, 48.0)
    assert "batch_size" not in best.hyperparameters


def test_nothing_completed(tmp_path: Path) -> None:
    assert best_of(load_study(folder_with(tmp_path, {"method": "fds", "status": "diverged"}))) is None
