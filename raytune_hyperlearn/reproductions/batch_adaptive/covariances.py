"""Trains with the exact covariance, its diagonal and its newest part, and puts the same draws to the first two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from raytune_hyperlearn.algorithms.batch_adaptive import Covariance, GaussianWalkRule, Walk, best_batch_size
from raytune_hyperlearn.algorithms.ruled_sgd import RuledSGD
from raytune_hyperlearn.algorithms.sampler import EpochSampler
from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.derivatives.micro_batches import MicroBatches
from raytune_hyperlearn.derivatives.projections import Instances, inner_product
from raytune_hyperlearn.derivatives.variance import Variance, growing_batch
from raytune_hyperlearn.problems import Examples, Problem, Purpose, derived_seed, evaluate, load
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.reproductions.parts import evenly_spaced

COVARIANCES: tuple[Covariance, ...] = ("exact", "diagonal", "newest")
M0 = 32
NEAR = 3.0
"""Within so many deviations of the rebound its price is felt."""


@dataclass(frozen=True)
class Regime:
    """A problem and how it is trained.

    Attributes:
        problem: Its name.
        instances: Of the training instances, evenly spread over them; 0 for all.
        epochs: Of instances.
        learning_rate: η.
        momentum: ρ.
        minimum_loss: S*.
    """

    problem: str
    instances: int
    epochs: int
    learning_rate: float = 0.02
    momentum: float = 0.9
    minimum_loss: float = 0.0

    @property
    def title(self) -> str:
        """What figures and tables call it."""
        size = f"{self.instances:,}" if self.instances else "all"
        floor = f", S* = {self.minimum_loss:g}" if self.minimum_loss else ""
        return f"{self.problem}, {size}, η = {self.learning_rate:g}, ρ = {self.momentum:g}{floor}"


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        regimes: What to compare on; the first is the paper's.
        probes: Draws put to both covariances, spread evenly over each training.
        max_batch_size: B_max.
        seed: Of initialization, data order, dropout and probes.
    """

    regimes: tuple[Regime, ...]
    probes: int
    max_batch_size: int = 512
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """What both covariances make of one draw of m0 instances.

    Attributes:
        epoch: When.
        loss: s.
        drift: μ.
        decrease: D of the noiseless step; where it is not positive, no σ changes m*.
        exact: σ from the whole of Σ.
        diagonal: σ from its diagonal.
        distance: a₀ by the exact σ.
        wants_exact: m* by the exact σ, in [1, B_max].
        wants_diagonal: m* by the diagonal σ.
    """

    epoch: float
    loss: float
    drift: float
    decrease: float
    exact: float
    diagonal: float
    distance: float
    wants_exact: int
    wants_diagonal: int

    @property
    def kind(self) -> str:
        """``hopeless`` (no size lowers the loss: both want the largest), ``near`` the rebound, or ``far`` from it."""
        if self.decrease <= 0:
            return "hopeless"
        return "near" if self.distance < NEAR else "far"

    @property
    def differs(self) -> bool:
        """Whether the two would draw another number of times m0."""
        return math.ceil(self.wants_exact / M0) != math.ceil(self.wants_diagonal / M0)


@dataclass(frozen=True)
class Outcome:
    """One regime.

    Attributes:
        regime: What was trained.
        sizes: Batch size of every update, by covariance.
        losses: Loss on the training part after every epoch, by covariance.
        probes: From the training with the exact covariance.
    """

    regime: Regime
    sizes: Mapping[Covariance, FloatArray]
    losses: Mapping[Covariance, FloatArray]
    probes: tuple[Probe, ...]


