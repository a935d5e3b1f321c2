"""Mean loss, mean gradient and gradient variance of a batch that grows.

For m instances with gradients g_j: f = Σ g_j / m and Σ = Σ_j (g_j − f)(g_j − f)ᵀ / (m − 1), the unbiased sample
covariance. What batch-size rules ask of Σ is a number:

- the variance along a direction d, dᵀ Σ d: the sample variance of the projections c_j = g_j · d;
- the paper's approximation of it [BA], Σ_i d_i² Var(g_·i), from the diagonal of Σ alone;
- the trace of Σ, the total gradient variance.

One class per way to get it, all with the interface of :class:`GrowingBatch`. Sums of what has been evaluated
are kept, so that enlarging a batch evaluates the new instances alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives.functional import LossFunction
from raytune_hyperlearn.derivatives.instance_gradients import (
    looped_gradients,
    refuse_coupled_instances,
    vectorized_gradients,
)
from raytune_hyperlearn.derivatives.micro_batches import MicroBatches, coupled_layer
from raytune_hyperlearn.derivatives.projections import (
    METHODS,
    Instances,
    Linearization,
    Method,
    Tensors,
    choose_method,
    forward_projections,
    kept_buffers,
    summed_gradient,
    trainable,
)

Variance = Literal["none", "exact", "newest", "diagonal", "pieces"]

GRADIENT_ELEMENTS = 2**26
"""Per-instance gradients held at once, in elements (256 MiB in float32)."""

HELD_INSTANCES = 512
"""Instances whose activations are held for further projections where the user sets no micro-batch size."""

TRIAL_INSTANCES = 8
"""Instances on which the method of projection is chosen; a few tell as much as many."""


class GrowingBatch:
    """Mean loss and gradient; the base of the classes that also estimate a variance.

    Args:
        model: Its trainable parameters are differentiated; its mode (training, evaluation) is the caller's.
        loss: One loss per instance.
        micro_batches: How many instances are evaluated at once.

    Attributes:
        size: m, instances in the batch.
    """

    def __init__(self, model: nn.Module, loss: LossFunction, micro_batches: MicroBatches) -> None:
        self.model = model
        self.loss = loss
        self.micro_batches = micro_batches
        self.size = 0
        self._loss_sum: Tensor | float = 0.0
        self._gradient_sum: Tensors | None = None

    def begin(self) -> None:
        """Empties the batch."""
        self.size = 0
        self._loss_sum = 0.0
        self._gradient_sum = None

    def enlarge(self, batch: Instances) -> None:
        """Adds instances, in one or several micro-batches.

        Raises:
            RuntimeError: If memory runs out and the model does not allow dividing the batch unasked.
        """
        self.micro_batches.run(len(batch), lambda a, b: self._add(batch.part(a, b)), self._release)

    @property
    def mean_loss(self) -> Tensor:
        """s, mean loss of the m instances: float64 scalar."""
        return torch.as_tensor(self._loss_sum) / self.size

    @property
    def gradient(self) -> Tensors:
        """f, mean gradient of the m instances."""
        assert self._gradient_sum is not None, "the batch is empty"
        return tuple(g / self.size for g in self._gradient_sum)

    def variance_along(self, direction: Tensors) -> Tensor | None:
        """dᵀ Σ d, a float64 scalar, or None where this class does not estimate it."""
        return None

    def trace(self) -> Tensor | None:
        """tr Σ, a float64 scalar, or None where this class does not estimate it."""
        return None

    def _evaluate(self, batch: Instances) -> tuple[Tensor, Tensors]:
        """Losses [n] and summed gradient of new instances."""
        return summed_gradient(self.model, self.loss, batch)

    def _add(self, batch: Instances) -> None:
        restore = kept_buffers(self.model)
        try:
            losses, gradient = self._evaluate(batch)
        except torch.OutOfMemoryError as error:
            restore()
            self._refuse_division(len(batch), error)
            raise
        self.size += len(batch)
        self._loss_sum = self._loss_sum + losses.double().sum()
        total = self._gradient_sum
        self._gradient_sum = gradient if total is None else tuple(a + b for a, b in zip(total, gradient, strict=True))

    def _release(self) -> bool:
        """Frees memory that can be recomputed; False where there is none."""
        return False

    def _refuse_division(self, n: int, error: torch.OutOfMemoryError) -> None:
        layer = coupled_layer(self.model)
        if layer is not None and self.micro_batches.size is None:
            raise RuntimeError(
                f"{n} instances do not fit in memory and layer {layer!r} (BatchNorm in training mode) would see "
                "micro-batches instead: set micro_batch_size to accept that, or a smaller max_batch_size"
            ) from error


@dataclass
class _Piece:
    """Instances of the batch and, while it is held, their linearization."""

    batch: Instances
    linearization: Linearization | None


class ProjectedVariance(GrowingBatch):
    """The exact variance along a direction, from projections c_j = g_j · d.

    Args:
        model: As in :class:`GrowingBatch`.
        loss: As in :class:`GrowingBatch`.
        micro_batches: As in :class:`GrowingBatch`; its size also bounds the instances whose activations are held.
        scope: "batch" projects all m instances on every direction asked for: a batch grown in k enlargements
            projects its first instances k times. "newest" projects the instances of the last enlargement
            alone: a nearly unbiased estimate (d depends a little on them) at a cost linear in m.
        method: Way of projecting (see `projections`), or None to choose it on the first batch.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        micro_batches: MicroBatches,
        scope: Literal["batch", "newest"] = "batch",
        method: Method | None = None,
    ) -> None:
        super().__init__(model, loss, micro_batches)
        self.scope = scope
        self.method = method
        self._choose = method is None
        self._chosen_in: tuple[bool, ...] | None = None
        self._pieces: list[_Piece] = []

    @property
    def held(self) -> list[bool]:
        """Of each piece of the batch, whether its linearization is still in memory."""
        return [piece.linearization is not None for piece in self._pieces]

    def begin(self) -> None:
        """Empties the batch."""
        super().begin()
        self._pieces = []

    def enlarge(self, batch: Instances) -> None:
        """Adds instances; with scope "newest" they replace the older ones in the variance."""
        if self.scope == "newest" and len(batch) > 1:  # one instance has no variance
            self._pieces = []
        self._choose_method(batch)
        super().enlarge(batch)

    def variance_along(self, direction: Tensors) -> Tensor:
        """dᵀ Σ d: sample variance (divisor n − 1) of the projections on d, float64 scalar."""
        projections = torch.cat([self._project(piece, direction) for piece in self._pieces])
        return projections.double().var(correction=1)

    def _evaluate(self, batch: Instances) -> tuple[Tensor, Tensors]:
        assert self.method is not None
        linearization = METHODS[self.method](self.model, self.loss, batch)
        self._pieces.append(_Piece(batch, linearization))
        self._hold_newest()
        return linearization.losses, linearization.gradient

    def _hold_newest(self) -> None:
        """Lets go of the oldest linearizations beyond the number of instances that may be held."""
        room = self.micro_batches.size or HELD_INSTANCES
        for piece in reversed(self._pieces):
            room -= len(piece.batch)
            if room < 0 and piece is not self._pieces[-1]:
                piece.linearization = None

    def _choose_method(self, batch: Instances) -> None:
        """Chooses again whenever a layer changes between training and evaluation mode."""
        modes = tuple(module.training for module in self.model.modules())
        if self._choose and modes != self._chosen_in:
            self.method = choose_method(self.model, self.loss, batch.part(0, TRIAL_INSTANCES))
            self._chosen_in = modes

    def _project(self, piece: _Piece, direction: Tensors) -> Tensor:
        if piece.linearization is not None:
            try:
                return piece.linearization.project(direction)
            except torch.OutOfMemoryError:
                self._release()
        return self._project_again(piece.batch, direction)

    def _project_again(self, batch: Instances, direction: Tensors) -> Tensor:
        """Projections of instances whose linearization has been let go; the buffers stay as they are."""
        try:
            return forward_projections(self.model, self.loss, batch, direction)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no forward-mode derivative
            assert self.method is not None
        restore = kept_buffers(self.model)
        try:
            return METHODS[self.method](self.model, self.loss, batch).project(direction)
        finally:
            restore()

    def _release(self) -> bool:
        held = [piece for piece in self._pieces if piece.linearization is not None]
        for piece in held:
            piece.linearization = None
        return bool(held)


