"""SGD under a usual decay: the recorded schedule is PyTorch's, and plain training with it is the same training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.tune import DecayedTrainable, SGDTrainable
from raytune_hyperlearn.tune.decayed import DECAYS, LOWEST, WARM_UP
from tests.tune.small import scores_of, small_problem

VALUES = {"learning_rate_0": 0.4, "momentum_0": 0.9, "weight_decay_0": 1e-3}
CONFIG = {
    "problem": small_problem,
    "space": SearchSpace(LearningRate(values=1), Momentum(), WeightDecay()),
    "seed": 2,
    "trial_seed": 5,
    "hyperparameters": VALUES,
}


def pytorchs(decay: str, steps: int) -> list[float]:
    """PyTorch's learning rates for a peak of 1, step by step."""
    optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=1.0)
    scheduler: Any
    if decay == "cosine":
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    else:
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=steps + 1, cycle_momentum=False, pct_start=WARM_UP, div_factor=1 / LOWEST
        )
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("decay", DECAYS)
def test_the_decay_is_pytorchs(decay: str) -> None:
    steps = 2000
    ours = [DECAYS[decay](step / steps) for step in range(steps)]
    assert ours == pytest.approx(pytorchs(decay, steps), abs=3e-3)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_record_can_be_trained_again_as_it_is(decay: str) -> None:
    result = DecayedTrainable({**CONFIG, "decay": decay, "replicates": 2}).train()
    rates = result["hyperparameters"]["learning_rate"]
    assert max(rates) == pytest.approx(0.4, rel=0.01)
    assert rates[-1] < 0.01
    assert (rates[0] > 0.39) == (decay == "cosine")
    assert result["hyperparameters"]["momentum"] == [0.9]
    space = SearchSpace(LearningRate(values=len(rates)), Momentum(), WeightDecay())
    given = {**CONFIG, "space": space, "hyperparameters": result["hyperparameters"], "replicates": 2}
    assert scores_of(SGDTrainable(given).train()) == scores_of(result)


def test_an_unknown_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="decay is 'step'; it must be one of cosine, one-cycle"):
        DecayedTrainable({**CONFIG, "decay": "step"})
