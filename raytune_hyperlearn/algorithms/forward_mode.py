"""Hypergradients by forward mode: training that carries the tangents of its own state along.

Training is w_{t+1}, s_{t+1} = U(w_t, s_t, λ_t, batch_t), with the optimizer's state and BatchNorm's running
statistics in s. For K learnable values the tangents Z = dw/dλ and S = ds/dλ follow

    (Z_{t+1}, S_{t+1}) = ∂U/∂(w, s) (Z_t, S_t) + ∂U/∂λ E_t

from zero, E_t the columns of the values in use at step t ([FDS] equation 3). At the end, with b the running
statistics and B their tangents,

    h = Zᵀ ∂L_val/∂w + Bᵀ ∂L_val/∂b

and each entry is divided as the schedule's shape says (:mod:`.schedules`): by the number W of steps that share a
window's value. The tangents take K times the memory of the state, whatever T is.

An :class:`InnerStep` carries the tangents through one step: by hand for SGD (:mod:`.fds`), by the tangent of the whole
update map for any optimizer (:mod:`.tangent_steps`). This module has what they share: schedules of any shape, columns
that have not begun and cost nothing, greedy horizons, and the read-out.

**Greedy horizons.** With ``every`` = H < T the run is cut into segments of H steps. At the end of each segment the
hypergradient of the loss there is read out, the values may be changed, and the tangents start anew ([FDS] section 3.2:
non-greedy is H = T, the usual greedy methods H = 1).

[FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.schedules import (
    EQUAL_WINDOWS,
    Active,
    Column,
    Shapes,
    active,
    columns,
    divided,
    within,
)
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch, State
from raytune_hyperlearn.algorithms.values import Numbers, Values
from raytune_hyperlearn.derivatives.functional import FunctionalModel

# ------------------------------------------------------------------------------------- state of training


@dataclass
class TangentState:
    """State of training with tangents: D parameters, B running statistics, K columns (rows of the tangents here).

    Attributes:
        parameters: w [D].
        memory: Running statistics b [B] under ``"statistics"`` and the optimizer's own state.
        parameter_tangents: Z [K, D].
        memory_tangents: The tangents [K, …] of the floating-point entries of ``memory``.
    """

    parameters: Tensor
    memory: State
    parameter_tangents: Tensor
    memory_tangents: State

    @classmethod
    def at_start(cls, parameters: Tensor, memory: State) -> TangentState:
        """The state before the first step, as copies, without columns."""
        state = cls(parameters.clone(), {name: value.clone() for name, value in memory.items()}, parameters[:0], {})
        state.restart(0)
        return state

    def restart(self, count: int) -> None:
        """Replace all tangents by ``count`` columns of zeros."""
        self.parameter_tangents = self.parameters.new_zeros(count, *self.parameters.shape)
        self.memory_tangents = {
            name: value.new_zeros(count, *value.shape)
            for name, value in self.memory.items()
            if value.is_floating_point()
        }

    @property
    def statistics(self) -> Tensor:
        """b [B]."""
        return self.memory[STATISTICS]

    @property
    def statistics_tangents(self) -> Tensor:
        """[K, B]."""
        return self.memory_tangents[STATISTICS]


class InnerStep(Protocol):
    """One step of training, with and without tangents.

    Attributes:
        defaults: Every hyperparameter with the value it has where none is given.
    """

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""

    @property
    def defaults(self) -> Mapping[str, float]:
        """Every hyperparameter with the value it has where none is given."""

    def start(self) -> TangentState:
        """The state before the first step, without columns."""

    def plain(self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float]) -> Tensor:
        """Train by one step, in place, and leave the tangents as they are.

        Args:
            state: Parameters, optimizer state and their tangents.
            batch: Inputs and targets.
            hyperparameters: Values of this step by name.

        Returns:
            Batch loss before the step [].
        """

    def with_tangents(
        self,
        state: TangentState,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        columns: Active,
    ) -> Tensor:
        """Train by one step and carry the tangents of the columns along, in place.

        Args:
            state: With one row of tangents per column.
            batch: Inputs [N, …] and targets [N, …].
            hyperparameters: Value of every hyperparameter at this step.
            columns: How the K columns enter this step.

        Returns:
            The batch loss before the step [].
        """


WHOLE = slice(None)


# ------------------------------------------------------------------------------------------ hypergradients


@dataclass(frozen=True)
class Hypergradient:
    """What one run through the horizon, or through one greedy segment of it, gives.

    Attributes:
        values: Name → one entry per parameter of the schedule, dL_val/dλ divided as the schedule's shape says (for a
            window by its number of steps in the segment); 0 for parameters that no step used.
        validation_loss: L_val(w).
        training_loss: Mean batch loss over the steps.
        parameters: w [D] after the last step.
        statistics: b [B] after the last step.
        steps: Number of steps done since training began.
        differentiation: ``"forward"`` or ``"reverse"``.
        why: That direction was chosen, where there was a choice.
    """

    values: Numbers
    validation_loss: float
    training_loss: float
    parameters: Tensor
    statistics: Tensor
    steps: int = 0
    differentiation: str = "forward"
    why: str = ""

    @property
    def finite(self) -> bool:
        """Whether the loss and every entry are finite numbers."""
        entries = [entry for schedule in self.values.values() for entry in schedule]
        return all(math.isfinite(number) for number in (self.validation_loss, *entries))


def validation_gradient(
    model: FunctionalModel, parameters: Tensor, statistics: Tensor, validation: Iterable[Batch]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean validation loss [] and its gradients with respect to w [D] and b [B], in evaluation mode.

    The mean is over all entries of the losses: over examples, or over all their tokens.

    Raises:
        ValueError: If there is no validation example.
    """
    leaves = (parameters.detach().requires_grad_(), statistics.detach().requires_grad_())
    total = torch.zeros_like(parameters[0])
    slopes = [torch.zeros_like(leaf) for leaf in leaves]
    count = 0
    for inputs, targets in validation:
        with torch.enable_grad():
            losses = model.evaluation_loss(*leaves, inputs, targets)
            loss = losses.sum()
            parts = torch.autograd.grad(loss, leaves, allow_unused=True)
        total += loss.detach()
        for slope, part in zip(slopes, parts, strict=True):
            if part is not None:
                slope += part
        count += losses.numel()
    if count == 0:
        raise ValueError("validation holds no example; it must hold at least one, each time it is read")
    return total / count, slopes[0] / count, slopes[1] / count


