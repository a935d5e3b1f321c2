"""What keeps a network from being differentiated twice, and what can be done about it.

Fused kernels (attention, cuDNN's and oneDNN's recurrent layers) have a first derivative only; the plain ones that
compute the same have all. Buffers that a training step changes are state that carries no tangents: only BatchNorm's
running statistics are known to :class:`FunctionalModel`, others are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten


@contextmanager
def twice_differentiable_kernels(recurrent: bool) -> Iterator[None]:
    """Plain attention in the body and, with ``recurrent``, neither cuDNN nor oneDNN.

    Args:
        recurrent: Whether the model has recurrent layers. Others keep the fast convolutions.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(_without_onednn())
        yield


@contextmanager
def _without_onednn() -> Iterator[None]:
    """As ``torch.backends.mkldnn.flags``, which sets other devices' flags as well and warns of absent ones."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


class ConstantBuffers:
    """Watches the buffers of a model that training must not change.

    Args:
        model: The module.
        changing: Names of the buffers that may change.
    """

    def __init__(self, model: nn.Module, changing: set[str]) -> None:
        self._places = [
            (name, module, key)
            for prefix, module in model.named_modules()
            for key, buffer in module._buffers.items()
            if buffer is not None and (name := f"{prefix}.{key}" if prefix else key) not in changing
        ]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Raises after the body if a buffer was written to or replaced.

        Raises:
            ValueError: In one line that names the buffer.
        """
        before = [(module._buffers[key], _version(module._buffers[key])) for _, module, key in self._places]
        yield
        for (name, module, key), (buffer, version) in zip(self._places, before, strict=True):
            replaced = module._buffers[key] is not buffer
            module._buffers[key] = buffer  # what took its place may belong to a transformation that has ended
            if replaced or _version(buffer) != version:
                raise ValueError(
                    f"{name} of {type(module).__name__} changes in a training step; "
                    "only BatchNorm's running statistics may"
                )


def _version(buffer: Tensor | None) -> int:
    return -1 if buffer is None or buffer.is_inference() else buffer._version


def undifferentiable_layer(model: nn.Module, inputs: Tensor) -> str | None:
    """Name and type of the innermost layer whose backward pass cannot be differentiated, or None if all can.

    Args:
        model: In the mode in which it fails. Its buffers and torch's random numbers are left as they were.
        inputs: A batch [N, …].
    """
    return _first_failing(model, inputs, _by_reverse_mode)


def require_second_derivatives(model: nn.Module, inputs: Tensor) -> None:
    """Refuse a model that cannot be differentiated twice; arguments as in :func:`undifferentiable_layer`.

    Raises:
        ValueError: With the layer's name.
    """
    layer = undifferentiable_layer(model, inputs)
    if layer is not None:
        raise ValueError(f"model has {layer}; no way can differentiate it twice")


def layer_without_forward_mode(model: nn.Module, inputs: Tensor) -> str | None:
    """Name and type of the innermost layer whose gradient forward mode cannot differentiate, or None if it can all.

    Args:
        model: In the mode in which it fails. Its buffers and torch's random numbers are left as they were.
        inputs: A batch [N, …].
    """
    return _first_failing(model, inputs, _by_forward_mode)


def has_recurrent_layers(model: nn.Module) -> bool:
    """Whether PyTorch's own recurrent layers are part of the model."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


Call = tuple[tuple[Any, ...], dict[str, Any]]
Trial = Callable[[nn.Module, Call], object]
"""Differentiates the gradient of Σ output² of a call; RuntimeError where that is not possible."""


def _first_failing(model: nn.Module, inputs: Tensor, trial: Trial) -> str | None:
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with torch.random.fork_rng(devices), twice_differentiable_kernels(has_recurrent_layers(model)):
        try:
            return next(
                (
                    f"{name} ({type(module).__name__})" if name else type(module).__name__
                    for name, module, call, autocast in _recorded_calls(model, inputs)
                    if _fails(trial, module, call, autocast)
                ),
                None,
            )
        finally:
            with torch.no_grad():
                for buffer, value in kept:
                    buffer.copy_(value)


def _recorded_calls(model: nn.Module, inputs: Tensor) -> list[tuple[str, nn.Module, Call, torch.autocast]]:
    """The first call of every module in a forward pass, in the order in which they end: inner ones first.

    The last entry is the autocast in which the call was made.
    """
    calls: dict[str, tuple[nn.Module, Call, torch.autocast]] = {}
    device = inputs.device.type

    def recorder(name: str) -> Any:
        def record(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], _output: Any) -> None:
            dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
            autocast = torch.autocast(device, dtype, enabled, cache_enabled=False)
            calls.setdefault(name, (module, (arguments, options), autocast))

        return record

    hooks = [module.register_forward_hook(recorder(name), with_kwargs=True) for name, module in model.named_modules()]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, *call) for name, call in calls.items()]


def _fails(trial: Trial, module: nn.Module, call: Call, autocast: torch.autocast) -> bool:
    try:
        with autocast:
            trial(module, call)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # NotImplementedError is one
        return True
    return False


def _by_reverse_mode(module: nn.Module, call: Call) -> None:
    loss, leaves = _squares(module, call)
    if leaves:
        with torch.enable_grad():
            leaves = tuple(leaf.requires_grad_() for leaf in leaves)
            slopes = torch.autograd.grad(loss(*leaves), leaves, create_graph=True, allow_unused=True)
            reached = [slope for slope in slopes if slope is not None and slope.requires_grad]
            if reached:
                # Not torch.autograd.grad: it takes a backward pass that must not be differentiated for a constant.
                torch.autograd.backward(reached, [slope.detach() for slope in reached])


def _by_forward_mode(module: nn.Module, call: Call) -> None:
    loss, leaves = _squares(module, call)
    if leaves:
        jvp(grad(loss, argnums=tuple(range(len(leaves)))), leaves, leaves)


def _squares(module: nn.Module, call: Call) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """Σ output² as a function of the call's floating-point tensors and the parameters, and copies of these."""
    names = list(dict(module.named_parameters()))
    arguments, structure = tree_flatten(call)
    smooth = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.is_floating_point()]
    leaves = [arguments[i].detach().clone() for i in smooth]
    leaves += [p.detach().clone() for p in module.parameters()]

    def loss(*values: Tensor) -> Tensor:
        given = list(arguments)
        for i, value in zip(smooth, values, strict=False):
            given[i] = value.clone()  # layers that work in place may not change a leaf
        positional, named = tree_unflatten(given, structure)
        parameters = dict(zip(names, values[len(smooth) :], strict=True))
        outputs = tree_flatten(functional_call(module, parameters, positional, named))[0]
        parts = [o.square().sum() for o in outputs if isinstance(o, Tensor) and o.is_floating_point()]
        return torch.stack(parts).sum() if parts else values[0].sum()

    return loss, tuple(leaves)
