"""What one step of training needs of the batch loss on the way back: one Hessian product, in one direction.

With batch losses ℓ_i(w), weights ω_i and the mean loss ℓ(w) = (1/N) Σ_i ω_i ℓ_i(w), whose gradient is g and whose
Hessian is H, and with the running statistics after the step b'(w, b), an adjoint step asks for

    H r + (∂b'/∂w)ᵀ c  [D]        (∂b'/∂b)ᵀ c  [B]        (1/N) r · ∇ℓ_i  [N]

for one direction r [D] and one c [B]. The last is the derivative of r · g with respect to ω_i. Two exact ways:

- ``double_backward``: the gradient's graph is differentiated again, with the weights (r, c);
- ``forward_over_reverse``: g_ε = ∇(ℓ + ε c · b') is pushed forward in the direction (w, ε) = (r, 1) at ε = 0.

All of it comes from one pass, the gradient too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value, jvp

from raytune_hyperlearn.derivatives.column_chunks import random_state, set_random_state
from raytune_hyperlearn.derivatives.differentiability import require_second_derivatives
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound
from raytune_hyperlearn.derivatives.hessian_products import PRECISIONS, kept_bytes
from raytune_hyperlearn.derivatives.recording import recorded

SMALL = 2**25
"""Bytes that a forward pass keeps on a CPU, below which operations are so short that replaying them pays."""


class Pulled(NamedTuple):
    """What comes back through one batch.

    Attributes:
        parameters: H r + (∂b'/∂w)ᵀ c [D].
        statistics: (∂b'/∂b)ᵀ c [B].
        examples: (1/N) r · ∇ℓ_i [N], or [0] where no weights are given.
    """

    parameters: Tensor
    statistics: Tensor
    examples: Tensor


Way = Callable[..., Pulled]
"""(model, bound, w [D], b [B], r [D], c [B], inputs [N, …], targets [N, …], ω [N] or nothing) ↦ :class:`Pulled`."""


def mean_loss(
    model: FunctionalModel, w: Tensor, b: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(1/N) Σ ω_i ℓ_i [], b' [B] and ℓ [N]; where a loss is one value per token, ℓ_i is the mean over its tokens.

    Without weights the model's own training loss is taken, and ℓ is empty.
    """
    if weights is None:
        loss, updated = model.training_loss(w, b, inputs, targets)
        return loss, updated, loss.new_zeros(0)
    outputs, updated = model.training_outputs(w, b, inputs)
    losses = model.loss(outputs, targets)
    if losses.dim() > 1:
        losses = losses.flatten(1).mean(dim=1)
    return (weights * losses).mean(), updated, losses


def weighted_gradient(
    model: FunctionalModel, w: Tensor, b: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [], its gradient [D] and b' [B] by one plain backward pass."""
    leaf = w.detach().requires_grad_()
    with torch.enable_grad():
        loss, updated, _ = mean_loss(model, leaf, b, inputs, targets, weights)
        (slope,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), slope, updated.detach()


def double_backward(
    model: FunctionalModel,
    bound: GradientBound | None,
    w: Tensor,
    b: Tensor,
    r: Tensor,
    c: Tensor,
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
) -> Pulled:
    """A backward pass through the gradient's graph, which r enters through the bound's derivative."""
    with torch.enable_grad():
        leaves = [w.detach().requires_grad_(), b.detach().requires_grad_()]
        if weights is not None:
            leaves.append(weights.detach().requires_grad_())
        loss, updated, _ = mean_loss(model, leaves[0], leaves[1], inputs, targets, *leaves[2:])
        (slope,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
        outputs = [(slope, _through(bound, slope.detach(), r)), (updated, c)]
        reached = [(output, weight) for output, weight in outputs if output.requires_grad and output.numel()]
        found = torch.autograd.grad(
            [output for output, _ in reached], leaves, [weight for _, weight in reached], materialize_grads=True
        )
    examples = found[2] if weights is not None else w.new_zeros(0)
    return Pulled(found[0], found[1], examples)


def forward_over_reverse(
    model: FunctionalModel,
    bound: GradientBound | None,
    w: Tensor,
    b: Tensor,
    r: Tensor,
    c: Tensor,
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
) -> Pulled:
    """The tangent of one backward pass; a bound costs one more, since the gradient has to be known before."""
    if bound is not None:
        before = random_state(w.device)
        r = _through(bound, weighted_gradient(model, w, b, inputs, targets, weights)[1], r)
        set_random_state(w.device, before)

    def extended(w: Tensor, b: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
        loss, updated, losses = mean_loss(model, w, b, inputs, targets, weights)
        return (loss + small * (updated @ c) if len(b) else loss), losses

    def slopes(w: Tensor, b: Tensor, small: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        differentiated: Callable[..., Any] = grad_and_value(extended, argnums=(0, 1), has_aux=True)
        (by_parameters, by_statistics), (_, losses) = differentiated(w, b, small)
        return by_parameters, by_statistics, losses

    zero = w.new_zeros(())
    pushed: Any = jvp(slopes, (w, b, zero), (r, torch.zeros_like(b), torch.ones_like(zero)))
    products, statistics, examples = pushed[1]
    return Pulled(products, statistics, examples / len(inputs))


WAYS: Mapping[str, Way] = {"double_backward": double_backward, "forward_over_reverse": forward_over_reverse}


@dataclass(frozen=True)
class AdjointProductOptions:
    """How the way back through a batch is computed.

    Attributes:
        way: A key of :data:`WAYS`.
        precision: ``"full"`` or ``"bfloat16"``, as in :class:`.hessian_products.HessianProductOptions`; of the way
            back only.
        recorded: Replay recorded operations where it pays: over horizons of ``record_from`` steps and, on a CPU,
            in models whose forward pass keeps less than :data:`SMALL` bytes.
        record_from: Shortest horizon for which operations are recorded; recording takes as long as dozens of steps.
    """

    way: str = "double_backward"
    precision: str = "full"
    recorded: bool = True
    record_from: int = 200

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"way is {self.way!r}; it must be one of {', '.join(WAYS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(PRECISIONS)}")


class AdjointProducts:
    """Gradients for the way there and products for the way back, of one model's batch loss.

    Whether operations are recorded is decided by :meth:`begin` from the horizon and the model alone, never on the way:
    recorded operations and others differ by rounding, and steps that are computed again must come out the same.

    Args:
        model: The functional model.
        options: How.
        bound: On batch gradients, or None.
    """

    def __init__(
        self,
        model: FunctionalModel,
        options: AdjointProductOptions | None = None,
        bound: GradientBound | None = None,
    ) -> None:
        self.model = model
        self.options = options or AdjointProductOptions()
        self.bound = bound
        self._programs: dict[str, Callable[..., Any] | None] = {}
        self._recording = False
        self._proven = False

    def begin(self, horizon: int, w: Tensor, b: Tensor, inputs: Tensor, targets: Tensor) -> None:
        """Decide how a run of ``horizon`` steps is computed.

        Args:
            horizon: T.
            w: Any parameters [D].
            b: Any running statistics [B].
            inputs: Of one batch.
            targets: Of the same batch.

        Raises:
            ValueError: If a layer cannot be differentiated twice; it is named.
        """
        if not self._proven and self.options.way == "double_backward":
            require_second_derivatives(self.model.model, inputs)
        self._proven = True
        wanted = self.options.recorded and horizon >= self.options.record_from
        self._recording = wanted and (w.is_cuda or kept_bytes(self.model, w, b, inputs, targets) < SMALL)

    def gradient(
        self, w: Tensor, b: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [], gradient [D] as it is, not bounded, and b' [B]."""
        arguments = _given(w, b, inputs, targets, weights)
        compute = self._chosen("gradient", partial(weighted_gradient, self.model), arguments)
        return compute(*arguments)  # type: ignore[no-any-return]

    def pull_back(
        self,
        w: Tensor,
        b: Tensor,
        r: Tensor,
        c: Tensor,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
    ) -> Pulled:
        """The products of a batch; shapes as in :data:`Way`."""
        arguments = _given(w, b, r, c, inputs, targets, weights)
        way = partial(WAYS[self.options.way], self.model, self.bound)
        with self._reduced_precision(w.device):
            found = self._chosen("pull back", way, arguments)(*arguments)
        return Pulled(*(part.to(w.dtype) for part in found))

    def _chosen(self, name: str, function: Callable[..., Any], arguments: tuple[Tensor, ...]) -> Callable[..., Any]:
        """The function, or its recorded operations for arguments of these shapes."""
        if not self._recording:
            return function
        key = name + str([(*a.shape, a.dtype, a.device.type) for a in arguments])
        if key not in self._programs:
            self._programs[key] = recorded(function, arguments)
        return self._programs[key] or function

    def _reduced_precision(self, device: torch.device) -> AbstractContextManager[object]:
        if self.options.precision == "full":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def _through(bound: GradientBound | None, slope: Tensor, r: Tensor) -> Tensor:
    """The adjoint of the gradient as it is, from that of the bounded gradient."""
    return r if bound is None else bound.derivative(slope, r)


def _given(*arguments: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(argument for argument in arguments if argument is not None)
