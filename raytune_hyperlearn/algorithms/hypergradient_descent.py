"""Hypergradient descent: hyperparameters learned online and greedily, one step ahead.

[HD] A. G. Baydin et al., ICLR 2018, arXiv 1703.04782; in [FDS] it learns momentum and weight decay as well.

Before each update the derivative of the current batch loss with respect to the values that the previous update
used is a dot product of the new gradient with the previous update's derivative:

    h_α = −g_t · u_{t−1}              α ← α − β_α h_α          u the update direction (SGD: v; Adam: bias-corrected)
    h_μ = −α_{t−1} g_t · v_{t−1}      μ ← μ − β_μ h_μ          v_{t−1} the velocity that μ multiplied
    h_ξ = −α_{t−1} g_t · w_{t−1}      ξ ← ξ − β_ξ h_ξ          w_{t−1} the weights that ξ multiplied

g_t includes weight decay. A parameter without a gradient counts as one whose gradient is zero. Nothing keeps α, μ or ξ
positive in the published method; ``bounds`` is a safeguard that is off by default.

Both classes are ``torch.optim`` optimizers. Each parameter group learns values of its own, zero-dimensional tensors
under "lr", "momentum" and "weight_decay" in ``param_groups``. They stay on the parameters' device: no step waits for
the host.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.values import Ranges

NOTHING_TRAINABLE = "params is without a trainable tensor; at least one must require gradients"
VELOCITY, PREVIOUS_VELOCITY, PREVIOUS_WEIGHTS = "momentum_buffer", "previous_momentum_buffer", "previous_parameter"
MEAN, SQUARE, DIRECTION = "exp_avg", "exp_avg_sq", "direction"
"""Names in an optimizer's state; torch.optim's, where it has the same."""


@dataclass(frozen=True)
class HyperRates:
    """Learning rates β of the hyperparameters, each ≥ 0; 0 keeps that hyperparameter fixed.

    Attributes:
        learning_rate: β_α.
        momentum: β_μ.
        weight_decay: β_ξ.
        hypergradient_clamp: Bound c > 0 on every hypergradient, clamped to [−c, c], or None.
    """

    learning_rate: float = 1e-4
    momentum: float = 0.0
    weight_decay: float = 0.0
    hypergradient_clamp: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "momentum", "weight_decay"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"hyper rate of {name} is {value}; it must be at least 0")
        if self.hypergradient_clamp is not None and not self.hypergradient_clamp > 0:
            raise ValueError(f"hypergradient_clamp is {self.hypergradient_clamp}; it must be positive or None")


class _LearningOptimizer(torch.optim.Optimizer):
    """A torch optimizer whose groups hold values that it learns.

    Args:
        params: Tensors, or dicts of parameter groups, as for any torch optimizer; frozen tensors are left out.
        defaults: Values of groups that have none of their own.
        learned: What is learned: hyperparameter ↦ its name in a parameter group.
        bounds: (lowest, highest) per hyperparameter, or empty for none.
    """

    _own: ClassVar[tuple[str, ...]] = ("learned", "bounds")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        defaults: dict[str, Any],
        learned: Mapping[str, str],
        bounds: Ranges | None,
    ) -> None:
        self.learned = dict(learned)
        self.bounds = _checked(bounds or {}, tuple(learned))
        given: list[Any] = list(params)
        if not given:
            raise ValueError(NOTHING_TRAINABLE)
        super().__init__(given, defaults)

    @property
    def hyperparameters(self) -> dict[str, Tensor]:
        """Current learned values of the first parameter group as zero-dimensional tensors (copies)."""
        return {name: self.param_groups[0][key].clone() for name, key in self.learned.items()}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, which learns values of its own.

        Raises:
            ValueError: If none of its parameters is trainable.
        """
        given = param_group["params"]
        trainable = [p for p in ([given] if isinstance(given, Tensor) else given) if _tensor(p).requires_grad]
        if not trainable:
            raise ValueError(NOTHING_TRAINABLE)
        super().add_param_group({**param_group, "params": trainable})
        self._place(self.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Learn from the parameters' gradients, then update the parameters.

        Args:
            closure: Evaluates the model anew and returns the loss; or None.

        Returns:
            The closure's loss; None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._place(group)
            self._step_group(group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """As for any torch optimizer, but a copy, which stays as it is while training goes on."""
        return copy.deepcopy(super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; learned values are the state's, rates and bounds stay this optimizer's."""
        super().load_state_dict(copy.deepcopy(state_dict))
        for group in self.param_groups:
            self._place(group)

    @abstractmethod
    def _step_group(self, group: dict[str, Any]) -> None:
        """Learn a group's values, then update its parameters."""

    def _place(self, group: dict[str, Any]) -> None:
        """Learned values as tensors beside the parameters, also where a user has assigned plain numbers."""
        like = group["params"][0]
        for key in self.learned.values():
            value = group[key]
            group[key] = value.to(like) if isinstance(value, Tensor) else like.new_full((), value).detach()

    def _state(self, group: dict[str, Any], key: str) -> list[Tensor]:
        """One state tensor of each of a group's parameters; empty before the first one was stored."""
        return [self.state[p][key] for p in group["params"] if key in self.state[p]]

    def _store(self, group: dict[str, Any], key: str, tensors: Sequence[Tensor]) -> None:
        for parameter, tensor in zip(group["params"], tensors, strict=True):
            self.state[parameter][key] = tensor

    def _descend(self, group: dict[str, Any], name: str, change: Tensor) -> None:
        """Take ``change`` from a learned value, within its bounds."""
        key = self.learned[name]
        group[key] = _within(group[key] - change, self.bounds.get(name))

    def __getstate__(self) -> dict[str, Any]:
        """What a copy of the optimizer is made of; torch's own knows none of our attributes."""
        return {**super().__getstate__(), **{key: getattr(self, key) for key in self._own}}


class SGDHD(_LearningOptimizer):
    """SGD (with momentum and weight decay) that learns its hyperparameters online.

    With all rates 0 it is ``torch.optim.SGD``.

    Args:
        params: What to train: tensors or parameter groups.
        lr: α at the start.
        momentum: μ at the start.
        weight_decay: ξ at the start.
        rates: Learning rates β of α, μ and ξ.
        bounds: (lowest, highest) of "learning_rate", "momentum" and "weight_decay", or empty for none.

    Raises:
        ValueError: If nothing is trainable, or bounds have an unknown name or are the wrong way round.
    """

    _own: ClassVar[tuple[str, ...]] = ("learned", "bounds", "rates")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        rates: HyperRates | None = None,
        bounds: Ranges | None = None,
    ) -> None:
        self.rates = rates or HyperRates()
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        learned = {"learning_rate": "lr", "momentum": "momentum", "weight_decay": "weight_decay"}
        super().__init__(params, defaults, learned, bounds)

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = group["params"], _gradients(group["params"])
        self._learn(group, _plus(gradients, parameters, group["weight_decay"]))
        velocity = self._state(group, VELOCITY) or [torch.zeros_like(p) for p in parameters]
        if self.rates.momentum:
            self._store(group, PREVIOUS_VELOCITY, [v.clone() for v in velocity])
        if self.rates.weight_decay:
            self._store(group, PREVIOUS_WEIGHTS, [p.detach().clone() for p in parameters])
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, _plus(gradients, parameters, group["weight_decay"]))
        self._store(group, VELOCITY, velocity)
        torch._foreach_sub_(parameters, torch._foreach_mul(velocity, group["lr"]))

    def _learn(self, group: dict[str, Any], regularized: list[Tensor]) -> None:
        """One gradient step on α, μ and ξ; ``regularized`` is g_t including weight decay."""
        rate = group["lr"].clone()
        factors: dict[str, tuple[float, list[Tensor], Tensor | float]] = {
            "learning_rate": (self.rates.learning_rate, self._state(group, VELOCITY), 1.0),
            "momentum": (self.rates.momentum, self._state(group, PREVIOUS_VELOCITY), rate),
            "weight_decay": (self.rates.weight_decay, self._state(group, PREVIOUS_WEIGHTS), rate),
        }
        for name, (beta, derivative, scale) in factors.items():
            if beta and derivative:
                hypergradient = -scale * _dot(regularized, derivative)
                clamp = self.rates.hypergradient_clamp
                if clamp is not None:
                    hypergradient = hypergradient.clamp(-clamp, clamp)
                self._descend(group, name, beta * hypergradient)


class AdamHD(_LearningOptimizer):
    """Adam whose learning rate is learned online: α ← α + β g_t · m̂_{t−1} / (√v̂_{t−1} + ε).

    With ``hyper_rate`` 0 it is ``torch.optim.Adam``.

    Args:
        params: What to train: tensors or parameter groups.
        lr: α at the start.
        betas: Decay rates of the two moments, each in [0, 1).
        eps: ε > 0.
        weight_decay: ξ ≥ 0, added to the gradient.
        hyper_rate: β ≥ 0.
        bounds: (lowest, highest) of α under ``"learning_rate"``, or empty for none.

    Raises:
        ValueError: If nothing is trainable, or an argument lies outside what is said here.
    """

    _own: ClassVar[tuple[str, ...]] = ("learned", "bounds", "hyper_rate")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        hyper_rate: float = 1e-4,
        bounds: Ranges | None = None,
    ) -> None:
        if not hyper_rate >= 0:
            raise ValueError(f"hyper_rate is {hyper_rate}; it must be at least 0")
        for beta in betas:
            if not 0 <= beta < 1:
                raise ValueError(f"betas are {betas}; each must lie in [0, 1)")
        if not eps > 0:
            raise ValueError(f"eps is {eps}; it must be positive")
        self.hyper_rate = hyper_rate
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, {"learning_rate": "lr"}, bounds)

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = group["params"], _gradients(group["params"])
        if group["weight_decay"]:
            gradients = _plus(gradients, parameters, group["weight_decay"])
        last = self._state(group, DIRECTION)
        if last and self.hyper_rate:
            self._descend(group, "learning_rate", -(self.hyper_rate * _dot(gradients, last)))
        steps = self.state[parameters[0]].get("step", 0) + 1
        means = self._state(group, MEAN) or [torch.zeros_like(p) for p in parameters]
        squares = self._state(group, SQUARE) or [torch.zeros_like(p) for p in parameters]
        first, second = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        denominator = torch._foreach_sqrt(torch._foreach_div(squares, 1 - second**steps))
        torch._foreach_add_(denominator, group["eps"])
        direction = torch._foreach_div(torch._foreach_div(means, 1 - first**steps), denominator)
        torch._foreach_sub_(parameters, torch._foreach_mul(direction, group["lr"]))
        for key, tensors in ((MEAN, means), (SQUARE, squares), (DIRECTION, direction)):
            self._store(group, key, tensors)
        for parameter in parameters:
            self.state[parameter]["step"] = steps


def _tensor(parameter: Any) -> Tensor:
    """The tensor of a parameter, which may come as (name, tensor)."""
    return parameter[1] if isinstance(parameter, tuple) else parameter  # type: ignore[no-any-return]


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]


def _checked(bounds: Ranges, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    for name, (low, high) in bounds.items():
        if name not in names:
            raise ValueError(f"bounds hold {name!r}; they must be of {', '.join(names)}")
        if not low <= high:
            raise ValueError(f"bounds of {name} are ({low}, {high}); the lower one must not exceed the upper one")
    return dict(bounds)


def _plus(tensors: list[Tensor], others: list[Tensor], scale: Tensor | float) -> list[Tensor]:
    """tensors + scale · others, element by element of the lists."""
    return list(torch._foreach_add(tensors, torch._foreach_mul(others, scale)))


def _dot(tensors: list[Tensor], others: list[Tensor]) -> Tensor:
    """Sum of all products, a zero-dimensional tensor."""
    return torch.stack([product.sum() for product in torch._foreach_mul(tensors, others)]).sum()


def _within(value: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    return value if bounds is None else value.clamp(*bounds)
