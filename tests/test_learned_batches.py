from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from raytune_hyperlearn.learned_batches import LearnedBatchSampler


def test_sizes_follow_the_schedule_and_every_example_comes_once() -> None:
    sampler = LearnedBatchSampler(24, sizes=[2, 4.2, 12], epochs=6, seed=1)
    loader = DataLoader(TensorDataset(torch.arange(24)), batch_sampler=sampler)
    sizes = []
    for _ in range(7):
        expected = len(loader)
        batches = [rows for (rows,) in loader]
        assert len(batches) == expected
        assert sorted(torch.cat(batches).tolist()) == list(range(24))
        sizes.append({len(rows) for rows in batches})
    assert sizes == [{2}, {2}, {4}, {4}, {12}, {12}, {12}]


def test_epochs_differ_in_their_order_and_a_seed_repeats_them() -> None:
    first, again, other = (LearnedBatchSampler(10, [5], 2, seed) for seed in (3, 3, 4))
    orders = [list(first), list(first)]
    assert orders[0] != orders[1]
    assert [list(again), list(again)] == orders
    assert list(other) != orders[0]


def test_it_continues_from_its_state() -> None:
    sampler = LearnedBatchSampler(10, [2, 5], 4)
    list(sampler)
    restored = LearnedBatchSampler(10, [2, 5], 4)
    restored.load_state_dict(sampler.state_dict())
    assert [list(restored), list(restored)] == [list(sampler), list(sampler)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, [1], 1), "length is 0; it must be at least 1, the number of examples"),
        ((8, [1], 0), "epochs is 0; it must be at least 1"),
        ((8, [], 1), r"sizes is \[\]; it must hold numbers in \[1, 8\]"),
        ((8, [9], 1), r"sizes is \[9\]; it must hold numbers in \[1, 8\]"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[int, list[float], int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        LearnedBatchSampler(*arguments)