class InstanceMoments(GrowingBatch):
    """Mean and variance of every component of the per-instance gradients, [*shape] each.

    Gives the paper's diagonal approximation and the exact trace. Parts of a batch are combined by centered
    sums of squares, which do not cancel as differences of raw moments do.

    Raises:
        ValueError: On evaluation, where the model has no per-instance gradients.
    """

    def __init__(self, model: nn.Module, loss: LossFunction, micro_batches: MicroBatches) -> None:
        super().__init__(model, loss, micro_batches)
        self.instance_gradients = vectorized_gradients
        self._moments: _Moments | None = None

    def begin(self) -> None:
        """Empties the batch."""
        super().begin()
        self._moments = None

    def variance_along(self, direction: Tensors) -> Tensor:
        """Σ_i d_i² Var(g_·i): dᵀ Σ d with everything off the diagonal of Σ left out, float64 scalar."""
        assert self._moments is not None, "the batch is empty"
        terms = [(d.square() * s).sum() for d, s in zip(direction, self._moments.squares, strict=True)]
        return torch.stack(terms).double().sum() / (self.size - 1)

    def trace(self) -> Tensor:
        """tr Σ = Σ_i Var(g_·i), float64 scalar."""
        assert self._moments is not None, "the batch is empty"
        return torch.stack([s.sum() for s in self._moments.squares]).double().sum() / (self.size - 1)

    def _evaluate(self, batch: Instances) -> tuple[Tensor, Tensors]:
        refuse_coupled_instances(self.model)
        at_once = max(1, GRADIENT_ELEMENTS // sum(p.numel() for p in trainable(self.model).values()))
        bounds = range(0, len(batch), at_once)
        parts = [self._moments_of(batch.part(start, min(start + at_once, len(batch)))) for start in bounds]
        added = reduce(_together, (moments for _, moments in parts))
        self._moments = added if self._moments is None else _together(self._moments, added)
        return torch.cat([losses for losses, _ in parts]), tuple(added.count * mean for mean in added.mean)

    def _moments_of(self, batch: Instances) -> tuple[Tensor, _Moments]:
        """Losses [n] and moments of a part."""
        try:
            losses, gradients = self.instance_gradients(self.model, self.loss, batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # a layer that cannot be vectorized over instances
            if self.instance_gradients is looped_gradients:
                raise
            self.instance_gradients = looped_gradients
            losses, gradients = looped_gradients(self.model, self.loss, batch)
        variances = [torch.var_mean(g, dim=0, correction=0) for g in gradients]
        means = tuple(mean for _, mean in variances)
        return losses, _Moments(len(batch), means, tuple(len(batch) * variance for variance, _ in variances))


class PieceVariance(GrowingBatch):
    """tr Σ from the gradients of pieces of the batch [McCandlish et al. 2018, appendix A]: almost free.

    With k pieces of n_i instances and mean gradients f_i, Σ_i n_i |f_i − f|² / (k − 1) is an unbiased estimate
    of tr Σ. Few pieces make it noisy: its relative deviation is about √(2 / ((k − 1) r)) where Σ has r
    directions of weight, so rules average it over updates.

    Args:
        model: As in :class:`GrowingBatch`.
        loss: As in :class:`GrowingBatch`.
        micro_batches: As in :class:`GrowingBatch`.
        pieces: k ≥ 2, at least; more where memory asks for smaller ones.
    """

    def __init__(self, model: nn.Module, loss: LossFunction, micro_batches: MicroBatches, pieces: int = 4) -> None:
        if pieces < 2:
            raise ValueError(f"pieces is {pieces}; it must be at least 2")
        super().__init__(model, loss, micro_batches)
        self.pieces = pieces
        self._evaluated = 0
        self._between: Tensor | float = 0.0

    def begin(self) -> None:
        """Empties the batch."""
        super().begin()
        self._evaluated, self._between = 0, 0.0

    def enlarge(self, batch: Instances) -> None:
        """Adds instances in pieces of equal size."""
        pieces = min(self.pieces, len(batch))
        bounds = [len(batch) * index // pieces for index in range(pieces + 1)]
        for start, stop in pairwise(bounds):
            super().enlarge(batch.part(start, stop))

    def trace(self) -> Tensor | None:
        """tr Σ, float64 scalar; None while the batch is a single piece."""
        return None if self._evaluated < 2 else torch.as_tensor(self._between) / (self._evaluated - 1)

    def _evaluate(self, batch: Instances) -> tuple[Tensor, Tensors]:
        losses, gradient = super()._evaluate(batch)
        if self.size > 0:
            n = len(batch)
            shift = [g / n - f for g, f in zip(gradient, self.gradient, strict=True)]
            distance = torch.stack([s.square().sum() for s in shift]).double().sum()
            self._between = self._between + distance * (self.size * n / (self.size + n))
        self._evaluated += 1
        return losses, gradient


def growing_batch(
    variance: Variance, model: nn.Module, loss: LossFunction, micro_batches: MicroBatches
) -> GrowingBatch:
    """The class that estimates ``variance``: "none", "exact" and "newest" (projections), "diagonal", "pieces".

    Args:
        variance: How the variance along the gradient is estimated.
        model: The model in training.
        loss: Outputs and targets to one loss per instance [N].
        micro_batches: How many instances go through the model at a time.

    Raises:
        ValueError: If there is no such variance.
    """
    if variance == "none":
        return GrowingBatch(model, loss, micro_batches)
    if variance == "exact":
        return ProjectedVariance(model, loss, micro_batches, scope="batch")
    if variance == "newest":
        return ProjectedVariance(model, loss, micro_batches, scope="newest")
    if variance == "diagonal":
        return InstanceMoments(model, loss, micro_batches)
    if variance == "pieces":
        return PieceVariance(model, loss, micro_batches)
    raise ValueError(f"variance is {variance!r}; it must be 'none', 'exact', 'newest', 'diagonal' or 'pieces'")


@dataclass(frozen=True)
class _Moments:
    """Count, means and centered sums of squares of a sample of gradients, one tensor per parameter."""

    count: int
    mean: Tensors
    squares: Tensors


def _together(left: _Moments, right: _Moments) -> _Moments:
    """Moments of two samples together (Chan, Golub, LeVeque 1979)."""
    count = left.count + right.count
    shift = [b - a for a, b in zip(left.mean, right.mean, strict=True)]
    mean = tuple(a + s * (right.count / count) for a, s in zip(left.mean, shift, strict=True))
    between = left.count * right.count / count
    squares = tuple(a + b + s.square() * between for a, b, s in zip(left.squares, right.squares, shift, strict=True))
    return _Moments(count, mean, squares)
