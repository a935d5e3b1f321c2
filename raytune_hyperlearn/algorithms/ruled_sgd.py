"""SGD whose batch sizes come from a rule, one batch under construction at a time.

Every rule — batch adaptive training, a constant, a manual schedule, CABS, the gradient noise scale — trains
through the same code, :class:`RuledSGD`, so that their comparison compares rules. It is PyTorch's SGD:

    P ← ρ P + f        θ ← θ − η P

with f the mean gradient of the batch. P and θ move once per update, however often the batch is enlarged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.sampler import Sampler
from raytune_hyperlearn.derivatives.functional import LossFunction
from raytune_hyperlearn.derivatives.instance_gradients import refuse_coupled_instances
from raytune_hyperlearn.derivatives.micro_batches import MicroBatches
from raytune_hyperlearn.derivatives.projections import Instances, Tensors, inner_product, trainable
from raytune_hyperlearn.derivatives.variance import GrowingBatch, Variance, growing_batch


@dataclass(frozen=True)
class Progress:
    """How far training is when a batch begins.

    Attributes:
        instances: Scanned so far.
        epochs: Passes over the training set so far.
        max_batch_size: Largest batch allowed: the smaller of |X| and B_max.
        learning_rate: η of the coming update.
    """

    instances: int
    epochs: float
    max_batch_size: int
    learning_rate: float


class BatchStatistics:
    """What is known about the batch under construction. Variances are computed when they are first read.

    Args:
        size: m, instances in the batch.
        loss: s, their mean loss.
        gradient_norm_squared: |f|², f their mean gradient.
        drift: μ = f·P with P the momentum buffer after this update; |f|² without momentum.
        variance_along_gradient: Computes σ² = fᵀ Σ f.
        trace: Computes tr Σ.
    """

    def __init__(
        self,
        size: int,
        loss: float,
        gradient_norm_squared: float,
        drift: float,
        variance_along_gradient: Callable[[], float] = lambda: math.nan,
        trace: Callable[[], float] = lambda: math.nan,
    ) -> None:
        self.size = size
        self.loss = loss
        self.gradient_norm_squared = gradient_norm_squared
        self.drift = drift
        self._variance_along_gradient = variance_along_gradient
        self._trace = trace

    @cached_property
    def variance_along_gradient(self) -> float:
        """σ² = fᵀ Σ f; NaN where the rule's ``variance`` does not give it."""
        return self._variance_along_gradient()

    @cached_property
    def trace(self) -> float:
        """tr Σ; NaN where the rule's ``variance`` does not give it."""
        return self._trace()


class BatchSizeRule(Protocol):
    """Decides how large each batch becomes.

    Attributes:
        variance: What it needs to know about the batch's gradients (see `variance.growing_batch`).
        increment: Instances drawn per enlargement, or None to draw all at once.
    """

    @property
    def variance(self) -> Variance: ...  # noqa: D102

    @property
    def increment(self) -> int | None: ...  # noqa: D102

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        """The size that the batch should have, ≥ 1.

        Asked before the first draw (``batch`` is None) and after every draw; the update happens as soon as
        the batch has that size. A rule that decides on the next batch notes what it sees and asks for no more.

        Args:
            progress: Where training stands.
            batch: Statistics of the batch so far; None before the first draw.

        Returns:
            Number of instances; what exceeds ``progress.max_batch_size`` is cut.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during training."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Args:
            state: What :meth:`state_dict` gave.
        """
        ...


