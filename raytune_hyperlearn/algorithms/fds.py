"""FDS: forward-mode differentiation with sharing. [FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.

T steps of SGD train w on the training loss; the hyperparameters λ minimise the validation loss L_val(w_T(λ)).
With learning rate α, momentum μ, weight decay ξ and batch gradient g_t:

    v_{t+1} = μ v_t + g_t(w_t) + ξ w_t
    w_{t+1} = w_t − α v_{t+1}

The tangents Z_t = dw_t/dλ and C_t = dv_t/dλ, one column per learnable value, are carried along, zero at t = 0
(equation 4; H_t is the Hessian of the batch loss at w_t, column k belongs to the value in use at step t):

    C_{t+1} = μ C_t + H_t Z_t + ξ Z_t        in column k also  + v_t  (a momentum),  + w_t  (a weight decay)
    Z_{t+1} = Z_t − α C_{t+1}                in column k also  − v_{t+1}  (a learning rate)

and the hypergradient is taken once, at the end: h = Z_Tᵀ ∇L_val(w_T), each entry divided by the number W of
steps that shared the value. Sharing is the reuse of column k for W contiguous steps, so the memory is D × K
whatever T is. Columns whose window has not begun are zero and need no Hessian product.

Beyond the paper: BatchNorm's running statistics decide the validation loss as well, so they carry tangents
too, and a clamped gradient passes no tangent where it is clamped. With both, h is the exact derivative of what
training computes.

The outer step (Appendix G) moves every value by its own step size against the sign of its hypergradient and
halves the step size whenever the sign changes.

Rows, not columns, hold the tangents here: Z and C are [K, D].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.schedules import Column, Values, at_step, columns
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts

Batch = tuple[Tensor, Tensor]


# ---------------------------------------------------------------------------------------- the inner loop


@dataclass
class TangentState:
    """State of training with tangents: D parameters, B running statistics, K columns.

    Attributes:
        parameters: w [D].
        velocity: v [D].
        statistics: b [B].
        parameter_tangents: Z [K, D].
        velocity_tangents: C [K, D].
        statistics_tangents: [K, B].
    """

    parameters: Tensor
    velocity: Tensor
    statistics: Tensor
    parameter_tangents: Tensor
    velocity_tangents: Tensor
    statistics_tangents: Tensor

    @classmethod
    def at_start(cls, model: FunctionalModel, columns: int) -> TangentState:
        """The state before the first step: the model's own parameters, everything else zero."""
        w, b = model.parameters.clone(), model.buffers.clone()
        return cls(
            parameters=w,
            velocity=torch.zeros_like(w),
            statistics=b,
            parameter_tangents=w.new_zeros(columns, len(w)),
            velocity_tangents=w.new_zeros(columns, len(w)),
            statistics_tangents=b.new_zeros(columns, len(b)),
        )


@dataclass(frozen=True)
class Clamps:
    """Element-wise bounds that keep one batch from dominating ([FDS] appendix C); None means no bound.

    Attributes:
        gradient: c > 0; batch gradients are clamped to [−c, c], in training without tangents as well.
        product: c > 0; H Z is clamped to [−c, c]; the hypergradient is then no longer exact.
    """

    gradient: float | None = None
    product: float | None = None

    def __post_init__(self) -> None:
        for name, bound in (("gradient", self.gradient), ("product", self.product)):
            if bound is not None and not bound > 0:
                raise ValueError(f"{name} clamp is {bound}; it must be positive or None")


def step_with_tangents(
    state: TangentState,
    products: HessianProducts,
    batch: Batch,
    hyperparameters: Mapping[str, float],
    learnable: Sequence[Column],
    step: int,
    clamps: Clamps,
) -> Tensor:
    """One inner step of training and of its tangents, in place (equation 4).

    Args:
        state: Updated in place.
        products: Computes the gradient and H Z.
        batch: Inputs [N, …] and targets [N, …].
        hyperparameters: α, μ and ξ of this step under their names in ``HYPERPARAMETERS``.
        learnable: The K columns in order of their windows' beginnings.
        step: t.
        clamps: Bounds on the gradient and on H Z.

    Returns:
        The batch loss before the step [].
    """
    rate, momentum, decay = (hyperparameters[name] for name in HYPERPARAMETERS)
    moving = sum(column.first < step for column in learnable)  # columns whose tangent can differ from zero
    Z, C = state.parameter_tangents, state.velocity_tangents
    loss, gradient, state.statistics, HZ, B = products(
        state.parameters, state.statistics, Z[:moving], state.statistics_tangents[:moving], *batch
    )
    state.statistics_tangents[:moving] = B
    if clamps.gradient is not None:
        HZ = HZ.masked_fill(gradient.abs() > clamps.gradient, 0.0)
        gradient = gradient.clamp(-clamps.gradient, clamps.gradient)
    if clamps.product is not None:
        HZ = HZ.clamp(-clamps.product, clamps.product)

    in_use = [(k, column.name) for k, column in enumerate(learnable) if column.first <= step < column.end]
    C[:moving].mul_(momentum).add_(HZ).add_(Z[:moving], alpha=decay)
    for k, name in in_use:
        if name == "momentum":
            C[k] += state.velocity
        elif name == "weight_decay":
            C[k] += state.parameters
    state.velocity.mul_(momentum).add_(gradient).add_(state.parameters, alpha=decay)
    begun = sum(column.first <= step for column in learnable)
    Z[:begun].sub_(C[:begun], alpha=rate)
    for k, name in in_use:
        if name == "learning_rate":
            Z[k] -= state.velocity
    state.parameters.sub_(state.velocity, alpha=rate)
    return loss


