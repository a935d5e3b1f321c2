"""What a comparison will take, before hours are spent: from its settings alone, and from a few steps of its problem."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from raytune_hyperlearn.algorithms.adjoint_steps import AdjointStep
from raytune_hyperlearn.algorithms.checkpoints import Keeping, Visited
from raytune_hyperlearn.algorithms.forward_mode import InnerStep
from raytune_hyperlearn.algorithms.hypergradients import adjoint_of, counted_costs
from raytune_hyperlearn.algorithms.schedules import columns
from raytune_hyperlearn.algorithms.update_maps import Batch
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.running.duration import duration_text, plan_text
from raytune_hyperlearn.comparison.running.methods import HYPERGRADIENT_METHODS
from raytune_hyperlearn.derivatives.column_chunks import random_state
from raytune_hyperlearn.derivatives.differentiability import layer_without_forward_mode, undifferentiable_layer
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import gradient_bound
from raytune_hyperlearn.problems import Problem, StoredExamples, TrainingFunction, batches, check_problem
from raytune_hyperlearn.problems.mixed_precision import with_precision
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune.fds_options import FDSOptions

TIMED = 3
"""Steps of which the shortest counts; the first of all warms up."""


@dataclass(frozen=True)
class Costs:
    """What one batch costs: a step is timed, the others are counted in operations.

    Attributes:
        step: Seconds of a step of plain training.
        column: What a learned value adds to a step in forward mode, in plain steps; NaN where it is not possible.
        adjoint: What a step back costs in reverse mode, in plain steps; NaN where it is not possible.
        state: Bytes of a state of training.
    """

    step: float
    column: float
    adjoint: float
    state: int


def forecast(problem: Problem, experiment: Experiment, device: torch.device | str = "cpu") -> Mapping[str, str]:
    """Whether a problem fits together, and what its steps, its outer steps and a comparison cost.

    Args:
        problem: Is tried on one batch.
        experiment: Gives the full budget, the search space, methods, seeds and the time limit.
        device: Where to train.

    Returns:
        What is asked → the answer, for a table.

    Raises:
        ValueError: In one line, if the model, the loss, the score and the data do not fit together.
    """
    problem = problem.to(device)
    check_problem(problem)
    model = with_precision(initialize(problem.model, 0).to(device), experiment.precision)
    part = problem.split(0).train
    batch = next(batches(part, problem.batch_size, 1, 0, problem.augmentation))
    failing = undifferentiable_layer(model, batch[0])
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    rows = {
        "model, loss, data": f"fit together; {parameters:,} parameters",
        "examples": _examples_text(problem),
        "twice differentiable": _differentiable_text(failing, layer_without_forward_mode(model, batch[0])),
    }
    if failing is None:
        rows |= _costs_rows(problem, experiment, FunctionalModel(model, problem.loss), batch)
    return rows | {"memory so far": _memory_text(device), "compare": _compare_text(experiment, failing)}


def forecast_of_function(function: TrainingFunction, experiment: Experiment) -> Mapping[str, str]:
    """What the first evaluation of a training function gives, at its start values and the smallest budget.

    Args:
        function: Is called once.
        experiment: Gives the budgets, methods, seeds and the time limit.

    Returns:
        What is asked → the answer, for a table.

    Raises:
        ValueError: In one line, if the function raises or reports nothing.
    """
    begun = time.perf_counter()
    try:
        scores = function.evaluate(function.space.initial(), experiment.min_epochs, seed=0).scores or {}
    except Exception as error:
        raise ValueError(
            f"train of {function.name} raises {' '.join(f'{type(error).__name__}: {error}'.split())}"
        ) from error
    seconds = duration_text(time.perf_counter() - begun)
    reported = ", ".join(f"{name} {value:.4g}" for name, value in scores.items() if not math.isnan(value))
    return {
        "hyperparameters": ", ".join(function.space.flat_names()),
        "one evaluation": f"{seconds} at the smallest budget, {experiment.min_epochs:g} of {experiment.epochs:g}",
        "reported": reported or "a divergence",
        "compare": plan_text(experiment),
    }


def _costs_rows(problem: Problem, experiment: Experiment, model: FunctionalModel, batch: Batch) -> Mapping[str, str]:
    space = experiment.searched
    bound = gradient_bound(experiment.gradient_clamp, experiment.gradient_norm)
    inner = FDSOptions.from_config({"optimizer": experiment.optimizer}).inner_step(model, bound, space)
    adjoint, learned = adjoint_of(inner), list(space.learned)
    costs = measured(inner, adjoint, batch, learned)
    horizon = problem.horizon(experiment.epochs)
    learnable = columns(space.initial(), learned, horizon, space.shapes())
    moved = sum(horizon - column.first for column in learnable)
    forward = costs.step * (horizon + costs.column * moved)
    tangents = _bytes_text((1 + len(learnable)) * costs.state)
    rows = {
        "step of training": f"{duration_text(costs.step)}, batch of {problem.batch_size}",
        "one training": f"{duration_text(costs.step * horizon)}: {experiment.epochs:g} epochs, {horizon:,} steps",
        "outer step, forward mode": f"{duration_text(forward)}, {tangents} for {len(learnable)} values' tangents",
    }
    try:
        plan = Keeping().plan(costs.state, horizon)
    except ValueError as error:
        return rows | {"outer step, reverse mode": f"not possible: {error}"}
    reverse = costs.step * (horizon * (1 + costs.adjoint) + plan.recomputed())
    kept = _bytes_text(plan.memory * costs.state)
    return rows | {"outer step, reverse mode": f"{duration_text(reverse)}, {kept} for {plan.memory:,} states"}


def measured(inner: InnerStep, adjoint: AdjointStep, batch: Batch, learned: list[str]) -> Costs:
    """Costs of one batch's step."""
    device = inner.model.parameters.device
    start, values = adjoint.begin(1, batch), dict(inner.defaults)
    with torch.no_grad():
        step = min(list(_seconds(lambda: adjoint.forward(start, batch, values, 0), device))[1:])
    found = counted_costs(inner, adjoint, batch, learned)
    return Costs(step, found["forward"], found["reverse"], Visited(0, start, random_state(device)).bytes())


