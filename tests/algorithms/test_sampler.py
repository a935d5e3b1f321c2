"""Drawing without replacement, within batches and within epochs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.sampler import EpochSampler


def numbered(n: int, seed: int = 0) -> EpochSampler:
    """A sampler whose inputs are their own indices."""
    return EpochSampler(torch.arange(n), torch.arange(n) + 100, seed=seed)


def batch_of(sampler: EpochSampler, *draws: int) -> list[int]:
    sampler.begin_batch()
    return [int(i) for n in draws for i in sampler.draw(n)[0]]


def test_every_instance_once_per_epoch_in_a_new_order() -> None:
    sampler = numbered(12)
    epochs = [[i for _ in range(4) for i in batch_of(sampler, 2, 1)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert (sampler.instances, sampler.epochs) == (36, 3.0)


@pytest.mark.parametrize("n", [7, 10, 23])
@pytest.mark.parametrize("draws", [(2, 2, 2), (3, 4), (7,), (1, 1, 1, 1, 1, 1, 1)])
def test_no_batch_holds_an_instance_twice_even_across_epochs(n: int, draws: tuple[int, ...]) -> None:
    sampler = numbered(n)
    counts = torch.zeros(n, dtype=torch.long)
    for _ in range(60):
        batch = batch_of(sampler, *draws)
        assert len(set(batch)) == len(batch) == sum(draws)
        counts += torch.bincount(torch.tensor(batch), minlength=n)
        assert counts.max() - counts.min() <= 2  # nobody is left behind


def test_targets_belong_to_inputs() -> None:
    sampler = numbered(9)
    sampler.begin_batch()
    inputs, targets = sampler.draw(5)
    assert torch.equal(targets, inputs + 100)


def test_more_than_there_are_is_refused() -> None:
    sampler = numbered(5)
    batch_of(sampler, 3)
    with pytest.raises(ValueError, match="n is 3; the batch can take 1 to 2 further instances"):
        sampler.draw(3)
    with pytest.raises(ValueError, match="n is 0"):
        sampler.draw(0)


def test_a_restored_sampler_goes_on_in_the_middle_of_the_epoch() -> None:
    sampler = numbered(11, seed=3)
    batch_of(sampler, 4)
    state = sampler.state_dict()
    expected = [batch_of(sampler, 3, 2) for _ in range(6)]
    restored = numbered(11, seed=99)
    restored.load_state_dict(state)
    assert [batch_of(restored, 3, 2) for _ in range(6)] == expected
    assert restored.instances == sampler.instances
    with pytest.raises(ValueError, match="state has 11 instances; this sampler has 5"):
        numbered(5).load_state_dict(state)


def test_seeds_decide_alone() -> None:
    torch.manual_seed(1)
    first = batch_of(numbered(50), 50)
    torch.manual_seed(2)
    assert batch_of(numbered(50), 50) == first
    assert batch_of(numbered(50, seed=1), 50) != first


def test_augmentation_sees_the_inputs_and_its_own_generator() -> None:
    def noisy(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs + torch.rand(inputs.shape, generator=generator)

    samplers = [EpochSampler(torch.zeros(8), torch.zeros(8), seed=0, augmentation=noisy) for _ in range(2)]
    draws = []
    for sampler in samplers:
        sampler.begin_batch()
        draws.append(sampler.draw(8)[0])
    assert torch.equal(draws[0], draws[1])
    assert draws[0].unique().numel() == 8


def test_inputs_and_targets_must_match() -> None:
    with pytest.raises(ValueError, match="targets has 3 rows; it must have as many as inputs, 4"):
        EpochSampler(torch.zeros(4), torch.zeros(3), seed=0)
