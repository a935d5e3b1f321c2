"""Plain training by SGD with scheduled hyperparameters: what black-box methods evaluate and what FDS differentiates.

The update is PyTorch's:

    v ← μ v + g + ξ w        w ← w − α v

with learning rate α, momentum μ and weight decay ξ taken from schedules at every step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Shapes, Values
from raytune_hyperlearn.derivatives.functional import LossFunction

HYPERPARAMETERS = ("learning_rate", "momentum", "weight_decay")
NO_MOMENTUM = 1e-200
"""What stands for a momentum of 0: too small to change any sum, but not 0, at which PyTorch leaves the velocity as it
was instead of v = g + ξ w, so that a later momentum would multiply a stale one."""


def sgd_optimizer(model: nn.Module) -> torch.optim.SGD:
    """SGD over the trainable parameters; its hyperparameters are set before every step by :func:`sgd_step`."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(trainable, lr=0.0)


def sgd_step(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    loss: LossFunction,
    batch: tuple[Tensor, Tensor],
    hyperparameters: dict[str, float],
    gradient_clamp: float | None = None,
) -> Tensor:
    """One update on one batch.

    Args:
        model: In training mode.
        optimizer: From :func:`sgd_optimizer`.
        loss: Per-example loss; the batch's mean is minimised.
        batch: Inputs [N, …] and targets [N, …].
        hyperparameters: learning_rate, momentum and weight_decay of this step.
        gradient_clamp: Bound c of the batch gradient, clamped to [−c, c] element by element, or None.

    Returns:
        The batch loss before the update [], detached.
    """
    for group in optimizer.param_groups:
        group["lr"] = hyperparameters["learning_rate"]
        group["momentum"] = hyperparameters["momentum"] or NO_MOMENTUM
        group["weight_decay"] = hyperparameters["weight_decay"]
    inputs, targets = batch
    optimizer.zero_grad(set_to_none=True)
    value = loss(model(inputs), targets).mean()
    value.backward()
    if gradient_clamp is not None:
        torch.nn.utils.clip_grad_value_(model.parameters(), gradient_clamp)
    optimizer.step()
    return value.detach()


def train(
    model: nn.Module,
    loss: LossFunction,
    batches: Iterable[tuple[Tensor, Tensor]],
    values: Values,
    horizon: int,
    gradient_clamp: float | None = None,
    shapes: Shapes = EQUAL_WINDOWS,
) -> None:
    """Train ``model`` in place over ``batches`` with schedules of ``values`` over ``horizon`` steps.

    Args:
        model: Trained in place.
        loss: Per-example loss.
        batches: ``horizon`` batches.
        values: Schedules of learning_rate, momentum and weight_decay.
        horizon: T, over which the schedules are laid.
        gradient_clamp: As in :func:`sgd_step`.
        shapes: Shapes of the schedules.
    """
    model.train()
    optimizer = sgd_optimizer(model)
    for step, batch in enumerate(batches):
        sgd_step(model, optimizer, loss, batch, shapes.at_step(values, step, horizon), gradient_clamp)