def hypergradients(
    inner: InnerStep,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str],
    shapes: Shapes = EQUAL_WINDOWS,
    *,
    every: int | None = None,
    part: slice = WHOLE,
) -> Generator[Hypergradient, Values | None, None]:
    """Train from the model's initial state; after every ``every`` steps yield the hypergradient of the loss there.

    It is the hypergradient with respect to the values that the segment used, the state at its beginning taken as given.
    New values, of the same lengths, may be sent for the steps that follow::

        run = hypergradients(inner, batches, validation, values, horizon, learned, every=1)
        found = next(run)
        while found.steps < horizon:
            values = improved(values, found.values)
            found = run.send(values)

    Args:
        inner: How one step is made.
        batches: At least ``horizon`` training batches.
        validation: Batches of the validation examples, for L_val; read once for each hypergradient.
        values: Parameters of the hyperparameters' schedules; those that are not there keep their defaults.
        horizon: Number T of inner steps.
        learned: Names of the hyperparameters to differentiate, each with a schedule in ``values``.
        shapes: Shapes of the schedules.
        every: H in [1, T]; the last segment may be shorter. None is T: one exact, non-greedy hypergradient.
        part: Which of the K columns, in the order of the steps at which they begin, are differentiated; the entries of
            the others are 0. With H = T all parts see the same trajectory, bit for bit.

    Yields:
        The hypergradient at the end of each segment, and the state there.

    Raises:
        ValueError: If a name, a shape or ``every`` is not allowed, or ``batches`` ends before ``horizon`` steps.
    """
    _check(inner, values, horizon, learned, shapes, every)
    stride = every or horizon
    every_column = columns(values, learned, horizon, shapes)
    own = every_column[part]
    # Gradients with and without tangents differ in rounding: a part that begins later carries the first column along.
    carried = own if own and own[0].first == 0 else [*every_column[:1], *own]
    kept = {(column.name, column.index) for column in own}
    state = inner.start()
    remaining = iter(batches)
    for first in range(0, horizon, stride):
        segment = Segment(range(first, min(first + stride, horizon)), horizon, values, shapes)
        used = within(carried, segment.steps.start, segment.steps.stop)
        state.restart(len(used))
        training_loss = train_segment(inner, state, remaining, segment, used)
        entries, loss = _read_out(inner.model, state, validation, segment, used)
        revised = yield Hypergradient(
            values={n: [entries.get((n, i), 0.0) * ((n, i) in kept) for i in range(len(values[n]))] for n in learned},
            validation_loss=loss,
            training_loss=training_loss.item() / len(segment.steps),
            parameters=state.parameters.clone(),
            statistics=state.statistics.clone(),
            steps=segment.steps.stop,
        )
        values = values if revised is None else _revised(values, revised)


