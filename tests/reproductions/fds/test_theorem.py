"""Theorem 4.1: closed forms against independent arithmetic, draws against both, and verdicts that can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raytune_hyperlearn.reproductions.fds.sharing_error import (
    bound,
    errors,
    exact_error,
    shared,
    single_minimum,
    window_means,
    window_sizes,
)
from raytune_hyperlearn.reproductions.fds.theorem import SETTINGS, Profile, Settings, findings, measure, profiles

SMALL = Settings(draws=4_000, horizon=24, window=4, deviation=0.25, drift=0.08, correlation=0.2)


def by_name(settings: Settings) -> dict[str, Profile]:
    return {profile.name: profile for profile in profiles(settings)}


def error_entry_by_entry(means: np.ndarray, covariance: np.ndarray, window: int) -> float:
    """MSE_W from Var(h̄) + (E h̄ − μ_t)², step by step."""
    total = 0.0
    for step in range(len(means)):
        members = range(step // window * window, step // window * window + window)
        variance = sum(covariance[i, j] for i in members for j in members) / window**2
        total += variance + (sum(means[i] for i in members) / window - means[step]) ** 2
    return total / len(means)


def test_sharing_is_the_mean_of_each_window() -> None:
    assert window_sizes(12) == (1, 2, 3, 4, 6, 12)
    values = np.array([[1.0, 3.0, 5.0, 9.0], [0.0, 2.0, 4.0, 4.0]])
    assert window_means(values, 2).tolist() == [[2, 7], [1, 4]]
    assert shared(values, 2).tolist() == [[2, 2, 7, 7], [1, 1, 4, 4]]
    assert errors(values, np.array([1.0, 1.0, 5.0, 5.0]), 2).tolist() == [(1 + 1 + 4 + 4) / 4, (0 + 0 + 1 + 1) / 4]


@pytest.mark.parametrize("profile", profiles(SMALL), ids=lambda profile: profile.name)
def test_closed_form_and_bound_of_every_profile(profile: Profile) -> None:
    assert float(np.abs(np.diff(profile.means)).max()) <= profile.drift + 1e-12
    beside = profile.correlations[~np.eye(len(profile.means), dtype=bool)]
    assert float(np.abs(beside).max()) <= profile.correlation + 1e-12
    for window in window_sizes(len(profile.means)):
        exact = exact_error(profile.means, profile.covariance, window)
        assert exact == pytest.approx(error_entry_by_entry(profile.means, profile.covariance, window), rel=1e-12)
        assert exact <= profile.bound(window) * (1 + 1e-12)
        if profile.attains:
            assert exact == pytest.approx(profile.bound(window), rel=1e-10)


def test_the_bound_is_the_theorems() -> None:
    assert bound(0.0625, 0.0, 0.0, 40) == pytest.approx(0.0625 / 40)
    assert bound(0.0625, 0.0, 0.08, 40) == pytest.approx(0.0625 / 40 + 0.0064 * (1600 - 1) / 12)
    assert bound(2.0, 1.0, 0.0, 7) == pytest.approx(2.0), "what is wholly correlated gains nothing"
    assert bound(2.0, 0.5, 3.0, 1) == pytest.approx(2.0), "a window of one is no window"


def test_random_means_and_covariances_stay_below_the_bound() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        root = generator.normal(size=(12, 4 + generator.integers(20)))
        covariance = root @ root.T
        scales = np.sqrt(np.diag(covariance))
        correlations = covariance / np.outer(scales, scales)
        largest = float(np.abs(correlations - np.eye(12)).max())
        means = np.cumsum(generator.uniform(-0.5, 0.5, 12))
        drift = float(np.abs(np.diff(means)).max())
        for window in window_sizes(12):
            limit = bound(float(np.mean(scales**2)), largest, drift, window)
            assert exact_error(means, covariance, window) <= limit * (1 + 1e-12)


def test_draws_have_the_closed_forms_error() -> None:
    generator = np.random.default_rng(0)
    for profile in profiles(SMALL):
        found = measure(profile, SMALL.draws, generator)
        assert found.off(found.exact) < 5, profile.name
        assert (found.deviations / found.errors).max() < 0.05


def test_single_minimum() -> None:
    assert single_minimum([3, 2, 1, 2, 2, 5])
    assert single_minimum([3, 2, 1])
    assert single_minimum([1, 2])
    assert not single_minimum([3, 1, 2, 1, 4])


def test_verdicts() -> None:
    generator = np.random.default_rng(0)
    measured = [measure(profile, SMALL.draws, generator) for profile in profiles(SMALL)]
    found = findings(measured, SMALL)
    assert [verdict.holds for verdict in found.verdicts] == [True] * 7
    assert len(found.figures[0].figure.axes) == 3
    assert [row[0].split(": ")[1] for row in found.tables[0].rows] == list(by_name(SMALL))


@pytest.mark.parametrize(
    ("place", "factor", "broken"),
    [("independent", 1.3, (0, 1)), ("straight line", 1.3, (0, 2, 4)), ("equal correlations", 1.3, (0, 3, 4))],
)
def test_verdicts_can_fail(place: str, factor: float, broken: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    measured = [measure(profile, SMALL.draws, generator) for profile in profiles(SMALL)]
    wrong = [replace(m, errors=m.errors * factor) if m.profile.name == place else m for m in measured]
    holds = [verdict.holds for verdict in findings(wrong, SMALL).verdicts]
    assert [index for index, holding in enumerate(holds) if not holding] == list(broken)


def test_too_much_drift_makes_sharing_useless() -> None:
    steep = replace(SMALL, drift=3.0)
    generator = np.random.default_rng(0)
    measured = [measure(profile, 500, generator) for profile in profiles(steep)]
    assert findings(measured, steep).verdicts[5].holds is False


def test_scales_grow_and_hold_the_authors_check() -> None:
    draws = [settings.draws for settings in SETTINGS.values()]
    assert draws == sorted(draws)
    assert list(SETTINGS) == ["smoke", "small", "paper"]
    paper = SETTINGS["paper"]
    assert (paper.horizon, paper.window, paper.deviation, paper.drift) == (400, 40, 0.25, 0.08)
