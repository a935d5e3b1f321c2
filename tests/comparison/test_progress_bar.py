"""The bar on a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from raytune_hyperlearn.comparison import progress_bar
from raytune_hyperlearn.comparison.progress_bar import Bar


def test_a_pipe_gets_a_line_a_minute_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, clock = io.StringIO(), iter((0.0, 59.0, 61.0, 62.0, 120.0, 122.0, 130.0, 131.0))
    monkeypatch.setattr(progress_bar, "monotonic", lambda: next(clock))
    with Bar(Console(file=pipe)) as bar:
        task = bar.add_task("trainings", total=6)
        for _ in range(6):
            bar.advance(task)
        bar.update(task, completed=6)
    lines = ["trainings: 2 of 6", "trainings: 5 of 6", "trainings: 6 of 6"]
    assert pipe.getvalue().splitlines() == lines


def test_a_tracked_iteration_speaks_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, clock = io.StringIO(), iter((0.0, 40.0, 80.0, 120.0))
    monkeypatch.setattr(progress_bar, "monotonic", lambda: next(clock))
    with Bar(Console(file=pipe)) as bar:
        for _ in bar.track(range(3), description="seeds"):
            pass
    assert pipe.getvalue().splitlines() == ["seeds: 2 of 3", "seeds: 3 of 3"]


def test_a_tracked_iteration_ends_with_its_length() -> None:
    pipe = io.StringIO()
    with Bar(Console(file=pipe)) as bar:
        assert list(bar.track(range(3), description="seeds")) == [0, 1, 2]
    assert pipe.getvalue() == "seeds: 3 of 3\n"
