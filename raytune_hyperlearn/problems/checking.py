"""Whether a problem's model, loss, score and data fit together, found out on two examples before anything trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from raytune_hyperlearn.problems.examples import Examples
from raytune_hyperlearn.problems.fields import Fields
from raytune_hyperlearn.problems.losses import require_per_example
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.problems.problem import Problem

FEW = 2
"""Examples that are enough to see a shape, and to tell a mean from losses per example."""


def check_problem(problem: Problem) -> None:
    """Build the model and apply it, the loss and the score to a few training examples.

    Args:
        problem: What to try.

    Raises:
        ValueError: In one line that begins with the problem's name, for a model that cannot be built or applied, has
            nothing to train, has no gradient or gives something else than one output per example, and for a loss or a
            score that does not give one number per example, or whose number depends on the others in the batch.
    """
    try:
        _check(problem, problem.train[slice(0, FEW)].read())
    except ValueError as error:
        raise ValueError(f"problem {problem.name}: {error}") from error
    except torch.OutOfMemoryError:
        return  # training meets it as well, and its trainable reports it as a result


def _check(problem: Problem, few: Examples) -> None:
    model = _model(problem).to(few.device).eval()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model has no parameter that requires a gradient; it must have at least one to train")
    outputs = _applied("model", model, few.inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(few):
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"model returns {found} for {len(few)} examples; it must return a tensor [{len(few)}, …]")
    losses = require_per_example("loss", _applied("loss", problem.loss, outputs, few.targets), len(few))
    if not losses.requires_grad:
        raise ValueError("loss has no gradient with respect to the model's parameters; it must be differentiable")
    _require_own_losses(problem, outputs.detach(), few.targets, losses.detach())
    _require_gradient(model, losses)
    if problem.score is None:
        return
    with torch.no_grad():
        require_per_example("score", _applied("score", problem.score, outputs, few.targets), len(few))


def _require_own_losses(problem: Problem, outputs: Tensor, targets: Tensor | Fields, losses: Tensor) -> None:
    """Refuse a loss that an example does not have alone, such as a mean over the batch.

    Raises:
        ValueError: With both numbers of the first example that differs.
    """
    for i, loss in enumerate(losses):
        one = slice(i, i + 1)
        (alone,) = require_per_example("loss", _applied("loss", problem.loss, outputs[one], targets[one]), 1)
        if not torch.isclose(alone, loss, rtol=1e-3, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"loss of an example is {alone:.4g} alone and {loss:.4g} in a batch of {len(losses)}; "
                "it must not depend on the other examples (no mean over the batch)"
            )


def _require_gradient(model: nn.Module, losses: Tensor) -> None:
    """Refuse what PyTorch itself cannot differentiate once.

    Raises:
        ValueError: With what PyTorch says.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        torch.autograd.grad(losses.sum(), trained, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"the model's gradient cannot be computed: {_line(error)}") from error


def _model(problem: Problem) -> nn.Module:
    try:
        model = initialize(problem.model, seed=0)
    except Exception as error:
        raise ValueError(f"model cannot be built: {_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"model builds {type(model).__name__}; it must build a torch.nn.Module")
    return model


def _applied(name: str, function: object, *arguments: Any) -> object:
    try:
        return function(*arguments)  # type: ignore[operator]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and name != "model":
            raise
        shapes = " and ".join(f"{_shape(argument)} ({argument.dtype})" for argument in arguments)
        raise ValueError(f"{name} cannot be applied to shapes {shapes}: {_line(error)}") from error


def _shape(argument: Tensor | Fields) -> object:
    return list(argument.shape) if isinstance(argument, Tensor) else argument.shape


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
