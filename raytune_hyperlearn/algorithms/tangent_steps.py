"""Inner steps that carry the tangents of any update map along, without a derivation by hand.

:class:`MapStep` pushes the tangents through the whole map at once, whatever it does. :class:`GradientStep` serves
optimizers that use the batch through its loss's gradient alone: the gradient's tangents come from Hessian products in
any of their ways, and the optimizer's arithmetic is pushed forward after them. Both are exact and equal. The second
has the Hessian products' options and also works where a layer has no forward-mode derivative.

With Z and S the tangents of the parameters and of the optimizer's state, and E_t the slopes ∂λ_t/∂θ of the schedules
(:mod:`.schedules`), one step is

    (Z, S) ← ∂U/∂(w, s) (Z, S) + ∂U/∂λ E_t
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.forward_mode import InnerStep, TangentState
from raytune_hyperlearn.algorithms.objectives import ObjectiveModel
from raytune_hyperlearn.algorithms.schedules import Active
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch, GradientUpdate, State, UpdateMap
from raytune_hyperlearn.derivatives.differentiability import layer_without_forward_mode
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.derivatives.push_forward import PushForwardOptions, Tree, TreePushForward


def inner_step(update: UpdateMap, options: HessianProductOptions | None = None) -> InnerStep:
    """The inner step that suits an update map.

    Args:
        update: The optimizer.
        options: How Hessian products are computed; a map that is not a :class:`GradientUpdate` takes its ``chunk`` and
            whether operations are recorded from them.

    Returns:
        A :class:`GradientStep` or a :class:`MapStep`.

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
        update: The optimizer.
        options: In which chunks, recorded or not.
    """

    def __init__(self, update: UpdateMap, options: PushForwardOptions | None = None) -> None:
        self.update = update
        self.defaults: Mapping[str, float] = update.defaults
        self._push = TreePushForward(self._whole_map, options)

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""
        return self.update.model

    def start(self) -> TangentState:
        """The model's and the optimizer's initial state."""
        return TangentState.at_start(self.model.parameters, self.update.initial_state())

    def plain(self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float]) -> Tensor:
        """One step of training; the tangents stay."""
        scalars = as_tensors(hyperparameters, state.parameters.device)
        state.parameters, state.memory, loss = self.update(state.parameters, state.memory, scalars, batch)
        return loss

    def with_tangents(
        self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float], columns: Active
    ) -> Tensor:
        """One step of training and of the tangents that have begun."""
        if columns.begun == 0:
            return self.plain(state, batch, hyperparameters)
        scalars = as_tensors(hyperparameters, state.parameters.device)
        learned = [name for name in self.defaults if name in columns.learned]
        counted = [name for name, value in state.memory.items() if not value.is_floating_point()]
        try:
            values, pushed, further = self._push(
                {
                    "own": {"parameters": state.parameters},
                    "memory": without(state.memory, counted),
                    "hyperparameters": only(scalars, learned),
                },
                {
                    **begun_tangents(state, columns.begun),
                    "hyperparameters": slopes(learned, columns, state.parameters.device),
                },
                {
                    "batch": {"inputs": batch[0], "targets": batch[1]},
                    "memory": only(state.memory, counted),
                    "hyperparameters": without(scalars, learned),
                },
            )
        except RuntimeError as error:
            self._explain(state, batch, error)
            raise
        state.parameters = values["own"]["parameters"]
        state.memory = {**values["memory"], **further["memory"]}
        put(state, columns.begun, pushed["own"]["parameters"], pushed["memory"])
        return further["own"]["loss"]

    def _explain(self, state: TangentState, batch: Batch, error: RuntimeError) -> None:
        """Raise what says more than ``error`` if a buffer or a layer is to blame."""
        if isinstance(error, torch.OutOfMemoryError):
            return
        self.model.training_outputs(state.parameters, state.statistics, batch[0])
        layer = layer_without_forward_mode(self.model.model, batch[0])
        if layer is not None:
            raise ValueError(f"{layer} has no forward-mode derivative; only a GradientUpdate can do without") from error

    def _whole_map(self, point: Tree, constants: Tree) -> tuple[Tree, Tree]:
        """The update: (what carries tangents, what does not) to the same after the step."""
        moved, after, loss = self.update(
            point["own"]["parameters"],
            {**point["memory"], **constants["memory"]},
            {**point["hyperparameters"], **constants["hyperparameters"]},
            (constants["batch"]["inputs"], constants["batch"]["targets"]),
        )
        return (
            {"own": {"parameters": moved}, "memory": only(after, point["memory"])},
            {"own": {"loss": loss}, "memory": only(after, constants["memory"])},
        )


class GradientStep:
    """Tangents through the batch loss's gradient, then through the optimizer's arithmetic.

    The objective's hyperparameters are further coordinates of its Hessian, after the parameters.

    Args:
        update: The optimizer.
        options: How Hessian products are computed.
        product_clamp: Bound c > 0: the gradient's tangents are clamped to [−c, c], or None. No longer exact.

    Raises:
        ValueError: If the bound is not positive.
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
        self.products = HessianProducts(ObjectiveModel(update.model, update.objective), options)
        chosen = self.products.options
        push_options = PushForwardOptions(recorded=chosen.recorded, record_after=chosen.record_after)
        self._push = TreePushForward(self._arithmetic, push_options)

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""
        return self.update.model

    def start(self) -> TangentState:
        """The model's and the optimizer's initial state."""
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
        self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float], columns: Active
    ) -> Tensor:
        """One step of training and of the tangents that have begun."""
        if columns.begun == 0:
            return self.plain(state, batch, hyperparameters)
        scalars = as_tensors(hyperparameters, state.parameters.device)
        learned = [name for name in self.defaults if name in columns.learned and name not in self._outer]
        directions = slopes((*learned, *self._outer), columns, state.parameters.device)
        loss, gradient, statistics, moved, shifted = self._gradient(state, batch, scalars, directions, columns)
        if self.product_clamp is not None:
            moved = moved.clamp(-self.product_clamp, self.product_clamp)

        memory = without(state.memory, [STATISTICS])
        counted = [name for name, value in memory.items() if not value.is_floating_point()]
        tangents = begun_tangents(state, columns.begun)
        values, pushed, further = self._push(
            {
                "own": {"parameters": state.parameters, "gradient": gradient},
                "memory": without(memory, counted),
                "hyperparameters": only(scalars, learned),
            },
            {
                "own": {**tangents["own"], "gradient": moved},
                "memory": tangents["memory"],
                "hyperparameters": only(directions, learned),
            },
            {"memory": only(memory, counted), "hyperparameters": without(scalars, learned)},
        )
        state.parameters = values["own"]["parameters"]
        state.memory = {**values["memory"], **further["memory"], STATISTICS: statistics}
        put(state, columns.begun, pushed["own"]["parameters"], {**pushed["memory"], STATISTICS: shifted})
        return loss

    def _gradient(
        self, state: TangentState, batch: Batch, scalars: State, directions: State, columns: Active
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Loss, gradient [D] and running statistics [B], and the last two's tangents [K, D] and [K, B].

        A column at its first step has no tangents yet; it needs a product only if it belongs to the objective.
        """
        count, moving = columns.begun, columns.moving
        if any(place >= moving for name in self._outer for place in columns.slopes.get(name, {})):
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
        return loss, slope[:size], statistics, padded(products[:, :size], count), padded(shifted, count)

    def _extended(self, vectors: Tensor, scalars: State) -> Tensor:
        """Vectors [..., D] with the objective's hyperparameters [...] after them: [..., D + L]."""
        if not self._outer:
            return vectors
        ends = torch.stack([scalars[name] for name in self._outer], dim=-1)
        return torch.cat([vectors, ends.to(vectors.dtype)], dim=-1)

    def _arithmetic(self, point: Tree, constants: Tree) -> tuple[Tree, Tree]:
        """The optimizer's part of the step, after the gradient."""
        moved, after = self.update.apply(
            point["own"]["parameters"],
            {**point["memory"], **constants["memory"]},
            point["own"]["gradient"],
            {**point["hyperparameters"], **constants["hyperparameters"]},
        )
        return (
            {"own": {"parameters": moved}, "memory": only(after, point["memory"])},
            {"memory": only(after, constants["memory"])},
        )


def as_tensors(hyperparameters: Mapping[str, float], device: torch.device) -> State:
    """Float64 scalars, made on the device: nothing is copied from the host."""
    return {name: torch.full((), value, dtype=torch.float64, device=device) for name, value in hyperparameters.items()}


def slopes(names: Iterable[str], columns: Active, device: torch.device) -> State:
    """Tangents [K] of hyperparameters: ∂λ_t/∂θ of the K columns that have begun."""
    tangents = {name: torch.zeros(columns.begun, dtype=torch.float64, device=device) for name in names}
    for name, tangent in tangents.items():
        for place, slope in columns.slopes.get(name, {}).items():
            tangent[place] = slope
    return tangents


def begun_tangents(state: TangentState, begun: int) -> dict[str, State]:
    """Tangents of the parameters and of the optimizer's memory, of the first ``begun`` columns."""
    return {
        "own": {"parameters": state.parameter_tangents[:begun]},
        "memory": {name: tangents[:begun] for name, tangents in state.memory_tangents.items()},
    }


def put(state: TangentState, begun: int, parameter_tangents: Tensor, memory_tangents: Mapping[str, Tensor]) -> None:
    """Take the tangents of the first ``begun`` columns; those of all columns without a copy."""
    if begun == len(state.parameter_tangents):
        state.parameter_tangents, state.memory_tangents = parameter_tangents, dict(memory_tangents)
        return
    state.parameter_tangents[:begun] = parameter_tangents
    for name, tangents in memory_tangents.items():
        state.memory_tangents[name][:begun] = tangents


def only(tensors: Mapping[str, Tensor], names: Iterable[str]) -> State:
    """The entries of these names."""
    return {name: tensors[name] for name in names}


def without(tensors: Mapping[str, Tensor], names: Iterable[str]) -> State:
    """The entries of all other names."""
    left_out = set(names)
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}


def padded(rows: Tensor, count: int) -> Tensor:
    """The rows [k, …] and zeros after them: [count, …]."""
    if len(rows) == count:
        return rows
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
