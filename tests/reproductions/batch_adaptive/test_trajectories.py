"""Trainings side by side: each trajectory is what its trainable reports, however often it was interrupted."""

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
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.problems import Examples, Problem, load
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import (
    CURVES,
    Training,
    Trajectory,
    train_all,
    trajectory_of,
)
from raytune_hyperlearn.reproductions.batch_adaptive.trajectory_figures import (
    BINS,
    binned,
    draw_over_seeds,
    draw_sizes,
    loss_panel,
    mean_size_panel,
    on_one_scale,
    size_panels,
)
from raytune_hyperlearn.reproductions.parts import evenly_spaced, part_of
from raytune_hyperlearn.tune import BatchAdaptiveTrainable
from tests.reproductions.small_problem import small_problem

TRAININGS = [
    Training("adaptive", METHOD_STYLES["ba-momentum"], partial(GaussianWalkRule, 8), 0.05, 0.9, 64),
    Training("constant", METHOD_STYLES["mini-32"], partial(Constant, 16), 0.02, 0.0, 64),
]


def make_trajectory(name: str, losses: list[float], sizes: list[list[int]], seed: int = 0, **scores: Any) -> Trajectory:
    style = METHOD_STYLES["ba-momentum" if name.startswith("BA") else "mini-32"]
    training = Training(name, style, partial(Constant, 32), 0.02, 0.9, 512)
    values = {score: np.array(scores.get(score, losses), dtype=float) for score in CURVES}
    seconds = np.arange(1.0, len(losses) + 1)
    return Trajectory(training, seed, seconds, values, tuple(np.array(own, dtype=float) for own in sizes))


def alone(training: Training, seed: int, epochs: int) -> list[dict[str, Any]]:
    keys = ("rule", "learning_rate", "momentum", "max_batch_size")
    config = {"problem": small_problem, "seed": seed, "epochs": epochs, **{key: getattr(training, key) for key in keys}}
    trainable = BatchAdaptiveTrainable(config)
    return [trainable.step() for _ in range(epochs)]


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_trajectories_are_what_each_training_does_alone(tmp_path: Path) -> None:
    trajectories = train_all(small_problem, TRAININGS, 2, (3, 5), tmp_path, Console(quiet=True))
    for training in TRAININGS:
        assert [trajectory.seed for trajectory in trajectories[training.name]] == [3, 5]
        for trajectory in trajectories[training.name]:
            expected = alone(training, trajectory.seed, 2)
            np.testing.assert_allclose(trajectory.losses, [result["training_loss"] for result in expected], rtol=1e-6)
            np.testing.assert_allclose(
                trajectory.scores["test_accuracy"], [result["test_accuracy"] for result in expected]
            )
            assert [sizes.tolist() for sizes in trajectory.batch_sizes] == [
                result["batch_sizes"] for result in expected
            ]
    first, second = trajectories["adaptive"]
    assert first.final_loss != second.final_loss
    again = train_all(small_problem, TRAININGS, 2, (3, 5), tmp_path, Console(quiet=True))
    assert again["adaptive"][1].losses.tolist() == second.losses.tolist()
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 8, "a finished run trains nothing again"


def test_a_trajectory_is_the_rows_of_its_trial() -> None:
    rows = [
        {"training_seconds": 2.0, **dict.fromkeys(CURVES, loss), "batch_sizes": [16, 16]} for loss in (0.9, 0.7, 0.6)
    ]
    trajectory = trajectory_of(TRAININGS[1], 7, rows)
    assert trajectory.seed == 7
    assert trajectory.losses.tolist() == [0.9, 0.7, 0.6]
    assert trajectory.seconds.tolist() == [2.0, 4.0, 6.0]
    assert trajectory.epochs.tolist() == [1, 2, 3]
    assert len(trajectory.sizes) == 6


def test_first_below() -> None:
    trajectory = make_trajectory("Mini", [0.9, 0.5, 0.6, 0.1], [[32]] * 4)
    assert (trajectory.first_below(0.5), trajectory.first_below(0.05)) == (1, None)
    assert trajectory.final_loss == 0.1


