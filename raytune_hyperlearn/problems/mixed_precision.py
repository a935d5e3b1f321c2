"""Models that compute in bfloat16 where that is accurate enough, with parameters and outputs in float32."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["full", "bf16-mixed"]


def with_precision(model: nn.Module, precision: Precision) -> nn.Module:
    """The model itself, made to compute under PyTorch's autocast with ``"bf16-mixed"``.

    Two hooks do it, so the names of its parameters stay, and a copy of the model or a call of it with other parameters
    computes in the same way. Its derivatives go through autocast as well; the loss is computed from float32.

    Args:
        model: On the device where it is used.
        precision: ``"full"`` leaves it as it is.
    """
    if precision == "bf16-mixed":
        autocast = _Autocast()
        model.register_forward_pre_hook(autocast.enter)
        model.register_forward_hook(autocast.leave, always_call=True)
    return model


class _Autocast:
    """The contexts of calls that have not returned."""

    def __init__(self) -> None:
        self._entered: list[torch.autocast] = []

    def enter(self, model: nn.Module, _inputs: Any) -> None:
        device = next(model.parameters()).device
        # Without a cache: the same module is called with other parameters at every step.
        context = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
        context.__enter__()
        self._entered.append(context)

    def leave(self, _model: nn.Module, _inputs: Any, outputs: Any) -> Any:
        self._entered.pop().__exit__(None, None, None)
        return outputs.float() if isinstance(outputs, Tensor) and outputs.dtype == torch.bfloat16 else outputs
