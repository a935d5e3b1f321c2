"""Batch-size rules to set against batch adaptive training; all train through the same code, `RuledSGD`.

- :class:`Constant`: Mini-k, one size throughout.
- :class:`Manual`: start small, double every so many epochs [Smith et al. 2018, as in BA's experiments].
- :class:`CABS`: variance in proportion to the loss [Balles, Romero, Hennig. Coupling Adaptive Batch Sizes with
  Learning Rates. UAI 2017].
- :class:`GradientNoiseScale`: the size at which noise and signal balance [McCandlish, Kaplan, Amodei et al. An
  Empirical Model of Large-Batch Training. 2018. arXiv 1812.06162].

The last two decide on the next batch from averages over past ones; f is a batch's mean gradient, Σ the sample
covariance (divisor m − 1) of its instances' gradients.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

from raytune_hyperlearn.algorithms.ruled_sgd import BatchStatistics, Progress, WithoutMemory

Trace = Literal["pieces", "diagonal"]
"""How tr Σ is estimated: from a few pieces of the batch (almost free), or from per-instance gradients."""


class Constant(WithoutMemory):
    """Mini-k: every batch has ``batch_size`` instances.

    Raises:
        ValueError: If it is below 1.
    """

    variance: Literal["none"] = "none"
    increment = None

    def __init__(self, batch_size: int) -> None:
        _require_size("batch_size", batch_size, 1)
        self.batch_size = batch_size

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        """The constant."""
        return self.batch_size


class Manual(WithoutMemory):
    """Doubles the batch size every ``double_every`` epochs, up to ``max_batch_size``.

    Args:
        start: First batch size, ≥ 1.
        double_every: Epochs between two doublings, > 0.
        max_batch_size: Last batch size, ≥ ``start``.

    Raises:
        ValueError: If an argument is outside its range.
    """

    variance: Literal["none"] = "none"
    increment = None

    def __init__(self, start: int, double_every: float, max_batch_size: int) -> None:
        _require_size("start", start, 1)
        _require_size("max_batch_size", max_batch_size, start)
        if not 0 < double_every < math.inf:
            raise ValueError(f"double_every is {double_every}; it must be a positive number of epochs")
        self.start = start
        self.double_every = double_every
        self.max_batch_size = max_batch_size

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        """The size of this epoch."""
        doublings = math.floor(progress.epochs / self.double_every)
        if doublings >= self.max_batch_size.bit_length():
            return self.max_batch_size
        return min(self.max_batch_size, self.start << doublings)


class Average:
    """Exponential running average without the pull towards its start.

    Args:
        decay: Weight of the past, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> None:
        """Takes in a value; one that is not finite is left out."""
        if math.isfinite(value):
            self._sum = self.decay * self._sum + (1 - self.decay) * value
            self._weight = self.decay * self._weight + (1 - self.decay)

    @property
    def value(self) -> float:
        """The average; NaN before the first value."""
        return self._sum / self._weight if self._weight > 0 else math.nan

    def state_dict(self) -> dict[str, float]:
        """Weighted sum and weight."""
        return {"sum": self._sum, "weight": self._weight}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Goes on from :meth:`state_dict`."""
        self._sum, self._weight = state["sum"], state["weight"]


class _NextBatch(ABC):
    """A rule that decides on the next batch from two averages, a numerator and a denominator.

    Args:
        start: First batch size, ≥ 2.
        min_batch_size: Smallest batch size, ≥ 2: a single instance has no variance.
        decay: Of the averages, in [0, 1).
        trace: How tr Σ is estimated.

    Raises:
        ValueError: If an argument is outside its range.
    """

    increment = None

    def __init__(self, start: int, min_batch_size: int, decay: float, trace: Trace) -> None:
        _require_size("min_batch_size", min_batch_size, 2)
        _require_size("start", start, min_batch_size)
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must lie in [0, 1)")
        if trace not in ("pieces", "diagonal"):
            raise ValueError(f"trace is {trace!r}; it must be 'pieces' or 'diagonal'")
        self.min_batch_size = min_batch_size
        self.variance: Trace = trace
        self._next = start
        self._numerator = Average(decay)
        self._denominator = Average(decay)

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        """The size decided on with the last batch; a complete batch decides on the next one."""
        if batch is None:
            return min(self._next, progress.max_batch_size)
        size = batch.size
        numerator, denominator = self._observed(progress, batch)
        self._numerator.add(numerator)
        self._denominator.add(denominator)
        self._next = self._decided(progress.max_batch_size)
        return size

    @abstractmethod
    def _observed(self, progress: Progress, batch: BatchStatistics) -> tuple[float, float]:
        """What the batch adds to the two averages."""

    def _decided(self, max_batch_size: int) -> int:
        numerator, denominator = self._numerator.value, self._denominator.value
        if math.isnan(numerator) or math.isnan(denominator):
            return self._next
        ratio = numerator / denominator if denominator > 0 else math.inf
        return max(self.min_batch_size, round(min(ratio, max_batch_size)))

    def state_dict(self) -> dict[str, Any]:
        """The next size and the averages."""
        return {
            "next": self._next,
            "numerator": self._numerator.state_dict(),
            "denominator": self._denominator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self._next = state["next"]
        self._numerator.load_state_dict(state["numerator"])
        self._denominator.load_state_dict(state["denominator"])


class CABS(_NextBatch):
    """m = η ξ / (F − F*), with ξ = tr Σ and F the loss, each averaged over updates (equation 19 of CABS).

    The paper takes F* = 0. Its authors' averages start from ξ = 0, F = 1; these have no start. They take Σ with
    divisor m from every per-instance gradient: ``trace="diagonal"`` does that with divisor m − 1.

    Args:
        start: First batch size, ≥ ``min_batch_size``.
        min_batch_size: Smallest batch size, ≥ 2; 16 in the paper.
        decay: Of the averages, in [0, 1); 0.95 in the paper.
        minimum_loss: F*.
        trace: How tr Σ is estimated: "diagonal" (per-instance gradients) or "pieces".

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self,
        start: int = 16,
        min_batch_size: int = 16,
        decay: float = 0.95,
        minimum_loss: float = 0.0,
        trace: Trace = "diagonal",
    ) -> None:
        super().__init__(start, min_batch_size, decay, trace)
        if not math.isfinite(minimum_loss):
            raise ValueError(f"minimum_loss is {minimum_loss}; it must be finite")
        self.minimum_loss = minimum_loss

    def _observed(self, progress: Progress, batch: BatchStatistics) -> tuple[float, float]:
        return progress.learning_rate * batch.trace, batch.loss - self.minimum_loss


class GradientNoiseScale(_NextBatch):
    """m = B_simple = tr Σ / |G|² (equation 2.9 of McCandlish et al.), G the gradient of the whole training set.

    Both are estimated without bias (appendix A.1) and averaged apart: |G|² as |f|² − tr Σ / m. Where
    its average is not positive, noise hides the gradient and the largest batch is taken.

    Args:
        start: First batch size, ≥ ``min_batch_size``.
        min_batch_size: Smallest batch size, ≥ 2.
        decay: Of the averages, in [0, 1).
        trace: How tr Σ is estimated: "pieces" (the paper's, where the pieces are the workers' gradients) or
            "diagonal" (per-instance gradients).

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, start: int = 32, min_batch_size: int = 8, decay: float = 0.95, trace: Trace = "pieces") -> None:
        super().__init__(start, min_batch_size, decay, trace)

    def _observed(self, progress: Progress, batch: BatchStatistics) -> tuple[float, float]:
        return batch.trace, batch.gradient_norm_squared - batch.trace / batch.size


LARGEST_SIZE = 10**9


def _require_size(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_SIZE:
        raise ValueError(f"{name} is {value!r}; it must be a whole number in [{least}, {LARGEST_SIZE}]")