def test_rises_are_of_the_second_half() -> None:
    assert make_trajectory("Mini", [1, 2, 3, 2, 1, 2], [[32]] * 6).rises == pytest.approx(1 / 3)
    assert np.isnan(make_trajectory("Mini", [1], [[32]]).rises)


def test_part_of_a_problem() -> None:
    whole, part = load("digits"), part_of("digits", 100, 0)
    assert (len(part.train), len(part.test)) == (100, len(whole.test))
    assert isinstance(replace(part), Problem)


def test_a_part_of_sorted_examples_holds_every_class() -> None:
    classes = torch.arange(5).repeat_interleave(20)
    part = evenly_spaced(Examples(torch.arange(100.0), classes), 10)
    assert part.targets.bincount().tolist() == [2] * 5
    assert len(set(part.inputs.tolist())) == 10
    assert len(evenly_spaced(part, 0)) == len(evenly_spaced(part, 99)) == 10


def test_panels_show_medians_in_a_band() -> None:
    trajectories = tuple(
        make_trajectory("BA", losses, sizes)
        for losses, sizes in (([0.5, 0.4], [[32, 64], [32]]), ([0.7, 0.1], [[32], [96]]), ([0.6, 0.3], [[32], [64]]))
    )
    line = loss_panel("x", [trajectories], "epochs").lines[0]
    assert (line.low.tolist(), line.median.tolist(), line.high.tolist()) == ([0.5, 0.1], [0.6, 0.3], [0.7, 0.4])
    line = mean_size_panel("x", [trajectories]).lines[0]
    assert (line.low.tolist(), line.median.tolist(), line.high.tolist()) == ([32, 32], [32, 64], [48, 96])


def test_panels_leave_out_what_diverged() -> None:
    fine, diverged, ended = (
        make_trajectory("BA", losses, [[32]] * len(losses))
        for losses in ([0.5, 0.4], [0.5, float("inf")], [float("inf")])
    )
    assert loss_panel("x", [(diverged,)], "epochs").lines[0].median.tolist() == [0.5]
    line = loss_panel("x", [(fine, fine, ended)], "epochs").lines[0]
    assert line.median.tolist() == [0.5, 0.4], "a seed that ended early counts as the worst from then on"
    assert np.isinf(line.high).all()
    assert loss_panel("x", [(ended,)], "epochs").lines == ()


def test_a_figure_shows_line_and_band() -> None:
    trajectories = tuple(make_trajectory("BA", losses, [[32]] * 2) for losses in ([0.9, 0.1], [0.7, 0.01]))
    axes = draw_over_seeds([loss_panel("η", [trajectories], "seconds")]).axes[0]
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("η", "seconds of training")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.8, 0.055])
    low, high = axes.get_ylim()
    assert low < 0.01 < 0.9 < high, "the band lies within the axes"
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.01, 0.9)


def test_panels_on_one_scale_have_room_for_each_other() -> None:
    panels = [
        loss_panel("x", [(make_trajectory("BA", losses, [[32]] * 2),)], "epochs") for losses in ([2, 1], [0.5, 0.01])
    ]
    figure = draw_over_seeds(on_one_scale(panels))
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    low, high = figure.axes[0].get_ylim()
    assert low < 0.01 < 2 < high
    assert draw_over_seeds(panels).axes[0].get_ylim()[0] > 0.5


def test_many_updates_become_bins() -> None:
    sizes = np.tile([32.0, 32.0, 96.0], 1_000)
    middles, least, mean, largest = binned(sizes, BINS)
    assert len(middles) == BINS
    assert set(least) == {32.0}
    assert set(largest) == {96.0}
    assert mean.mean() == pytest.approx(sizes.mean())
    trajectory = make_trajectory("BA", [0.5, 0.4], [sizes.tolist(), [32, 512]])
    few = make_trajectory("BA", [0.5], [[32, 64, 32]])
    figure = draw_sizes(size_panels([(trajectory, few), (trajectory,)]))
    assert [len(axes.lines) for axes in figure.axes] == [2, 1], "one line per seed"
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["BA", "BA"]
    assert figure.axes[0].get_ylim()[1] >= 512
