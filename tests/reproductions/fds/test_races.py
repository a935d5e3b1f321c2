"""Races: what is on the clock, whose turn it is, and going on after a stop."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.hyperparameters import LearningRate, OptimizerSpace, Schedule
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.reproductions.fds import races
from raytune_hyperlearn.reproductions.fds.races import (
    HypergradientSearch,
    Method,
    Row,
    Run,
    Trained,
    best_loss,
    black_box,
    confirm,
    incumbent,
    race,
    read_rows,
)
from raytune_hyperlearn.reproductions.fds.sgd_tasks import HALF_COSINE, SGDTask
from raytune_hyperlearn.reproductions.fds.speedup import LADDER, sign_rule
from tests.reproductions.small_problem import small_problem

SPACE = OptimizerSpace({"x": Schedule(2, 0.0, 0.25, (-1.0, 1.0)), "fixed": 3.0})


class Bowl:
    """(x₀ − 1/2)² + (x₁ + 1/4)² + 1, with noise from the seed; a short training ends one higher."""

    def __init__(self) -> None:
        self.space = SPACE
        self.asked: list[tuple[float, int, int]] = []
        self.scored = 0

    def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        self.asked.append((share, split, seed))
        x, y = values["x"]
        loss = (x - 0.5) ** 2 + (y + 0.25) ** 2 + 1 + (share < 1) + seed % 7 * 1e-6
        return Trained(loss, self.score)

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        x, y = values["x"]
        return Trained(self.train(values, share, split, seed).validation_loss, self.score, {"x": [x - 0.5, y + 0.25]})

    def score(self) -> dict[str, float]:
        self.scored += 1
        return {"test_loss": 9.0}


def fds() -> Method:
    return HypergradientSearch(SPACE, partial(sign_rule, SPACE.ranges(), 1.4), LADDER)


def rival(method: str = "hb") -> Method:
    return black_box(method, SPACE, 1 / 9, seed=0)


def advanced(run: Run, count: int) -> Run:
    for _ in range(count):
        run.advance()
    return run


def told(rows: list[Row]) -> list[tuple[float, bool, float | None, Numbers]]:
    return [(row.share, row.model_based, row.validation_loss, row.values) for row in rows]


def test_fds_begins_with_short_trainings_and_walks_downhill(tmp_path: Path) -> None:
    bowl = Bowl()
    run = advanced(Run(bowl, fds, 5, tmp_path / "fds.jsonl"), 8)
    assert [row.share for row in run.rows] == [*LADDER, 1.0, 1.0, 1.0, 1.0]
    assert incumbent(run.rows).values["x"] == pytest.approx([0.5, -0.25], abs=0.03)
    assert {split for _, split, _ in bowl.asked} == {5}
    assert len({seed for *_, seed in bowl.asked}) == 8, "every evaluation has an initialization of its own"


@pytest.mark.parametrize("begin", [fds, partial(rival, "rs"), partial(rival, "hb"), partial(rival, "bohb")])
def test_a_stopped_run_goes_on(tmp_path: Path, begin: partial[Method]) -> None:
    whole = advanced(Run(Bowl(), begin, 1, tmp_path / "whole.jsonl"), 20)
    advanced(Run(Bowl(), begin, 1, tmp_path / "part.jsonl"), 13)
    with (tmp_path / "part.jsonl").open("a") as file:  # stopped between a row and its state
        file.write(json.dumps({**whole.rows[13].__dict__, "validation_loss": 0.0}) + "\n" + '{"index": 1')
    part = advanced(Run(Bowl(), begin, 1, tmp_path / "part.jsonl"), 7)
    assert told(part.rows) == told(whole.rows) == told(read_rows(tmp_path / "part.jsonl"))
    times = [row.seconds for row in part.rows]
    assert times == sorted(times)
    assert times[0] > 0


def test_hyperband_trains_on_three_rungs_and_random_search_on_one(tmp_path: Path) -> None:
    rungs = {row.share for row in advanced(Run(Bowl(), rival, 0, tmp_path / "hb.jsonl"), 15).rows}
    assert sorted(rungs) == pytest.approx([1 / 9, 1 / 3, 1.0])
    once = advanced(Run(Bowl(), partial(rival, "rs"), 0, tmp_path / "rs.jsonl"), 4)
    assert {row.share for row in once.rows} == {1.0}


def test_scoring_is_off_the_clock_and_only_of_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(races.time, "process_time", lambda: now[0])

    class Slow(Bowl):
        def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
            now[0] += 2.0
            return super().train(values, share, split, seed)

        def score(self) -> dict[str, float]:
            now[0] += 100.0
            return super().score()

    slow = Slow()
    run = advanced(Run(slow, partial(rival, "rs"), 0, tmp_path / "rs.jsonl"), 12)
    assert [row.seconds for row in run.rows] == [2.0 * (i + 1) for i in range(12)]
    losses = [row.validation_loss or math.inf for row in run.rows]
    best = [i for i, loss in enumerate(losses) if loss < min(losses[:i], default=math.inf)]
    assert [i for i, row in enumerate(run.rows) if row.scores] == best
    assert slow.scored == len(best) < 12


def test_a_diverged_training_is_a_row_and_never_the_best(tmp_path: Path) -> None:
    class Cliff(Bowl):
        def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
            return Trained(math.nan, self.score) if values["x"][0] > 0 else super().train(values, share, split, seed)

    run = advanced(Run(Cliff(), partial(rival, "bohb"), 0, tmp_path / "bohb.jsonl"), 30)
    assert any(row.validation_loss is None and not row.values for row in run.rows)
    assert incumbent(run.rows).values["x"][0] <= 0
    assert read_rows(tmp_path / "bohb.jsonl") == run.rows
    assert best_loss([row for row in run.rows if row.validation_loss is None]) == math.inf
    with pytest.raises(ValueError, match="at least one must have a finite validation loss"):
        incumbent([])


def test_runs_take_turns_by_the_part_of_their_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(races.time, "process_time", lambda: now[0])

    class Costly(Bowl):
        def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
            now[0] += 1.0
            return super().train(values, share, split, seed)

    costly = Costly()
    runs = {name: Run(costly, partial(rival, "rs"), 0, tmp_path / f"{name}.jsonl") for name in ("long", "short")}
    with Bar(Console(quiet=True)) as bar:
        race(runs, {"long": 8.0, "short": 2.0}, bar, "race")
    assert {name: run.seconds for name, run in runs.items()} == {"long": 8.0, "short": 2.0}
    order: list[str] = []
    runs = {name: Run(costly, partial(rival, "rs"), 0, tmp_path / f"{name}.jsonl") for name in runs}
    for name, run in runs.items():
        monkeypatch.setattr(run, "advance", partial(lambda n, go: (order.append(n), go()), name, run.advance))
    with Bar(Console(quiet=True)) as bar:
        race(runs, {"long": 16.0, "short": 4.0}, bar, "race")
    assert order.count("short") == 2
    assert order[:5].count("short") == 1


def test_choices_are_trained_again_once(tmp_path: Path) -> None:
    bowl = Bowl()
    chosen = incumbent(advanced(Run(bowl, fds, 0, tmp_path / "fds.jsonl"), 6).rows)
    bowl.asked.clear()
    first = confirm(bowl, chosen, 0, [11, 12], tmp_path / "again.jsonl")
    again = confirm(bowl, chosen, 0, [11, 12, 13], tmp_path / "again.jsonl")
    assert bowl.asked == [(1.0, 0, seed) for seed in (11, 12, 13)]
    assert again[:2] == first
    assert again[0]["scores"] == {"test_loss": 9.0}


def test_layers_train_with_rates_of_their_own() -> None:
    task = SGDTask(small_problem(), 1, LearningRate(groups="layers"))
    names = task.space.learned[:2]
    values = {names[0]: [0.0], names[1]: [0.5], "momentum": [0.9], "weight_decay": [0.0]}
    still = task.train({**values, names[1]: [0.0]}, 1.0, 0, 3).validation_loss
    moved = task.train(values, 1.0, 0, 3).validation_loss
    assert moved < still - 0.05


def falling(share: float, theta: torch.Tensor) -> torch.Tensor:
    return theta[0] * (1 - share) + theta[1]


def test_a_cosine_is_raced_and_kept(tmp_path: Path) -> None:
    task = SGDTask(load("digits"), 0.5, HALF_COSINE)
    begin = partial(black_box, "rs", task.space, 1 / 9, 0)
    advanced(Run(task, begin, 0, tmp_path / "rs.jsonl"), 1)
    (row,) = Run(task, begin, 0, tmp_path / "rs.jsonl").rows
    assert len(row.values["learning_rate"]) == 1


@pytest.mark.parametrize("shape", ["windows", "linear", falling])
def test_plain_training_is_what_is_differentiated(shape: Any) -> None:
    task = SGDTask(load("digits"), 1, LearningRate(2, shape=shape, groups="layers"))
    rates = {name: [0.02 * (i + 1), 0.1] for i, name in enumerate(task.space.learned[:-2])}
    values = {**rates, "momentum": [0.5], "weight_decay": [1e-3]}
    plain, found = task.train(values, 0.5, 0, 3), task.differentiate(values, 0.5, 0, 3)
    assert plain.validation_loss == pytest.approx(found.validation_loss, rel=1e-4)
    assert plain.scores() == pytest.approx(found.scores(), rel=1e-3)
