"""No two streams of random numbers share a seed."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raytune_hyperlearn.problems.seeds import Purpose, content_index, derived_seed

whole = st.integers(min_value=0, max_value=2**64)
streams = st.tuples(whole, st.sampled_from(Purpose), st.lists(whole, max_size=3).map(tuple))


@given(st.lists(streams, min_size=2, max_size=12, unique=True))
def test_no_two_streams_share_a_seed(drawn: list[tuple[int, Purpose, tuple[int, ...]]]) -> None:
    seeds = [derived_seed(seed, purpose, *indices) for seed, purpose, indices in drawn]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)  # what torch's generator on a CPU takes of it


def test_all_streams_of_a_long_run_differ() -> None:
    trainings = [derived_seed(0, Purpose.OUTER_STEP, index, replica) for index in range(100) for replica in range(8)]
    trainings += [
        derived_seed(0, Purpose.REPLAY, i, j, replica) for i in range(100) for j in range(4) for replica in (0, 1)
    ]
    trainings += [derived_seed(0, Purpose.RETRAINING, index) for index in range(100)]
    leaves = [derived_seed(seed, purpose) for seed in trainings for purpose in Purpose]
    assert len({*trainings, *leaves}) == len(trainings) + len(leaves)


def test_neither_the_length_nor_the_place_of_an_index_is_lost() -> None:
    tuples = [(), (0,), (0, 0), (1,), (10,), (1, 0), (0, 1), (2**32,), (2**32 + 1,), (1, 2**32)]
    for first, second in combinations(tuples, 2):
        assert derived_seed(3, Purpose.ORDER, *first) != derived_seed(3, Purpose.ORDER, *second)


def test_a_seed_is_the_same_in_every_process_and_fits_torch() -> None:
    seed = derived_seed(5, Purpose.ORDER, 1)
    assert seed == 4669079127844594081
    assert torch.Generator().manual_seed(seed).initial_seed() == seed
    assert content_index("a") != content_index("b")


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1; it must be a whole number of at least 0"):
        derived_seed(-1, Purpose.SPLIT)
    with pytest.raises(ValueError, match="index is -2; it must be"):
        derived_seed(1, Purpose.ORDER, -2)
