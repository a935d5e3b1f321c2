"""Weights of training examples: the protocol's data, and a hypergradient checked by differences."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.problems import Examples
from raytune_hyperlearn.reproductions.fds.hyper_cleaning import (
    WEIGHT,
    HyperCleaning,
    descend,
    detection,
    spoiled,
)


def known(count: int = 400) -> Examples:
    """Three classes in the plane, which a network can learn."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 3
    centers = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    return Examples(centers[targets] + torch.randn(count, 2, generator=generator), targets)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3))


def task(steps: int = 20) -> HyperCleaning:
    return HyperCleaning(network, 60, steps, 0.5, known=known(), test=known(90))


def test_half_of_the_training_labels_are_drawn_anew_and_no_validation_label_is() -> None:
    data = known(3000)
    found = spoiled(data, 1000, 0.5, seed=1)
    assert (len(found.train), len(found.validation)) == (1000, 1000)
    assert found.wrong.float().mean().item() == pytest.approx(0.5 * 2 / 3, abs=0.04), "one in three is drawn again"
    truth = {tuple(x.tolist()): int(y) for x, y in zip(data.inputs, data.targets, strict=True)}
    differs = [truth[tuple(x.tolist())] != int(y) for x, y in zip(found.train.inputs, found.train.targets, strict=True)]
    assert differs == found.wrong.tolist()
    assert all(truth[tuple(x.tolist())] == int(y) for x, y in zip(*parts(found.validation), strict=True))
    shared = {tuple(x) for x in found.train.inputs.tolist()} & {tuple(x) for x in found.validation.inputs.tolist()}
    assert not shared
    assert torch.equal(found.wrong, spoiled(data, 1000, 0.5, seed=1).wrong)
    assert not torch.equal(found.wrong, spoiled(data, 1000, 0.5, seed=2).wrong)


def parts(examples: Examples) -> tuple[Tensor, Tensor]:
    return examples.inputs, examples.targets


def test_f1() -> None:
    wrong = torch.tensor([True, True, True, False, False])
    assert detection(wrong, torch.tensor([True, True, False, True, False])) == pytest.approx(2 / 3)
    assert detection(wrong, wrong) == 1.0
    assert detection(wrong, torch.zeros(5, dtype=torch.bool)) == 0.0
    assert detection(torch.zeros(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)) == 0.0


def test_training_is_gradient_descent_on_the_weighted_mean() -> None:
    torch.manual_seed(0)
    module, examples, weights = nn.Linear(2, 3), known(30), torch.rand(30)
    by_hand = [p.detach().clone() for p in module.parameters()]
    descend(module, examples, weights, 0.3, 4)
    one_hot = nn.functional.one_hot(examples.targets, 3)
    for _ in range(4):
        wrong = (examples.inputs @ by_hand[0].T + by_hand[1]).softmax(dim=1) - one_hot
        slope = weights[:, None] * wrong / 30
        by_hand = [by_hand[0] - 0.3 * slope.T @ examples.inputs, by_hand[1] - 0.3 * slope.sum(dim=0)]
    for parameter, expected in zip(module.parameters(), by_hand, strict=True):
        assert torch.allclose(parameter, expected, atol=1e-6)


def test_the_task_differentiates_what_it_trains() -> None:
    cleaning = task()
    values = {WEIGHT: torch.linspace(-2, 2, 60).tolist()}
    plain, found = cleaning.train(values, 1.0, 0, 7), cleaning.differentiate(values, 1.0, 0, 7)
    assert plain.validation_loss == pytest.approx(found.validation_loss, rel=1e-6)
    assert plain.scores() == pytest.approx(found.scores(), rel=1e-6)
    assert plain.hypergradient == {}
    entries = torch.tensor(found.hypergradient[WEIGHT])
    along = entries / entries.norm()
    moved = [{WEIGHT: (torch.tensor(values[WEIGHT]) + by * along).tolist()} for by in (0.1, -0.1)]
    above, below = (cleaning.train(each, 1.0, 0, 7).validation_loss for each in moved)
    assert (above - below) / 0.2 == pytest.approx(entries.norm().item(), rel=0.02)


def test_a_share_is_a_shorter_training() -> None:
    cleaning = task(steps=18)
    values = cleaning.space.initial()
    short, whole = (cleaning.train(values, share, 0, 7).validation_loss for share in (1 / 9, 1.0))
    assert short == pytest.approx(task(steps=2).train(values, 1.0, 0, 7).validation_loss)
    assert whole < short


def test_learned_weights_find_the_wrong_labels() -> None:
    cleaning = HyperCleaning(partial(nn.Linear, 2, 3), 150, 40, 0.5, known=known(600), test=known(90))
    values = cleaning.space.initial()
    found = cleaning.differentiate(values, 1.0, 0, 0).hypergradient[WEIGHT]
    signs = torch.tensor(found) > 0
    assert detection(cleaning.data(0).wrong, signs) > 0.75
