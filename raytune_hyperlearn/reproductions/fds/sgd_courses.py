"""Courses on which SGD's schedules are raced for: the same for the whole network, or for each of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from raytune_hyperlearn.algorithms import reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.groups import grouped, layers
from raytune_hyperlearn.algorithms.schedules import at_step
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS, NO_MOMENTUM
from raytune_hyperlearn.algorithms.sign_descent import Numbers
from raytune_hyperlearn.algorithms.update_maps import Batch
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, OptimizerSpace, Schedule, Space, WeightDecay
from raytune_hyperlearn.problems import Problem, Split, batches, evaluate
from raytune_hyperlearn.problems.models import initialise
from raytune_hyperlearn.reproductions.fds.races import Scores, Trained
from raytune_hyperlearn.tune.trainable import validation_batches

RATE = "learning_rate"


class SGDCourse:
    """SGD with scheduled learning rates, momentum and weight decay.

    Args:
        problem: What is trained.
        epochs: The full training.
        windows: Learning rates of a schedule.
        layered: Whether every layer has a schedule of learning rates for itself.
    """

    def __init__(self, problem: Problem, epochs: float, windows: int, layered: bool) -> None:
        self.problem, self.steps = problem, problem.horizon(epochs)
        self.model = FunctionalModel(initialise(problem.model, 0), problem.loss)
        own = layers(list(self.model.unflatten(self.model.parameters))) if layered else {}
        self.inner = SGDAdjoint(self.model, groups={RATE: own} if layered else {})
        names = [grouped(RATE, layer) for layer in own] or [RATE]
        self._space = sgd_space(names, windows)
        self._splits: dict[int, Split] = {}

    @property
    def space(self) -> Space:
        """Learning rates, one momentum, one weight decay; the paper's ranges."""
        return self._space

    def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """By PyTorch's own SGD."""
        parts, steps = self._split(split), self._steps(share)
        model = initialise(self.problem.model, seed)
        order = batches(parts.train, self.problem.batch_size, steps, seed, self.problem.augmentation)
        train_in_layers(model, self.problem.loss, order, values, steps)
        model.eval()
        loss, _ = evaluate(model, self.problem, parts.validation)
        return Trained(loss, partial(self._scores, model))

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """By reverse mode."""
        parts, steps = self._split(split), self._steps(share)
        self.model.load_initial(initialise(self.problem.model, seed))
        order = batches(parts.train, self.problem.batch_size, steps, seed, self.problem.augmentation)
        held_out = validation_batches(parts.validation)
        found = reverse_mode.hypergradient(self.inner, order, held_out, values, steps, self.space.learned)
        outputs = partial(self.model.evaluation_outputs, found.parameters, found.statistics)
        return Trained(found.validation_loss, partial(self._scores, outputs), found.values)

    def _split(self, seed: int) -> Split:
        """Training and validation examples; copied out of all once per seed."""
        if seed not in self._splits:
            self._splits[seed] = self.problem.split(seed)
        return self._splits[seed]

    def _steps(self, share: float) -> int:
        return max(1, round(share * self.steps))

    @torch.no_grad()
    def _scores(self, outputs: Callable[[torch.Tensor], torch.Tensor]) -> Scores:
        loss, accuracy = evaluate(outputs, self.problem, self.problem.test)
        return {"test_loss": loss, "test_accuracy": accuracy}


def sgd_space(rates: Sequence[str], windows: int) -> OptimizerSpace:
    """Schedules of learning rates under the given names, one momentum and one weight decay."""
    named: dict[str, Schedule | float] = {name: LearningRate(values=windows) for name in rates}
    return OptimizerSpace({**named, "momentum": Momentum(), "weight_decay": WeightDecay()})


def train_in_layers(
    model: nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    order: Iterable[Batch],
    values: Numbers,
    steps: int,
) -> None:
    """Train in place; learning rates named ``learning_rate@LAYER`` are the layer's own."""
    model.train()
    groups = [{"params": parameters, "name": name} for name, parameters in parameter_groups(model, values).items()]
    optimizer = torch.optim.SGD(groups, lr=0.0)
    for step, (inputs, targets) in enumerate(order):
        now = at_step(values, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = now[group["name"]]
            group["momentum"] = now["momentum"] or NO_MOMENTUM
            group["weight_decay"] = now["weight_decay"]
        optimizer.zero_grad(set_to_none=True)
        loss(model(inputs), targets).mean().backward()
        optimizer.step()


def parameter_groups(model: nn.Module, values: Mapping[str, Sequence[float]]) -> dict[str, list[nn.Parameter]]:
    """The parameters that each learning rate serves, by its name."""
    if RATE in values:
        return {RATE: list(model.parameters())}
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in values if name not in HYPERPARAMETERS}
    for name, parameter in model.named_parameters():
        groups[f"{RATE}@{name.rpartition('.')[0] or name}"].append(parameter)
    return groups
