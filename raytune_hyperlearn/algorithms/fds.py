"""FDS: forward-mode differentiation with sharing. [FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.

T steps of SGD train w on the training loss; the hyperparameters λ minimize the validation loss L_val(w_T(λ)).
With learning rate α, momentum μ, weight decay ξ and batch gradient g_t:

    v_{t+1} = μ v_t + g_t(w_t) + ξ w_t
    w_{t+1} = w_t − α v_{t+1}

The tangents Z_t = dw_t/dλ and C_t = dv_t/dλ, one column per learnable value, are carried along, zero at t = 0
(equation 4; H_t is the Hessian of the batch loss at w_t):

    C_{t+1} = μ C_t + H_t Z_t + ξ Z_t        in column k also  + s v_t  (a momentum),  + s w_t  (a weight decay)
    Z_{t+1} = Z_t − α C_{t+1}                in column k also  − s v_{t+1}  (a learning rate)

where s = ∂λ_t/∂θ_k is the slope of the schedule at step t: 1 in the window of a shared value, 0 outside. The
hypergradient is taken once, at the end: h = Z_Tᵀ ∇L_val(w_T), each entry divided by the number W of steps that shared
the value. Sharing is the reuse of column k for W contiguous steps, so the memory is D × K whatever T is. Columns
whose window has not begun are zero and need no Hessian product.

Beyond the paper: BatchNorm's running statistics decide the validation loss as well, so they carry tangents
too, and those of a bounded gradient go through the bound's derivative
(:mod:`raytune_hyperlearn.derivatives.gradient_bounds`). With both, h is the exact derivative of what training computes.

This is the hand-derived, fast case of :mod:`raytune_hyperlearn.algorithms.forward_mode`, which has the loop over
the steps, greedy horizons among them; other optimizers are in :mod:`raytune_hyperlearn.algorithms.tangent_steps`.
The outer step (Appendix G) is in :mod:`raytune_hyperlearn.algorithms.sign_descent`.

Rows, not columns, hold the tangents here: Z and C are [K, D].
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms import forward_mode
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient as Hypergradient
from raytune_hyperlearn.algorithms.forward_mode import TangentState
from raytune_hyperlearn.algorithms.groups import Groups, names_in_use
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Active, Shapes
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts


@dataclass(frozen=True)
class Clamps:
    """Bounds that keep one batch from dominating ([FDS] appendix C); None means no bound.

    Attributes:
        gradient: On batch gradients, in training without tangents as well.
        product: c > 0; H Z is clamped to [−c, c]; the hypergradient is then no longer exact.
    """

    gradient: GradientBound | None = None
    product: float | None = None

    def __post_init__(self) -> None:
        if self.product is not None and not self.product > 0:
            raise ValueError(f"product_clamp is {self.product}; it must be positive or None")

    def clamp(self, gradient: Tensor, HZ: Tensor) -> tuple[Tensor, Tensor]:
        """The bounded gradient [D] and its tangents [K, D].

        Args:
            gradient: Gradient [D].
            HZ: Hessian times tangents [K, D].

        Returns:
            Both, clamped.
        """
        if self.gradient is not None:
            HZ = self.gradient.derivative(gradient, HZ)
            gradient = self.gradient.apply(gradient)
        if self.product is not None:
            HZ = HZ.clamp(-self.product, self.product)
        return gradient, HZ


@dataclass(frozen=True)
class Part:
    """Neighboring parameters with the same hyperparameters.

    Attributes:
        where: Their places in w.
        names: Names of their learning rate, momentum and weight decay.
    """

    where: slice
    names: tuple[str, ...] = HYPERPARAMETERS


WHOLE = (Part(slice(None)),)
"""All parameters have the same hyperparameters."""


def parts(model: FunctionalModel, groups: Groups) -> tuple[Part, ...]:
    """The parts of a model's parameters that ``groups`` make, in order.

    Raises:
        ValueError: In one line, if the groups do not hold every parameter once.
    """
    if not groups:
        return WHOLE
    parameters = model.unflatten(model.parameters)
    own = [names_in_use(groups, hyperparameter, list(parameters)) for hyperparameter in HYPERPARAMETERS]
    found: list[Part] = []
    end = 0
    for names, parameter in zip(zip(*own, strict=True), parameters.values(), strict=True):
        begin, end = end, end + parameter.numel()
        if found and found[-1].names == names:
            begin = found.pop().where.start
        found.append(Part(slice(begin, end), names))
    return tuple(found)


def step_with_tangents(
    state: TangentState,
    products: HessianProducts,
    batch: Batch,
    hyperparameters: Mapping[str, float],
    columns: Active,
    clamps: Clamps,
    parts: Sequence[Part] = WHOLE,
) -> Tensor:
    """One inner step of training and of its tangents, in place (equation 4).

    Args:
        state: Updated in place.
        products: Computes the gradient and H Z.
        batch: Inputs [N, …] and targets [N, …].
        hyperparameters: α, μ and ξ of this step under the parts' names.
        columns: How the K columns enter the step.
        clamps: Bounds on the gradient and on H Z.
        parts: Which parameters have which hyperparameters.

    Returns:
        The batch loss before the step [].
    """
    moving = slice(columns.moving)
    B = state.statistics_tangents
    loss, gradient, state.memory[STATISTICS], HZ, B[moving] = products(
        state.parameters, state.statistics, state.parameter_tangents[moving], B[moving], *batch
    )
    gradient, HZ = clamps.clamp(gradient, HZ)
    for part in parts:
        _move_part(state, gradient, HZ, hyperparameters, columns, part)
    return loss


def _move_part(
    state: TangentState,
    gradient: Tensor,
    HZ: Tensor,
    hyperparameters: Mapping[str, float],
    columns: Active,
    part: Part,
) -> None:
    """Equation 4 for some of the parameters, given the gradient [D] and H Z [K, D]."""
    rate, momentum, decay = (hyperparameters[name] for name in part.names)
    of_rate, of_momentum, of_decay = (columns.slopes.get(name, {}) for name in part.names)
    moving, begun, here = slice(columns.moving), slice(columns.begun), part.where
    w, v = state.parameters[here], state.memory["velocity"][here]
    Z, C = state.parameter_tangents[:, here], state.memory_tangents["velocity"][:, here]

    C[moving].mul_(momentum).add_(HZ[:, here]).add_(Z[moving], alpha=decay)
    for k, slope in of_momentum.items():
        C[k].add_(v, alpha=slope)
    for k, slope in of_decay.items():
        C[k].add_(w, alpha=slope)
    v.mul_(momentum).add_(gradient[here]).add_(w, alpha=decay)

    Z[begun].sub_(C[begun], alpha=rate)
    for k, slope in of_rate.items():
        Z[k].sub_(v, alpha=slope)
    w.sub_(v, alpha=rate)


NO_COLUMNS = Active(moving=0, begun=0, slopes={}, learned=())


@dataclass(frozen=True)
class SGDStep:
    """The inner step of FDS, its tangents derived by hand.

    Attributes:
        model: The network and loss; its parameters are the initial w_0.
        products: Hessian products of the same model.
        clamps: Element-wise bounds.
        groups: Groups of parameters with hyperparameters of their own (:mod:`.groups`).

    Raises:
        ValueError: In one line, if the groups do not fit the model.
    """

    model: FunctionalModel
    products: HessianProducts
    clamps: Clamps = Clamps()
    groups: Groups = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.groups:
            if name not in HYPERPARAMETERS:
                raise ValueError(f"groups hold {name!r}; they must be of {', '.join(HYPERPARAMETERS)}")
        object.__setattr__(self, "_parts", parts(self.model, self.groups))

    _parts: tuple[Part, ...] = field(init=False, repr=False)

    @property
    def defaults(self) -> Mapping[str, float]:
        """No momentum, no decay and no learning."""
        return {name: 0.0 for part in self._parts for name in part.names}

    def start(self) -> TangentState:
        """The model's own parameters and running statistics, at rest."""
        w = self.model.parameters
        return TangentState.at_start(w, {STATISTICS: self.model.buffers, "velocity": torch.zeros_like(w)})

    def plain(self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float]) -> Tensor:
        """One step of training; the tangents stay.

        Args:
            state: Parameters, momentum buffer and their tangents; changed in place.
            batch: Inputs and targets.
            hyperparameters: Values of this step by name.

        Returns:
            Batch loss before the step [].
        """
        return step_with_tangents(state, self.products, batch, hyperparameters, NO_COLUMNS, self.clamps, self._parts)

    def with_tangents(
        self, state: TangentState, batch: Batch, hyperparameters: Mapping[str, float], columns: Active
    ) -> Tensor:
        """:func:`step_with_tangents`.

        Args:
            state: Parameters, momentum buffer and their tangents; changed in place.
            batch: Inputs and targets.
            hyperparameters: Values of this step by name.
            columns: Rows of the tangents that this step moves, by hyperparameter.

        Returns:
            Batch loss before the step [].
        """
        return step_with_tangents(state, self.products, batch, hyperparameters, columns, self.clamps, self._parts)


