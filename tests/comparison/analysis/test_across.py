"""Aggregates over problems against rliable's own formulas and numbers worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from raytune_hyperlearn.comparison.analysis.across import (
    TARGETS,
    aggregate,
    algoperf_score,
    ecdf,
    improvement,
    interquartile_mean,
    profile_ratios,
    relative_regrets,
    runtimes,
    scale,
)
from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import RecordWriter
from tests.comparison.synthetic import make_experiment, make_record


def study_of(folder: Path, problem: str, losses: dict[str, list[tuple[float, float]]]) -> Study:
    """One seed per method: (time, validation loss) of each result; the reference's loss is 0.105."""
    folder.mkdir()
    experiment = make_experiment(problem=problem, methods=tuple(losses), seeds=(0,), time_limit=100.0)
    write_experiment(experiment, folder / "experiment.yaml")
    with RecordWriter(folder / "records.jsonl") as writer:
        for method, rows in losses.items():
            for time, loss in rows:
                writer.append(
                    make_record(
                        experiment=experiment.name, problem=problem, method=method, time=time, validation_loss=loss
                    )
                )
    return load_study(folder)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 20])
def test_interquartile_mean_is_the_trimmed_mean(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size)
    assert interquartile_mean(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25))


def test_interquartile_mean_bears_runs_without_a_result() -> None:
    assert interquartile_mean(np.array([1.0, 2.0, 3.0, math.inf])) == 2.5
    assert math.isinf(interquartile_mean(np.array([1.0, math.inf, math.inf, math.inf])))


def test_probability_of_improvement_is_the_mann_whitney_statistic() -> None:
    generator = np.random.default_rng(0)
    first = [generator.integers(0, 5, 6).astype(float) for _ in range(3)]
    second = [generator.integers(1, 6, 5).astype(float) for _ in range(3)]
    expected = np.mean(
        [scipy.stats.mannwhitneyu(y, x, method="asymptotic").statistic / 30 for x, y in zip(first, second, strict=True)]
    )
    found = improvement(first, second, np.random.default_rng(1))
    assert found.value == pytest.approx(expected)
    assert 0 <= found.lower <= found.value <= found.upper <= 1
    assert improvement([np.full(4, math.inf)], [np.full(4, math.inf)], generator).value == 0.5


def test_intervals_need_runs_and_cover_at_their_rate() -> None:
    """Stratified bootstrap of the interquartile mean of 2 problems with 10 normal runs each; its truth is 0."""
    generator = np.random.default_rng(2)
    assert not aggregate([np.arange(2.0), np.arange(5.0)], generator).is_known
    covered = 0
    for _ in range(200):
        found = aggregate([generator.normal(size=10), generator.normal(size=10)], generator)
        covered += found.lower <= 0 <= found.upper
    # The standard error of a rate of 0.95 over 200 is 0.015; percentile intervals of 20 runs fall a little short.
    assert 0.88 <= covered / 200 <= 0.99


def test_algoperf_score_is_the_integral_of_the_profile() -> None:
    ratios = np.array([1.0, 1.0, 1.7, 2.5, 9.0, math.inf])
    integral, _ = scipy.integrate.quad(lambda tau: np.mean(ratios <= tau), 1, 4, points=[1.7, 2.5], limit=200)
    assert algoperf_score(ratios) == pytest.approx(integral / 3)
    assert math.isnan(algoperf_score(np.empty(0)))


def test_runtimes_and_profiles_by_hand(tmp_path: Path) -> None:
    first = study_of(tmp_path / "a", "p", {"fds": [(10, 0.5), (20, 0.105)], "rs": [(5, 0.3), (40, 0.11)]})
    second = study_of(tmp_path / "b", "q", {"fds": [(50, 0.2)], "rs": [(25, 9.0)]})
    assert scale(first) == 0.105
    reached = runtimes([first, second], "fds")
    assert reached.shape == (2 * len(TARGETS),)
    # On p everything is reached at 20 s of 100 s; on q regret 0.095 reaches the targets of at least 0.905 alone.
    assert set(reached[: len(TARGETS)]) == {0.2}
    np.testing.assert_array_equal(np.isfinite(reached[len(TARGETS) :]), TARGETS * 0.105 >= 0.2 - 0.105)
    share = np.sum(TARGETS * 0.105 >= 0.095)
    np.testing.assert_allclose(
        ecdf(reached, np.array([0.19, 0.2, 1.0])), np.array([0, len(TARGETS), len(TARGETS) + share]) / reached.size
    )
    ratios = profile_ratios([first, second], ("fds", "rs"))
    assert len(ratios) == len(TARGETS) + share
    # RS reaches the targets from 0.005 / 0.105 on after 40 s on p: twice FDS's time; none on q.
    near = int(np.sum(TARGETS * 0.105 >= 0.005 - 1e-12))
    np.testing.assert_array_equal(ratios[:near], np.tile([1.0, 2.0], (near, 1)))
    assert np.isinf(ratios[near:, 1]).all()
    np.testing.assert_allclose(relative_regrets([first, second], "fds")[1], [0.095 / 0.105])
