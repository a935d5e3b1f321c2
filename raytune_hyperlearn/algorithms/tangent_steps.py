"""Inner steps that carry the tangents of any update map along, without a derivation by hand.

:class:`MapStep` pushes the tangents through the whole map at once, whatever it does. :class:`GradientStep` serves
optimisers that use the batch through its loss's gradient alone: the gradient's tangents come from Hessian products in
any of their ways, the optimiser's arithmetic is pushed forward after them. Both are exact and equal; the second has
the Hessian products' options and works where a layer has no forward-mode derivative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.forward_mode import InnerStep, TangentState
from raytune_hyperlearn.algorithms.schedules import Column
from raytune_hyperlearn.algorithms.update_maps import (
    STATISTICS,
    Batch,
    GradientUpdate,
    ObjectiveModel,
    State,
    UpdateMap,
)
from raytune_hyperlearn.derivatives.differentiability import layer_without_forward_mode
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.derivatives.push_forward import PushForward, PushForwardOptions, Tensors


def inner_step(update: UpdateMap, options: HessianProductOptions | None = None) -> InnerStep:
    """The inner step that suits an update map.

    Args:
        update: The optimiser.
        options: How Hessian products are computed; a map that is not a :class:`GradientUpdate` takes its ``chunk`` and
            whether operations are recorded from them.

    Raises:
        ValueError: If the options ask such a map for another way or for part of the batch.
    """
    options = options or HessianProductOptions()
    if isinstance(update, GradientUpdate):
        return GradientStep(update, options)
    if options.way not in ("auto", "forward_over_reverse") or options.fraction < 1:
        raise ValueError(
            f"way is {options.way!r} and fraction {options.fraction}; {type(update).__name__} is not a GradientUpdate: "
            "they must be 'forward_over_reverse' and 1"
        )
    return MapStep(update, PushForwardOptions(options.chunk, options.recorded, options.record_after))


class MapStep:
    """Tangents through a whole update map: any hyperparameter, any use of the batch.

    Args:
        update: The optimiser.
        options: In which chunks, recorded or not.
    """

    def __init__(self, update: UpdateMap, options: PushForwardOptions | None = None) -> None:
        self.update = update
        self.defaults: Mapping[str, float] = update.defaults
        self._smooth, self._counted = _kinds(update.initial_state())
        self._options = options
        self._pushes: dict[tuple[str, ...], PushForward] = {}

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""
        return self.update.model

    def start(self) -> TangentState:
        """The model's and the optimiser's initial state."""
        return TangentState.at_start(self.model.parameters, self.update.initial_state())

    def plain(self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float]) -> Tensor:
        """One step of training; the tangents stay."""
        scalars = as_tensors(hyperparameters, state.parameters.device)
        state.parameters, state.memory, loss = self.update(state.parameters, state.memory, scalars, batch)
        return loss

    def with_tangents(
        self,
        state: TangentState,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        learnable: Sequence[Column],
        step: int,
    ) -> Tensor:
        """One step of training and of the tangents that have begun."""
        begun = sum(column.first <= step for column in learnable)
        if begun == 0:
            return self.plain(state, batch, hyperparameters)
        learned, fixed = _split(self.defaults, learnable)
        scalars = as_tensors(hyperparameters, state.parameters.device)
        directions = in_use(learned, learnable[:begun], step, state.parameters.device)
        if learned not in self._pushes:
            self._pushes[learned] = PushForward(partial(self._whole_map, (*learned, *fixed)), self._options)
        try:
            values, pushed, further = self._pushes[learned](
                (state.parameters, *_of(state.memory, self._smooth), *_of(scalars, learned)),
                (
                    state.parameter_tangents[:begun],
                    *(tangents[:begun] for tangents in _of(state.memory_tangents, self._smooth)),
                    *directions.values(),
                ),
                (*batch, *_of(state.memory, self._counted), *_of(scalars, fixed)),
            )
        except RuntimeError as error:
            self._explain(state, batch, error)
            raise
        loss, *counted = further
        state.parameters = values[0]
        state.memory = dict(zip((*self._smooth, *self._counted), (*values[1:], *counted), strict=True))
        _put(state, begun, pushed[0], dict(zip(self._smooth, pushed[1:], strict=True)))
        return loss

    def _explain(self, state: TangentState, batch: Batch, error: RuntimeError) -> None:
        """Raise what says more than ``error`` if a buffer or a layer is to blame."""
        if isinstance(error, torch.OutOfMemoryError):
            return
        self.model.training_outputs(state.parameters, state.statistics, batch[0])
        layer = layer_without_forward_mode(self.model.model, batch[0])
        if layer is not None:
            raise ValueError(f"{layer} has no forward-mode derivative; only a GradientUpdate can do without") from error

    def _whole_map(self, names: Sequence[str], point: Tensors, constants: Tensors) -> tuple[Tensors, Tensors]:
        """The update, its hyperparameters' ``names`` in the order: those with tangents, then the constant ones."""
        smooth, counted = len(self._smooth), len(self._counted)
        state = dict(
            zip((*self._smooth, *self._counted), point[1 : 1 + smooth] + constants[2 : 2 + counted], strict=True)
        )
        scalars = dict(zip(names, point[1 + smooth :] + constants[2 + counted :], strict=True))
        moved, after, loss = self.update(point[0], state, scalars, (constants[0], constants[1]))
        return (moved, *_of(after, self._smooth)), (loss, *_of(after, self._counted))