def compare(regime: Regime, settings: Settings, advance: Callable[[], None]) -> Outcome:
    """Trains one regime with every covariance.

    Args:
        regime: What to train.
        settings: Probes, bound and seed.
        advance: Called after every epoch.
    """
    problem = load(regime.problem)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = evenly_spaced(problem.train, regime.instances).to(device)
    sizes: dict[Covariance, FloatArray] = {}
    losses: dict[Covariance, FloatArray] = {}
    probes: list[Probe] = []
    for covariance in COVARIANCES:
        model = initialize(problem.model, settings.seed).to(device)
        optimizer = RuledSGD(
            model,
            problem.loss,
            EpochSampler(train.inputs, train.targets, derived_seed(settings.seed, Purpose.ORDER)),
            GaussianWalkRule(M0, regime.minimum_loss, covariance),
            lr=regime.learning_rate,
            momentum=regime.momentum,
            max_batch_size=settings.max_batch_size,
            seed=derived_seed(settings.seed, Purpose.DROPOUT),
        )
        every = regime.epochs / settings.probes if covariance == "exact" else math.inf
        trajectory = _Trajectory(problem, model, optimizer, train, regime, settings, every)
        sizes[covariance], losses[covariance] = trajectory.train(advance)
        probes += trajectory.probes
    return Outcome(regime, sizes, losses, tuple(probes))


class _Trajectory:
    """One training, probed every so many epochs."""

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        optimizer: RuledSGD,
        train: Examples,
        regime: Regime,
        settings: Settings,
        every: float,
    ) -> None:
        self.problem, self.model, self.optimizer, self.examples = problem, model, optimizer, train
        self.regime, self.settings, self.every = regime, settings, every
        self.probes: list[Probe] = []
        self._generator = torch.Generator().manual_seed(derived_seed(settings.seed, Purpose.HELD_BATCHES))

    def train(self, advance: Callable[[], None]) -> tuple[FloatArray, FloatArray]:
        """Batch sizes of all updates, and the loss after every epoch."""
        sizes, losses = [], []
        sampler = self.optimizer.sampler
        for epoch in range(1, self.regime.epochs + 1):
            self.model.train()
            while sampler.instances < epoch * len(sampler):
                done = sampler.instances / len(sampler)
                if done >= len(self.probes) * self.every:
                    self.probes.append(self._probe(done))
                sizes.append(self.optimizer.step().batch_size)
            self.model.eval()
            losses.append(evaluate(self.model, self.problem, self.examples)[0])
            advance()
        return np.array(sizes, dtype=float), np.array(losses)

    def _probe(self, epoch: float) -> Probe:
        rows = torch.randperm(len(self.examples), generator=self._generator)[:M0]
        part = self.examples[rows.to(self.examples.device)]
        instances = Instances(part.inputs, part.targets, len(self.probes))
        loss, drift, exact = self._estimate(instances, "exact")
        diagonal = self._estimate(instances, "diagonal")[2]
        rate, floor = self.regime.learning_rate, self.regime.minimum_loss
        walks = [Walk(loss, drift, deviation, rate, floor) for deviation in (exact, diagonal)]
        noise = walks[0].noise
        wants = [best_batch_size(walk, self.settings.max_batch_size) for walk in walks]
        distance = abs(walks[0].center) * M0**0.5 / noise if noise > 0 else math.inf
        return Probe(epoch, loss, drift, walks[0].noiseless_decrease, exact, diagonal, distance, *wants)

    def _estimate(self, instances: Instances, variance: Variance) -> tuple[float, float, float]:
        """s, μ and σ of a draw, with the momentum that the next update would carry."""
        batch = growing_batch(variance, self.model, self.problem.loss, MicroBatches())
        batch.begin()
        batch.enlarge(instances)
        gradient = batch.gradient
        states = [self.optimizer.state[p].get("momentum_buffer") for p in self.model.parameters()]
        drift = float(inner_product(gradient, gradient))
        if all(state is not None for state in states):
            drift += self.regime.momentum * float(inner_product(gradient, tuple(states)))
        along = batch.variance_along(gradient)
        assert along is not None
        return float(batch.mean_loss), drift, max(float(along), 0.0) ** 0.5
