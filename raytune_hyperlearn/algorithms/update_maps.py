"""Optimizers as pure functions (parameters, state, hyperparameters, batch) ↦ (parameters, state).

Written so, every hyperparameter that the function is smooth in can be learned: the tangent of the whole map needs
no derivation by hand (see :mod:`raytune_hyperlearn.algorithms.forward_mode`). SGD, Adam and AdamW compute what
``torch.optim`` computes, step by step; an own optimizer is a subclass of :class:`UpdateMap`, or of
:class:`GradientUpdate` where it needs the batch loss's gradient alone.

Parameters are the flat vector w [D] of a :class:`FunctionalModel`. The state holds named tensors: the running
statistics b [B] under ``"statistics"`` and what the optimizer keeps, such as its velocity. Floating-point entries
carry tangents; integers, such as a count of steps, do not.

Hyperparameters arrive as float64 scalars, so that 1 − β² at β = 0.999 loses no digits where w is float32; with
groups of parameters (:mod:`.groups`) a rule sees one entry per parameter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from raytune_hyperlearn.algorithms.groups import Groups, grouped, names_in_use
from raytune_hyperlearn.algorithms.objectives import Hyperparameters, Objective, plain
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound

Batch = tuple[Tensor, Tensor]
State = dict[str, Tensor]

STATISTICS = "statistics"


class Updated(NamedTuple):
    """What one step gives.

    Attributes:
        parameters: w [D] after the step.
        state: After the step, the same names.
        loss: Batch loss before the step [].
    """

    parameters: Tensor
    state: State
    loss: Tensor


class UpdateMap(ABC):
    """One inner step of training as a pure function.

    Args:
        model: The network and the loss that counts in validation.
        defaults: Every hyperparameter with the value it has where none is given.
    """

    def __init__(self, model: FunctionalModel, defaults: Mapping[str, float]) -> None:
        self.model = model
        self.defaults = dict(defaults)

    def initial_state(self) -> State:
        """State before the first step; optimizers that keep more than the running statistics add to it."""
        return {STATISTICS: self.model.buffers.clone()}

    @abstractmethod
    def __call__(self, parameters: Tensor, state: State, hyperparameters: Hyperparameters, batch: Batch) -> Updated:
        """One step; nothing that is passed in may be changed."""


@dataclass(frozen=True)
class Spread:
    """Values of groups, laid out over the parameters.

    Attributes:
        names: Names of the groups' values, G.
        index: Which of them each parameter has, [D].
    """

    names: tuple[str, ...]
    index: Tensor

    @classmethod
    def of(cls, model: FunctionalModel, groups: Groups, hyperparameter: str) -> Spread:
        """The spread of one hyperparameter.

        Raises:
            ValueError: In one line, if the groups do not hold every parameter of the model once.
        """
        parameters = model.unflatten(model.parameters)
        used = names_in_use(groups, hyperparameter, list(parameters))
        names = tuple(grouped(hyperparameter, group) for group in groups[hyperparameter])
        sizes = torch.tensor([part.numel() for part in parameters.values()])
        index = torch.tensor([names.index(name) for name in used]).repeat_interleave(sizes)
        return cls(names, index.to(model.parameters.device))

    def __call__(self, hyperparameters: Hyperparameters) -> Tensor:
        """One entry per parameter [D] of the groups' values."""
        return torch.stack([hyperparameters[name] for name in self.names])[self.index]