def hypergradient(
    inner: InnerStep,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str],
    shapes: Shapes = EQUAL_WINDOWS,
    *,
    part: slice = WHOLE,
) -> Hypergradient:
    """The non-greedy hypergradient at t = T; arguments as in :func:`hypergradients`."""
    return next(hypergradients(inner, batches, validation, values, horizon, learned, shapes, part=part))


@dataclass(frozen=True)
class Segment:
    """Part of a training run that one hypergradient differentiates.

    Attributes:
        steps: Of the part.
        horizon: Number T of steps of the whole run.
        values: Parameters of the schedules in this part.
        shapes: Shapes of the schedules.
    """

    steps: range
    horizon: int
    values: Values
    shapes: Shapes


def train_segment(
    inner: InnerStep, state: TangentState, batches: Iterator[Batch], segment: Segment, learnable: Sequence[Column]
) -> Tensor:
    """Train through the segment and return the sum of the batch losses []. No value is read back to the host."""
    total = torch.zeros_like(state.parameters[0])
    with torch.no_grad():
        for step in segment.steps:
            batch = next(batches, None)
            if batch is None:
                raise ValueError(f"batches ended after {step} steps; horizon asks for {segment.horizon}")
            now = segment.shapes.at_step(segment.values, step, segment.horizon)
            hyperparameters = {**inner.defaults, **now}
            if learnable:
                total += inner.with_tangents(
                    state,
                    batch,
                    hyperparameters,
                    active(learnable, segment.values, step, segment.horizon, segment.shapes),
                )
            else:
                total += inner.plain(state, batch, hyperparameters)
    return total


def _read_out(
    model: FunctionalModel,
    state: TangentState,
    validation: Iterable[Batch],
    segment: Segment,
    learnable: Sequence[Column],
) -> tuple[dict[tuple[str, int], float], float]:
    """Entry of every column, by name and index, and the validation loss."""
    loss, slope, statistics_slope = validation_gradient(model, state.parameters, state.statistics, validation)
    products = state.parameter_tangents @ slope + state.statistics_tangents @ statistics_slope
    entries = {}
    for column, product in zip(learnable, products.tolist(), strict=True):
        shape = segment.shapes.of(column.name, len(segment.values[column.name]))
        divisor = shape.divisor(column.index, segment.steps, segment.horizon)
        entries[column.name, column.index] = divided(product, divisor)
    return entries, loss.item()


def _check(
    inner: InnerStep, values: Values, horizon: int, learned: Sequence[str], shapes: Shapes, every: int | None
) -> None:
    for name in values:
        if name not in inner.defaults:
            raise ValueError(f"values hold {name!r}; they must be of {', '.join(inner.defaults)}")
    for name in learned:
        if name not in values:
            raise ValueError(f"learned holds {name!r}; it must be among the values' names {', '.join(values)}")
    if every is not None and not 1 <= every <= horizon:
        raise ValueError(f"every is {every}; it must lie in [1, {horizon}], from one step to the whole horizon")
    shapes.check(values)


def _revised(values: Values, revised: Values) -> Values:
    lengths, found = ({name: len(schedule) for name, schedule in v.items()} for v in (values, revised))
    if found != lengths:
        raise ValueError(f"new values have lengths {found}; they must be {lengths}")
    return revised