def _seconds(call: Callable[[], object], device: torch.device) -> Iterator[float]:
    for _ in range(1 + TIMED):
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield time.perf_counter() - begun


def _examples_text(problem: Problem) -> str:
    training = len(problem.train) - problem.validation_size
    where = "read batch by batch" if isinstance(problem.train, StoredExamples) else "in memory"
    return f"{training:,} training, {problem.validation_size:,} validation, {len(problem.test):,} test; {where}"


def _differentiable_text(failing: str | None, without_forward: str | None) -> str:
    if failing is not None:
        return f"no: {failing} is not; methods that differentiate cannot train it, black-box methods can"
    return "every layer" if without_forward is None else f"every layer; {without_forward} in reverse mode only"


def _compare_text(experiment: Experiment, failing: str | None) -> str:
    """The plan, without the methods that cannot train the problem."""
    stopped = [method for method in experiment.methods if failing is not None and method in HYPERGRADIENT_METHODS]
    if not stopped:
        return plan_text(experiment)
    others = tuple(method for method in experiment.methods if method not in stopped)
    refused = f"{' and '.join(stopped)} would be refused, since {failing} is not twice differentiable"
    if not others:
        return refused
    asked = f"with --methods {','.join(others)}: {plan_text(replace(experiment, methods=others, focus=None))}"
    return f"{refused}; {asked}"


def _memory_text(device: torch.device | str) -> str:
    unit = 1 if sys.platform == "darwin" else 1024
    resident = _bytes_text(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    if torch.device(device).type != "cuda":
        return f"{resident} at most, with PyTorch and the data"
    return f"{resident} at most, {_bytes_text(torch.cuda.max_memory_allocated(device))} on the GPU"


def _bytes_text(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