class GradientUpdate(UpdateMap):
    """A step that uses the batch only through the gradient of its mean loss.

    Args:
        model: The network and the loss that counts in validation.
        defaults: The optimizer's own hyperparameters.
        objective: The training loss; the model's own where none is given.
        groups: Groups of parameters with values of their own (:mod:`.groups`), by hyperparameter: group
            ``features.0`` then has ``learning_rate@features.0`` in place of ``learning_rate``.
        bound: On batch gradients, or None.

    Raises:
        ValueError: In one line, if ``groups`` do not fit the optimizer or the model.
    """

    def __init__(
        self,
        model: FunctionalModel,
        defaults: Mapping[str, float],
        objective: Objective | None = None,
        groups: Groups | None = None,
        bound: GradientBound | None = None,
    ) -> None:
        for name in groups or {}:
            if name not in defaults:
                raise ValueError(f"groups hold {name!r}; they must be of {', '.join(defaults)}")
        self.objective = objective or plain(model.loss)
        self.bound = bound
        self._spreads = {name: Spread.of(model, groups or {}, name) for name in groups or {}}
        own = {
            key: value
            for name, value in defaults.items()
            for key in (self._spreads[name].names if name in self._spreads else [name])
        }
        super().__init__(model, own | dict(self.objective.defaults))

    def __call__(self, parameters: Tensor, state: State, hyperparameters: Hyperparameters, batch: Batch) -> Updated:
        """One step from the gradient of the batch's mean loss."""

        def loss(w: Tensor) -> tuple[Tensor, Tensor]:
            outputs, statistics = self.model.training_outputs(w, state[STATISTICS], batch[0])
            return self.objective.loss(outputs, batch[1], hyperparameters).mean(), statistics

        differentiated: Callable[[Tensor], tuple[Tensor, tuple[Tensor, Tensor]]] = grad_and_value(loss, has_aux=True)
        gradient, (value, statistics) = differentiated(parameters)
        moved, memory = self.apply(parameters, state, gradient, hyperparameters)
        return Updated(moved, {**memory, STATISTICS: statistics}, value)

    def apply(
        self, parameters: Tensor, state: State, gradient: Tensor, hyperparameters: Hyperparameters
    ) -> tuple[Tensor, State]:
        """One step along a gradient.

        Args:
            parameters: w [D].
            state: The optimizer's own tensors, by name.
            gradient: Gradient of the mean loss [D].
            hyperparameters: Values by name, scalars [] or one per group, float64.

        Returns:
            New parameters [D] and the optimizer's new tensors.
        """
        if self.bound is not None:
            gradient = self.bound.apply(gradient)
        by_parameter = {name: spread(hyperparameters) for name, spread in self._spreads.items()}
        return self.rule(parameters, state, gradient, {**hyperparameters, **by_parameter})

    @abstractmethod
    def rule(
        self, parameters: Tensor, state: State, gradient: Tensor, hyperparameters: Hyperparameters
    ) -> tuple[Tensor, State]:
        """The optimizer's arithmetic.

        Args:
            parameters: w [D].
            state: The optimizer's own tensors, by name.
            gradient: Gradient of the mean loss [D].
            hyperparameters: Values by name, float64: scalars [] or one entry per parameter [D].

        Returns:
            New parameters [D] and the optimizer's new tensors.
        """


class SGD(GradientUpdate):
    """Stochastic gradient descent with momentum μ, dampening τ, weight decay ξ and learning rate α.

        g ← g + ξ w        v ← μ v + (1 − τ) g        d = v, with Nesterov's momentum g + μ v        w ← w − α d

    As in PyTorch, the first step and steps with μ = 0 are not dampened.

    Args:
        model: As :class:`GradientUpdate`.
        objective: As :class:`GradientUpdate`.
        nesterov: Nesterov's momentum; dampening is then to be left at 0.
        groups: As :class:`GradientUpdate`.
        bound: As :class:`GradientUpdate`.
    """

    def __init__(
        self,
        model: FunctionalModel,
        objective: Objective | None = None,
        *,
        nesterov: bool = False,
        groups: Groups | None = None,
        bound: GradientBound | None = None,
    ) -> None:
        defaults = {"learning_rate": 1e-3, "momentum": 0.0, "weight_decay": 0.0}
        if not nesterov:
            defaults["dampening"] = 0.0
        super().__init__(model, defaults, objective, groups, bound)
        self.nesterov = nesterov

    def initial_state(self) -> State:
        """Velocity [D] and the count of steps []."""
        w = self.model.parameters
        return {**super().initial_state(), "velocity": torch.zeros_like(w), "steps": _count(w)}

    def rule(
        self, parameters: Tensor, state: State, gradient: Tensor, hyperparameters: Hyperparameters
    ) -> tuple[Tensor, State]:
        """The formulas above."""
        kind = parameters.dtype
        rate, momentum, decay = (
            hyperparameters[name].to(kind) for name in ("learning_rate", "momentum", "weight_decay")
        )
        gradient = gradient + decay * parameters
        if self.nesterov:
            velocity = momentum * state["velocity"] + gradient
            direction = gradient + momentum * velocity
        else:
            undamped = (state["steps"] == 0) | (momentum == 0)
            share = 1 - torch.where(undamped, torch.zeros_like(momentum), hyperparameters["dampening"].to(kind))
            direction = velocity = momentum * state["velocity"] + share * gradient
        return parameters - rate * direction, {"velocity": velocity, "steps": state["steps"] + 1}


