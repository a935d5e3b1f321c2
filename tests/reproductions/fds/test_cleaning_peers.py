"""Other libraries' hyper-cleaning, where they are installed: BOAT's hypergradient is ours, Betty finds wrong labels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from raytune_hyperlearn.reproductions.fds.cleaning_peers import BettyCleaning, BettySearch, BOATCleaning, installed
from raytune_hyperlearn.reproductions.fds.hyper_cleaning import WEIGHT, HyperCleaning, detection
from tests.reproductions.fds.test_hyper_cleaning import known


def required(peer: str) -> None:
    if peer not in installed():
        pytest.skip(f"{peer} is not installed (pip install --no-deps boat-torch higher betty-ml)")


def task(kind: type[HyperCleaning]) -> HyperCleaning:
    return kind(partial(nn.Linear, 2, 3), 150, 40, 0.5, known=known(600), test=known(90))


def test_boats_hypergradient_is_the_same() -> None:
    required("boat")
    values = {WEIGHT: torch.linspace(-1, 1, 150).tolist()}
    own, boat = (task(kind).differentiate(values, 1.0, 0, 3) for kind in (HyperCleaning, BOATCleaning))
    assert boat.validation_loss == pytest.approx(own.validation_loss, rel=1e-5)
    assert boat.scores() == pytest.approx(own.scores(), rel=1e-5)
    mine, theirs = (torch.tensor(found.hypergradient[WEIGHT]) for found in (own, boat))
    assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4 * mine.abs().max().item())


def test_betty_moves_the_weights_while_it_trains() -> None:
    required("betty")
    cleaning = task(BettyCleaning)
    search = BettySearch(cleaning.space.initial())
    for index in range(3):
        trained = cleaning.differentiate(search.ask().values, 1.0, 0, index)
        search.tell(trained)
    found = torch.tensor(search.values[WEIGHT]) < 0
    assert detection(cleaning.data(0).wrong, found) > 0.75
    assert trained.scores()["f1"] == pytest.approx(detection(cleaning.data(0).wrong, found))
