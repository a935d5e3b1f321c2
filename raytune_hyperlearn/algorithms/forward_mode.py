"""Hypergradients by forward mode: training that carries the tangents of its own state along.

Training is w_{t+1}, s_{t+1} = U(w_t, s_t, λ_t, batch_t), with the optimiser's state and BatchNorm's running
statistics in s. For K learnable values the tangents Z = dw/dλ and S = ds/dλ follow

    (Z_{t+1}, S_{t+1}) = ∂U/∂(w, s) (Z_t, S_t) + ∂U/∂λ E_t

from zero, E_t the columns of the values in use at step t ([FDS] equation 3). At the end, with b the running
statistics and B their tangents,

    h = Zᵀ ∂L_val/∂w + Bᵀ ∂L_val/∂b

and each entry is divided by the number W of steps that shared the value. The tangents take K times the memory of
the state, whatever T is.

How one step carries tangents is an :class:`InnerStep`'s affair: by hand for SGD (:mod:`.fds`), by the tangent of
the whole update map for any optimiser (:mod:`.tangent_steps`). What is here serves them all: windows, columns that
have not begun and cost nothing, greedy horizons, skipped tangents, and the read-out.

**Greedy horizons.** With ``every`` = H < T the run is cut into segments of H steps; at the end of each a
hypergradient of the loss there is read out and the values may be changed ([FDS] section 3.2: non-greedy is H = T,
the usual greedy methods H = 1). Tangents then start anew, or are kept (``between="keep"``: real-time
hyperparameter optimisation, which takes the values of the past for the present ones).

[FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.schedules import (
    Column,
    Values,
    Windows,
    at_step,
    check_windows,
    columns,
    within,
)
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch, State
from raytune_hyperlearn.derivatives.functional import FunctionalModel

# ------------------------------------------------------------------------------------- state of training


@dataclass
class TangentState:
    """State of training with tangents: D parameters, B running statistics, K columns (rows of the tangents here).

    Attributes:
        parameters: w [D].
        memory: Running statistics b [B] under ``"statistics"`` and the optimiser's own state.
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
        """Train by one step, in place, and leave the tangents as they are; returns the batch loss before it []."""

    def with_tangents(
        self,
        state: TangentState,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        learnable: Sequence[Column],
        step: int,
    ) -> Tensor:
        """Train by one step and carry the tangents of the columns along, in place.

        Args:
            state: With one row of tangents per column.
            batch: Inputs [N, …] and targets [N, …].
            hyperparameters: Value of every hyperparameter at this step.
            learnable: The K columns, in the order of their windows' beginnings.
            step: t.

        Returns:
            The batch loss before the step [].
        """


@dataclass(frozen=True)
class Skipping:
    """Steps that leave the tangents as they are: cheaper, and no longer exact.

    Attributes:
        alternate: Tangents are carried along on every n-th step only, the last one among them; 1 is every step.
        truncate: Share of the steps, the last ones, on which tangents are carried along, in (0, 1]; 1 is all. Values
            whose windows end before get 0.
    """

    alternate: int = 1
    truncate: float = 1.0

    def __post_init__(self) -> None:
        if self.alternate < 1:
            raise ValueError(f"alternate is {self.alternate}; it must be a whole number of at least 1")
        if not 0 < self.truncate <= 1:
            raise ValueError(f"truncate is {self.truncate}; it must lie in (0, 1]")

    def carried(self, first: int, end: int) -> range:
        """The steps in [first, end) that carry tangents; the last step always does."""
        begin = end - math.ceil(self.truncate * (end - first))
        return range(begin + (end - 1 - begin) % self.alternate, end, self.alternate)


EXACT = Skipping()
WHOLE = slice(None)


# ------------------------------------------------------------------------------------------ hypergradients


