"""Weights of training examples: the protocol's data, and a hypergradient checked by differences."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.problems import Examples
from raytune_hyperlearn.problems.problem import cross_entropy
from raytune_hyperlearn.reproductions.fds.hyper_cleaning import (
    WEIGHT,
    HyperCleaning,
    WeightedTraining,
    detection,
    spoiled,
)


def known(count: int = 400) -> Examples:
    """Three classes in the plane, which a network can learn."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 3
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    return Examples(centres[targets] + torch.randn(count, 2, generator=generator), targets)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3))


def course(steps: int = 20) -> HyperCleaning:
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


def test_the_hypergradient_is_the_derivative_of_what_training_computes() -> None:
    examples = known(12)
    examples = Examples(examples.inputs.double(), examples.targets)
    held_out = known(40)
    torch.manual_seed(0)
    training = WeightedTraining(FunctionalModel(network().double(), cross_entropy), examples, 0.7)
    weights = torch.rand(12, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        model = training.model
        return model.evaluation_loss(w, model.buffers, held_out.inputs.double(), held_out.targets).mean()

    def trained(given: Tensor) -> float:
        return loss(training.run(given, 9)[-1]).item()

    steps = training.run(weights, 9)
    found = training.pull_back(steps, weights, torch.func.grad(loss)(steps[-1]))
    for index in range(12):
        moved = torch.zeros(12, dtype=torch.float64)
        moved[index] = 1e-5
        difference = (trained(weights + moved) - trained(weights - moved)) / 2e-5
        assert found[index].item() == pytest.approx(difference, rel=1e-6, abs=1e-11)


def test_training_is_torchs_gradient_descent() -> None:
    torch.manual_seed(0)
    module, examples = network(), known(30)
    training = WeightedTraining(FunctionalModel(module, cross_entropy), examples, 0.3)
    weights = torch.rand(30)
    reached = training.run(weights, 6)[-1]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(6):
        optimizer.zero_grad()
        (weights * cross_entropy(module(examples.inputs), examples.targets)).mean().backward()
        optimizer.step()
    assert torch.allclose(reached, torch.cat([p.detach().reshape(-1) for p in module.parameters()]), atol=1e-6)


def test_the_course_differentiates_what_it_trains() -> None:
    cleaning = course()
    values = {WEIGHT: torch.linspace(-2, 2, 60).tolist()}
    plain, found = cleaning.train(values, 1.0, 0, 7), cleaning.differentiate(values, 1.0, 0, 7)
    assert plain.validation_loss == pytest.approx(found.validation_loss, rel=1e-6)
    assert plain.scores() == pytest.approx(found.scores(), rel=1e-6)
    assert plain.hypergradient == {}
    entries = found.hypergradient[WEIGHT]
    entry = max(range(60), key=lambda index: abs(entries[index]))
    moved = [{WEIGHT: [v + by * (i == entry) for i, v in enumerate(values[WEIGHT])]} for by in (0.05, -0.05)]
    above, below = (cleaning.train(each, 1.0, 0, 7).validation_loss for each in moved)
    assert entries[entry] == pytest.approx((above - below) / 0.1, rel=0.05)


def test_a_share_is_a_shorter_training() -> None:
    cleaning = course(steps=18)
    values = cleaning.space.initial()
    short, whole = (cleaning.train(values, share, 0, 7).validation_loss for share in (1 / 9, 1.0))
    assert short == pytest.approx(course(steps=2).train(values, 1.0, 0, 7).validation_loss)
    assert whole < short


def test_learned_weights_find_the_wrong_labels() -> None:
    cleaning = HyperCleaning(partial(nn.Linear, 2, 3), 150, 40, 0.5, known=known(600), test=known(90))
    values = cleaning.space.initial()
    found = cleaning.differentiate(values, 1.0, 0, 0).hypergradient[WEIGHT]
    signs = torch.tensor(found) > 0
    assert detection(cleaning.data(0).wrong, signs) > 0.75