class WithoutMemory:
    """A rule in which nothing changes during training."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


@dataclass(frozen=True)
class Update:
    """One update of the parameters; losses and gradients are those before it.

    Attributes:
        batch_size: m, instances in its batch.
        chosen_size: Size that the rule chose when the batch was complete (m* of [BA]); above ``batch_size`` only
            where |X| or B_max was reached.
        enlargements: Draws that made up the batch.
        loss: s, mean loss of the batch.
        gradient_norm_squared: |f|².
        drift: μ = f·P.
        variance_along_gradient: σ² = fᵀ Σ f; NaN where the rule had no need of it.
    """

    batch_size: int
    chosen_size: int
    enlargements: int
    loss: float
    gradient_norm_squared: float
    drift: float
    variance_along_gradient: float


class RuledSGD(torch.optim.Optimizer):
    """SGD, with momentum or without, that draws its own batches by a rule.

    One parameter group, so that PyTorch's learning-rate schedulers apply.

    Args:
        model: Its trainable parameters are updated in place.
        loss: Maps outputs [n, …] and targets [n, …] to losses [n].
        sampler: Where instances are drawn from.
        rule: Decides the batch sizes.
        lr: η > 0.
        momentum: ρ in [0, 1).
        max_batch_size: B_max; larger than memory is fine, batches are evaluated in micro-batches.
        micro_batch_size: Instances evaluated at once, or None to find the largest number that fits.
        seed: Of the random numbers in forward passes (dropout).

    Raises:
        ValueError: If an argument is outside its range, or the rule needs per-instance gradients and the model
            has a layer in which instances meet.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        sampler: Sampler,
        rule: BatchSizeRule,
        *,
        lr: float,
        momentum: float = 0.0,
        max_batch_size: int = 512,
        micro_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"lr is {lr}; it must be positive and finite")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; it must lie in [0, 1)")
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size is {max_batch_size}; it must be at least 1")
        if rule.variance == "diagonal":
            refuse_coupled_instances(model)
        self.model = model
        self.sampler = sampler
        self.rule = rule
        self.max_batch_size = max_batch_size
        self.updates = 0
        self._batch: GrowingBatch = growing_batch(rule.variance, model, loss, MicroBatches(micro_batch_size))
        self._generator = torch.Generator().manual_seed(seed)
        super().__init__(list(trainable(model).values()), {"lr": lr, "momentum": momentum})

    def step(self, closure: None = None) -> Update:  # type: ignore[override]
        """Grow one batch and update the parameters with its mean gradient (Algorithm 1 of [BA]).

        Args:
            closure: Not used; it is there because every torch optimizer has one.

        Returns:
            What was drawn and decided.
        """
        progress = self.progress()
        self.sampler.begin_batch()
        self._batch.begin()
        chosen = self.rule.choose_size(progress, None)
        enlargements = 0
        while True:
            self._enlarge(min(chosen, progress.max_batch_size))
            enlargements += 1
            statistics = self._statistics()
            chosen = self.rule.choose_size(progress, statistics)
            if self._batch.size >= min(chosen, progress.max_batch_size):
                break
        self._move(self._batch.gradient)
        self._batch.begin()  # frees what it holds
        self.updates += 1
        return Update(
            batch_size=statistics.size,
            chosen_size=chosen,
            enlargements=enlargements,
            loss=statistics.loss,
            gradient_norm_squared=statistics.gradient_norm_squared,
            drift=statistics.drift,
            variance_along_gradient=vars(statistics).get("variance_along_gradient", math.nan),
        )

    def progress(self) -> Progress:
        """How far training is."""
        size = len(self.sampler)
        return Progress(
            instances=self.sampler.instances,
            epochs=self.sampler.instances / size,
            max_batch_size=min(size, self.max_batch_size),
            learning_rate=float(self.param_groups[0]["lr"]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Momentum buffers, rule, generator, and the sampler's position inside the epoch."""
        return {
            **super().state_dict(),
            "rule": self.rule.state_dict(),
            "sampler": self.sampler.state_dict(),
            "generator": self._generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`; lr and momentum are the state's, as in every torch optimizer."""
        own = ("rule", "sampler", "generator", "updates")
        # A copy: torch would share the momentum buffers with the state's owner, and they change in place.
        super().load_state_dict(copy.deepcopy({key: v for key, v in state_dict.items() if key not in own}))
        self.rule.load_state_dict(state_dict["rule"])
        self.sampler.load_state_dict(state_dict["sampler"])
        self._generator.set_state(state_dict["generator"])
        self.updates = state_dict["updates"]

    def _enlarge(self, target: int) -> None:
        missing = target - self._batch.size
        draw = missing if self.rule.increment is None else self.rule.increment
        room = min(len(self.sampler), self.max_batch_size) - self._batch.size
        seed = int(torch.randint(2**62, (), generator=self._generator))
        self._batch.enlarge(Instances(*self.sampler.draw(min(draw, room)), seed))

    def _statistics(self) -> BatchStatistics:
        batch = self._batch
        gradient = batch.gradient
        squared = inner_product(gradient, gradient)
        buffers = self._momentum_buffers()
        carried = torch.zeros_like(squared) if buffers is None else inner_product(gradient, buffers)
        # One transfer from the device for all three.
        loss, norm, along_buffer = torch.stack([batch.mean_loss.to(squared), squared, carried]).tolist()
        momentum = float(self.param_groups[0]["momentum"])
        return BatchStatistics(
            size=batch.size,
            loss=loss,
            gradient_norm_squared=norm,
            drift=norm + momentum * along_buffer if buffers is not None else norm,
            variance_along_gradient=lambda: _number(batch.variance_along(gradient)),
            trace=lambda: _number(batch.trace()),
        )

    def _momentum_buffers(self) -> Tensors | None:
        """P of the last update, or None before the first one and without momentum."""
        parameters = self.param_groups[0]["params"]
        if self.param_groups[0]["momentum"] == 0 or "momentum_buffer" not in self.state[parameters[0]]:
            return None
        return tuple(self.state[p]["momentum_buffer"] for p in parameters)

    @torch.no_grad()
    def _move(self, gradient: Tensors) -> None:
        group = self.param_groups[0]
        buffers = self._momentum_buffers()
        for index, (parameter, step) in enumerate(zip(group["params"], gradient, strict=True)):
            if buffers is not None:
                step = buffers[index].mul_(group["momentum"]).add_(step)
            elif group["momentum"] != 0:
                self.state[parameter]["momentum_buffer"] = step
            parameter.sub_(step, alpha=group["lr"])


def _number(value: Tensor | None) -> float:
    return math.nan if value is None else float(value)
