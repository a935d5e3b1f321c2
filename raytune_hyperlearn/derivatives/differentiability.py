"""What keeps a network from being differentiated twice, and what can be done about it.

Fused kernels (attention, cuDNN's and oneDNN's recurrent layers) have a first derivative only; the plain ones that
compute the same have all. Buffers that a training step changes are state that carries no tangents: only BatchNorm's
running statistics are known to :class:`FunctionalModel`, others are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


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
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


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
            if module._buffers[key] is not buffer or _version(buffer) != version:
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
    recurrent = has_recurrent_layers(model)
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [inputs.device] if inputs.is_cuda else []
    with torch.random.fork_rng(devices), twice_differentiable_kernels(recurrent), torch.enable_grad():
        try:
            calls = _recorded_calls(model, inputs)
            return next((f"{name} ({type(m).__name__})" for name, m, call in calls if not _twice(m, *call)), None)
        finally:
            with torch.no_grad():
                for buffer, value in kept:
                    buffer.copy_(value)


def has_recurrent_layers(model: nn.Module) -> bool:
    """Whether PyTorch's own recurrent layers are part of the model."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


Call = tuple[tuple[Any, ...], dict[str, Any]]


def _recorded_calls(model: nn.Module, inputs: Tensor) -> list[tuple[str, nn.Module, Call]]:
    """The first call of every module in a forward pass, in the order in which they end: inner ones first."""
    calls: dict[str, tuple[nn.Module, Call]] = {}

    def recorder(name: str) -> Any:
        def record(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], _output: Any) -> None:
            calls.setdefault(name, (module, (arguments, options)))

        return record

    hooks = [
        module.register_forward_hook(recorder(name or type(model).__name__), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, module, call) for name, (module, call) in calls.items()]


def _twice(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a squared gradient of a squared output can be differentiated."""
    arguments, options = torch.utils._pytree.tree_map(_fresh, (arguments, options))
    leaves = [*torch.utils._pytree.tree_leaves((arguments, options)), *module.parameters()]
    leaves = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
    try:
        outputs = torch.utils._pytree.tree_leaves(module(*arguments, **options))
        total = sum((o.double() ** 2).sum() for o in outputs if isinstance(o, Tensor) and o.requires_grad)
        if not isinstance(total, Tensor) or not leaves:
            return True
        slopes = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
        curved = sum((s.double() ** 2).sum() for s in slopes if s is not None and s.requires_grad)
        if isinstance(curved, Tensor):
            torch.autograd.grad(curved, leaves, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # NotImplementedError is one
        return False
    return True


def _fresh(value: Any) -> Any:
    """A tensor as a new leaf; integers cannot be differentiated."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().clone().requires_grad_(value.is_floating_point())
