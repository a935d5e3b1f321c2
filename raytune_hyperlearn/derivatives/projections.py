"""Projections of per-instance gradients on a direction, c_j = g_j · d, without any per-instance gradient.

For a batch of n instances with losses L_j(θ) and gradients g_j = ∇L_j, a :class:`Linearization` holds the
losses, the summed gradient G = Σ_j g_j and the linear map d ↦ c. Always Σ_j c_j = G · d. Three exact ways:

- **layers**: where every trainable parameter belongs to a layer that is linear in its parameters (and the
  instances do not meet), c_j = Σ_layers ⟨δ_j, layer(a_j; d)⟩: the layer's recorded input a_j sent through the
  layer with d in place of its parameters, against the gradient δ_j of its output. One more evaluation of
  each layer, with no second pass through the network.
- **double backward**: G(v) = Σ_j v_j g_j is linear in v, so the gradient of G(v) · d with respect to v is c.
  Two backward passes on the one graph: no second forward pass, so dropout masks and BatchNorm statistics are
  the same by construction. Works where instances meet (BatchNorm).
- **forward mode**: one Jacobian-vector product of the loss vector along d, on the same dropout masks and with
  copies of the buffers. Needs no memory for activations.

:func:`choose_method` finds the cheapest one that is right for a model by trying them on a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from raytune_hyperlearn.derivatives.functional import LossFunction
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers

Tensors = tuple[Tensor, ...]
"""One tensor per trainable parameter of a model, in the order of ``model.parameters()``."""

IN_CACHE = 2**18
"""Numbers that a processor's cache holds."""

Method = Literal["layers", "double-backward", "forward-mode", "unfused-double-backward"]

LINEAR_IN_PARAMETERS: frozenset[type[nn.Module]] = frozenset(
    {
        nn.Linear, nn.Embedding, nn.LayerNorm, nn.GroupNorm,
        nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    }
)  # fmt: skip
"""Layers y = A(x) θ: linear in (weight, bias) jointly. Exact types: a subclass may compute anything."""


@dataclass(frozen=True)
class Linearization:
    """First-order behavior of the losses of n instances at the current parameters.

    Attributes:
        losses: L_j, [n], detached.
        gradient: G = Σ_j g_j (a sum, not a mean), shaped as the parameters, detached.
        project: Maps d, shaped as the parameters, to c = (g_j · d)_j, [n]. May be called again and again
            until the parameters change.
    """

    losses: Tensor
    gradient: Tensors
    project: Callable[[Tensors], Tensor]


@dataclass(frozen=True)
class Instances:
    """A batch to linearize on.

    Attributes:
        inputs: [n, …].
        targets: [n, …].
        seed: Of the random numbers drawn in the forward pass.
    """

    inputs: Tensor
    targets: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, start: int, stop: int) -> Instances:
        """Rows ``start`` to ``stop``, with random numbers of their own.

        Args:
            start: First row, from 0.
            stop: Row after the last.
        """
        return Instances(self.inputs[start:stop], self.targets[start:stop], self.seed + start)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name; tied parameters once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def instance_losses(model: nn.Module, loss: LossFunction, batch: Instances) -> Tensor:
    """L [n] of a batch.

    Raises:
        ValueError: If the loss is not one value per instance.
    """
    with private_random_numbers(batch.seed, batch.inputs.device):
        losses = loss(model(batch.inputs), batch.targets)
    if losses.shape != (len(batch),):
        raise ValueError(
            f"loss returned shape {tuple(losses.shape)}; it must be one value per instance, ({len(batch)},)"
        )
    return losses


def summed_gradient(model: nn.Module, loss: LossFunction, batch: Instances) -> tuple[Tensor, Tensors]:
    """(L [n], G) by one plain backward pass, both detached."""
    losses = instance_losses(model, loss, batch)
    return losses.detach(), _backward(losses, model)


def by_double_backward(model: nn.Module, loss: LossFunction, batch: Instances) -> Linearization:
    """Two backward passes on one graph; raises RuntimeError where a layer's backward cannot be differentiated."""
    losses = instance_losses(model, loss, batch)
    weights = torch.ones_like(losses, requires_grad=True)
    gradient = torch.autograd.grad(
        losses, list(trainable(model).values()), weights,
        create_graph=True, allow_unused=True, materialize_grads=True,
    )  # fmt: skip

    def project(direction: Tensors) -> Tensor:
        used = [(g, d) for g, d in zip(gradient, direction, strict=True) if g.requires_grad]
        (projections,) = torch.autograd.grad([g for g, _ in used], weights, [d for _, d in used], retain_graph=True)
        return projections

    return Linearization(losses.detach(), tuple(g.detach() for g in gradient), project)