@dataclass(frozen=True)
class Hypergradient:
    """What one run through the horizon, or through one greedy segment of it, gives.

    Attributes:
        values: Name → one entry per scheduled value, dL_val/dλ divided by the number of steps that shared the value
            (in the segment, and with their tangents carried along); 0 for values that no such step used.
        validation_loss: L_val(w).
        training_loss: Mean batch loss over the steps.
        parameters: w [D] after the last step.
        statistics: b [B] after the last step.
        steps: Number of steps done since training began.
    """

    values: dict[str, list[float]]
    validation_loss: float
    training_loss: float
    parameters: Tensor
    statistics: Tensor
    steps: int = 0

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
    *,
    windows: Windows | None = None,
    every: int | None = None,
    between: Literal["restart", "keep"] = "restart",
    skipping: Skipping = EXACT,
    part: slice = WHOLE,
) -> Generator[Hypergradient, Values | None, None]:
    """Train from the model's initial state; after every ``every`` steps yield the hypergradient of the loss there.

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
        values: Schedules of the hyperparameters; those that are not there keep their defaults.
        horizon: Number T of inner steps.
        learned: Names of the hyperparameters to differentiate, each with a schedule in ``values``.
        windows: Lengths of the windows where they are not equal.
        every: H in [1, T]; the last segment may be shorter. None is T: one exact, non-greedy hypergradient.
        between: ``"restart"``: the tangents of every segment start from zero: the hypergradient of its loss with
            respect to the values that it used, the state at its beginning taken as given. ``"keep"``: they go on.
        skipping: Steps without tangents, in every segment alike.
        part: Which of the K columns, in the order of their windows' beginnings, are differentiated; the entries of the
            others are 0. With exact tangents and H = T all parts see the same trajectory, bit for bit.

    Raises:
        ValueError: If a name, a window or ``every`` is not allowed, or ``batches`` ends before ``horizon`` steps.
    """
    _check(inner, values, horizon, learned, windows or {}, every)
    stride = every or horizon
    every_column = columns(values, learned, horizon, windows)
    own = every_column[part]
    # Gradients with and without tangents differ in rounding: a part that begins later carries the first column along.
    learnable = own if own and own[0].first == 0 else [*every_column[:1], *own]
    state = inner.start()
    remaining = iter(batches)
    carried: list[int] = []
    for first in range(0, horizon, stride):
        steps = range(first, min(first + stride, horizon))
        now = skipping.carried(steps.start, steps.stop)
        if between == "restart" or first == 0:
            begin, end = (now.start, steps.stop) if between == "restart" else (0, horizon)
            used, carried = within(learnable, begin, end), []
            state.restart(len(used))
        training_loss = _train(inner, state, remaining, values, steps, horizon, windows, used, now)
        carried += now
        entries, loss = _read_out(inner.model, state, validation, values, learned, used, carried)
        _keep(entries, own)
        revised = yield Hypergradient(
            values=entries,
            validation_loss=loss,
            training_loss=training_loss.item() / len(steps),
            parameters=state.parameters.clone(),
            statistics=state.statistics.clone(),
            steps=steps.stop,
        )
        values = values if revised is None else _revised(values, revised)


def hypergradient(
    inner: InnerStep,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str],
    *,
    windows: Windows | None = None,
    skipping: Skipping = EXACT,
    part: slice = WHOLE,
) -> Hypergradient:
    """The non-greedy hypergradient at t = T; arguments as in :func:`hypergradients`."""
    return next(
        hypergradients(
            inner, batches, validation, values, horizon, learned, windows=windows, skipping=skipping, part=part
        )
    )


def _train(
    inner: InnerStep,
    state: TangentState,
    batches: Iterator[Batch],
    values: Values,
    steps: range,
    horizon: int,
    windows: Windows | None,
    learnable: Sequence[Column],
    carried: range,
) -> Tensor:
    """Train through ``steps`` and return the sum of the batch losses []. No value is read back to the host."""
    total = torch.zeros_like(state.parameters[0])
    with torch.no_grad():
        for step in steps:
            batch = next(batches, None)
            if batch is None:
                raise ValueError(f"batches ended after {step} steps; horizon asks for {horizon}")
            hyperparameters = {**inner.defaults, **at_step(values, step, horizon, windows)}
            if step in carried and learnable:
                total += inner.with_tangents(state, batch, hyperparameters, learnable, step)
            else:
                total += inner.plain(state, batch, hyperparameters)
    return total


def _read_out(
    model: FunctionalModel,
    state: TangentState,
    validation: Iterable[Batch],
    values: Values,
    learned: Sequence[str],
    learnable: Sequence[Column],
    carried: Sequence[int],
) -> tuple[dict[str, list[float]], float]:
    """Entries per value and the validation loss."""
    loss, slope, statistics_slope = validation_gradient(model, state.parameters, state.statistics, validation)
    products = state.parameter_tangents @ slope + state.statistics_tangents @ statistics_slope
    entries = {name: [0.0] * len(values[name]) for name in learned}
    for column, product in zip(learnable, products.tolist(), strict=True):
        shared = bisect_left(carried, column.end) - bisect_left(carried, column.first)
        if shared:
            entries[column.name][column.index] = product / shared
    return entries, loss.item()


def _keep(entries: dict[str, list[float]], own: Sequence[Column]) -> None:
    """Set the entries of all other columns to 0, in place."""
    kept = {(column.name, column.index) for column in own}
    for name, schedule in entries.items():
        entries[name] = [entry if (name, index) in kept else 0.0 for index, entry in enumerate(schedule)]


def _check(
    inner: InnerStep, values: Values, horizon: int, learned: Sequence[str], windows: Windows, every: int | None
) -> None:
    for name in values:
        if name not in inner.defaults:
            raise ValueError(f"values hold {name!r}; they must be of {', '.join(inner.defaults)}")
    for name in learned:
        if name not in values:
            raise ValueError(f"learned holds {name!r}; it must be among the values' names {', '.join(values)}")
    if every is not None and not 1 <= every <= horizon:
        raise ValueError(f"every is {every}; it must lie in [1, {horizon}], from one step to the whole horizon")
    check_windows(values, windows)


def _revised(values: Values, revised: Values) -> Values:
    lengths, found = ({name: len(schedule) for name, schedule in v.items()} for v in (values, revised))
    if found != lengths:
        raise ValueError(f"new values have lengths {found}; they must be {lengths}")
    return revised
