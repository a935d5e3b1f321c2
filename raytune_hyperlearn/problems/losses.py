"""Losses as training and evaluation need them: one number per example, never a mean over the batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives.functional import LossFunction as LossFunction

ELEMENTWISE = (
    nn.L1Loss,
    nn.MSELoss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
)
"""Losses of torch that broadcast outputs of another shape than the targets', which is never what is meant."""


IGNORED = -100
"""Target that counts for nothing, as in PyTorch."""


def mean_per_example(values: Tensor, targets: Tensor | None = None, ignored: int = IGNORED) -> Tensor:
    """Mean over everything that belongs to an example: its outputs, labels or tokens.

    Args:
        values: [N, …].
        targets: Of class indices [N, …] in the same shape, those that are ``ignored`` do not count, so that padding
            changes nothing; others are not looked at.
        ignored: Index that does not count.

    Returns:
        [N]; 0 for an example of which nothing counts.
    """
    if values.ndim <= 1:
        return values
    if targets is None or targets.is_floating_point() or targets.shape != values.shape:
        return values.flatten(1).mean(dim=1)
    counted = (targets != ignored).flatten(1).to(values.dtype)
    return (values.flatten(1) * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class PerExample:
    """One of torch's loss modules, applied without its reduction.

    The loss of an example is the mean over everything that belongs to it: the outputs of a regression, the tokens of
    a sequence without those whose target is the module's ``ignore_index``. Where a module's own mean weighs examples
    (``CrossEntropyLoss(weight=…)``), an example's loss is
    multiplied by the weight of its class, and a mean over examples divides by their number, not by the sum of
    weights.

    Attributes:
        module: Has ``reduction="none"``.
    """

    module: nn.Module

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One loss per example [N] of outputs [N, …] and targets [N, …].

        Raises:
            ValueError: If the loss compares element by element and the shapes differ.
        """
        if isinstance(self.module, ELEMENTWISE) and outputs.shape != targets.shape:
            raise ValueError(
                f"outputs have shape {list(outputs.shape)} and targets {list(targets.shape)}; "
                f"{type(self.module).__name__} needs equal shapes"
            )
        losses: Tensor = self.module(outputs, targets)
        return mean_per_example(losses, targets, getattr(self.module, "ignore_index", IGNORED))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> PerExample:
        """The same loss with its weights on ``device``.

        Args:
            device: Where the weights go.
            dtype: Their new type; None keeps it.
        """
        return replace(self, module=copy.deepcopy(self.module).to(device, dtype))


def per_example(loss: LossFunction) -> LossFunction:
    """``loss`` as a function that gives one number per example; torch's loss modules are rebuilt so.

    Args:
        loss: A function of outputs and targets, or one of torch's loss modules with any ``reduction``.

    Returns:
        Outputs [N, …] and targets [N, …] to losses [N].

    Raises:
        ValueError: If it is no function, or a class.
    """
    if isinstance(loss, type):
        raise ValueError(f"loss is the class {loss.__name__}; it must be an instance, {loss.__name__}(), or a function")
    if not callable(loss):
        raise ValueError(f"loss is {loss!r}; it must be a function of outputs and targets")
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        module = copy.deepcopy(loss)
        module.reduction = "none"  # type: ignore[assignment]
        return PerExample(module)
    return loss


def require_per_example(name: str, values: object, count: int) -> Tensor:
    """``values``, which must be one number per example.

    Args:
        name: ``loss`` or ``score``.
        values: What it returned for ``count`` examples.
        count: N.

    Raises:
        ValueError: If they are not of shape [N].
    """
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} returns {type(values).__name__}; it must return a tensor with one number per example")
    if values.shape != (count,):
        shape = list(values.shape)
        advice = 'pass reduction="none"' if not shape else "average over all dimensions but the first"
        raise ValueError(
            f"{name} returns shape {shape} for {count} examples; it must return one number per example, [{count}]: "
            f"{advice}"
        )
    return values
