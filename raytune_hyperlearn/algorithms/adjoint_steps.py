"""One step of training, there and back: what reverse mode asks of an optimizer.

For SGD with learning rate α, momentum μ, weight decay ξ and batch gradient g_t,

    v_{t+1} = μ v_t + g_t(w_t) + ξ w_t        w_{t+1} = w_t − α v_{t+1}        b_{t+1} = s_t(w_t, b_t)

the adjoints p = ∂L/∂w, q = ∂L/∂v and c = ∂L/∂b of the validation loss L go from t + 1 back to t by

    r = q − α p                                           ∂L/∂v_{t+1}, all of it
    ∂L/∂α_t = −p · v_{t+1}        ∂L/∂μ_t = r · v_t        ∂L/∂ξ_t = r · w_t
    p ← p + ξ r + H_t r + (∂s_t/∂w)ᵀ c        q ← μ r        c ← (∂s_t/∂b)ᵀ c

with H_t the Hessian of the batch loss; where the gradient is bounded, r reaches H_t through the bound's derivative.
Restricted to the parameters of one layer, the same products are the derivatives with respect to values of that layer
alone. With weights ω_i inside the batch loss (1/N) Σ ω_i ℓ_i, ∂L/∂ω_i = (1/N) r · ∇ℓ_i. One Hessian product per step
gives everything: the cost does not depend on how many values are learned. That is :class:`SGDAdjoint`;
:class:`MapAdjoint` does the same for any :class:`UpdateMap` by differentiating it as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.fds import Part, parts
from raytune_hyperlearn.algorithms.groups import Groups
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch, State, UpdateMap
from raytune_hyperlearn.derivatives.adjoint_products import AdjointProductOptions, AdjointProducts
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound

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
        values: Hyperparameter → [], or [G] by slices of the parameters.
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


# --------------------------------------------------------------------------------- slices and single examples


@dataclass(frozen=True)
class Slices:
    """Contiguous slices of the flat parameter vector [D], for entries of their own.

    Attributes:
        names: One per slice.
        sizes: Numbers of parameters, which add up to D.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes) or min(self.sizes, default=0) < 1:
            raise ValueError(f"sizes is {self.sizes}; it must hold a positive number for each of {self.names}")

    @classmethod
    def layers(cls, model: FunctionalModel) -> Slices:
        """One slice per module that owns trainable parameters (a parameter's own name where the model does)."""
        sizes: dict[str, int] = {}
        for name, part in model.unflatten(model.parameters).items():
            owner = name.rpartition(".")[0] or name
            sizes[owner] = sizes.get(owner, 0) + part.numel()
        return cls(tuple(sizes), tuple(sizes.values()))

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Inner products within the slices [G] of two vectors [D]."""
        parts = zip(left.split(self.sizes), right.split(self.sizes), strict=True)
        return torch.stack([torch.dot(a, b) for a, b in parts])


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
        bound: On batch gradients, or None.
        groups: Groups of parameters with hyperparameters of their own (:mod:`.groups`).
        slices: Slopes are then by slices of the parameters [G]; with hyperparameters for all parameters only.
        examples: Weights of the training examples, or None: all are 1 and not differentiated.
        options: How products are computed.
    """

    model: FunctionalModel
    bound: GradientBound | None = None
    groups: Groups = field(default_factory=dict)
    slices: Slices | None = None
    examples: ExampleWeights | None = None
    options: AdjointProductOptions = field(default_factory=AdjointProductOptions)

    def __post_init__(self) -> None:
        for name in self.groups:
            if name not in HYPERPARAMETERS:
                raise ValueError(f"groups hold {name!r}; they must be of {', '.join(HYPERPARAMETERS)}")
        if self.slices is not None and self.groups:
            raise ValueError(f"slices is {self.slices.names}; with groups it must be None")
        if self.slices is not None and sum(self.slices.sizes) != len(self.model.parameters):
            raise ValueError(
                f"slices hold {sum(self.slices.sizes)} parameters; they must hold all {len(self.model.parameters)}"
            )
        object.__setattr__(self, "_parts", parts(self.model, self.groups))

    _parts: tuple[Part, ...] = field(init=False, repr=False)

    @cached_property
    def products(self) -> AdjointProducts:
        """Gradients and products of the model's batch loss; what they record serves every run."""
        return AdjointProducts(self.model, self.options, self.bound)

    @property
    def defaults(self) -> Mapping[str, float]:
        """No momentum, no decay and no learning."""
        return dict.fromkeys((name for part in self._parts for name in part.names), 0.0)

    def begin(self, horizon: int, batch: Batch) -> Training:
        """The model's own parameters and running statistics, at rest."""
        w, b = self.model.parameters, self.model.buffers
        self.products.begin(horizon, w, b, *batch)
        return Training(w.clone(), {STATISTICS: b.clone(), VELOCITY: torch.zeros_like(w)})

    def forward(
        self, before: Training, batch: Batch, hyperparameters: Mapping[str, float], step: int
    ) -> tuple[Training, Tensor]:
        """The first line of the formulas above."""
        w, v = before.parameters, before.memory[VELOCITY]
        loss, gradient, statistics = self.products.gradient(w, before.memory[STATISTICS], *batch, self._weights(step))
        if self.bound is not None:
            gradient = self.bound.apply(gradient)
        velocity, moved = torch.empty_like(w), torch.empty_like(w)
        for here, (rate, momentum, decay) in self._in_use(hyperparameters):
            torch.add(gradient[here], w[here], alpha=decay, out=velocity[here]).add_(v[here], alpha=momentum)
            torch.sub(w[here], velocity[here], alpha=rate, out=moved[here])
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
        p, q = adjoint.parameters, adjoint.memory[VELOCITY]
        r = torch.empty_like(p)
        for here, (rate, _, _) in self._in_use(hyperparameters):
            torch.sub(q[here], p[here], alpha=rate, out=r[here])
        slopes = self._slopes(before, after, p, r)
        pulled = self.products.pull_back(
            before.parameters,
            before.memory[STATISTICS],
            r,
            adjoint.memory[STATISTICS],
            *batch,
            self._weights(step),
        )
        p = pulled.parameters.add_(p)
        for here, (_, momentum, decay) in self._in_use(hyperparameters):
            p[here].add_(r[here], alpha=decay)
            r[here].mul_(momentum)
        found = Adjoint(p, {VELOCITY: r, STATISTICS: pulled.statistics})
        examples = None if self.examples is None else pulled.examples
        return found, Slopes({name: slopes[name] for name in learned}, examples)

    def _slopes(self, before: Training, after: Training, p: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Of every hyperparameter; parts that share one add up."""
        factors = (
            (p.neg(), after.memory[VELOCITY]),
            (r, before.memory[VELOCITY]),
            (r, before.parameters),
        )
        if self.slices is not None:
            return {n: self.slices.products(*pair) for n, pair in zip(HYPERPARAMETERS, factors, strict=True)}
        found: dict[str, Tensor] = {}
        for part in self._parts:
            for name, (left, right) in zip(part.names, factors, strict=True):
                product = torch.dot(left[part.where], right[part.where])
                found[name] = found[name] + product if name in found else product
        return found

    def _in_use(self, values: Mapping[str, float]) -> list[tuple[slice, tuple[float, ...]]]:
        """Where each part of the parameters lies, and its α, μ and ξ."""
        return [(part.where, tuple(values[name] for name in part.names)) for part in self._parts]

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
