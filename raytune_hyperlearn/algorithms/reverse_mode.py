"""Hypergradients by reverse mode: training is stored step by step and pulled back from its end.

Training is w_{t+1}, s_{t+1} = U(w_t, s_t, λ_t, batch_t), as in :mod:`.forward_mode`. From the slopes of the validation
loss at t = T the adjoints a_t = dL_val/d(w_t, s_t) go backwards through the same steps,

    a_t = ∂U/∂(w, s)ᵀ a_{t+1}            dL_val/dλ at step t = ∂U/∂λᵀ a_{t+1}

so that **all T values of a schedule that shares nothing cost one second derivative per step**, where forward mode
carries T columns. The price is memory: T states are kept, against forward mode's K tangents whatever T is. It suits
short horizons and small networks, as in [FDS] sections 5.1 and 5.2, which measure on LeNet what sharing does.

[FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.forward_mode import Hypergradient, validation_gradient
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Shapes, Values, fold
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch, State, UpdateMap


@dataclass(frozen=True)
class Visited:
    """What a step of training started from.

    Attributes:
        parameters: w_t [D].
        memory: s_t: running statistics and the optimiser's state.
        batch: Of the step.
        random: Generators' states: random layers draw the same masks again on the way back.
    """

    parameters: Tensor
    memory: State
    batch: Batch
    random: tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Adjoint:
    """a_t = dL_val/d(w_t, s_t).

    Attributes:
        parameters: [D].
        memory: Of the floating-point entries of the memory, in their shapes.
    """

    parameters: Tensor
    memory: State


def hypergradient(
    update: UpdateMap,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str],
    shapes: Shapes = EQUAL_WINDOWS,
) -> Hypergradient:
    """Train from the model's initial state and differentiate the whole run: what forward mode gives, the other way.

    Args:
        update: The optimiser.
        batches: At least ``horizon`` training batches.
        validation: Batches of the validation examples, for L_val.
        values: Schedules of the hyperparameters; those that are not there keep their defaults.
        horizon: Number T of inner steps, all of which are kept in memory.
        learned: Names of the hyperparameters to differentiate, each with a schedule in ``values``.
        shapes: Shapes of the schedules.

    Raises:
        ValueError: If a name or a shape is not allowed, or ``batches`` ends before ``horizon`` steps.
    """
    _check(update, values, learned, shapes)
    course, parameters, memory, training_loss = _train(update, batches, values, horizon, shapes)
    loss, slope, statistics_slope = validation_gradient(update.model, parameters, memory[STATISTICS], validation)
    zeros = {name: torch.zeros_like(value) for name, value in memory.items() if value.is_floating_point()}
    adjoint = Adjoint(slope, {**zeros, STATISTICS: statistics_slope})
    per_step = {name: parameters.new_zeros(horizon, dtype=torch.float64) for name in values}
    for step in reversed(range(horizon)):
        scalars = _scalars(update, shapes.at_step(values, step, horizon), parameters.device)
        adjoint, slopes = pull_back(update, course.pop(), scalars, adjoint, tuple(values))
        for name, slope in slopes.items():
            per_step[name][step] = slope
    return Hypergradient(
        values=fold({name: slopes.tolist() for name, slopes in per_step.items()}, values, learned, shapes),
        validation_loss=loss.item(),
        training_loss=training_loss.item() / horizon,
        parameters=parameters,
        statistics=memory[STATISTICS],
        steps=horizon,
    )


def pull_back(
    update: UpdateMap, visited: Visited, scalars: Mapping[str, Tensor], after: Adjoint, learned: Sequence[str]
) -> tuple[Adjoint, dict[str, Tensor]]:
    """a_t from a_{t+1}, and dL_val/dλ of the values in use at step t, [] each.

    Args:
        update: The optimiser.
        visited: What the step started from.
        scalars: Value of every hyperparameter at the step.
        after: a_{t+1}.
        learned: Hyperparameters to differentiate.
    """
    parameters = visited.parameters.detach().requires_grad_()
    smooth = {name: visited.memory[name].detach().requires_grad_() for name in after.memory}
    differentiated = {name: scalars[name].detach().requires_grad_() for name in learned}
    with _replayed(visited.random, parameters.device), torch.enable_grad():
        moved = update(parameters, visited.memory | smooth, {**scalars, **differentiated}, visited.batch)
        pairs = [(moved.parameters, after.parameters), *((moved.state[n], after.memory[n]) for n in after.memory)]
        reached = [(output, weight) for output, weight in pairs if output.requires_grad]
        leaves = (parameters, *smooth.values(), *differentiated.values())
        first, *others = torch.autograd.grad(
            [output for output, _ in reached], leaves, [weight for _, weight in reached], materialize_grads=True
        )
    memory = dict(zip(smooth, others[: len(smooth)], strict=True))
    return Adjoint(first, memory), dict(zip(differentiated, others[len(smooth) :], strict=True))


def _train(
    update: UpdateMap, batches: Iterable[Batch], values: Values, horizon: int, shapes: Shapes
) -> tuple[list[Visited], Tensor, State, Tensor]:
    """Every step's beginning, the parameters and memory at the end, and the sum of the batch losses []."""
    parameters, memory = update.model.parameters.clone(), update.initial_state()
    course: list[Visited] = []
    total = torch.zeros_like(parameters[0])
    remaining = iter(batches)
    with torch.no_grad():
        for step in range(horizon):
            batch = next(remaining, None)
            if batch is None:
                raise ValueError(f"batches ended after {step} steps; horizon asks for {horizon}")
            course.append(Visited(parameters, memory, batch, _random_states(parameters.device)))
            scalars = _scalars(update, shapes.at_step(values, step, horizon), parameters.device)
            parameters, memory, loss = update(parameters, memory, scalars, batch)
            total += loss
    return course, parameters, memory, total


def _scalars(update: UpdateMap, given: Mapping[str, float], device: torch.device) -> dict[str, Tensor]:
    every = {**update.defaults, **given}
    return {name: torch.full((), value, dtype=torch.float64, device=device) for name, value in every.items()}


def _random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def _replayed(states: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """The generators as they were then; afterwards as they are now."""
    host, own = states
    with torch.random.fork_rng([] if own is None else [device]):
        torch.set_rng_state(host)
        if own is not None:
            torch.cuda.set_rng_state(own, device)
        yield


def _check(update: UpdateMap, values: Values, learned: Sequence[str], shapes: Shapes) -> None:
    for name in values:
        if name not in update.defaults:
            raise ValueError(f"values hold {name!r}; they must be of {', '.join(update.defaults)}")
    for name in learned:
        if name not in values:
            raise ValueError(f"learned holds {name!r}; it must be among the values' names {', '.join(values)}")
    shapes.check(values)
