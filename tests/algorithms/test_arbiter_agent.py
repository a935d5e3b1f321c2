import math

import pytest
import torch

from raytune_hyperlearn.algorithms.arbiter_agent import (
    batch_size_of,
    image_agent,
    logit_of,
    mix,
    sorted_samples,
)


@pytest.mark.parametrize(("low", "high"), [(1, 2), (1, 3), (8, 512), (8, 600), (1, 60_000)])
def test_logits_and_batch_sizes_are_inverse_on_the_whole_range(low: int, high: int) -> None:
    sizes = range(low, high + 1)
    logits = [logit_of(size, low, high) for size in sizes]
    assert logits == sorted(set(logits))
    assert [batch_size_of(logit, low, high) for logit in logits] == list(sizes)


def test_the_inverse_survives_single_precision() -> None:
    sizes = range(8, 601)
    logits = torch.tensor([logit_of(size, 8, 600) for size in sizes], dtype=torch.float32)
    assert [batch_size_of(logit, 8, 600) for logit in logits.tolist()] == list(sizes)


def test_batch_size_is_the_floor_of_the_stretched_sigmoid() -> None:
    logits = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    stretched = 592 * torch.sigmoid(logits) + 8
    clear = (stretched - stretched.round()).abs() > 2e-3
    assert clear.sum() > 2000
    found = [batch_size_of(logit, 8, 600) for logit in logits[clear].tolist()]
    assert found == stretched[clear].floor().int().tolist()


@pytest.mark.parametrize(("logit", "size"), [(-math.inf, 8), (-800.0, 8), (0.0, 304), (800.0, 600), (math.inf, 600)])
def test_ends_and_middle_of_the_range(logit: float, size: int) -> None:
    assert batch_size_of(logit, 8, 600) == size


def test_a_logit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="logit must be a number, got nan"):
        batch_size_of(math.nan, 8, 600)


def test_samples_are_sorted_means_and_mixed_by_softmax() -> None:
    logits = torch.tensor([[3.0, -1.0, 2.0], [5.0, -3.0, -2.0]])
    samples = sorted_samples(logits)
    assert samples.tolist() == [-2.0, 0.0, 4.0]
    alpha = torch.tensor([0.0, math.log(2.0), math.log(5.0)])
    assert mix(samples, alpha).item() == pytest.approx((-2.0 * 1 + 0.0 * 2 + 4.0 * 5) / 8)


def test_the_image_agent_maps_images_to_one_row_of_logits_each() -> None:
    assert image_agent(3, 5)(torch.zeros(7, 3, 32, 32)).shape == (7, 5)
    assert image_agent(1, 4)(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
