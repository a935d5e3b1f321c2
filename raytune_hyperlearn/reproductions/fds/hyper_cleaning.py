"""Data hyper-cleaning: a weight for every training example, learned from a clean validation set.

The usual protocol (L. Franceschi and others, ICML 2017, arXiv 1703.01785): training and validation images of equal
number, the test images, and half of the training labels drawn anew from all classes. The network w trains by gradient
descent on all training examples at once,

    w_{t+1} = w_t − α (1/N) Σ_i σ(λ_i) ∇ℓ_i(w_t)        σ the logistic function

for T steps, and λ ∈ R^N minimizes the validation loss L(w_T). An example counts as found to be wrong where its weight
σ(λ_i) is below one half.

Reverse mode gives ∂L/∂σ(λ_i) for all examples together (:class:`.ExampleWeights`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms import reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import ExampleWeights, SGDAdjoint
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.hyperparameters import OptimizerSpace, Schedule, Space
from raytune_hyperlearn.problems import Examples, Problem, Purpose, derived_seed, evaluate, load
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.problems.problem import cross_entropy
from raytune_hyperlearn.reproductions.fds.races import Scores, Trained

WEIGHT = "example_weight"
HALF = 0.5


@dataclass(frozen=True)
class Spoiled:
    """Training examples, some with wrong labels, and clean validation examples.

    Attributes:
        train: N examples with the labels as they are trained on.
        wrong: Whether each label differs from the true one [N].
        validation: Clean.
    """

    train: Examples
    wrong: Tensor
    validation: Examples


def spoiled(known: Examples, count: int, share: float, seed: int) -> Spoiled:
    """``count`` training and as many validation examples, of whose training labels ``share`` are drawn anew.

    A label that is drawn anew may be the true one again: of ten classes one in ten is.
    """
    order = torch.randperm(len(known), generator=_generator(seed, Purpose.SPLIT))
    train, validation = known[order[:count]], known[order[count : 2 * count]]
    generator = _generator(seed, Purpose.LABELS)
    drawn = torch.randint(0, int(known.targets.max()) + 1, (count,), generator=generator)
    redrawn = torch.randperm(count, generator=generator) < round(share * count)
    targets = torch.where(redrawn, drawn, train.targets)
    return Spoiled(Examples(train.inputs, targets), targets != train.targets, validation)


def _generator(seed: int, purpose: Purpose) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, purpose))


def detection(wrong: Tensor, found: Tensor) -> float:
    """F1 of the examples found to be wrong [N] against those that are [N]; 0 where none of them is."""
    both, either = (wrong & found).sum().item(), wrong.sum().item() + found.sum().item()
    return 2 * both / either if either else 0.0


class HyperCleaning:
    """The task: λ [N] are searched, all methods within the same bounds.

    Args:
        model: The network.
        examples: N, of training and of validation.
        steps: T.
        rate: Learning rate α of the training.
        share: Of labels drawn anew.
        known: Training examples to draw both from; Fashion-MNIST's by default.
        test: Test examples; Fashion-MNIST's by default.
        step: First step size of λ.
        bound: λ stays in [−bound, bound].
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        examples: int,
        steps: int,
        rate: float,
        share: float = 0.5,
        known: Examples | None = None,
        test: Examples | None = None,
        step: float = 1.0,
        bound: float = 5.0,
    ) -> None:
        if known is None or test is None:
            whole = load("fashion-mnist")
            known, test = whole.train, whole.test
        self.problem = Problem(name="hyper-cleaning", model=model, train=known, test=test)
        self.examples, self.steps, self.rate, self.share = examples, steps, rate, share
        self._space = OptimizerSpace({WEIGHT: Schedule(examples, 0.0, step, (-bound, bound))})
        self._data: dict[int, Spoiled] = {}

    @property
    def space(self) -> Space:
        """λ [N]."""
        return self._space

    def data(self, split: int) -> Spoiled:
        """The examples of a run."""
        if split not in self._data:
            self._data[split] = spoiled(self.problem.train, self.examples, self.share, split)
        return self._data[split]

    def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """By PyTorch's own gradient descent."""
        data, weights = self.data(split), example_weights(values)
        module = initialize(self.problem.model, seed)
        descend(module, data.train, weights, self.rate, self._steps(share))
        loss, _ = evaluate(module, self.problem, data.validation)
        return Trained(loss, partial(self._scores, module, weights, split))

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """By reverse mode."""
        data, weights, steps = self.data(split), example_weights(values), self._steps(share)
        model = FunctionalModel(initialize(self.problem.model, seed), cross_entropy)
        rows = torch.arange(len(weights))
        inner = SGDAdjoint(model, examples=ExampleWeights(weights, lambda _step: rows))
        found = reverse_mode.hypergradient(
            inner,
            lambda first, end: itertools.repeat((data.train.inputs, data.train.targets), end - first),
            [(data.validation.inputs, data.validation.targets)],
            {"learning_rate": [self.rate], "momentum": [0.0], "weight_decay": [0.0]},
            steps,
            (),
        )
        slopes = found.per_example * weights * (1 - weights)
        outputs = partial(model.evaluation_outputs, found.parameters, found.statistics)
        return Trained(found.validation_loss, partial(self._scores, outputs, weights, split), {WEIGHT: slopes.tolist()})

    def _steps(self, share: float) -> int:
        return max(1, round(share * self.steps))

    @torch.no_grad()
    def _scores(self, outputs: Callable[[Tensor], Tensor], weights: Tensor, split: int) -> Scores:
        loss, accuracy = evaluate(outputs, self.problem, self.problem.test)
        found = detection(self.data(split).wrong, weights < HALF)
        return {"test_loss": loss, "test_accuracy": accuracy, "f1": found}


def example_weights(values: Numbers) -> Tensor:
    """σ(λ) [N]."""
    return torch.tensor(values[WEIGHT]).sigmoid()


def descend(model: nn.Module, examples: Examples, weights: Tensor, rate: float, steps: int) -> None:
    """Train in place on all examples at once, each with its weight [N]."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        (weights * cross_entropy(model(examples.inputs), examples.targets)).mean().backward()
        optimizer.step()
    model.eval()
