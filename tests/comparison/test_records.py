"""Records on disk: nothing is lost to a killed driver, nothing malformed passes for a record."""

from __future__ import annotations

import math
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.comparison.json_lines import held, replace_lines
from raytune_hyperlearn.comparison.plain_data import to_mapping
from raytune_hyperlearn.comparison.records import Record, RecordWriter, Run, read_records, read_runs
from tests.comparison.synthetic import make_record, make_run


def same(first: Any, second: Any) -> bool:
    """Equality that takes NaN for equal to NaN."""
    return repr(first) == repr(second)


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    rows = [
        make_record(time=0.1 + 0.2, info={"model_based_pick": True, "bracket": np.int64(2)}),
        make_record(status="diverged", validation_loss=math.nan, test_loss=-math.inf, test_accuracy=math.inf),
        make_record(hyperparameters={"learning_rate": list(np.linspace(0, 1, 7))}, error="ValueError: no"),
        make_record(trial="naïve → ünicode\n", budget=np.float32(1.5), status="out_of_memory"),
    ]
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        for row in rows:
            writer.append(row)
    read = read_records(tmp_path / "records.jsonl")
    assert same(read, tuple(rows))
    assert type(read[0].info["bracket"]) is int


def test_a_resumed_run_replaces_its_earlier_summary(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with RecordWriter(path) as writer:
        writer.append(make_run(finished="ended", evaluations=3))
        writer.append(make_run(seed=1))
    with RecordWriter(path) as writer:
        writer.append(make_run(evaluations=9, options={"eta": 3}))
    assert read_runs(path) == (make_run(evaluations=9, options={"eta": 3}), make_run(seed=1))


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_is_left_out_and_later_mended(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.append(make_record(seed=0))
        writer.append(make_record(seed=1))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.rstrip(b"\n")[:kept])
    assert [record.seed for record in read_records(path)] == [0]
    with RecordWriter(path) as writer:
        writer.append(make_record(seed=2))
    assert [record.seed for record in read_records(path)] == [0, 2]


def test_a_whole_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.append(make_record(seed=0))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert [record.seed for record in read_records(path)] == [0]
    with RecordWriter(path) as writer:
        writer.append(make_record(seed=1))
    assert [record.seed for record in read_records(path)] == [0, 1]


def test_a_row_that_another_driver_adds_while_rows_are_removed_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.append(make_record(seed=0))

    def add() -> None:
        with RecordWriter(path) as writer:
            writer.append(make_record(seed=2))

    other = threading.Thread(target=add)
    with held(path):
        other.start()
        other.join(timeout=0.2)
        assert other.is_alive(), "it did not wait"
        replace_lines(path, [to_mapping(make_record(seed=1))])
    other.join(timeout=30)
    assert [record.seed for record in read_records(path)] == [1, 2]


def test_a_killed_driver_loses_no_finished_row(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    driver = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from raytune_hyperlearn.comparison.records import RecordWriter
        from tests.comparison.synthetic import make_record

        writer = RecordWriter(Path(sys.argv[1]))
        for seed in range(25):
            writer.append(make_record(seed=seed))
        print("written", flush=True)
        time.sleep(60)
        """
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", driver, str(path)], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [record.seed for record in read_records(path)] == list(range(25))


def test_a_row_that_does_not_fit_on_the_disk_leaves_no_part_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    softly, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordWriter(path) as writer:
        writer.append(make_record(seed=0))
        whole = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, most))
        try:
            with pytest.raises(OSError, match=str(path)):
                writer.append(make_record(seed=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (softly, most))
        assert path.read_bytes() == whole
        writer.append(make_record(seed=2))
    assert [record.seed for record in read_records(path)] == [0, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{torn", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        ('{"time": ' + "1" * 400 + "}", "experiment is missing"),
        ("[1, 2]", "entry is [1, 2]; it must be a mapping of experiment, problem, method"),
        ('{"method": "fds"}', "experiment is missing"),
    ],
)
def test_any_other_malformed_line_is_refused_with_file_and_line(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.append(make_record())
    good = path.read_text()
    path.write_text(good + line + "\n" + good)
    with pytest.raises(ValueError, match=r".") as caught:
        read_records(path)
    assert str(caught.value).startswith(f"{path} line 2: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": math.nan}, "time is nan; it must be a number of at least 0"),
        ({"time": -1}, "time is -1; it must be a number of at least 0"),
        ({"worker_seconds": math.inf}, "worker_seconds is inf; it must be a number of at least 0"),
        ({"time": 10**400}, f"time is 1{'0' * 17}...{'0' * 19}; it must be a number of at least 0"),
        ({"budget": -1}, "budget is -1; it must be a number of at least 0"),
        ({"seed": "0"}, "seed is '0'; it must be a whole number of at least 0"),
        ({"validation_loss": None}, "validation_loss is None; it must be a number"),
        ({"error": 3}, "error is 3; it must be text"),
        (
            {"status": "failed"},
            "status is 'failed'; it must be 'completed', 'diverged', 'crashed' or 'out_of_memory'",
        ),
        (
            {"hyperparameters": {"learning_rate": 0.1}},
            "hyperparameters.learning_rate is 0.1; it must be a list, each a number",
        ),
    ],
)
def test_records_refuse_values_of_another_kind(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_record(**{"worker_seconds": 1.0, **changes})
    assert str(caught.value) == message


def test_info_that_is_no_plain_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^info\.model is <object.*; it must be plain data"):
        make_record(info={"model": object()})


def test_rows_are_frozen() -> None:
    for row in (make_record(), make_run()):
        assert isinstance(row, (Record, Run))
        with pytest.raises(AttributeError):
            row.seed = 3  # type: ignore[misc]