def hypergradient(
    model: FunctionalModel,
    products: HessianProducts,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str] = HYPERPARAMETERS,
    clamps: Clamps | None = None,
    shapes: Shapes = EQUAL_WINDOWS,
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
        shapes: Shapes of the schedules.

    Returns:
        The hypergradient at t = T and the trained state. The inner loop reads no value back to the host.

    Raises:
        ValueError: If a name or a shape is not allowed, or ``batches`` ends before ``horizon`` steps.
    """
    inner = SGDStep(model, products, clamps or Clamps())
    return forward_mode.hypergradient(inner, batches, validation, values, horizon, learned, shapes)


def greedy_hypergradients(
    model: FunctionalModel,
    products: HessianProducts,
    batches: Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    every: int,
    learned: Sequence[str] = HYPERPARAMETERS,
    clamps: Clamps | None = None,
    shapes: Shapes = EQUAL_WINDOWS,
) -> Generator[Hypergradient, Values | None, None]:
    """One hypergradient after every ``every`` steps, of the loss there ([FDS] section 3.2).

    At ``every`` = ``horizon`` the result is the one of :func:`hypergradient`. New values can be sent for the steps
    that come next, as to :func:`.forward_mode.hypergradients`.

    Args:
        model: Model and loss; its parameters are the starting point and stay.
        products: How Hessian products are computed.
        batches: Training batches, at least ``horizon``.
        validation: Batches of the outer loss, read after every ``every`` steps.
        values: Start values of each schedule's windows, by hyperparameter.
        horizon: Number T of inner steps, at least 1.
        every: Steps between two hypergradients, from 1 to ``horizon``.
        learned: Hyperparameters to differentiate with respect to.
        clamps: Bounds of gradients and products; None for none.
        shapes: How windows make up schedules.

    Returns:
        A generator of hypergradients; what is sent to it are new values.
    """
    inner = SGDStep(model, products, clamps or Clamps())
    return forward_mode.hypergradients(inner, batches, validation, values, horizon, learned, shapes, every=every)
