import pytest
import torch

from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers


def test_private_random_numbers_are_seeded_and_leave_no_trace() -> None:
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with private_random_numbers(seed, torch.device("cpu")):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)


def fail_after_drawing() -> None:
    with private_random_numbers(1, torch.device("cpu")):
        torch.rand(3)
        raise ArithmeticError


def test_the_generators_are_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ArithmeticError):
        fail_after_drawing()
    assert torch.equal(torch.get_rng_state(), before)
