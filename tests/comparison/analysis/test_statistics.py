"""Statistics against hand-computed numbers, exact enumeration and published tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from raytune_hyperlearn.comparison.analysis.statistics import (
    bootstrap_median_interval,
    compare_with,
    critical_difference,
    holm,
    needed_seeds,
    nemenyi_critical_difference,
    paired_differences,
    power_sentence,
    ranks,
    wilcoxon_p_value,
)


def wilcoxon_by_enumeration(differences: np.ndarray) -> float:
    """Two-sided p-value over all 2^n ways to sign the ranks."""
    order = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = order[differences > 0].sum()
    sums = [
        sum(r for r, s in zip(order, signs, strict=True) if s) for signs in itertools.product([0, 1], repeat=len(order))
    ]
    below = np.mean([total <= observed for total in sums])
    above = np.mean([total >= observed for total in sums])
    return float(min(1.0, 2 * min(below, above)))


@pytest.mark.parametrize("seed", range(8))
def test_wilcoxon_is_the_exact_test(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.3, 1, size=5 + seed % 5)
    assert wilcoxon_p_value(differences) == pytest.approx(wilcoxon_by_enumeration(differences))


def test_smallest_p_value_with_five_seeds() -> None:
    assert wilcoxon_p_value([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 2**5)
    assert wilcoxon_p_value([0.0] * 5) == 1.0


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06 and 0.04, which must not fall below 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_bootstrap_interval_is_seeded_and_covers() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    first = bootstrap_median_interval(values, np.random.default_rng(3))
    assert first == bootstrap_median_interval(values, np.random.default_rng(3))
    assert first[0] < 0.4 < first[1]
    assert set(first) <= set(values.tolist())
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        low, high = bootstrap_median_interval(generator.normal(size=25), generator, resamples=400)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_runs_without_result_are_compared_too() -> None:
    first = {0: 0.1, 1: math.inf, 2: math.inf, 3: 0.2}
    second = {0: 0.3, 1: 0.5, 2: math.inf, 4: 0.1}
    np.testing.assert_array_equal(paired_differences(first, second), [0.1 - 0.3, math.inf, 0.0])
    better = {seed: 0.1 + 0.01 * seed for seed in range(6)}
    worse = dict.fromkeys(range(6), math.inf)
    (pair,) = compare_with("a", {"a": better, "b": worse}, np.random.default_rng(0))
    assert pair.difference == -math.inf
    assert pair.p_value <= 0.05


@pytest.mark.parametrize("tests", [1, 2, 5, 15])
def test_needed_seeds_are_the_fewest_with_which_all_tests_can_be_significant(tests: int) -> None:
    def best(seeds: int) -> float:
        return max(holm([wilcoxon_p_value(np.arange(1.0, seeds + 1))] * tests))

    needed = needed_seeds(tests)
    assert best(needed) <= 0.05 < best(needed - 1)


def test_six_methods_take_eight_seeds_against_one_and_ten_over_all_pairs() -> None:
    assert (needed_seeds(5), needed_seeds(15)) == (8, 10)


def test_the_focus_is_compared_with_each_other_method() -> None:
    shifts = {"b": 1, "a": 2, "c": 3}
    values = {name: {seed: shift + 0.01 * seed**2 * shift for seed in range(7)} for name, shift in shifts.items()}
    pairs = compare_with("a", values, np.random.default_rng(0))
    assert [(pair.first, pair.second, pair.seeds) for pair in pairs] == [("a", "b", 7), ("a", "c", 7)]
    assert [pair.difference > 0 for pair in pairs] == [True, False]
    for pair in pairs:
        assert pair.lower <= pair.difference <= pair.upper
        assert pair.p_value == pytest.approx(2 / 2**7)
        assert pair.adjusted_p_value == pytest.approx(2 * 2 / 2**7)
        assert pair.is_significant
    assert pairs == compare_with("a", values, np.random.default_rng(0))
    assert compare_with("z", values, np.random.default_rng(0)) == ()


def test_few_seeds_give_differences_and_intervals_without_a_test() -> None:
    values = {
        "a": {seed: 0.1 * seed for seed in range(6)},
        "b": {seed: 0.1 * seed + 0.3 + 0.01 * seed for seed in range(6)},
        "c": {0: 1.0},
        "d": {9: 1.0},
    }
    several, single = compare_with("a", values, np.random.default_rng(0))
    assert (several.second, several.seeds, single.second, single.seeds) == ("b", 6, "c", 1)
    assert several.difference == pytest.approx(-0.325)
    assert several.lower <= several.difference <= several.upper
    assert single.difference == pytest.approx(-1.0)
    assert math.isnan(single.lower)
    for pair in (several, single):  # two tests take 7 seeds
        assert math.isnan(pair.p_value)
        assert math.isnan(pair.adjusted_p_value)
        assert not pair.is_significant


def test_a_test_that_cannot_be_made_still_counts_in_the_correction() -> None:
    values = {"a": dict.fromkeys(range(9), 0.0), "b": {seed: 1.0 + seed for seed in range(9)}, "c": {0: 1.0}}
    tested, _ = compare_with("a", values, np.random.default_rng(0))
    assert tested.adjusted_p_value == pytest.approx(2 * tested.p_value)


def test_few_problems_have_no_power_and_it_is_said() -> None:
    assert power_sentence(5) == ""
    assert power_sentence(3) == "With 3 seeds no test has power, so none is shown: it takes at least 5 seeds."
    assert power_sentence(1).startswith("With 1 seed no test")


def test_ranks_share_ties_and_put_unknown_last() -> None:
    np.testing.assert_array_equal(ranks([[0.3, 0.1, 0.3, math.nan]]), [[2.5, 1, 2.5, 4]])
    np.testing.assert_array_equal(ranks([[math.inf, 0.1, math.nan]]), [[2.5, 1, 2.5]])


@pytest.mark.parametrize(
    ("methods", "quantile"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_nemenyi_quantiles_are_the_published_ones(methods: int, quantile: float) -> None:
    # Demšar 2006, table 5(a), alpha 0.05.
    unit = math.sqrt(methods * (methods + 1) / (6 * 14))
    assert nemenyi_critical_difference(methods, 14) / unit == pytest.approx(quantile, abs=1e-3)


def test_friedman_by_its_formula() -> None:
    generator = np.random.default_rng(5)
    scores = generator.normal(size=(9, 4)) + np.array([0, 0.4, 0.8, 2.5])
    found = critical_difference(("a", "b", "c", "d"), scores)
    means = np.array([[sum(other <= own for other in row) for own in row] for row in scores]).mean(axis=0)
    statistic = 12 * 9 / (4 * 5) * (np.sum(means**2) - 4 * 5**2 / 4)
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(statistic, 3))
    by_rank = sorted(zip(means, "abcd", strict=True))
    assert found.methods == tuple(name for _, name in by_rank)
    assert found.mean_ranks == pytest.approx([mean for mean, _ in by_rank])


def test_groups_join_what_lies_within_the_critical_difference() -> None:
    # Mean ranks 1, 2, 3 over 6 problems; the critical difference is 2.343 sqrt(3·4/36) = 1.353.
    found = critical_difference(("a", "b", "c"), np.tile([[0.1, 0.2, 0.3]], (6, 1)))
    assert found.mean_ranks == (1, 2, 3)
    assert found.difference == pytest.approx(1.353, abs=1e-3)
    assert found.groups == ((0, 1), (1, 2))


def test_few_problems_give_ranks_without_a_test() -> None:
    found = critical_difference(("a", "b", "c"), [[0.3, 0.2, 0.1], [0.3, 0.1, 0.2]])
    assert found.methods == ("c", "b", "a") or found.methods == ("b", "c", "a")
    assert math.isnan(found.p_value)
    assert math.isnan(found.difference)
    assert found.groups == ()
