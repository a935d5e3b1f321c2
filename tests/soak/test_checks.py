"""The soak's checks find what they are there to find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raytune_hyperlearn.comparison.records import RECORDS_FILE, RUNS_FILE, Record, RecordWriter, Run
from tests.comparison.synthetic import make_record
from tests.soak.checks import RESTART, complaints
from tests.soak.tasks import ENDLESS, TASKS, Task

FDS = next(task for task in TASKS if task.name == "FDS")
ROWS = [
    make_record(method="fds", trial="a", time=float(step), budget=1.0, info={"outer_step": step}) for step in range(4)
]


def write(folder: Path, rows: list[Record], wall_seconds: float = 5.0, evaluations: int | None = None) -> Path:
    folder.mkdir()
    with RecordWriter(folder / RECORDS_FILE) as records, RecordWriter(folder / RUNS_FILE) as runs:
        for row in rows:
            records.append(row)
        count = len(rows) if evaluations is None else evaluations
        runs.append(Run("fds", 0, 1.0, wall_seconds, 0.0, count, {}, "ended"))
    return folder


@pytest.fixture
def undisturbed(tmp_path: Path) -> Path:
    return write(tmp_path / "undisturbed", ROWS)


def test_the_same_rows_are_right_also_after_a_crash(tmp_path: Path, undisturbed: Path) -> None:
    crash = replace(ROWS[1], status="crashed", info={}, error="died")
    assert complaints(FDS, write(tmp_path / "found", [*ROWS[:2], crash, *ROWS[2:]]), undisturbed) == []


@pytest.mark.parametrize(
    ("rows", "changes", "complaint"),
    [
        ([*ROWS, replace(ROWS[3], time=9.0)], {}, "is recorded 2 times"),
        ([ROWS[0], *ROWS[2:]], {}, "outer steps are [0, 2, 3]"),
        (ROWS[:3], {"evaluations": 4}, "the summary counts 4 results; there are 3"),
        ([replace(ROWS[0], time=2.5), *ROWS[1:]], {}, "the clock ran backwards"),
        ([replace(ROWS[0], validation_loss=7.0), *ROWS[1:]], {}, "the rows differ from the undisturbed run's"),
        (ROWS, {"wall_seconds": ENDLESS + RESTART + 1}, "a limit of 600 s became 616.0 s"),
    ],
)
def test_what_is_wrong_is_found(
    tmp_path: Path, undisturbed: Path, rows: list[Record], changes: dict[str, float], complaint: str
) -> None:
    found = complaints(FDS, write(tmp_path / "found", rows, **changes), undisturbed)  # type: ignore[arg-type]
    assert any(complaint in line for line in found), found


def test_the_summary_must_be_there_once(tmp_path: Path, undisturbed: Path) -> None:
    (undisturbed / RUNS_FILE).write_text("")
    assert complaints(FDS, undisturbed, None) == ["0 summaries; there must be one"]


def test_a_run_begins_once_and_is_then_gone_on_with(tmp_path: Path) -> None:
    task = Task("BOHB", "bohb")
    assert "--config" in task.command(tmp_path / "run", "127.0.0.1:1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.yaml").touch()
    assert task.command(tmp_path / "run", "127.0.0.1:1")[-2:] == ["--resume", str(tmp_path / "run")]
