"""Windows of the lowest estimated risk: against brute force, ruptures, known change points and the true error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raytune_hyperlearn.algorithms.windows import REMEMBERED, ChosenWindows, PerStep, best_windows, risk


def drawn(
    truth: np.ndarray, replicas: int, noise: float | np.ndarray, seed: int, shared: float = 0.0
) -> list[list[float]]:
    """Entries [n, T] around the true hypergradients; ``shared`` is the part of the noise that all steps share."""
    generator = np.random.default_rng(seed)
    own = generator.normal(size=(replicas, len(truth))) * np.sqrt(1 - shared)
    common = generator.normal(size=(replicas, 1)) * np.sqrt(shared)
    found: list[list[float]] = (truth + noise * (own + common)).tolist()
    return found


def compositions(total: int) -> list[tuple[int, ...]]:
    """All ways to cut ``total`` steps into contiguous windows."""
    cuts = itertools.chain.from_iterable(itertools.combinations(range(1, total), k) for k in range(total))
    return [tuple(b - a for a, b in itertools.pairwise((0, *own, total))) for own in cuts]


def explicit_risk(entries: list[list[float]], lengths: tuple[int, ...], per_step: PerStep) -> float:
    """From the definitions, window by window and step by step."""
    rows, first, total = np.array(entries), 0, 0.0
    n = len(rows)
    for length in lengths:
        means = rows[:, first : first + length].mean(axis=0)
        variances = per_step.variance[first : first + length].numpy()
        variance = variances.mean() * (1 + per_step.correlation * (length - 1)) / n
        bias = ((means - means.mean()) ** 2).sum() - variances.sum() / n + variance
        total += bias + variance
        first += length
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_no_partition_has_a_lower_risk(count: int, seed: int) -> None:
    entries = drawn(np.random.default_rng(seed).normal(size=8).cumsum(), 3, 1.0, seed, shared=0.3)
    per_step = PerStep.of(entries)
    found = best_windows(per_step, count)
    every = {own: explicit_risk(entries, own, per_step) for own in compositions(8) if len(own) == count}
    assert found.risk == pytest.approx(min(every.values()), abs=1e-10)
    assert every[found.lengths] == pytest.approx(found.risk, abs=1e-10)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_without_noise_it_is_ruptures_own_least_squares(count: int) -> None:
    ruptures = pytest.importorskip("ruptures")
    truth = np.random.default_rng(count).normal(size=30).cumsum()
    per_step = PerStep(torch.tensor(truth), torch.zeros(30, dtype=torch.float64), 0.0, 2)
    ends = ruptures.Dynp(model="l2", min_size=1, jump=1).fit(truth).predict(n_bkps=count - 1) if count > 1 else [30]
    assert np.cumsum(best_windows(per_step, count).lengths).tolist() == ends


def test_known_change_points_are_recovered_and_hardly_any_is_invented() -> None:
    lengths = (30, 10, 50, 10)
    truth = np.repeat([-2.0, 1.0, 0.0, -3.0], lengths)
    found = [best_windows(PerStep.of(drawn(truth, 8, 0.3, seed)), bins=100).lengths for seed in range(10)]
    of_noise = [best_windows(PerStep.of(drawn(np.zeros(100), 8, 1.0, seed)), bins=100).lengths for seed in range(10)]
    assert all(set(np.cumsum(lengths)) <= set(np.cumsum(own)) for own in found)
    assert found.count(lengths) >= 7
    assert of_noise.count((100,)) >= 8


@pytest.mark.parametrize("seed", range(3))
def test_noisy_steps_share_more_than_others(seed: int) -> None:
    """The same drift everywhere, a hundred times the variance in the last quarter."""
    truth, noise = np.linspace(0, 8, 128), np.where(np.arange(128) < 96, 0.3, 3.0)
    found = best_windows(PerStep.of(drawn(truth, 8, noise, seed)))
    middles = np.cumsum(found.lengths) - np.array(found.lengths) / 2
    early, late = (np.array(found.lengths)[chosen].mean() for chosen in (middles < 96, middles >= 96))
    assert late > 2 * early


def test_the_variance_of_a_step_is_smoothed_over_its_neighbors() -> None:
    """Two replicas: 60 degrees of freedom are 60 steps, 30 on either side as far as there are any."""
    entries = drawn(np.zeros(200), 2, np.linspace(0.5, 2, 200), 0)
    raw = np.array(entries).var(axis=0, ddof=1)
    found = PerStep.of(entries).variance.tolist()
    assert found == pytest.approx([raw[max(0, t - 30) : t + 31].mean() for t in range(200)], rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_no_worse_than_equal_windows_by_its_own_measure_and_in_truth(seed: int) -> None:
    truth = 3 * np.exp(-np.arange(128) / 12.0)
    entries = drawn(truth, 8, 0.7, seed, shared=0.2)
    per_step = PerStep.of(entries)

    def error(lengths: tuple[int, ...]) -> float:
        """Squared error of one replica's window means, drawn anew, against the truth."""
        starts = np.cumsum((0, *lengths[:-1]))
        rows = np.array(drawn(truth, 400, 0.7, 1000 + seed, shared=0.2))
        means = np.add.reduceat(rows, starts, axis=1) / lengths
        return float(((np.repeat(means, lengths, axis=1) - truth) ** 2).sum(axis=1).mean())

    for count in (2, 4, 8, 16):
        equal = (128 // count,) * count
        found = best_windows(per_step, count)
        assert found.risk <= risk(per_step, equal) + 1e-9
        if count in (4, 8):
            assert error(found.lengths) < error(equal)


def test_the_risk_is_an_unbiased_estimate_of_the_error_of_the_mean() -> None:
    truth, lengths, noise, n = np.linspace(-1, 1, 24), (4, 12, 8), 0.5, 4
    estimates, errors = [], []
    for seed in range(600):
        entries = drawn(truth, n, noise, seed)
        given = PerStep.of(entries)
        estimates.append(risk(PerStep(given.mean, given.variance, 0.0, n), lengths))
        means = np.add.reduceat(np.array(entries).mean(axis=0), (0, 4, 16)) / lengths
        errors.append(((np.repeat(means, lengths) - truth) ** 2).sum())
    assert np.mean(estimates) == pytest.approx(np.mean(errors), rel=0.05)


def test_correlation_is_that_of_two_steps() -> None:
    for shared in (0.0, 0.5, 0.9):
        found = PerStep.of(drawn(np.zeros(40), 2000, np.linspace(0.1, 3, 40), 0, shared)).correlation
        assert found == pytest.approx(shared, abs=0.05)


def test_lengths_are_of_bins_and_add_up() -> None:
    found = best_windows(PerStep.of(drawn(np.linspace(0, 9, 103), 3, 0.1, 0)), count=5, bins=10)
    borders = {index * 103 // 10 for index in range(11)}
    assert sum(found.lengths) == 103
    assert set(np.cumsum(found.lengths).tolist()) <= borders


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PerStep.of([[1.0, 2.0]]), "entries has 1 replicas; it must have at least 2 to tell signal from noise"),
        (
            lambda: PerStep.of([[1.0], [1.0, 2.0]]),
            r"entries has rows of \[1, 2\] steps; they must be equal and positive",
        ),
        (
            lambda: PerStep.of([[1.0], [float("nan")]]),
            "entries hold numbers that are not finite; diverged replicas must be left out",
        ),
        (
            lambda: best_windows(PerStep.of([[1.0, 2.0], [1.0, 3.0]]), count=3),
            "count is 3; it must be a whole number from 1 to 2, the number of bins",
        ),
        (
            lambda: best_windows(PerStep.of([[1.0], [1.0]]), bins=0),
            "bins is 0; it must be a whole number of at least 1",
        ),
        (
            lambda: risk(PerStep.of([[1.0, 2.0], [1.0, 3.0]]), [1]),
            r"lengths is \[1\]; they must be positive and add up to 2 steps",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_a_search_parts_the_windows_once_its_hypergradients_agree() -> None:
    """Whatever their size: the first half of the parts pushes up, the other down."""
    truth = np.repeat([1.0, -1.0], 5)
    chosen = ChosenWindows({}, [])
    for size, row in zip((1.0, 100.0, 0.1), drawn(truth, 3, 0.1, seed=0), strict=True):
        entries = {"rate": [size * entry for entry in row]}
        assert chosen.lengths == {} or len(chosen.seen) < 2 or chosen.lengths["rate"] == (5, 5)
        chosen = ChosenWindows.after(chosen.seen, entries)
    assert chosen.lengths == {"rate": (5, 5)}
    shared = chosen.shared({"rate": [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0, -5.0]})
    assert shared == {"rate": [3.0] * 5 + [-1.0] * 5}


def test_one_outer_step_or_noise_parts_nothing() -> None:
    first = ChosenWindows.after([], {"rate": [1.0, 1.0, -1.0, -1.0]})
    assert first.lengths == {"rate": (4,)}
    found = []
    for seed in range(10):
        chosen = ChosenWindows({}, [])
        for row in drawn(np.zeros(20), 5, 1.0, seed):
            chosen = ChosenWindows.after(chosen.seen, {"rate": row})
        assert len(chosen.seen) == REMEMBERED
        found.append(chosen.lengths["rate"])
    assert found.count((20,)) >= 8
    assert ChosenWindows.after(chosen.seen, {"rate": [float("nan")] * 20}).seen == chosen.seen
