"""Data hyper-cleaning: a weight for every training example, learned from a clean validation set.

The usual protocol (L. Franceschi and others, ICML 2017, arXiv 1703.01785): training and validation images of equal
number, the test images, and half of the training labels drawn anew from all classes. The network w trains by gradient
descent on all training examples at once,

    w_{t+1} = w_t − α (1/N) Σ_i σ(λ_i) ∇ℓ_i(w_t)        σ the logistic function

for T steps, and λ ∈ R^N minimizes the validation loss L(w_T). An example counts as found to be wrong where its weight
σ(λ_i) is below one half.

**Hypergradient.** With ω_i = σ(λ_i), p = ∂L/∂w_{t+1}, r = −α p, going back from p = ∇L(w_T):

    ∂L/∂ω_i += (1/N) r · ∇ℓ_i(w_t)        p ← p + (1/N) Σ_i ω_i ∇²ℓ_i(w_t) r

Both come from one derivative in the direction r: d_i = r · ∇ℓ_i for all examples together, and the gradient of
(1/N) Σ ω_i d_i. So the cost does not depend on N learned values, but on N examples alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad, jvp

from raytune_hyperlearn.algorithms.sign_descent import Numbers
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.hyperparameters import OptimizerSpace, Schedule, Space
from raytune_hyperlearn.problems import Examples, Problem, Purpose, derived_seed, evaluate, load
from raytune_hyperlearn.problems.models import initialise
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


class WeightedTraining:
    """Gradient descent on all training examples at once, each with its weight.

    Args:
        model: A network without dropout or BatchNorm.
        examples: N training examples.
        rate: Learning rate α.
    """

    def __init__(self, model: FunctionalModel, examples: Examples, rate: float) -> None:
        self.model, self.examples, self.rate = model, examples, rate

    def losses(self, parameters: Tensor) -> Tensor:
        """ℓ_i [N]."""
        outputs, _ = self.model.training_outputs(parameters, self.model.buffers, self.examples.inputs)
        return self.model.loss(outputs, self.examples.targets)

    def run(self, weights: Tensor, steps: int) -> list[Tensor]:
        """w_0 … w_T, [D] each, with weights ω [N]."""
        slope = grad(lambda parameters: (weights * self.losses(parameters)).mean())
        course = [self.model.parameters]
        for _ in range(steps):
            course.append(course[-1] - self.rate * slope(course[-1]))
        return course

    def pull_back(self, course: list[Tensor], weights: Tensor, slope: Tensor) -> Tensor:
        """∂L/∂ω [N] from w_0 … w_T and ∂L/∂w_T [D]."""
        found = torch.zeros_like(weights)
        for parameters in reversed(course[:-1]):
            direction = -self.rate * slope
            product, along = grad(partial(self._along, weights, direction), has_aux=True)(parameters)
            found += along / len(weights)
            slope = slope + product
        return found

    def _along(self, weights: Tensor, direction: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(1/N) Σ ω_i d_i and d [N], the losses' derivatives in a direction [D]."""
        along: Tensor = jvp(self.losses, (parameters,), (direction,))[1]
        return (weights * along).mean(), along


class HyperCleaning:
    """The course: λ [N] are searched, all methods within the same bounds.

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
        """Train with these weights."""
        with torch.no_grad():
            training, weights = self._training(values, split, seed)
            final = training.run(weights, self._steps(share))[-1]
            loss = self._validation_loss(training.model, split, final)
        return Trained(loss.item(), self._scorer(training.model, final, weights, split))

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """Train with these weights, and go back."""
        with torch.no_grad():
            training, weights = self._training(values, split, seed)
            course = training.run(weights, self._steps(share))
            validation = partial(self._validation_loss, training.model, split)
            loss, slope = validation(course[-1]), grad(validation)(course[-1])
            found = training.pull_back(course, weights, slope) * weights * (1 - weights)
        scores = self._scorer(training.model, course[-1], weights, split)
        return Trained(loss.item(), scores, {WEIGHT: found.tolist()})

    def _training(self, values: Numbers, split: int, seed: int) -> tuple[WeightedTraining, Tensor]:
        model = FunctionalModel(initialise(self.problem.model, seed), cross_entropy)
        weights = torch.tensor(values[WEIGHT], dtype=model.parameters.dtype).sigmoid()
        return WeightedTraining(model, self.data(split).train, self.rate), weights

    def _steps(self, share: float) -> int:
        return max(1, round(share * self.steps))

    def _validation_loss(self, model: FunctionalModel, split: int, parameters: Tensor) -> Tensor:
        held_out = self.data(split).validation
        return model.evaluation_loss(parameters, model.buffers, held_out.inputs, held_out.targets).mean()

    def _scorer(self, model: FunctionalModel, parameters: Tensor, weights: Tensor, split: int) -> Callable[[], Scores]:
        def scores() -> Scores:
            outputs = partial(model.evaluation_outputs, parameters, model.buffers)
            loss, accuracy = evaluate(outputs, self.problem, self.problem.test)
            found = detection(self.data(split).wrong, weights < HALF)
            return {"test_loss": loss, "test_accuracy": accuracy, "f1": found}

        return scores
