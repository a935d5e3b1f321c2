"""Progress on the terminal: which run, time left, best so far; on a pipe one line per run."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raytune_hyperlearn.comparison.records import RecordWriter, remove_records
from raytune_hyperlearn.comparison.reporting import progress as progress_module
from raytune_hyperlearn.comparison.reporting.progress import Progress
from tests.comparison.synthetic import FULL_BUDGET, make_experiment, make_record, make_run

Append = Callable[..., None]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    path.touch()
    return path


@pytest.fixture
def append(records: Path) -> Append:
    def write(**changes: Any) -> None:
        with RecordWriter(records) as writer:
            writer.append(make_record(**changes))

    return write


def note(records: Path, **changes: Any) -> None:
    """As a driver notes a run that has ended."""
    with RecordWriter(records.with_name("runs.jsonl")) as writer:
        writer.append(make_run(**changes))


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_pipe_gets_a_line_for_every_run(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=200)
    experiment = make_experiment(methods=("fds", "rs"), seeds=(0,))
    with Progress(experiment, records, 0, console) as progress:
        progress.announce("fds", 0)
        append(method="fds", validation_loss=0.5)
        append(method="fds", validation_loss=0.25)
        append(method="fds", validation_loss=0.4)
        note(records, method="fds", finished="converged")
        progress.ended("fds", 0)
        progress.announce("rs", 0)
        append(method="rs", validation_loss=0.75)
        progress.ended("rs", 0)
    assert lines(console) == [
        "[1/2] fds seed 0: 3 evaluations, best validation loss 0.25; ended: converged",
        "[2/2] rs seed 0: 1 evaluation, best validation loss 0.75",
    ]


def test_a_pipe_gets_a_heartbeat_while_a_run_goes_on(
    records: Path, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "HEARTBEAT", 0.01)
    console = Console(file=io.StringIO(), width=200)
    with Progress(make_experiment(methods=("hb",), seeds=(0,)), records, 0, console) as progress:
        progress.announce("hb", 0)
        wait_for(lambda: "run 1 of 1: hb, seed 0: starting its worker" in lines(console))
        append(method="hb", budget=3.0, time=20.0, validation_loss=0.5)
        said = "run 1 of 1: hb, seed 0: 40 s left, 1 evaluation, best validation loss 0.5 (at a smaller budget)"
        wait_for(lambda: said in lines(console))
        progress.ended("hb", 0)
    assert lines(console)[-1].startswith("[1/1] hb seed 0: 1 evaluation,")


def test_every_result_is_a_line_if_asked_for(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(make_experiment(methods=("hb",), seeds=(0,)), records, 0, console, verbose=True) as progress:
        progress.announce("hb", 0)
        append(method="hb", budget=3.0, time=2.0, validation_loss=0.5)
        append(method="hb", budget=3.0, time=4.25, status="diverged")
        wait_for(lambda: len(lines(console)) == 2)
        progress.ended("hb", 0)
    assert lines(console)[:2] == [
        "2.0 s: hb seed 0, 3 epochs, validation loss 0.5",
        "4.2 s: hb seed 0, 3 epochs, validation loss diverged",
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_only_completed_rows_of_the_full_budget_are_the_best(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=200)
    experiment = make_experiment(methods=("hb",), seeds=(0,), metric="validation_accuracy")
    with Progress(experiment, records, 0, console) as progress:
        progress.announce("hb", 0)
        append(method="hb", budget=3.0, validation_accuracy=0.99)
        append(method="hb", budget=FULL_BUDGET, validation_accuracy=0.5)
        append(method="hb", budget=FULL_BUDGET, validation_accuracy=0.75)
        append(method="hb", budget=FULL_BUDGET, validation_accuracy=1.0, status="diverged")
        append(method="hb", seed=1, validation_accuracy=0.98)  # another run's
        progress.ended("hb", 0)
    assert lines(console) == ["[1/1] hb seed 0: 4 evaluations, best validation accuracy 0.75"]


def test_a_run_that_goes_on_counts_from_where_it_was(records: Path, append: Append) -> None:
    append(method="rs", time=50.0, validation_loss=0.1)
    console = Console(file=io.StringIO(), width=200)
    with Progress(make_experiment(methods=("fds", "rs"), seeds=(0, 1)), records, 2, console) as progress:
        progress.announce("rs", 0)
        (_, run) = progress._numbered()[0]
        assert run.text() == "seed 0: starting its worker again, 1 evaluation, best validation loss 0.1"
        append(method="rs", time=52.0, validation_loss=0.5)
        progress._read()
        assert run.text() == "seed 0: 8 s left, 2 evaluations, best validation loss 0.1"
        records.open("a").write('{"torn')  # the row that a driver was writing when it was killed
        progress.ended("rs", 0)
    assert lines(console) == ["[3/4] rs seed 0: 2 evaluations, best validation loss 0.1"]


def test_the_first_row_of_a_new_file_tells_when_the_clock_began(records: Path, append: Append) -> None:
    records.unlink()
    console = Console(file=io.StringIO(), width=200)
    with Progress(make_experiment(methods=("hb",), seeds=(0,)), records, 0, console) as progress:
        progress.announce("hb", 0)
        append(method="hb", time=20.0)
        progress._read()
        assert progress._under_way["hb", 0].text().startswith("seed 0: 40 s left, 1 evaluation,")
        progress.ended("hb", 0)


def test_the_time_left_is_right_however_seldom_a_pipe_speaks(
    records: Path, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(make_experiment(methods=("hb",), seeds=(0,)), records, 0, console) as progress:
        progress.announce("hb", 0)
        append(method="hb", time=0.5)
        run = progress._under_way["hb", 0]
        wait_for(lambda: run.evaluations == 1)  # long before the first line
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 30)
        assert 27 < float(run.text().split(": ")[1].split(" s")[0]) < 30
        progress.ended("hb", 0)


def test_rows_that_are_removed_meanwhile_do_not_confuse_it(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=200)
    append(method="fds", validation_loss=0.4, error="long" * 100)
    append(method="fds", validation_loss=0.1)
    with Progress(make_experiment(methods=("fds",), seeds=(0,)), records, 0, console) as progress:
        progress.announce("fds", 0)
        assert remove_records(records, lambda row: row.validation_loss == 0.1) == 1  # it will be made again
        append(method="fds", validation_loss=0.3, error="longer" * 200)
        progress.ended("fds", 0)
    assert lines(console) == ["[1/1] fds seed 0: 2 evaluations, best validation loss 0.3"]


def test_an_interrupted_run_is_not_called_done(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(make_experiment(methods=("fds",), seeds=(0,)), records, 0, console)
    with pytest.raises(KeyboardInterrupt), progress:  # noqa: PT012
        progress.announce("fds", 0)
        append(method="fds")
        raise KeyboardInterrupt
    assert lines(console) == []


def test_a_terminal_sees_the_run_the_time_left_and_the_best(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    progress = Progress(make_experiment(methods=("fds", "rs"), seeds=(0,)), records, 0, console)
    progress.announce("fds", 0)
    starting = drawn(progress, console)
    assert "run 1 of 2: FDS, seed 0: starting its worker" in starting
    append(method="fds", time=20.0, validation_loss=0.25)
    going = drawn(progress, console)
    assert "40 s left, 1 evaluation, best validation loss 0.25" in going
    note(records, method="fds", finished="outer_steps")
    with console.capture() as said:
        progress.ended("fds", 0)
    progress.announce("rs", 0)
    assert said.get() == "fds seed 0 ended before its time limit: last outer step\n"
    assert "run 2 of 2: " in drawn(progress, console)
    assert "0.25" in drawn(progress, console)  # the finished run's best stays in the table


def test_runs_at_the_same_time_are_told_apart(records: Path, append: Append) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    progress = Progress(make_experiment(methods=("fds", "rs"), seeds=(0, 1)), records, 0, console)
    progress.announce("fds", 0)
    progress.announce("rs", 0)
    append(method="rs", time=20.0, validation_loss=0.5)
    append(method="fds", time=30.0, validation_loss=0.25)
    going = drawn(progress, console)
    assert "run 1 of 4: FDS, seed 0: 30 s left, 1 evaluation, best validation loss 0.25" in going
    assert "run 2 of 4: random search, seed 0: 40 s left, 1 evaluation, best validation loss 0.5" in going
    note(records, method="fds")
    progress.ended("fds", 0)
    later = drawn(progress, console)
    assert "run 2 of 4: random search, seed 0" in later
    assert "run 1 of 4" not in later


def drawn(progress: Progress, console: Console) -> str:
    with console.capture() as captured:
        console.print(progress.draw())
    return captured.get()
