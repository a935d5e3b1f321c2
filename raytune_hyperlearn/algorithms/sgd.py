"""Plain training by SGD with scheduled hyperparameters: what black-box methods evaluate and what FDS differentiates.

The update is PyTorch's:

    v ← μ v + g + ξ w        w ← w − α v

with learning rate α, momentum μ and weight decay ξ taken from schedules at every step; each may have values of its own
for groups of parameters (:mod:`.groups`).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.groups import Groups
from raytune_hyperlearn.algorithms.optimizer_defaults import OptimizerName
from raytune_hyperlearn.algorithms.optimizers import set_hyperparameters, torch_optimizer
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Shapes
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.functional import LossFunction
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound

HYPERPARAMETERS = ("learning_rate", "momentum", "weight_decay")


def sgd_optimizer(model: nn.Module, groups: Groups | None = None) -> torch.optim.SGD:
    """SGD over the trainable parameters; its hyperparameters are set before every step by :func:`sgd_step`.

    Args:
        model: Of the parameters.
        groups: Groups of parameters with values of their own.

    Raises:
        ValueError: In one line, if the groups do not hold every parameter once.
    """
    made = torch_optimizer(model, "sgd", groups)
    assert isinstance(made, torch.optim.SGD)
    return made


def sgd_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: LossFunction,
    batch: tuple[Tensor, Tensor],
    hyperparameters: dict[str, float],
    bound: GradientBound | None = None,
) -> Tensor:
    """One update on one batch.

    Args:
        model: In training mode.
        optimizer: From :func:`sgd_optimizer`, or another one from :func:`.optimizers.torch_optimizer`.
        loss: Per-example loss; the batch's mean is minimized.
        batch: Inputs [N, …] and targets [N, …].
        hyperparameters: Of this step, by name: the optimizer's own, or those of its groups.
        bound: On the batch gradient, or None.

    Returns:
        The batch loss before the update [], detached.
    """
    set_hyperparameters(optimizer, hyperparameters)
    inputs, targets = batch
    optimizer.zero_grad(set_to_none=True)
    value = loss(model(inputs), targets).mean()
    value.backward()
    if bound is not None:
        bound.apply_to(model.parameters())
    optimizer.step()
    return value.detach()


def train(
    model: nn.Module,
    loss: LossFunction,
    batches: Iterable[tuple[Tensor, Tensor]],
    values: Values,
    horizon: int,
    bound: GradientBound | None = None,
    shapes: Shapes = EQUAL_WINDOWS,
    groups: Groups | None = None,
    optimizer: OptimizerName = "sgd",
) -> None:
    """Train ``model`` in place over ``batches`` with schedules of ``values`` over ``horizon`` steps.

    Args:
        model: Trained in place.
        loss: Per-example loss.
        batches: ``horizon`` batches.
        values: Schedules of the optimizer's hyperparameters.
        horizon: T, over which the schedules are laid.
        bound: As in :func:`sgd_step`.
        shapes: Shapes of the schedules.
        groups: Groups of parameters with schedules of their own.
        optimizer: Another one in SGD's place.
    """
    model.train()
    steps = torch_optimizer(model, optimizer, groups)
    for step, batch in enumerate(batches):
        sgd_step(model, steps, loss, batch, shapes.at_step(values, step, horizon), bound)
