"""Trainings side by side: each course is what its trainable reports, however often it was interrupted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.baselines.batch_sizes import Constant
from raytune_hyperlearn.comparison.styles import METHOD_STYLES
from raytune_hyperlearn.problems import Examples, Problem, load
from raytune_hyperlearn.reproductions.course_figures import (
    BINS,
    binned,
    draw_sizes,
    loss_panel,
    mean_size_panel,
    size_panels,
)
from raytune_hyperlearn.reproductions.courses import SCORES, Course, Training, course_of, follow
from raytune_hyperlearn.reproductions.parts import part_of, spread
from raytune_hyperlearn.tune import BatchAdaptiveTrainable
from tests.reproductions.small_problem import small_problem

TRAININGS = [
    Training("adaptive", METHOD_STYLES["ba-momentum"], partial(GaussianWalkRule, 8), 0.05, 0.9, 64),
    Training("constant", METHOD_STYLES["mini-32"], partial(Constant, 16), 0.02, 0.0, 64),
]


def make_course(name: str, losses: list[float], sizes: list[list[int]], **scores: Any) -> Course:
    style = METHOD_STYLES["ba-momentum" if name.startswith("BA") else "mini-32"]
    training = Training(name, style, partial(Constant, 32), 0.02, 0.9, 512)
    values = {score: np.array(scores.get(score, losses), dtype=float) for score in SCORES}
    return Course(training, np.arange(1.0, len(losses) + 1), values, tuple(np.array(own, dtype=float) for own in sizes))


def alone(training: Training, epochs: int) -> list[dict[str, Any]]:
    keys = ("rule", "learning_rate", "momentum", "max_batch_size")
    config = {"problem": small_problem, "seed": 3, "epochs": epochs, **{key: getattr(training, key) for key in keys}}
    trainable = BatchAdaptiveTrainable(config)
    return [trainable.step() for _ in range(epochs)]


@pytest.mark.usefixtures("ray_session")
def test_courses_are_what_each_training_does_alone(tmp_path: Path) -> None:
    courses = follow(small_problem, TRAININGS, 2, 3, tmp_path, Console(quiet=True))
    for training in TRAININGS:
        course, expected = courses[training.name], alone(training, 2)
        np.testing.assert_allclose(course.losses, [result["training_loss"] for result in expected], rtol=1e-6)
        np.testing.assert_allclose(course.scores["test_accuracy"], [result["test_accuracy"] for result in expected])
        assert [sizes.tolist() for sizes in course.batch_sizes] == [result["batch_sizes"] for result in expected]
    again = follow(small_problem, TRAININGS, 2, 3, tmp_path, Console(quiet=True))
    assert again["adaptive"].losses.tolist() == courses["adaptive"].losses.tolist()
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 4, "a finished run trains nothing again"


def test_a_course_is_the_rows_of_its_trial() -> None:
    rows = [
        {"training_seconds": 2.0, **dict.fromkeys(SCORES, loss), "batch_sizes": [16, 16]} for loss in (0.9, 0.7, 0.6)
    ]
    course = course_of(TRAININGS[1], rows)
    assert course.losses.tolist() == [0.9, 0.7, 0.6]
    assert course.seconds.tolist() == [2.0, 4.0, 6.0]
    assert course.epochs.tolist() == [1, 2, 3]
    assert len(course.sizes) == 6


def test_first_below() -> None:
    course = make_course("Mini", [0.9, 0.5, 0.6, 0.1], [[32]] * 4)
    assert (course.first_below(0.5), course.first_below(0.05)) == (1, None)
    assert course.final_loss == 0.1


def test_part_of_a_problem() -> None:
    whole, part = load("digits"), part_of("digits", 100, 0)
    assert (len(part.train), len(part.test)) == (100, len(whole.test))
    assert isinstance(replace(part), Problem)


def test_a_part_of_sorted_examples_holds_every_class() -> None:
    classes = torch.arange(5).repeat_interleave(20)
    part = spread(Examples(torch.arange(100.0), classes), 10)
    assert part.targets.bincount().tolist() == [2] * 5
    assert len(set(part.inputs.tolist())) == 10
    assert len(spread(part, 0)) == len(spread(part, 99)) == 10


def test_panels_leave_out_what_diverged() -> None:
    course = make_course("BA", [0.5, float("inf")], [[32, 64], [32]])
    panel = loss_panel("x", [course], "epochs")
    assert panel.lines[0].values.tolist() == [0.5]
    assert mean_size_panel("x", [course]).lines[0].values.tolist() == [48, 32]


def test_many_updates_become_bins() -> None:
    sizes = np.tile([32.0, 32.0, 96.0], 1_000)
    middles, least, mean, largest = binned(sizes, BINS)
    assert len(middles) == BINS
    assert set(least) == {32.0}
    assert set(largest) == {96.0}
    assert mean.mean() == pytest.approx(sizes.mean())
    course = make_course("BA", [0.5, 0.4], [sizes.tolist(), [32, 512]])
    figure = draw_sizes(size_panels([course, course]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["BA", "BA"]
    assert figure.axes[0].get_ylim()[1] >= 512