def by_layers(model: nn.Module, loss: LossFunction, batch: Instances) -> Linearization:
    """One more evaluation of each layer; right only where :func:`layers_cover` holds and instances do not meet."""
    with _recorded_calls(model) as calls:
        losses = instance_losses(model, loss, batch)
    gradient = _backward(losses, model)
    parameters = list(trainable(model).values())

    def project(direction: Tensors) -> Tensor:
        substitutes = dict(zip(parameters, direction, strict=True))
        projections = torch.zeros_like(losses, requires_grad=False)
        with torch.no_grad():
            for call in calls:
                projections += call.project(substitutes, len(batch))
        return projections

    return Linearization(losses.detach(), gradient, project)


def by_forward_mode(model: nn.Module, loss: LossFunction, batch: Instances) -> Linearization:
    """A plain backward pass, then one forward-mode product per projection."""
    losses, gradient = summed_gradient(model, loss, batch)
    return Linearization(losses, gradient, lambda direction: forward_projections(model, loss, batch, direction))


def by_unfused_double_backward(model: nn.Module, loss: LossFunction, batch: Instances) -> Linearization:
    """:func:`by_double_backward` on plain kernels, for fused ones (cuDNN's LSTM, attention) that refuse it."""
    with _plain_kernels():
        linearization = by_double_backward(model, loss, batch)

    def project(direction: Tensors) -> Tensor:
        with _plain_kernels():
            return linearization.project(direction)

    return Linearization(linearization.losses, linearization.gradient, project)


METHODS: dict[Method, Callable[[nn.Module, LossFunction, Instances], Linearization]] = {
    "layers": by_layers,
    "double-backward": by_double_backward,
    "forward-mode": by_forward_mode,
    "unfused-double-backward": by_unfused_double_backward,
}


GENERAL_METHODS: tuple[Method, ...] = ("double-backward", "forward-mode", "unfused-double-backward")
"""Methods that ask nothing of the model but derivatives, cheapest first."""


def forward_projections(model: nn.Module, loss: LossFunction, batch: Instances, direction: Tensors) -> Tensor:
    """c [n] by one Jacobian-vector product of L along ``direction``; the model's buffers stay as they are.

    Raises:
        RuntimeError: If a layer has no forward-mode derivative (fused LSTM kernels).
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with forward_ad.dual_level(), torch.no_grad(), private_random_numbers(batch.seed, batch.inputs.device):
        duals = {
            name: forward_ad.make_dual(p.detach(), d)
            for (name, p), d in zip(trainable(model).items(), direction, strict=True)
        }
        outputs = functional_call(model, {**duals, **buffers}, (batch.inputs,))
        tangent: Tensor | None = forward_ad.unpack_dual(loss(outputs, batch.targets)).tangent
        return batch.inputs.new_zeros(len(batch)) if tangent is None else tangent


def layers_cover(model: nn.Module) -> bool:
    """Whether every trainable parameter belongs to a layer that is linear in its parameters.

    BatchNorm counts only in evaluation mode: in training mode its instances meet.
    """
    covered = {
        id(p)
        for module in model.modules()
        if type(module) in LINEAR_IN_PARAMETERS or (isinstance(module, _BatchNorm) and not module.training)
        for p in module.parameters(recurse=False)
    }
    return all(id(p) in covered for p in trainable(model).values())


def choose_method(model: nn.Module, loss: LossFunction, batch: Instances) -> Method:
    """The cheapest method that is right for this model in its present mode, tried on a batch of 2 or more.

    The first general method that runs and passes the check Σ_j c_j = G · d is the reference. Layers are
    preferred where they agree with it: a model whose instances meet in a way that no layer's type shows
    (attention across the batch, a contrastive loss) does not pass. The buffers stay as they are.

    Raises:
        RuntimeError: If no method works for this model.
    """
    chosen, reference = next(
        (
            (method, found)
            for method in GENERAL_METHODS
            if (found := _trial(METHODS[method], model, loss, batch)) is not None
        ),
        (None, None),
    )
    if chosen is None or reference is None:
        raise RuntimeError(
            f"no exact variance for {type(model).__name__}: a layer has neither a double-backward nor a "
            "forward-mode derivative; use covariance='diagonal'"
        )
    if not layers_cover(model):
        return chosen
    candidate = _trial(by_layers, model, loss, batch)
    if candidate is None or not bool(reference.abs().sum() > 0):
        return chosen
    distance = torch.linalg.vector_norm(candidate - reference) / torch.linalg.vector_norm(reference)
    return "layers" if distance <= _tolerance(reference.dtype) else chosen


def _trial(
    method: Callable[[nn.Module, LossFunction, Instances], Linearization],
    model: nn.Module,
    loss: LossFunction,
    batch: Instances,
) -> Tensor | None:
    """Projections on the mean gradient, or None where the method fails or breaks Σ_j c_j = G · d."""
    restore = kept_buffers(model)
    try:
        linearization = method(model, loss, batch)
        direction = tuple(g / len(batch) for g in linearization.gradient)
        projections = linearization.project(direction)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # what torch raises where a derivative is missing (NotImplementedError is one)
        return None
    finally:
        restore()
    expected = inner_product(linearization.gradient, direction)
    error = (projections.double().sum() - expected).abs()
    wrong = error > _tolerance(projections.dtype) * projections.abs().sum()  # never of NaN: diverged, not wrong
    return None if wrong else projections


def kept_buffers(model: nn.Module) -> Callable[[], None]:
    """Remembers the model's buffers; the function returned puts these values back."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def restore() -> None:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)

    return restore


