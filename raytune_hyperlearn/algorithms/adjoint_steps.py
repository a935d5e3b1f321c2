"""One step of training, there and back: what reverse mode asks of an optimizer.

For SGD with learning rate α, momentum μ, weight decay ξ and batch gradient g_t,

    v_{t+1} = μ v_t + g_t(w_t) + ξ w_t        w_{t+1} = w_t − α v_{t+1}        b_{t+1} = s_t(w_t, b_t)

the adjoints p = ∂L/∂w, q = ∂L/∂v and c = ∂L/∂b of the validation loss L go from t + 1 back to t by

    r = q − α p                                           ∂L/∂v_{t+1}, all of it
    ∂L/∂α_t = −p · v_{t+1}        ∂L/∂μ_t = r · v_t        ∂L/∂ξ_t = r · w_t
    p ← p + ξ r + H_t r + (∂s_t/∂w)ᵀ c        q ← μ r        c ← (∂s_t/∂b)ᵀ c

with H_t the Hessian of the batch loss; where the gradient is clamped, H_t sees 0 in place of r. Restricted to the
parameters of one layer, the same products are the derivatives with respect to values of that layer alone. With weights
ω_i inside the batch loss (1/N) Σ ω_i ℓ_i, ∂L/∂ω_i = (1/N) r · ∇ℓ_i. One Hessian product per step gives everything:
the cost does not depend on how many values are learned. That is :class:`SGDAdjoint`; :class:`MapAdjoint` does the same
for any :class:`UpdateMap` by differentiating it as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch, State, UpdateMap
from raytune_hyperlearn.derivatives.adjoint_products import AdjointProductOptions, AdjointProducts
from raytune_hyperlearn.derivatives.functional import FunctionalModel

VELOCITY = "velocity"


@dataclass(frozen=True)
class Training:
    """State of training; never changed in place, so it can be kept.

    Attributes:
        parameters: w [D].
        memory: Running statistics b [B] under ``"statistics"`` and the optimizer's own state.
    """

    parameters: Tensor
    memory: State

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name."""
        return {"parameters": self.parameters, **self.memory}


@dataclass(frozen=True)
class Adjoint:
    """Derivatives of the validation loss with respect to a state of training.

    Attributes:
        parameters: ∂L/∂w [D].
        memory: Of the floating-point entries of the memory, in their shapes.
    """

    parameters: Tensor
    memory: State


@dataclass(frozen=True)
class Slopes:
    """Derivatives of the validation loss with respect to what one step used.

    Attributes:
        values: Hyperparameter → [], or [G] by groups of parameters.
        examples: Of the weights of the batch's examples [N], or None.
    """

    values: dict[str, Tensor]
    examples: Tensor | None = None


class AdjointStep(Protocol):
    """One step of training, there and back."""

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""

    @property
    def defaults(self) -> Mapping[str, float]:
        """Every hyperparameter with the value it has where none is given."""

    @property
    def examples(self) -> ExampleWeights | None:
        """Weights of training examples that are learned, or None."""

    def begin(self, horizon: int, batch: Batch) -> Training:
        """The state before the first of ``horizon`` steps; how they are computed is decided here, once."""

    def forward(
        self, before: Training, batch: Batch, hyperparameters: Mapping[str, float], step: int
    ) -> tuple[Training, Tensor]:
        """The state after a step, and the batch loss before it []."""

    def pull_back(
        self,
        before: Training,
        after: Training,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        step: int,
        adjoint: Adjoint,
        learned: Sequence[str],
    ) -> tuple[Adjoint, Slopes]:
        """The adjoint before a step from the one after it, which may be overwritten.

        Args:
            before: The state that the step started from; torch's random numbers stand where they stood then.
            after: The state that it led to.
            batch: Of the step.
            hyperparameters: Values at the step.
            step: t.
            adjoint: After the step.
            learned: Hyperparameters to differentiate.
        """


# --------------------------------------------------------------------------------- groups and single examples


