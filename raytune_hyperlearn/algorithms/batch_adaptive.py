"""BA: batch adaptive SGD and momentum [BA], [BA-SGD].

The loss of a batch is the state of a random walk on [S*, ∞). An update with m instances moves it by −η times a
normal step with mean μ and variance σ²/m, and it rebounds at S*, the least attainable loss:

    s' = |s − S* − η Δ| + S*        Δ ~ N(μ, σ²/m)

With f the mean gradient of the batch, Σ the sample covariance of its instances' gradients and P the momentum
buffer after the update (P = f without momentum): μ = f·P, σ² = fᵀ Σ f. Then, with ν = s − S* − ημ, τ = ησ/√m and
a = |ν|/τ, the mean of the folded normal (equation 7) and the utility per instance (equations 8, 9) are

    E_m[s'] = |ν| (1 − 2 Q(a)) + 2 τ φ(a) + S*  =  |ν| + 2 τ (φ(a) − a Q(a)) + S*
    u(m)    = (s − E_m[s']) / m  =  (D − 2 τ (φ(a) − a Q(a))) / m        D = s − S* − |ν|
    m*      = argmax_{m ≥ 1} u(m)

φ is the standard normal density, Q its upper tail. The right-hand forms are the ones computed: D and the
noise's price 2τ(φ − aQ) ≥ 0 are small beside s, and the left-hand forms lose them in rounding.

**The search is exact.** With x = √m and c = ησ, du/dx has the sign of (c/x)(3φ(a) − 2aQ(a)) − D, where
a = |ν| x / c. The first term falls strictly from ∞ to 0 as x grows. So for D > 0, u rises to one maximum and falls:
the best integer is next to the sign change, which bisection finds. For D ≤ 0 (no size is expected to
lower the loss: μ ≤ 0, a step beyond the mirror image of s, or s below S*) u is negative and rises for ever: the best
size is the largest allowed.

**Algorithm 1** draws m0 instances at a time until the batch has min(m*, |X|, B_max) of them, re-estimating
s, μ, σ and m* after every draw, and then updates. It is :meth:`RuledSGD.step`, shared with every other rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.ruled_sgd import BatchStatistics, Progress, RuledSGD, WithoutMemory
from raytune_hyperlearn.algorithms.sampler import Sampler
from raytune_hyperlearn.derivatives.functional import LossFunction

Covariance = Literal["exact", "newest", "diagonal"]

FARTHEST = 40.0
"""Beyond this many deviations φ and Q are 0 in float64, and ∞ · 0 must not arise."""

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Walk:
    """Where the random walk stands and how it moves.

    Attributes:
        loss: s.
        drift: μ = f·P.
        deviation: σ = √(fᵀ Σ f) ≥ 0.
        learning_rate: η > 0.
        minimum_loss: S*.

    Raises:
        ValueError: If the deviation is negative, the learning rate is not positive and finite, or S* not finite.
    """

    loss: float
    drift: float
    deviation: float
    learning_rate: float
    minimum_loss: float = 0.0

    def __post_init__(self) -> None:
        if self.deviation < 0:
            raise ValueError(f"deviation is {self.deviation}; it must be at least 0")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive and finite")
        if not math.isfinite(self.minimum_loss):
            raise ValueError(f"minimum_loss is {self.minimum_loss}; it must be finite")

    @property
    def center(self) -> float:
        """ν = s − S* − ημ: distance from S* that the noiseless step leads to, negative beyond S*."""
        return self.loss - self.minimum_loss - self.learning_rate * self.drift

    @property
    def noiseless_decrease(self) -> float:
        """D = s − S* − |ν|: decrease of the loss by an update without noise."""
        center = self.center
        return self.learning_rate * self.drift if center >= 0 else self.loss - self.minimum_loss + center

    @property
    def noise(self) -> float:
        """c = ησ: deviation of the loss after an update with one instance."""
        return self.learning_rate * self.deviation


def expected_loss(walk: Walk, m: Tensor) -> Tensor:
    """E_m[s'] (equation 7) for batch sizes m of any shape, float64 of that shape."""
    return abs(walk.center) + noise_price(walk, m) + walk.minimum_loss


def utility(walk: Walk, m: Tensor) -> Tensor:
    """u(m), expected decrease of the loss per instance (equation 8), for batch sizes m of any shape."""
    return (walk.noiseless_decrease - noise_price(walk, m)) / m.double()


def noise_price(walk: Walk, m: Tensor) -> Tensor:
    """E_m[s'] − E_∞[s'] = 2 τ (φ(a) − a Q(a)) ≥ 0 for batch sizes m of any shape, float64 of that shape."""
    spread = walk.noise / m.double().sqrt()
    distance = (abs(walk.center) / spread).nan_to_num(FARTHEST).clamp(max=FARTHEST)
    return _price(spread, distance, torch.exp, torch.special.erfc).clamp(min=0.0)


def best_batch_size(walk: Walk, max_batch_size: int) -> int:
    """m*, the integer in [1, max_batch_size] of greatest utility (equation 9); the smaller of equals.

    A walk that is not finite (training has diverged) gives no reason to prefer a size: 1.

    Args:
        walk: The state of training.
        max_batch_size: Bound on the size, ≥ 1: without one there is no maximum where no size lowers the loss.

    Raises:
        ValueError: If ``max_batch_size`` is below 1.
    """
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size is {max_batch_size}; it must be at least 1")
    if not all(map(math.isfinite, (walk.loss, walk.drift, walk.deviation))):
        return 1
    walk = _rescaled(walk)
    decrease = walk.noiseless_decrease
    if walk.noise == 0:
        return 1 if decrease >= 0 else max_batch_size
    if decrease <= 0:
        return max_batch_size
    rising, falling = (
        0,
        max_batch_size,
    )  # u still rises at `rising`; it no longer does at `falling`, or that is the bound
    while falling - rising > 1:
        middle = (rising + falling) // 2
        if _slope(walk, middle) > 0:
            rising = middle
        else:
            falling = middle
    if rising == 0:
        return falling
    return falling if _utility(walk, falling) > _utility(walk, rising) else rising


def _utility(walk: Walk, m: int) -> float:
    """u(m) of one batch size: :func:`utility` without the cost of tensors."""
    return (walk.noiseless_decrease - _price(*_spread(walk, m), math.exp, math.erfc)) / m


def _slope(walk: Walk, m: int) -> float:
    """A number with the sign of du/dm at m."""
    spread, distance = _spread(walk, m)
    density, tail = _normal(distance, math.exp, math.erfc)
    return spread * (3 * density - 2 * distance * tail) - walk.noiseless_decrease


def _spread(walk: Walk, m: int) -> tuple[float, float]:
    """τ and a of one batch size."""
    spread = walk.noise / math.sqrt(m)
    return spread, min(abs(walk.center) / spread, FARTHEST) if spread > 0 else FARTHEST


def _price(
    spread: Number, distance: Number, exp: Callable[[Number], Number], erfc: Callable[[Number], Number]
) -> Number:
    """2 τ (φ(a) − a Q(a))."""
    density, tail = _normal(distance, exp, erfc)
    return 2 * spread * (density - distance * tail)


def _normal(a: Number, exp: Callable[[Number], Number], erfc: Callable[[Number], Number]) -> tuple[Number, Number]:
    """Density φ(a) and upper tail Q(a) of the standard normal distribution."""
    return exp(-a * a / 2) * (1 / math.sqrt(2 * math.pi)), erfc(a * math.sqrt(0.5)) * 0.5


def _rescaled(walk: Walk) -> Walk:
    """The walk in units in which its largest quantity is about 1: m* does not depend on the unit of loss."""
    largest = max(abs(walk.loss), abs(walk.minimum_loss), abs(walk.drift), walk.deviation)
    exponent = -math.frexp(largest)[1]  # a power of two changes no digit
    return Walk(
        math.ldexp(walk.loss, exponent),
        math.ldexp(walk.drift, exponent),
        math.ldexp(walk.deviation, exponent),
        walk.learning_rate,
        math.ldexp(walk.minimum_loss, exponent),
    )


class GaussianWalkRule(WithoutMemory):
    """The batch-size rule of [BA].

    Args:
        increment: m0, instances drawn per enlargement; at least 2, for a variance.
        minimum_loss: S*, the least loss that training can attain.
        covariance: How σ² = fᵀ Σ f is estimated. "exact": all instances of the batch are projected on f.
            "newest": those of the last enlargement alone, at a cost linear in the batch. "diagonal": the
            paper's approximation, Σ_i f_i² Var(g_·i).

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, increment: int = 32, minimum_loss: float = 0.0, covariance: Covariance = "exact") -> None:
        if increment < 2:
            raise ValueError(f"increment is {increment}; it must be at least 2")
        if not math.isfinite(minimum_loss):
            raise ValueError(f"minimum_loss is {minimum_loss}; it must be finite")
        if covariance not in ("exact", "newest", "diagonal"):
            raise ValueError(f"covariance is {covariance!r}; it must be 'exact', 'newest' or 'diagonal'")
        self.increment = increment
        self.minimum_loss = minimum_loss
        self.variance: Covariance = covariance

    def choose_size(self, progress: Progress, batch: BatchStatistics | None) -> int:
        """m*, or m0 before the first draw."""
        if batch is None:
            return self.increment
        walk = Walk(batch.loss, batch.drift, 0.0, progress.learning_rate, self.minimum_loss)
        if -math.inf < walk.noiseless_decrease < 0:  # then no σ changes m*, and none need be computed
            return progress.max_batch_size
        deviation = math.sqrt(max(batch.variance_along_gradient, 0.0))
        return best_batch_size(replace(walk, deviation=deviation), progress.max_batch_size)


class BatchAdaptiveSGD(RuledSGD):
    """Batch adaptive SGD or momentum for a plain training script::

        sampler = EpochSampler(inputs, targets, seed=0)
        optimizer = BatchAdaptiveSGD(model, loss, sampler, lr=0.02, momentum=0.9)
        while sampler.epochs < 10:
            update = optimizer.step()

    with ``loss`` mapping outputs and targets to one loss per instance.

    Args:
        model: Its trainable parameters are updated in place.
        loss: Maps outputs [n, …] and targets [n, …] to losses [n].
        sampler: Where instances are drawn from.
        lr: η > 0.
        momentum: ρ in [0, 1); 0 is BA-SGD.
        minimum_loss: S*.
        m0: Instances drawn per enlargement, ≥ 2.
        max_batch_size: B_max ≥ 2. It also bounds what a single update may cost: with "exact", a batch grown to B
            costs B²/m0 projections.
        covariance: "exact", "newest" or "diagonal" (see :class:`GaussianWalkRule`).
        micro_batch_size: Instances evaluated at once, or None to find the largest number that fits.
        seed: Of the random numbers in forward passes (dropout).

    Raises:
        ValueError: If an argument is outside its range, or covariance is "diagonal" and the model has BatchNorm
            in training mode.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        sampler: Sampler,
        *,
        lr: float,
        momentum: float = 0.0,
        minimum_loss: float = 0.0,
        m0: int = 32,
        max_batch_size: int = 512,
        covariance: Covariance = "exact",
        micro_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if m0 < 2:
            raise ValueError(f"m0 is {m0}; it must be at least 2")
        if max_batch_size < 2:
            raise ValueError(f"max_batch_size is {max_batch_size}; it must be at least 2")
        super().__init__(
            model,
            loss,
            sampler,
            GaussianWalkRule(m0, minimum_loss, covariance),
            lr=lr,
            momentum=momentum,
            max_batch_size=max_batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
        )
