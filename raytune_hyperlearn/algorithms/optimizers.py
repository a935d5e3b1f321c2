"""PyTorch's optimizers under the names that hyperparameters have here, to be set anew before every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.groups import Groups, names_in_use
from raytune_hyperlearn.algorithms.optimizer_defaults import DEFAULTS, OptimizerName

NO_MOMENTUM = 1e-200
"""What stands for a momentum of 0: too small to change any sum, but not 0, at which PyTorch leaves the velocity as it
was instead of v = g + ξ w, so that a later momentum would multiply a stale one."""


def torch_optimizer(model: nn.Module, name: OptimizerName, groups: Groups | None = None) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters; :func:`set_hyperparameters` is to be called before every step.

    Args:
        model: Of the parameters.
        name: Which optimizer.
        groups: Groups of parameters with values of their own.

    Raises:
        ValueError: In one line, if the groups do not hold every parameter once.
    """
    trainable = {own: p for own, p in model.named_parameters() if p.requires_grad}
    used = [names_in_use(groups or {}, hyperparameter, list(trainable)) for hyperparameter in DEFAULTS[name]]
    parameters: dict[tuple[str, ...], list[Tensor]] = {}
    for names, parameter in zip(zip(*used, strict=True), trainable.values(), strict=True):
        parameters.setdefault(names, []).append(parameter)
    parts = [{"params": part, "names": names} for names, part in parameters.items()]
    if name == "sgd":
        return torch.optim.SGD(parts, lr=0.0)
    return (torch.optim.Adam if name == "adam" else torch.optim.AdamW)(parts)


def set_hyperparameters(optimizer: torch.optim.Optimizer, values: Mapping[str, float]) -> None:
    """Set what the next step uses.

    Args:
        optimizer: From :func:`torch_optimizer`.
        values: Of the step; a hyperparameter that is missing keeps PyTorch's own value.
    """
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            rate, momentum, decay = (values[name] for name in group["names"])
            group |= {"lr": rate, "momentum": momentum or NO_MOMENTUM, "weight_decay": decay}
        return
    defaults = DEFAULTS["adamw" if isinstance(optimizer, torch.optim.AdamW) else "adam"]
    for group in optimizer.param_groups:
        rate, beta1, beta2, epsilon, decay = (
            values[name] if name in values else defaults[name] for name in group["names"]
        )
        group |= {"lr": rate, "betas": (beta1, beta2), "eps": epsilon, "weight_decay": decay}