class GradientStep:
    """Tangents through the batch loss's gradient, then through the optimiser's arithmetic.

    The objective's hyperparameters are further coordinates of its Hessian, after the parameters.

    Args:
        update: The optimiser.
        options: How Hessian products are computed.
        product_clamp: Bound c > 0: the gradient's tangents are clamped to [−c, c], or None. No longer exact.
    """

    def __init__(
        self, update: GradientUpdate, options: HessianProductOptions | None = None, product_clamp: float | None = None
    ) -> None:
        if product_clamp is not None and not product_clamp > 0:
            raise ValueError(f"product_clamp is {product_clamp}; it must be positive or None")
        self.update = update
        self.defaults: Mapping[str, float] = update.defaults
        self.product_clamp = product_clamp
        self._outer = list(update.objective.defaults)
        self._own = [name for name in self.defaults if name not in self._outer]
        kinds = _kinds(update.initial_state())
        self._smooth, self._counted = ([name for name in names if name != STATISTICS] for names in kinds)
        self.products = HessianProducts(ObjectiveModel(update.model, update.objective), options)
        chosen = self.products.options
        self._options = PushForwardOptions(recorded=chosen.recorded, record_after=chosen.record_after)
        self._pushes: dict[tuple[str, ...], PushForward] = {}

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""
        return self.update.model

    def start(self) -> TangentState:
        """The model's and the optimiser's initial state."""
        return TangentState.at_start(self.model.parameters, self.update.initial_state())

    def plain(self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float]) -> Tensor:
        """One step of training; the tangents stay."""
        scalars = as_tensors(hyperparameters, state.parameters.device)
        point = self._extended(state.parameters, scalars)
        none = point.new_zeros(0, len(point)), state.statistics.new_zeros(0, len(state.statistics))
        loss, gradient, statistics, *_ = self.products(point, state.statistics, *none, *batch)
        state.parameters, memory = self.update.apply(
            state.parameters, state.memory, gradient[: len(state.parameters)], scalars
        )
        state.memory = {**memory, STATISTICS: statistics}
        return loss

    def with_tangents(
        self,
        state: TangentState,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        learnable: Sequence[Column],
        step: int,
    ) -> Tensor:
        """One step of training and of the tangents that have begun."""
        begun = sum(column.first <= step for column in learnable)
        if begun == 0:
            return self.plain(state, batch, hyperparameters)
        learned, fixed = _split(self._own, learnable)
        scalars = as_tensors(hyperparameters, state.parameters.device)
        directions = in_use((*learned, *self._outer), learnable[:begun], step, state.parameters.device)
        loss, gradient, statistics, moved, shifted = self._gradient(
            state, batch, scalars, directions, learnable[:begun], step
        )
        if self.product_clamp is not None:
            moved = moved.clamp(-self.product_clamp, self.product_clamp)
        if learned not in self._pushes:
            self._pushes[learned] = PushForward(partial(self._arithmetic, (*learned, *fixed)), self._options)
        values, pushed, counted = self._pushes[learned](
            (state.parameters, gradient, *_of(state.memory, self._smooth), *_of(scalars, learned)),
            (
                state.parameter_tangents[:begun],
                moved,
                *(tangents[:begun] for tangents in _of(state.memory_tangents, self._smooth)),
                *_of(directions, learned),
            ),
            (*_of(state.memory, self._counted), *_of(scalars, fixed)),
        )
        names = (*self._smooth, *self._counted)
        state.parameters = values[0]
        state.memory = dict(zip(names, (*values[1:], *counted), strict=True)) | {STATISTICS: statistics}
        _put(state, begun, pushed[0], dict(zip(self._smooth, pushed[1:], strict=True)) | {STATISTICS: shifted})
        return loss

    def _gradient(
        self,
        state: TangentState,
        batch: Batch,
        scalars: State,
        directions: State,
        learnable: Sequence[Column],
        step: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Loss, gradient [D] and running statistics [B], and the last two's tangents [K, D] and [K, B].

        A column at the first step of its window has no tangents yet; it needs a product only if it belongs to the
        objective.
        """
        count = len(learnable)
        moving = sum(column.first < step for column in learnable)
        if any(column.name in self._outer for column in learnable[moving:]):
            moving = count
        Z = self._extended(state.parameter_tangents[:moving], {k: v[:moving] for k, v in directions.items()})
        loss, slope, statistics, products, shifted = self.products(
            self._extended(state.parameters, scalars),
            state.statistics,
            Z,
            state.statistics_tangents[:moving],
            *batch,
        )
        size = len(state.parameters)
        moved = products[:, :size]
        if moving < count:
            moved = torch.cat([moved, moved.new_zeros(count - moving, size)])
            shifted = torch.cat([shifted, shifted.new_zeros(count - moving, shifted.shape[1])])
        return loss, slope[:size], statistics, moved, shifted

    def _extended(self, vectors: Tensor, scalars: State) -> Tensor:
        """Vectors [..., D] with the objective's hyperparameters [...] after them: [..., D + L]."""
        if not self._outer:
            return vectors
        ends = torch.stack([scalars[name] for name in self._outer], dim=-1)
        return torch.cat([vectors, ends.to(vectors.dtype)], dim=-1)

    def _arithmetic(self, names: Sequence[str], point: Tensors, constants: Tensors) -> tuple[Tensors, Tensors]:
        """The optimiser's part, its hyperparameters' ``names`` in the order of :meth:`MapStep._whole_map`."""
        smooth, counted = len(self._smooth), len(self._counted)
        state = dict(zip((*self._smooth, *self._counted), point[2 : 2 + smooth] + constants[:counted], strict=True))
        scalars = dict(zip(names, point[2 + smooth :] + constants[counted:], strict=True))
        moved, memory = self.update.apply(point[0], state, point[1], scalars)
        return (moved, *_of(memory, self._smooth)), _of(memory, self._counted)


def as_tensors(hyperparameters: Mapping[str, float], device: torch.device) -> State:
    """Float64 scalars, made on the device: nothing is copied from the host."""
    return {name: torch.full((), value, dtype=torch.float64, device=device) for name, value in hyperparameters.items()}


def in_use(names: Iterable[str], learnable: Sequence[Column], step: int, device: torch.device) -> State:
    """Tangents [K] of hyperparameters at this step: 1 in the column of the value in use."""
    tangents = {name: torch.zeros(len(learnable), dtype=torch.float64, device=device) for name in names}
    for k, column in enumerate(learnable):
        if column.first <= step < column.end:
            tangents[column.name][k] = 1.0
    return tangents


def _split(names: Iterable[str], learnable: Sequence[Column]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The hyperparameters that columns belong to, and those that stay constant."""
    learned = tuple(name for name in names if any(column.name == name for column in learnable))
    return learned, tuple(name for name in names if name not in learned)


def _of(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    return tuple(tensors[name] for name in names)


def _kinds(state: State) -> tuple[list[str], list[str]]:
    """Names of the entries that carry tangents, and of those that do not."""
    smooth = [name for name, value in state.items() if value.is_floating_point()]
    return smooth, [name for name in state if name not in smooth]


def _put(state: TangentState, begun: int, parameter_tangents: Tensor, memory_tangents: State) -> None:
    """Take the tangents of the first ``begun`` columns; those of all columns without a copy."""
    if begun == len(state.parameter_tangents):
        state.parameter_tangents, state.memory_tangents = parameter_tangents, memory_tangents
        return
    state.parameter_tangents[:begun] = parameter_tangents
    for name, tangents in memory_tangents.items():
        state.memory_tangents[name][:begun] = tangents
