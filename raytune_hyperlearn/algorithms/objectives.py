"""Training losses with hyperparameters of their own, such as label smoothing, which are learned as an optimizer's are.

Validation has a loss without any: the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from raytune_hyperlearn.algorithms.groups import grouped
from raytune_hyperlearn.derivatives.functional import FunctionalModel, LossFunction

Hyperparameters = Mapping[str, Tensor]
"""Name → value, a float64 scalar []."""


@dataclass(frozen=True)
class Objective:
    """A training loss with hyperparameters of its own.

    Attributes:
        loss: Maps outputs [N, …], targets [N, …] and hyperparameters to one loss per example [N]; the batch's mean
            is minimized.
        defaults: Its hyperparameters' values where none are given.
    """

    loss: Callable[[Tensor, Tensor, Hyperparameters], Tensor]
    defaults: Mapping[str, float] = field(default_factory=dict)


def plain(loss: LossFunction) -> Objective:
    """A loss without hyperparameters."""
    return Objective(lambda outputs, targets, _hyperparameters: loss(outputs, targets))


def label_smoothing() -> Objective:
    """Cross-entropy towards (1 − s) · target + s / classes, s = ``label_smoothing`` ∈ [0, 1]."""

    def loss(outputs: Tensor, targets: Tensor, hyperparameters: Hyperparameters) -> Tensor:
        smoothing = hyperparameters["label_smoothing"]
        hard = F.cross_entropy(outputs, targets, reduction="none")
        even = -F.log_softmax(outputs, dim=1).mean(dim=1)
        return hard + smoothing * (even - hard)

    return Objective(loss, {"label_smoothing": 0.0})


def class_weights(classes: int) -> Objective:
    """Cross-entropy times the weight of the example's class: ``class_weight@0`` … , each 1 by default.

    The batch's mean divides by the number of examples, not by their weights.

    Args:
        classes: Number of classes, at least 1.
    """
    names = [grouped("class_weight", str(index)) for index in range(classes)]

    def loss(outputs: Tensor, targets: Tensor, hyperparameters: Hyperparameters) -> Tensor:
        weights = torch.stack([hyperparameters[name] for name in names]).to(outputs.dtype)
        return weights[targets] * F.cross_entropy(outputs, targets, reduction="none")

    return Objective(loss, dict.fromkeys(names, 1.0))


def weighted(first: LossFunction, second: LossFunction) -> Objective:
    """``first`` + c · ``second``, c = ``loss_weight``."""

    def loss(outputs: Tensor, targets: Tensor, hyperparameters: Hyperparameters) -> Tensor:
        return first(outputs, targets) + hyperparameters["loss_weight"] * second(outputs, targets)

    return Objective(loss, {"loss_weight": 1.0})


class ObjectiveModel(FunctionalModel):
    """A model whose parameter vector ends with its training loss's hyperparameters: [D + L].

    The Hessian of that loss has the derivatives of the gradient with respect to both.
    """

    def __init__(self, model: FunctionalModel, objective: Objective) -> None:
        super().__init__(model.model, model.loss)
        self.objective = objective

    def training_loss(
        self, parameters: Tensor, buffers: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`FunctionalModel.training_loss`, of the objective, at [w, hyperparameters]."""
        count = len(self.objective.defaults)
        w = parameters[: len(parameters) - count]
        values = dict(zip(self.objective.defaults, parameters[len(w) :].unbind(), strict=True))
        outputs, updated = self.training_outputs(w, buffers, inputs)
        return self.objective.loss(outputs, targets, values).mean(), updated