def inner_product(left: Tensors, right: Tensors) -> Tensor:
    """Σ over all parameters of left · right, a float64 scalar."""
    products = [torch.dot(a.flatten(), b.flatten()) for a, b in zip(left, right, strict=True)]
    return torch.stack(products).double().sum()


def _tolerance(dtype: torch.dtype) -> float:
    """Relative disagreement that rounding explains: reduced-precision convolutions on GPUs are good to 1e-3."""
    return 1e-8 if dtype == torch.float64 else 5e-3


def _backward(losses: Tensor, model: nn.Module) -> Tensors:
    return torch.autograd.grad(
        losses,
        list(trainable(model).values()),
        torch.ones_like(losses),
        allow_unused=True,
        materialize_grads=True,
    )


@dataclass(eq=False)
class _Call:
    """One call of a layer: its arguments and, after the backward pass, the gradient of its output."""

    layer: nn.Module
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    output_gradient: Tensor | None = field(default=None)

    def keep(self, gradient: Tensor) -> None:
        self.output_gradient = gradient.detach()

    def project(self, substitutes: dict[nn.Parameter, Tensor], n: int) -> Tensor | float:
        """⟨δ_j, layer(a_j; d)⟩ for each of n instances; frozen parameters have direction 0."""
        if self.output_gradient is None:  # the losses do not depend on this output
            return 0.0
        parameters = {
            name: substitutes[p] if p in substitutes else torch.zeros_like(p)
            for name, p in self.layer.named_parameters(recurse=False)
        }
        tangent: Tensor = functional_call(self.layer, parameters, self.arguments, self.options)
        return _products(*_rows(n, tangent, self.output_gradient))


def _rows(n: int, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both as [n, …] with their numbers in the same order, which is the one that needs no copies where there is one."""
    if left.ndim == right.ndim == 4 and left.is_contiguous(memory_format=torch.channels_last):
        left, right = left.permute(0, 2, 3, 1), right.permute(0, 2, 3, 1)
    return left.reshape(n, -1), right.reshape(n, -1)


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of rows [n, …], on a CPU few rows at a time: what lies between then stays in the cache."""
    rows = max(1, IN_CACHE // left.shape[1]) if left.device.type == "cpu" else len(left)
    parts = zip(left.split(rows), right.split(rows), strict=True)
    return torch.cat([torch.linalg.vecdot(a, b) for a, b in parts])


@contextmanager
def _recorded_calls(model: nn.Module) -> Iterator[list[_Call]]:
    """Records every call of a layer with trainable parameters in the body."""
    calls: list[_Call] = []

    def record(layer: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        if output.requires_grad:
            call = _Call(layer, _detached(arguments), options)
            # On the tensor as it is now: an in-place activation after the layer does not disturb this hook.
            output.register_hook(call.keep)
            calls.append(call)

    layers = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _detached(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments)


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """No cuDNN, no fused attention in the body."""
    with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield
