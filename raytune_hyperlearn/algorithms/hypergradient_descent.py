"""Hypergradient descent: hyperparameters learned online and greedily, one step ahead.

[HD] A. G. Baydin et al., ICLR 2018, arXiv 1703.04782; in [FDS] it learns momentum and weight decay as well.

Before each update the derivative of the current batch loss with respect to the values that the previous update
used is a dot product of the new gradient with the previous update's derivative:

    h_α = −g_t · u_{t−1}              α ← α − β_α h_α          u the update direction (SGD: v; Adam: bias-corrected)
    h_μ = −α_{t−1} g_t · v_{t−1}      μ ← μ − β_μ h_μ          v_{t−1} the velocity that μ multiplied
    h_ξ = −α_{t−1} g_t · w_{t−1}      ξ ← ξ − β_ξ h_ξ          w_{t−1} the weights that ξ multiplied

g_t includes weight decay. Nothing keeps α, μ or ξ positive in the published method; ``bounds`` is a safeguard
that is off by default. All values stay on the parameters' device: no step waits for the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.values import Ranges


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


@dataclass
class _Previous:
    """What the last update used: its direction, and what momentum and weight decay multiplied in it."""

    direction: list[Tensor] = field(default_factory=list)
    velocity: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)


class SGDHD:
    """SGD (with momentum and weight decay) that learns its hyperparameters online.

    With all rates 0 it is ``torch.optim.SGD``.

    Args:
        parameters: What to train.
        learning_rate: α at the start.
        momentum: μ at the start.
        weight_decay: ξ at the start.
        rates: Learning rates β of α, μ and ξ.
        bounds: (lowest, highest) per hyperparameter name, or empty for none.

    Raises:
        ValueError: If nothing is trainable, or bounds have an unknown name or are the wrong way round.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        rates: HyperRates | None = None,
        bounds: Ranges | None = None,
    ) -> None:
        self.parameters = _trainable(parameters)
        self.rates = rates or HyperRates()
        start = {"learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        self.bounds = _checked(bounds or {}, tuple(start))
        template = self.parameters[0]
        self._values = {name: template.new_full((), value).detach() for name, value in start.items()}
        self._velocity = [torch.zeros_like(p) for p in self.parameters]
        self._previous = _Previous()

    @property
    def hyperparameters(self) -> dict[str, Tensor]:
        """Current α, μ and ξ as zero-dimensional tensors (copies)."""
        return {name: value.clone() for name, value in self._values.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Learn α, μ and ξ from the parameters' gradients, then update the parameters."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        regularized = _plus(gradients, self.parameters, self._values["weight_decay"])
        self._learn(regularized)
        rate, momentum, decay = (self._values[name] for name in ("learning_rate", "momentum", "weight_decay"))
        previous = _Previous()
        if self.rates.momentum:
            previous.velocity = [v.clone() for v in self._velocity]
        if self.rates.weight_decay:
            previous.weights = [p.detach().clone() for p in self.parameters]
        torch._foreach_mul_(self._velocity, momentum)
        torch._foreach_add_(self._velocity, _plus(gradients, self.parameters, decay))
        previous.direction = self._velocity  # not changed before the next call reads it
        torch._foreach_sub_(self.parameters, torch._foreach_mul(self._velocity, rate))
        self._previous = previous

    def zero_grad(self) -> None:
        """Forget the parameters' gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, object]:
        """Everything that the next step depends on."""
        return {
            "values": self.hyperparameters,
            "velocity": [v.clone() for v in self._velocity],
            "started": bool(self._previous.direction),
            "previous_velocity": [v.clone() for v in self._previous.velocity],
            "previous_weights": [w.clone() for w in self._previous.weights],
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from :meth:`state_dict`."""
        values: Mapping[str, Tensor] = state["values"]  # type: ignore[assignment]
        for name, value in values.items():
            self._values[name] = value.to(self.parameters[0].device).clone()
        lists = {
            key: [t.to(self.parameters[0].device).clone() for t in state[key]]  # type: ignore[attr-defined]
            for key in ("velocity", "previous_velocity", "previous_weights")
        }
        self._velocity = lists["velocity"]
        direction = self._velocity if state["started"] else []
        self._previous = _Previous(direction, lists["previous_velocity"], lists["previous_weights"])

    def _learn(self, regularized: list[Tensor]) -> None:
        """One gradient step on α, μ and ξ; ``regularized`` is g_t including weight decay."""
        if not self._previous.direction:
            return
        rate = self._values["learning_rate"].clone()
        factors: dict[str, tuple[float, list[Tensor], Tensor | float]] = {
            "learning_rate": (self.rates.learning_rate, self._previous.direction, 1.0),
            "momentum": (self.rates.momentum, self._previous.velocity, rate),
            "weight_decay": (self.rates.weight_decay, self._previous.weights, rate),
        }
        for name, (beta, derivative, scale) in factors.items():
            if beta:
                hypergradient = -scale * _dot(regularized, derivative)
                if self.rates.hypergradient_clamp is not None:
                    hypergradient = hypergradient.clamp(-self.rates.hypergradient_clamp, self.rates.hypergradient_clamp)
                self._values[name] = _within(self._values[name] - beta * hypergradient, self.bounds.get(name))


class AdamHD:
    """Adam whose learning rate is learned online: α ← α + β g_t · m̂_{t−1} / (√v̂_{t−1} + ε).

    With ``hyper_rate`` 0 it is ``torch.optim.Adam``.

    Args:
        parameters: What to train.
        learning_rate: α at the start.
        betas: Decay rates of the two moments, each in [0, 1).
        epsilon: ε > 0.
        weight_decay: ξ ≥ 0, added to the gradient.
        hyper_rate: β ≥ 0.
        bounds: (lowest, highest) of α under ``"learning_rate"``, or empty for none.

    Raises:
        ValueError: If nothing is trainable, or an argument lies outside what is said here.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        hyper_rate: float = 1e-4,
        bounds: Ranges | None = None,
    ) -> None:
        if not hyper_rate >= 0:
            raise ValueError(f"hyper_rate is {hyper_rate}; it must be at least 0")
        for beta in betas:
            if not 0 <= beta < 1:
                raise ValueError(f"betas are {betas}; each must lie in [0, 1)")
        if not epsilon > 0:
            raise ValueError(f"epsilon is {epsilon}; it must be positive")
        self.parameters = _trainable(parameters)
        self.betas, self.epsilon, self.weight_decay = betas, epsilon, weight_decay
        self.hyper_rate, self.bounds = hyper_rate, _checked(bounds or {}, ("learning_rate",))
        self._rate = self.parameters[0].new_full((), learning_rate).detach()
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._direction: list[Tensor] = []
        self._steps = 0

    @property
    def hyperparameters(self) -> dict[str, Tensor]:
        """Current α as a zero-dimensional tensor (a copy)."""
        return {"learning_rate": self._rate.clone()}

    @torch.no_grad()
    def step(self) -> None:
        """Learn α from the parameters' gradients, then update the parameters."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        if self.weight_decay:
            gradients = _plus(gradients, self.parameters, self.weight_decay)
        if self._direction and self.hyper_rate:
            change = self.hyper_rate * _dot(gradients, self._direction)
            self._rate = _within(self._rate + change, self.bounds.get("learning_rate"))
        self._steps += 1
        first, second = self.betas
        torch._foreach_lerp_(self._first, gradients, 1 - first)
        torch._foreach_mul_(self._second, second)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - second)
        denominator = torch._foreach_sqrt(torch._foreach_div(self._second, 1 - second**self._steps))
        torch._foreach_add_(denominator, self.epsilon)
        self._direction = list(torch._foreach_div(torch._foreach_div(self._first, 1 - first**self._steps), denominator))
        torch._foreach_sub_(self.parameters, torch._foreach_mul(self._direction, self._rate))

    def zero_grad(self) -> None:
        """Forget the parameters' gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, object]:
        """Everything that the next step depends on."""
        return {
            "rate": self._rate.clone(),
            "first": [t.clone() for t in self._first],
            "second": [t.clone() for t in self._second],
            "direction": [t.clone() for t in self._direction],
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from :meth:`state_dict`."""
        device = self.parameters[0].device
        self._rate = state["rate"].to(device).clone()  # type: ignore[attr-defined]
        self._first, self._second, self._direction = (
            [t.to(device).clone() for t in state[key]]  # type: ignore[attr-defined]
            for key in ("first", "second", "direction")
        )
        self._steps = int(state["steps"])  # type: ignore[call-overload]


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ValueError("parameters is without a trainable tensor; at least one must require gradients")
    return trainable


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