class Adam(GradientUpdate):
    """Adam with learning rate α, decay rates β1 and β2, ε and an L2 penalty ξ.

        g ← g + ξ w        m ← β1 m + (1 − β1) g        s ← β2 s + (1 − β2) g²
        w ← w − α / (1 − β1^t) · m / (√(s / (1 − β2^t)) + ε)

    With ``amsgrad`` the largest s so far takes the place of s in the last line. Where s = 0, m = 0 as well and the
    root's derivative, infinite there, is multiplied by it: the product's limit 0 is taken. A parameter whose gradient
    is zero but for rounding (a bias before BatchNorm) moves by noise, here as in PyTorch, unless ε is well above it.

    Args:
        model: As :class:`GradientUpdate`.
        objective: As :class:`GradientUpdate`.
        amsgrad: Divide by the largest s so far.
        groups: As :class:`GradientUpdate`.
        bound: As :class:`GradientUpdate`.
    """

    weight_decay = 0.0

    def __init__(
        self,
        model: FunctionalModel,
        objective: Objective | None = None,
        *,
        amsgrad: bool = False,
        groups: Groups | None = None,
        bound: GradientBound | None = None,
    ) -> None:
        defaults = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
        defaults["weight_decay"] = self.weight_decay
        super().__init__(model, defaults, objective, groups, bound)
        self.amsgrad = amsgrad

    def initial_state(self) -> State:
        """Moments m [D] and s [D], the largest s [D] with amsgrad, and the count t of steps []."""
        w = self.model.parameters
        names = ("mean", "square", "largest_square") if self.amsgrad else ("mean", "square")
        return {**super().initial_state(), **{name: torch.zeros_like(w) for name in names}, "steps": _count(w)}

    def rule(
        self, parameters: Tensor, state: State, gradient: Tensor, hyperparameters: Hyperparameters
    ) -> tuple[Tensor, State]:
        """The formulas above."""
        kind = parameters.dtype
        parameters, gradient = self.decayed(parameters, gradient, hyperparameters)
        beta1, beta2 = hyperparameters["beta1"], hyperparameters["beta2"]
        steps = state["steps"] + 1
        mean = beta1.to(kind) * state["mean"] + (1 - beta1).to(kind) * gradient
        square = beta2.to(kind) * state["square"] + (1 - beta2).to(kind) * gradient**2
        memory = {"mean": mean, "square": square, "steps": steps}
        if self.amsgrad:
            square = memory["largest_square"] = torch.maximum(state["largest_square"], square)
        scale = (1 - beta2**steps).rsqrt().to(kind)
        rate = (hyperparameters["learning_rate"] / (1 - beta1**steps)).to(kind)
        denominator = scale * _root(square) + hyperparameters["epsilon"].to(kind)
        return parameters - rate * mean / denominator, memory

    def decayed(self, parameters: Tensor, gradient: Tensor, hyperparameters: Hyperparameters) -> tuple[Tensor, Tensor]:
        """Parameters and gradient with the weight decay in them: an L2 penalty's gradient.

        Args:
            parameters: w [D].
            gradient: Gradient of the mean loss [D].
            hyperparameters: Values by name, float64: scalars [] or one entry per parameter [D].

        Returns:
            Parameters [D] and gradient [D].
        """
        return parameters, gradient + hyperparameters["weight_decay"].to(parameters.dtype) * parameters


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← (1 − α ξ) w before the step, in place of the L2 penalty."""

    weight_decay = 1e-2

    def decayed(self, parameters: Tensor, gradient: Tensor, hyperparameters: Hyperparameters) -> tuple[Tensor, Tensor]:
        """Parameters shrunk by α ξ, and the gradient as it is."""
        shrink = 1 - hyperparameters["learning_rate"] * hyperparameters["weight_decay"]
        return shrink.to(parameters.dtype) * parameters, gradient


def _root(square: Tensor) -> Tensor:
    """√s with derivative 0 at s = 0."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def _count(like: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int64, device=like.device)
