"""The speed-up: factors and their bounds, verdicts that can fail, and a whole race at smoke scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raytune_hyperlearn.problems.data import MissingDataError
from raytune_hyperlearn.reproductions.fds.races import BLACK_BOX, Row
from raytune_hyperlearn.reproductions.fds.speedup import SETTINGS, findings, run
from raytune_hyperlearn.reproductions.fds.speedup_results import (
    Factor,
    Raced,
    first_at,
    median_factor,
    meeting,
    meetings,
    race_panels,
    reaches_goal,
    verdicts,
)


def rows(*points: tuple[float, float | None]) -> list[Row]:
    """Of seconds and losses."""
    return [Row(i, time, 0.1, 1.0, False, loss, {"x": [loss]} if loss else {}) for i, (time, loss) in enumerate(points)]


def raced(fds: list[list[Row]], rs: list[list[Row]], again: float | None = 0.5) -> Raced:
    methods = {"fds": dict(enumerate(fds)), "rs": dict(enumerate(rs))}
    entry: dict[str, Any] = {"validation_loss": again, "scores": {"test_loss": 0.4, "test_accuracy": 0.9}}
    confirmed = {method: {seed: [entry, entry] for seed in runs} for method, runs in methods.items()}
    return Raced("test", "test", 9, methods, confirmed)


FAST = rows((1.0, 2.0), (2.0, 0.5), (3.0, 0.4))
SLOW = rows((1.0, None), (30.0, 0.6), (50.0, 0.5), (60.0, 0.55))


def test_levels() -> None:
    assert first_at(SLOW, 0.6) == 30.0
    assert first_at(SLOW, 0.5) == 50.0
    assert first_at(SLOW, 0.4) is None
    assert meeting(FAST, SLOW, 0.5).factor == Factor(25.0)
    assert meeting(FAST, SLOW, 0.4).factor == Factor(20.0, "at least")
    assert meeting(SLOW, FAST, 0.4).factor == Factor(0.05, "at most")
    assert meeting(FAST, SLOW, 0.1).factor is None


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([Factor(1.0), Factor(9.0), Factor(5.0)], Factor(5.0)),
        ([Factor(1.0), Factor(9.0, "at least"), Factor(5.0)], Factor(5.0)),
        ([Factor(1.0, "at least"), Factor(9.0), Factor(5.0)], Factor(5.0, "at least")),
        ([Factor(1.0), Factor(9.0), Factor(5.0, "at least")], Factor(5.0, "at least")),
        ([Factor(1.0, "at most"), Factor(9.0), Factor(5.0)], Factor(5.0)),
        ([Factor(1.0, "at most"), Factor(2.0, "at most"), Factor(5.0)], Factor(2.0, "at most")),
        ([Factor(0.2), Factor(0.7), Factor(0.5, "at most")], Factor(0.5, "at most")),
        ([Factor(1.0, "at most"), None, Factor(5.0, "at least")], None),
    ],
)
def test_medians_of_bounds_are_bounds(factors: list[Factor | None], expected: Factor | None) -> None:
    assert median_factor(factors) == expected


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (Factor(20.0), True),
        (Factor(19.0), False),
        (Factor(20.0, "at least"), True),
        (Factor(19.0, "at least"), None),
        (Factor(19.0, "at most"), False),
        (Factor(25.0, "at most"), None),
        (None, None),
    ],
)
def test_a_bound_tells_only_what_it_can(factor: Factor | None, expected: bool | None) -> None:
    assert reaches_goal(factor) is expected


def test_verdicts_can_fail() -> None:
    assert [v.holds for v in verdicts(raced([FAST] * 3, [SLOW] * 3))] == [True, True]
    assert [v.holds for v in verdicts(raced([SLOW] * 3, [FAST] * 3))] == [False, False]
    short = rows((1.0, 3.0), (12.0, 0.6))
    held = [v.holds for v in verdicts(raced([FAST] * 3, [short] * 3))]
    assert held == [False, None], "six times sooner, and nobody knows what would come after twelve seconds"
    assert [x.factor for x in meetings(raced([FAST], [short]), "rs", "beyond").values()] == [Factor(6.0, "at least")]
    ahead = meetings(raced([rows((4.0, 0.9))], [rows((1.0, 0.9), (8.0, 0.5))]), "rs", "beyond")
    assert [x.factor for x in ahead.values()] == [Factor(0.25)], "where FDS never passes, at its own lowest"


def test_everything_is_told_and_drawn() -> None:
    contest = raced([FAST, FAST, FAST], [SLOW, SLOW, rows((70.0, None))], again=None)
    found = findings([contest])
    at_rival, beyond, final = found.tables
    assert at_rival.rows[0][-2:] == ("25×, 25×, > 70×", "25×")
    assert beyond.rows[0][1:4] == ("0.5, 0.5, 2", "2 s, 2 s, 1 s", "50 s, 50 s, not within 70 s")
    assert beyond.rows[0][-1] == "25×"
    assert final.rows[1][1] == "4, 4, 1"
    (panel,) = race_panels([contest])
    assert len(panel.lines) == 5, "a run without a finite loss has no line"
    assert panel.lines[3].losses.tolist() == [0.6, 0.5, 0.5]
    assert panel.title == "test, K = 9"


def test_scales() -> None:
    assert [len(contests) for contests in SETTINGS.values()] == [3, 3, 3, 4]
    for scale in ("small", "medium", "paper"):
        assert all(contest.seeds == 3 and contest.confirmations == 3 for contest in SETTINGS[scale])  # type: ignore[index]


@pytest.mark.parametrize("contest", [*SETTINGS["small"], SETTINGS["medium"][0]], ids=lambda contest: str(contest.name))
def test_what_is_raced_on(contest: Any) -> None:
    try:
        task = contest.task()
    except MissingDataError as missing:
        pytest.skip(str(missing))
    assert task.space.dimensions == {"fashion-mnist": 9, "mnist": 9, "cifar10": 58, "cleaning": 5_000}[contest.name]
    assert task.steps == {"fashion-mnist": 445, "mnist": 138, "cifar10": 62, "cleaning": 200}[contest.name]


@pytest.mark.long
def test_hundreds_of_weights_are_learned_and_not_found_by_search(tmp_path: Path) -> None:
    """The smoke scale: with a weight per example FDS is far ahead of every other method, and finds the wrong labels."""
    found = run("smoke", tmp_path, Console(quiet=True))
    assert [drawn.name for drawn in found.figures] == ["races"]
    assert len(found.tables[0].rows) >= 9
    cleaning = found.numbers["cleaning"]
    lowest = {m: min(loss for _, loss, _ in by_seed["0"] if loss is not None) for m, by_seed in cleaning.items()}
    assert all(lowest["fds"] < 0.85 * lowest[method] for method in BLACK_BOX)
    best = {method: [scores for _, _, scores in by_seed["0"] if scores][-1] for method, by_seed in cleaning.items()}
    assert best["fds"]["f1"] > 0.75
    assert all(best["fds"]["f1"] > best[method]["f1"] + 0.15 for method in BLACK_BOX)
    assert all(math.isfinite(loss) for loss in lowest.values())
    again = run("smoke", tmp_path, Console(quiet=True))
    assert again.numbers == found.numbers, "a finished race is read, not run again"
