"""Columns of records: the same numbers and the same records as reading them all, in a fraction of the memory."""

from __future__ import annotations

import json
import math
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.rows import Rows, evenly, read_rows, rows_of, thinned
from raytune_hyperlearn.comparison.records import RECORDS_FILE, Record, RecordWriter, read_records
from tests.comparison.synthetic import make_record

MANY = 5_000


@pytest.fixture(scope="module")
def known(result_folder: Path) -> tuple[Record, ...]:
    """Records without NaN, which equals nothing."""
    rows = read_records(result_folder / RECORDS_FILE)
    return tuple(row for row in rows if row.status == "completed")


def written(path: Path, records: tuple[Record, ...]) -> Path:
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)
    return path


def test_every_run_has_its_records_in_their_order(tmp_path: Path, known: tuple[Record, ...]) -> None:
    runs, owners = read_rows(written(tmp_path / RECORDS_FILE, known))
    assert owners == ((known[0].experiment, known[0].problem),)
    assert list(runs) == list(dict.fromkeys((row.method, row.seed) for row in known))
    for (method, seed), rows in runs.items():
        own = [row for row in known if (row.method, row.seed) == (method, seed)]
        assert rows == own
        assert rows[1:3] == own[1:3]
        assert rows[-1] == own[-1]
        assert rows.only([2, 0]) == [own[2], own[0]]
        assert pickle.loads(pickle.dumps(rows)) == own
        for name in ("time", "budget", "validation_loss", "validation_accuracy", "training_seconds", "worker_seconds"):
            assert rows.column(name).tolist() == [getattr(row, name) for row in own]


def test_records_in_memory_are_the_same_columns(tmp_path: Path, known: tuple[Record, ...]) -> None:
    own = [row for row in known if (row.method, row.seed) == ("bohb", 1)]
    rows = read_rows(written(tmp_path / RECORDS_FILE, known))[0]["bohb", 1]
    in_memory = rows_of(own)
    for name in ("time", "setting", "trial", "model_pick", "has_setting", "inner_epochs"):
        np.testing.assert_array_equal(in_memory.column(name), rows.column(name))


def test_what_a_record_tells_beside_its_numbers() -> None:
    rows = rows_of(
        [
            make_record(status="crashed", error="b", hyperparameters={}),
            make_record(info={"model_based_pick": False, "inner_epochs": 2}),
            make_record(status="crashed", error="a", info={"training_loss": 0.25, "config_id": "1"}),
            make_record(status="crashed", error="b", info={"hypergradient": {}, "mean_batch_size": "large"}),
            make_record(info={"mean_batch_size": 10**400}),
        ]
    )
    assert rows.statuses() == {"crashed": 3, "completed": 2}
    assert rows.errors() == {"b": 2, "": 2, "a": 1}
    assert rows.is_completed.tolist() == [False, True, False, False, True]
    assert rows.column("model_pick").tolist() == [-1, 0, -1, -1, -1]
    assert rows.column("has_setting").tolist() == [False, True, True, True, True]
    assert rows.column("has_config_id").tolist() == [False, False, True, False, False]
    assert rows.column("has_hypergradient").tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(rows.column("inner_epochs"), [math.nan, 2, math.nan, math.nan, math.nan])
    np.testing.assert_array_equal(rows.column("training_loss"), [math.nan, math.nan, 0.25, math.nan, math.nan])
    assert np.isnan(rows.column("mean_batch_size")).all()


def test_a_setting_is_known_again() -> None:
    settings = [
        {"a": [1.0, 2.0], "b": [3.0]},
        {"b": [3.0], "a": [1.0, 2.0]},  # the same
        {"a": [1.0], "b": [2.0, 3.0]},
        {"a": [-1.0, 2.0], "b": [3.0]},
        {"a": [-2.0, 2.0], "b": [3.0]},  # Python's hash of -1 and -2 is one
        {"c": [1.0, 2.0], "b": [3.0]},
    ]
    numbers = rows_of([make_record(hyperparameters=values) for values in settings]).column("setting").tolist()
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 5


def test_rows_stay_when_their_file_is_replaced(tmp_path: Path, known: tuple[Record, ...]) -> None:
    path = written(tmp_path / RECORDS_FILE, known[:3])
    (rows,) = read_rows(path)[0].values()
    written(tmp_path / "other", known[3:5]).replace(path)
    assert rows == known[:3]
    path.unlink()
    assert rows == known[:3]


def test_a_torn_last_line_is_left_out_and_another_named(tmp_path: Path, known: tuple[Record, ...]) -> None:
    path = written(tmp_path / RECORDS_FILE, known[:2])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    (rows,) = read_rows(path)[0].values()
    assert rows == known[:2]
    path.write_bytes(whole[:-1])  # whole but for its newline
    (rows,) = read_rows(path)[0].values()
    assert rows == known[:2]
    path.write_bytes(b"noise\n" + whole)
    with pytest.raises(ValueError, match="line 1: not JSON"):
        read_rows(path)


def test_a_row_takes_little_memory(tmp_path: Path) -> None:
    line = json.dumps({**vars(make_record(hyperparameters={"rate": [0.1] * 20}))}) + "\n"
    (tmp_path / RECORDS_FILE).write_text(line * MANY)

    def most_memory(read: object) -> float:
        tracemalloc.start()
        try:
            kept = read(tmp_path / RECORDS_FILE)  # type: ignore[operator]
            assert kept
            return tracemalloc.get_traced_memory()[0] / MANY
        finally:
            tracemalloc.stop()

    assert most_memory(read_rows) < 200 < 1500 < most_memory(read_records)


def test_thinned_rows_are_drawn_with_a_seed_and_even_ones_keep_the_ends() -> None:
    assert thinned(4, 4, 0).tolist() == [0, 1, 2, 3]
    drawn = thinned(1000, 50, 0)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert len(drawn) == 50
    assert drawn.tolist() == thinned(1000, 50, 0).tolist() != thinned(1000, 50, 1).tolist()
    assert Counter(np.diff(drawn).tolist()).most_common(1)[0][1] < 25  # in step with nothing
    assert evenly(1000, 4).tolist() == [0, 333, 666, 999]
    assert evenly(3, 4).tolist() == [0, 1, 2]
    assert evenly(0, 4).size == 0


def test_no_rows() -> None:
    rows = rows_of(())
    assert rows == ()
    assert isinstance(rows, Rows)
    assert rows.statuses() == rows.errors() == {}
