"""Outer loops that go on where they were stopped, and verdicts on what was learned that can fail."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.reproductions.fds import lenet_training as fds_trainings
from raytune_hyperlearn.reproductions.fds.figure3 import SETTINGS, findings, outer_panels, schedule_panels
from raytune_hyperlearn.reproductions.fds.lenet_training import LeNetTraining, Scores
from raytune_hyperlearn.reproductions.fds.outer_loops import (
    LEARNED,
    ByMethod,
    Learned,
    Settings,
    learn,
    learn_all,
    less,
    mean_and_error,
)
from tests.reproductions.fds.test_figure2 import SETTING, blobs

SMALL = Settings((replace(SETTING, steps=4),), outer_steps=3, windows=2, retrainings=2, cosines=(0.01, 0.1))


@pytest.fixture(name="training")
def small_training(monkeypatch: pytest.MonkeyPatch) -> LeNetTraining:
    monkeypatch.setattr(fds_trainings, "DATA", {"blobs": blobs})
    return LeNetTraining(SMALL.settings[0])


def test_all_methods_learn_from_zero_by_the_same_rule(training: LeNetTraining, tmp_path: Path) -> None:
    with Bar(Console(quiet=True)) as bar:
        by_method = learn_all(training, SMALL, tmp_path / "blobs.jsonl", bar)
    assert list(by_method) == [*LEARNED, "cosine"]
    for method, count in zip(LEARNED, (4, 4, 2), strict=True):
        first, second, third = by_method[method].rates
        assert first == [0.0] * count
        assert {abs(b - a) for a, b in zip(first, second, strict=True)} <= {0.0, SMALL.step}
        assert any(rate > 0 for rate in third)
        assert len(by_method[method].retrained) == 2
    assert len({round(by_method[method].losses[0], 9) for method in LEARNED}) == 1, "the first outer step moves nothing"
    assert by_method["cosine"].chosen in by_method["cosine"].rates
    drawn = findings({"blobs": by_method}, SMALL)
    assert len(drawn.figures[0].figure.axes) == 3
    assert len(drawn.tables[0].rows) == 4


@pytest.mark.parametrize("method", LEARNED)
def test_a_stopped_outer_loop_goes_on(training: LeNetTraining, tmp_path: Path, method: str) -> None:
    with Bar(Console(quiet=True)) as bar:
        whole = learn(training, method, SMALL, tmp_path / "whole.jsonl", bar)
        learn(training, method, replace(SMALL, outer_steps=2), tmp_path / "part.jsonl", bar)
        with (tmp_path / "part.jsonl").open("a") as torn:
            torn.write('{"rates": [0.')
        part = learn(training, method, SMALL, tmp_path / "part.jsonl", bar)
    assert part == whole
    assert len(whole) == 3


def learned(rates: list[float], losses: list[float], accuracy: float = 0.8) -> Learned:
    """Of these retrained losses; the outer steps do not matter."""
    scores = tuple(Scores(loss, accuracy, loss, accuracy) for loss in losses)
    return Learned([[0.0] * len(rates), rates], np.array([2.0, 1.0]), np.array([0.1, accuracy]), scores)


def by_method(**changed: Learned) -> ByMethod:
    published = {
        "greedy": learned([0.01] * 4, [1.0, 1.1, 1.2]),
        "unshared": learned([0.4, 0.0, 0.5, 0.3], [0.9, 1.0, 1.1]),
        "fds": learned([0.1, 0.05], [0.5, 0.6, 0.7]),
        "cosine": learned([0.1, 0.08, 0.04, 0.0], [0.6, 0.7, 0.81]),
    }
    return {**published, **changed}


def holds(simple: ByMethod, real: ByMethod) -> list[bool | None]:
    return [verdict.holds for verdict in findings({"mnist": simple, "svhn": real}, SETTINGS["paper"]).verdicts]


FINE = learned([0.1] * 4, [0.6, 0.7, 0.8])


def test_verdicts_as_published() -> None:
    assert holds(by_method(unshared=FINE), by_method()) == [True] * 5


def test_verdicts_can_fail() -> None:
    assert holds(by_method(unshared=FINE), by_method(greedy=learned([0.3] * 4, [0.4, 0.5, 0.6])))[:2] == [False, False]
    assert holds(by_method(), by_method())[2] is False
    assert holds(by_method(unshared=FINE), by_method(unshared=FINE))[3] is False
    assert holds(by_method(unshared=FINE), by_method(cosine=learned([0.1] * 4, [0.4, 0.5, 0.6])))[4] is False
    noisy = learned([0.1] * 4, [0.1, 1.9, 0.6])
    assert holds(by_method(unshared=FINE), by_method(cosine=noisy))[4] is None


def test_a_schedule_that_diverges_is_worse_than_any() -> None:
    diverged, fine = learned([9.0], [0.5, math.inf]), learned([0.1], [0.9, 0.8])
    assert less(fine, diverged) is True
    assert less(diverged, fine) is False
    assert mean_and_error([1.0, math.inf])[0] == math.inf
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)


def test_panels() -> None:
    by_data = {"mnist": by_method(unshared=FINE), "svhn": by_method()}
    assert [panel.title for panel in schedule_panels(by_data)][:2] == [
        "mnist: greedy, horizon 1",
        "mnist: non-greedy, unshared",
    ]
    panels = outer_panels(by_data)
    assert [panel.y_name for panel in panels] == ["validation loss", "mean learning rate"] * 2
    assert panels[1].lines[0].xs.tolist() == [2.0], "a learning rate of zero has no place on a logarithmic axis"


def test_scales() -> None:
    assert list(SETTINGS) == ["smoke", "small", "medium", "paper"]
    assert [setting.data for setting in SETTINGS["paper"].settings] == ["mnist", "svhn"]
    assert all(setting.steps == 0 and setting.images == 0 for setting in SETTINGS["paper"].settings)