@dataclass(frozen=True)
class Groups:
    """Contiguous parts of the flat parameter vector [D].

    Attributes:
        names: One per group.
        sizes: Numbers of parameters, which add up to D.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes) or min(self.sizes, default=0) < 1:
            raise ValueError(f"sizes is {self.sizes}; it must hold a positive number for each of {self.names}")

    @classmethod
    def layers(cls, model: FunctionalModel) -> Groups:
        """One group per module that owns trainable parameters (a parameter's own name where the model does)."""
        sizes: dict[str, int] = {}
        for name, part in model.unflatten(model.parameters).items():
            owner = name.rpartition(".")[0] or name
            sizes[owner] = sizes.get(owner, 0) + part.numel()
        return cls(tuple(sizes), tuple(sizes.values()))

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner products within the groups [G] of two vectors [D]."""
        parts = zip(left.split(self.sizes), right.split(self.sizes), strict=True)
        return torch.stack([torch.dot(a, b) for a, b in parts])

    def spread(self, values: Sequence[float], like: Tensor) -> Tensor:
        """One value per group, repeated for each of its parameters [D]."""
        each = torch.tensor(values, dtype=like.dtype, device=like.device)
        return torch.repeat_interleave(each, self._counts.to(like.device), output_size=len(like))

    @cached_property
    def _counts(self) -> Tensor:
        return torch.tensor(self.sizes)


@dataclass(frozen=True)
class ExampleWeights:
    """A weight for every training example in the batch loss (1/N) Σ ω_i ℓ_i.

    Attributes:
        values: ω [n].
        rows: Maps a step to the rows of the training set that its batch holds [N], in the batch's order.
    """

    values: Tensor
    rows: Callable[[int], Tensor]


# ------------------------------------------------------------------------------------------------ optimizers


@dataclass(frozen=True, eq=False)
class SGDAdjoint:
    """SGD with momentum and weight decay, by hand.

    Attributes:
        model: The network and loss; its parameters are the initial w_0.
        gradient_clamp: Bound k > 0 on batch gradients, clamped to [−k, k] element by element, or None.
        per_layer: Hyperparameters that every group has for itself, under ``learning_rate@name`` and so on.
        groups: Parts of the parameters; slopes of shared hyperparameters are then by group [G]. With ``per_layer``
            the model's layers where none are given.
        examples: Weights of the training examples, or None: all are 1 and not differentiated.
        options: How products are computed.
    """

    model: FunctionalModel
    gradient_clamp: float | None = None
    per_layer: tuple[str, ...] = ()
    groups: Groups | None = None
    examples: ExampleWeights | None = None
    options: AdjointProductOptions = field(default_factory=AdjointProductOptions)

    def __post_init__(self) -> None:
        if self.gradient_clamp is not None and not self.gradient_clamp > 0:
            raise ValueError(f"gradient_clamp is {self.gradient_clamp}; it must be positive or None")
        for name in self.per_layer:
            if name not in HYPERPARAMETERS:
                raise ValueError(f"per_layer holds {name!r}; it must be among {', '.join(HYPERPARAMETERS)}")
        if self.groups is not None and sum(self.groups.sizes) != len(self.model.parameters):
            raise ValueError(
                f"groups hold {sum(self.groups.sizes)} parameters; they must hold all {len(self.model.parameters)}"
            )

    @cached_property
    def products(self) -> AdjointProducts:
        """Gradients and products of the model's batch loss; what they record serves every run."""
        return AdjointProducts(self.model, self.options, self.gradient_clamp)

    @cached_property
    def defaults(self) -> Mapping[str, float]:
        """No momentum, no decay and no learning."""
        names = {name: [f"{name}@{group}" for group in self._groups.names] for name in self.per_layer}
        return {key: 0.0 for name in HYPERPARAMETERS for key in names.get(name, [name])}

    @cached_property
    def _groups(self) -> Groups:
        return self.groups or Groups.layers(self.model)

    def begin(self, horizon: int, batch: Batch) -> Training:
        """The model's own parameters and running statistics, at rest."""
        w, b = self.model.parameters, self.model.buffers
        self.products.begin(horizon, w, b, *batch)
        return Training(w.clone(), {STATISTICS: b.clone(), VELOCITY: torch.zeros_like(w)})

    def forward(
        self, before: Training, batch: Batch, hyperparameters: Mapping[str, float], step: int
    ) -> tuple[Training, Tensor]:
        """The first line of the formulas above."""
        rate, momentum, decay = self._in_use(hyperparameters, before.parameters)
        w, v = before.parameters, before.memory[VELOCITY]
        loss, gradient, statistics = self.products.gradient(w, before.memory[STATISTICS], *batch, self._weights(step))
        if self.gradient_clamp is not None:
            gradient = gradient.clamp(-self.gradient_clamp, self.gradient_clamp)
        velocity = _add(_plus(gradient, w, decay), v, momentum)
        moved = _plus(w, velocity, -rate)
        return Training(moved, {STATISTICS: statistics, VELOCITY: velocity}), loss

    def pull_back(
        self,
        before: Training,
        after: Training,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        step: int,
        adjoint: Adjoint,
        learned: Sequence[str],
    ) -> tuple[Adjoint, Slopes]:
        """The other formulas above."""
        rate, momentum, decay = self._in_use(hyperparameters, before.parameters)
        p, q = adjoint.parameters, adjoint.memory[VELOCITY]
        r = _plus(q, p, -rate)
        slopes = self._slopes(before, after, p, r, learned)
        pulled = self.products.pull_back(
            before.parameters,
            before.memory[STATISTICS],
            r,
            adjoint.memory[STATISTICS],
            *batch,
            self._weights(step),
        )
        p = _add(pulled.parameters.add_(p), r, decay)
        found = Adjoint(p, {VELOCITY: r.mul_(momentum), STATISTICS: pulled.statistics})
        return found, Slopes(slopes, None if self.examples is None else pulled.examples)

    def _slopes(
        self, before: Training, after: Training, p: Tensor, r: Tensor, learned: Sequence[str]
    ) -> dict[str, Tensor]:
        factors = {
            "learning_rate": (p, after.memory[VELOCITY]),
            "momentum": (r, before.memory[VELOCITY]),
            "weight_decay": (r, before.parameters),
        }
        found: dict[str, Tensor] = {}
        for name in dict.fromkeys(key.partition("@")[0] for key in learned):
            by_group = name in self.per_layer or self.groups is not None
            products = self._groups.products(*factors[name]) if by_group else torch.dot(*factors[name])
            products = -products if name == "learning_rate" else products
            if name in self.per_layer:
                found |= {f"{name}@{g}": part for g, part in zip(self._groups.names, products.unbind(), strict=True)}
            else:
                found[name] = products
        return {name: found[name] for name in learned}

    def _in_use(self, values: Mapping[str, float], like: Tensor) -> list[float | Tensor]:
        """α, μ and ξ at a step: numbers, or [D] where layers have their own."""
        return [
            self._groups.spread([values[f"{name}@{group}"] for group in self._groups.names], like)
            if name in self.per_layer
            else values[name]
            for name in HYPERPARAMETERS
        ]

    def _weights(self, step: int) -> Tensor | None:
        return None if self.examples is None else self.examples.values[self.examples.rows(step)]


@dataclass(frozen=True, eq=False)
class MapAdjoint:
    """Any optimizer, differentiated as a whole.

    Attributes:
        update: The optimizer.
    """

    update: UpdateMap
    examples: None = None

    @property
    def model(self) -> FunctionalModel:
        """What is trained."""
        return self.update.model

    @property
    def defaults(self) -> Mapping[str, float]:
        """The optimizer's own."""
        return self.update.defaults

    def begin(self, horizon: int, batch: Batch) -> Training:
        """The model's and the optimizer's initial state; steps are computed in one way whatever their number."""
        del horizon, batch
        return Training(self.model.parameters.clone(), self.update.initial_state())

    def forward(
        self, before: Training, batch: Batch, hyperparameters: Mapping[str, float], step: int
    ) -> tuple[Training, Tensor]:
        """The update map."""
        del step
        scalars = _tensors(hyperparameters, before.parameters.device)
        parameters, memory, loss = self.update(before.parameters, before.memory, scalars, batch)
        return Training(parameters, memory), loss

    def pull_back(
        self,
        before: Training,
        after: Training,
        batch: Batch,
        hyperparameters: Mapping[str, float],
        step: int,
        adjoint: Adjoint,
        learned: Sequence[str],
    ) -> tuple[Adjoint, Slopes]:
        """∂U/∂(w, s, λ)ᵀ times the adjoint, by one backward pass through the update map."""
        del after, step
        scalars = _tensors(hyperparameters, before.parameters.device)
        parameters = before.parameters.detach().requires_grad_()
        smooth = {name: before.memory[name].detach().requires_grad_() for name in adjoint.memory}
        differentiated = {name: scalars[name].detach().requires_grad_() for name in learned}
        with torch.enable_grad():
            moved = self.update(parameters, before.memory | smooth, {**scalars, **differentiated}, batch)
            pairs = [
                (moved.parameters, adjoint.parameters),
                *((moved.state[name], adjoint.memory[name]) for name in adjoint.memory),
            ]
            reached = [(output, weight) for output, weight in pairs if output.requires_grad]
            leaves = (parameters, *smooth.values(), *differentiated.values())
            first, *others = torch.autograd.grad(
                [output for output, _ in reached], leaves, [weight for _, weight in reached], materialize_grads=True
            )
        memory = dict(zip(smooth, others[: len(smooth)], strict=True))
        return Adjoint(first, memory), Slopes(dict(zip(differentiated, others[len(smooth) :], strict=True)))


def _tensors(values: Mapping[str, float], device: torch.device) -> State:
    return {name: torch.full((), value, dtype=torch.float64, device=device) for name, value in values.items()}


def _plus(first: Tensor, second: Tensor, factor: float | Tensor) -> Tensor:
    """First + factor · second."""
    if isinstance(factor, Tensor):
        return torch.addcmul(first, second, factor)
    return torch.add(first, second, alpha=factor)


def _add(to: Tensor, second: Tensor, factor: float | Tensor) -> Tensor:
    """The same in place."""
    return to.addcmul_(second, factor) if isinstance(factor, Tensor) else to.add_(second, alpha=factor)
