"""Tasks on which SGD's schedules are raced for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from raytune_hyperlearn.algorithms import reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.baselines.grid import cosine
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.hyperparameters import LearningRate, SearchSpace, Space
from raytune_hyperlearn.problems import Problem, Split, batches, evaluate
from raytune_hyperlearn.problems.examples import validation_batches
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.reproductions.fds.races import Scores, Trained


def half_cosine(share: float, theta: torch.Tensor) -> torch.Tensor:
    """From θ = (peak) to 0."""
    return theta[0] * cosine(1.0, share)


HALF_COSINE = LearningRate(values=1, shape=half_cosine)
"""One number; a run's state is pickled with it, so the function is not a benchmark's own."""


class SGDTask:
    """SGD with scheduled learning rates, one momentum and one weight decay, in the paper's ranges.

    Args:
        problem: What is trained.
        epochs: The full training.
        learning_rate: Its schedule; the ranges are the paper's.
    """

    def __init__(self, problem: Problem, epochs: float, learning_rate: LearningRate) -> None:
        self.problem, self.steps = problem, problem.horizon(epochs)
        self.model = FunctionalModel(initialize(problem.model, 0), problem.loss)
        space = SearchSpace(learning_rate=learning_rate)
        self._space = space.for_model(list(self.model.unflatten(self.model.parameters)))
        self.shapes = self._space.shapes()
        self.inner = SGDAdjoint(self.model, groups=self._space.groups)
        self._splits: dict[int, Split] = {}

    @property
    def space(self) -> Space:
        """What is searched."""
        return self._space

    def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """By PyTorch's own SGD."""
        parts, steps = self._split(split), self.length(share)
        model = initialize(self.problem.model, seed)
        order = batches(parts.train, self.problem.batch_size, steps, seed, self.problem.augmentation)
        train(model, self.problem.loss, order, values, steps, shapes=self.shapes, groups=self._space.groups)
        model.eval()
        loss, _ = evaluate(model, self.problem, parts.validation)
        return Trained(loss, partial(self._scores, model))

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """By reverse mode."""
        parts, steps = self._split(split), self.length(share)
        self.model.load_initial(initialize(self.problem.model, seed))
        order = batches(parts.train, self.problem.batch_size, steps, seed, self.problem.augmentation)
        held_out = validation_batches(parts.validation)
        learned = self._space.learned
        found = reverse_mode.hypergradient(self.inner, order, held_out, values, steps, learned, self.shapes)
        outputs = partial(self.model.evaluation_outputs, found.parameters, found.statistics)
        return Trained(found.validation_loss, partial(self._scores, outputs), found.values)

    def _split(self, seed: int) -> Split:
        """Training and validation examples; copied out of all once per seed."""
        if seed not in self._splits:
            self._splits[seed] = self.problem.split(seed)
        return self._splits[seed]

    def length(self, share: float) -> int:
        """Steps of a training that is a share of the full one, at least one."""
        return max(1, round(share * self.steps))

    @torch.no_grad()
    def _scores(self, outputs: Callable[[torch.Tensor], torch.Tensor]) -> Scores:
        loss, accuracy = evaluate(outputs, self.problem, self.problem.test)
        return {"test_loss": loss, "test_accuracy": accuracy}