def validation_gradient(
    model: FunctionalModel, state: TangentState, validation: Iterable[Batch]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean validation loss [] and its gradients with respect to w [D] and b [B], in evaluation mode."""
    leaves = (state.parameters.detach().requires_grad_(), state.statistics.detach().requires_grad_())
    total = torch.zeros_like(state.parameters[0])
    slopes = [torch.zeros_like(leaf) for leaf in leaves]
    count = 0
    for inputs, targets in validation:
        with torch.enable_grad():
            loss = model.evaluation_loss(*leaves, inputs, targets).sum()
            parts = torch.autograd.grad(loss, leaves, allow_unused=True)
        total += loss.detach()
        for slope, part in zip(slopes, parts, strict=True):
            if part is not None:
                slope += part
        count += len(targets)
    return total / count, slopes[0] / count, slopes[1] / count


@dataclass(frozen=True)
class Hypergradient:
    """What one run through the horizon gives.

    Attributes:
        values: Name → one entry per scheduled value, dL_val/dλ divided by its window's length; 0 for values
            that no step used.
        validation_loss: L_val(w_T).
        training_loss: Mean batch loss over the run.
        parameters: w_T [D].
        statistics: b_T [B].
    """

    values: dict[str, list[float]]
    validation_loss: float
    training_loss: float
    parameters: Tensor
    statistics: Tensor

    @property
    def finite(self) -> bool:
        """Whether the loss and every entry are finite numbers."""
        entries = [entry for schedule in self.values.values() for entry in schedule]
        return all(math.isfinite(number) for number in (self.validation_loss, *entries))


def hypergradient(
    model: FunctionalModel,
    products: HessianProducts,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str] = HYPERPARAMETERS,
    clamps: Clamps | None = None,
) -> Hypergradient:
    """Train from the model's own initial state and differentiate the whole run with respect to ``values``.

    Args:
        model: The network and loss; its parameters are the initial w_0.
        products: Hessian products of the same model.
        batches: At least ``horizon`` training batches.
        validation: Batches of the validation examples, for L_val.
        values: Schedules of learning_rate, momentum and weight_decay.
        horizon: Number T of inner steps.
        learned: Names of the hyperparameters to differentiate.
        clamps: Element-wise bounds.

    Returns:
        The hypergradient at t = T and the trained state. The inner loop reads no value back to the host.

    Raises:
        ValueError: If ``batches`` ends before ``horizon`` steps.
    """
    learnable = columns(values, learned, horizon)
    clamps = clamps or Clamps()
    state = TangentState.at_start(model, len(learnable))
    training_loss = torch.zeros_like(state.parameters[0])
    done = 0
    with torch.no_grad():
        for done, batch in zip(range(1, horizon + 1), batches, strict=False):
            step = done - 1
            hyperparameters = at_step(values, step, horizon)
            training_loss += step_with_tangents(state, products, batch, hyperparameters, learnable, step, clamps)
    if done < horizon:
        raise ValueError(f"batches ended after {done} steps; horizon asks for {horizon}")
    loss, slope, statistics_slope = validation_gradient(model, state, validation)
    entries = state.parameter_tangents @ slope + state.statistics_tangents @ statistics_slope
    result = {name: [0.0] * len(values[name]) for name in learned}
    for column, entry in zip(learnable, entries.tolist(), strict=True):
        if column.steps:
            result[column.name][column.index] = entry / column.steps
    return Hypergradient(
        values=result,
        validation_loss=loss.item(),
        training_loss=training_loss.item() / horizon,
        parameters=state.parameters,
        statistics=state.statistics,
    )
