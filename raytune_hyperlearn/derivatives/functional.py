"""A module as a pure function of one flat parameter vector and one flat vector of running statistics.

Forward-mode differentiation through training needs the state of training as plain tensors: the parameters
w ∈ R^D and, where the network has BatchNorm, its running means and variances b ∈ R^B. The latter are part of
what training produces — they decide the validation loss — so they carry tangents too:

    (w, b) ↦ (mean training loss, b')      b' = (1 − m) b + m · (batch statistics at w)

PyTorch updates running statistics in place, outside of differentiation. Here b' is a differentiable output instead,
from the same batch statistics that the layer normalizes by (:mod:`.batch_norm`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from raytune_hyperlearn.derivatives.batch_norm import batch_normalized
from raytune_hyperlearn.derivatives.differentiability import (
    ConstantBuffers,
    has_recurrent_layers,
    twice_differentiable_kernels,
)

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Maps outputs [N, …] and targets [N, …] to one loss per example [N]."""

Collected = dict[str, list[tuple[Tensor, Tensor]]]
"""BatchNorm layer → mean and variance of each batch that went through it, in order."""


class FunctionalModel:
    """A module's training loss and evaluation outputs as functions of flat vectors.

    Args:
        model: Any module. Parameters with ``requires_grad=False`` stay constant; tied parameters count once.
        loss: Maps outputs [N, …] and targets [N, …] to one loss per example [N].

    Attributes:
        parameters: Initial flat parameters w [D] (a copy).
        buffers: Initial flat running statistics b [B] (a copy; B = 0 without BatchNorm).

    Raises:
        ValueError: If no parameter is trainable, their types differ, BatchNorm uses a cumulative average, or
            InstanceNorm keeps running statistics.
    """

    def __init__(self, model: nn.Module, loss: LossFunction) -> None:
        self.model = model
        self.loss = loss
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError("model has no trainable parameter; at least one parameter must require gradients")
        types = sorted({str(p.dtype) for p in trainable.values()})
        if len(types) > 1:
            owners = ", ".join(next(n for n, p in trainable.items() if str(p.dtype) == kind) for kind in types)
            raise ValueError(
                f"model has parameters of {', '.join(types)}; trainable parameters must share one type, not {owners}"
            )
        self._parameter_shapes = {name: p.shape for name, p in trainable.items()}
        self.parameters = torch.cat([p.detach().reshape(-1) for p in trainable.values()])
        self._norms = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        }
        for name, module in self._norms.items():
            if module.momentum is None:
                raise ValueError(f"momentum of {name} is None; running statistics need a fixed momentum in (0, 1]")
        for name, module in model.named_modules():
            if isinstance(module, _InstanceNorm) and module.running_mean is not None:
                raise ValueError(f"{name} is InstanceNorm with track_running_stats=True; it must be False")
        statistics = [s for module in self._norms.values() for s in _statistics(module)]
        self._buffer_sizes = [len(s) for s in statistics]
        self._constant = ConstantBuffers(model, set(self._statistic_names()))
        self._recurrent = has_recurrent_layers(model)
        empty = self.parameters.new_zeros(0)
        self.buffers = torch.cat([s.detach().clone() for s in statistics]) if statistics else empty

    def unflatten(self, parameters: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector [D] under the module's parameter names and shapes.

        Args:
            parameters: w [D].

        Returns:
            Tensors by name; they share memory with the vector.
        """
        sizes = [shape.numel() for shape in self._parameter_shapes.values()]
        parts = parameters.split(sizes)
        return {
            name: part.view(shape) for (name, shape), part in zip(self._parameter_shapes.items(), parts, strict=True)
        }

    def training_loss(
        self, parameters: Tensor, buffers: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch in training mode and the running statistics after it.

        Args:
            parameters: w [D].
            buffers: b [B].
            inputs: Batch inputs [N, …].
            targets: Batch targets [N, …].

        Returns:
            (loss [], b' [B]).
        """
        outputs, updated = self.training_outputs(parameters, buffers, inputs)
        return self.loss(outputs, targets).mean(), updated

    def training_outputs(self, parameters: Tensor, buffers: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [N, …] of a batch in training mode and the running statistics after it.

        Args:
            parameters: w [D].
            buffers: Running statistics b [B].
            inputs: Inputs [N, …].

        Raises:
            ValueError: If the pass changes a buffer that is not a running statistic of BatchNorm.
        """
        collected: Collected = {}
        with self._in_training(collected), twice_differentiable_kernels(self._recurrent), self._constant.unchanged():
            outputs = functional_call(self.model, self.unflatten(parameters), (inputs,))
        return outputs, self._updated(buffers, collected)

    def evaluation_loss(self, parameters: Tensor, buffers: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Per-example losses [N] in evaluation mode: running statistics b, no dropout.

        Args:
            parameters: w [D].
            buffers: Running statistics b [B].
            inputs: Inputs [N, …].
            targets: Targets [N, …].
        """
        return self.loss(self.evaluation_outputs(parameters, buffers, inputs), targets)

    def evaluation_outputs(self, parameters: Tensor, buffers: Tensor, inputs: Tensor) -> Tensor:
        """Outputs [N, …] in evaluation mode at flat parameters w [D] and running statistics b [B].

        Args:
            parameters: w [D].
            buffers: Running statistics b [B].
            inputs: Inputs [N, …].
        """
        statistics = self._named_buffers(buffers)
        state = {**self.unflatten(parameters), **{name: value.detach() for name, value in statistics.items()}}
        modes = {module: module.training for module in self.model.modules()}
        handles = []
        if buffers.requires_grad:
            handles = [m.register_forward_hook(_normalizer(name, statistics)) for name, m in self._norms.items()]
        self.model.eval()
        try:
            return functional_call(self.model, state, (inputs,))  # type: ignore[no-any-return]
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes.items():
                module.training = mode

    def load_initial(self, model: nn.Module) -> None:
        """Take another module of the same architecture's parameters and running statistics as initial values.

        What stays constant in training, frozen parameters and other buffers, is copied into the module itself.

        Args:
            model: The module whose values are taken; it stays as it is.
        """
        fresh = FunctionalModel(model, self.loss)
        self.parameters, self.buffers = fresh.parameters, fresh.buffers
        self.model.load_state_dict(model.state_dict())

    def load(self, parameters: Tensor, buffers: Tensor) -> None:
        """Copy flat parameters [D] and running statistics [B] into the module itself.

        Args:
            parameters: w [D].
            buffers: Running statistics b [B].
        """
        with torch.no_grad():
            named = dict(self.model.named_parameters())
            for name, value in self.unflatten(parameters).items():
                named[name].copy_(value)
            owned = dict(self.model.named_buffers())
            for name, value in self._named_buffers(buffers).items():
                owned[name].copy_(value)

    def _named_buffers(self, buffers: Tensor) -> dict[str, Tensor]:
        names = self._statistic_names()
        return dict(zip(names, buffers.split(self._buffer_sizes), strict=True)) if names else {}

    def _statistic_names(self) -> list[str]:
        return [f"{name}.{kind}" for name in self._norms for kind in ("running_mean", "running_var")]

    def _updated(self, buffers: Tensor, collected: Collected) -> Tensor:
        """b' from the batch statistics that the layers saw; a layer that was not called keeps its own."""
        if not self._norms:
            return buffers
        parts = list(buffers.split(self._buffer_sizes))
        for index, (name, module) in enumerate(self._norms.items()):
            rate = module.momentum
            assert rate is not None
            for statistics in collected.get(name, ()):
                for position, statistic in enumerate(statistics, start=2 * index):
                    parts[position] = (1 - rate) * parts[position] + rate * statistic
        return torch.cat(parts)

    @contextmanager
    def _in_training(self, collected: Collected) -> Iterator[None]:
        """Training mode in which BatchNorm reports its batch statistics instead of storing them.

        Layers that the caller has put in evaluation mode (frozen statistics) are left so.
        """
        handles = []
        tracking = [(name, module) for name, module in self._norms.items() if module.training]
        for name, module in tracking:
            if type(module).forward is _BatchNorm.forward:
                module.__dict__["forward"] = partial(_normalized, module, name, collected)
            else:
                handles.append(module.register_forward_pre_hook(_collector(name, collected)))
                module.track_running_stats = False
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for _, module in tracking:
                module.__dict__.pop("forward", None)
                module.track_running_stats = True


def _statistics(module: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert module.running_mean is not None
    assert module.running_var is not None
    return module.running_mean, module.running_var


def _normalized(module: _BatchNorm, name: str, collected: Collected, inputs: Tensor) -> Tensor:
    """Outputs [N, C, …] of BatchNorm in training mode; notes the batch's mean and unbiased variance [C].

    x is centered by a constant first: that changes nothing, and no digits are lost where the mean is far from zero.
    """
    axes, shape = [0, *range(2, inputs.dim())], (1, -1) + (1,) * (inputs.dim() - 2)
    count = inputs.numel() // inputs.shape[1]
    if count < 2:
        raise ValueError(f"{name} normalizes {count} value per channel; a training batch must hold at least 2")
    exact = inputs.float() if inputs.dtype in (torch.bfloat16, torch.float16) else inputs
    center = exact.detach().mean(dim=axes)
    weight = module.weight.to(exact.dtype) if module.affine else torch.ones_like(center)
    bias = module.bias.to(exact.dtype) if module.affine else torch.zeros_like(center)
    outputs, mean, variance = batch_normalized(exact - center.view(shape), weight, bias, module.eps)
    collected.setdefault(name, []).append((mean + center, variance * (count / (count - 1))))
    return outputs.to(inputs.dtype)


def _collector(name: str, collected: Collected) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def collect(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        (inputs,) = arguments
        axes = [0, *range(2, inputs.dim())]
        variance, mean = torch.var_mean(inputs, dim=axes, correction=1)
        collected.setdefault(name, []).append((mean, variance))

    return collect


def _normalizer(name: str, statistics: dict[str, Tensor]) -> Callable[[_BatchNorm, tuple[Tensor, ...], Tensor], Tensor]:
    """Hook that normalizes by statistics that gradients flow to; PyTorch's own kernel refuses those."""

    def normalize(module: _BatchNorm, arguments: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (inputs,) = arguments
        shape = (1, -1) + (1,) * (inputs.dim() - 2)
        mean, variance = statistics[f"{name}.running_mean"], statistics[f"{name}.running_var"]
        outputs = (inputs - mean.view(shape)) * (variance + module.eps).rsqrt().view(shape)
        if module.affine:
            outputs = outputs * module.weight.view(shape) + module.bias.view(shape)
        return outputs

    return normalize
