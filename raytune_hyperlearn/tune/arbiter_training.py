"""Training one network epoch by epoch at batch sizes that an agent chooses: Arbiter, or a control of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.arbiter import Arbiter
from raytune_hyperlearn.algorithms.arbiter_config import ArbiterConfig
from raytune_hyperlearn.algorithms.arbiter_controls import (
    BatchSizeAgent,
    ConstantBatchSize,
    RandomWalk,
    ReplayedSchedule,
)
from raytune_hyperlearn.algorithms.hypergradient_descent import SGDHD, AdamHD, HyperRates
from raytune_hyperlearn.algorithms.schedules import at_step
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS, sgd_optimizer, sgd_step
from raytune_hyperlearn.checked import (
    AfterValidator,
    BeforeValidator,
    Count,
    Items,
    Lenient,
    NonNegative,
    Pair,
    Whole,
    record,
    unknown,
)
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.problems import Problem, Purpose, Split, batches, derived_seed
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune.memory import Memory, saved_bytes_per_instance, tensor_bytes
from raytune_hyperlearn.tune.trial_settings import SeedOfTrial

ChosenBy = Literal["arbiter", "heuristic", "mean", "replay", "random-walk"]
InnerOptimizer = Literal["sgd", "sgd-hd", "adam-hd"]

NEEDS_RECORD: frozenset[ChosenBy] = frozenset({"mean", "replay", "random-walk"})
FOLLOWS_MILESTONES: frozenset[ChosenBy] = frozenset({"arbiter", "random-walk"})


def _schedules(given: Any) -> dict[str, tuple[float, ...]]:
    """A schedule of each of SGD's hyperparameters: as given, a constant for a number, or the default."""
    if not isinstance(given, Mapping):
        raise ValueError("it must be names with numbers or lists of numbers")
    for name in given:
        if name not in HYPERPARAMETERS:
            raise ValueError(unknown("name in hyperparameters", name, HYPERPARAMETERS))
    values = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4, **given}
    return {name: _schedule(name, value) for name, value in values.items()}


def _schedule(name: str, given: Any) -> tuple[float, ...]:
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not values or not all(_is_finite(value) for value in values):
        raise ValueError(f"{name} is {values}; it must be a finite number or a list of at least one")
    return tuple(map(float, values))


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _ascending(milestones: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    epochs = [epoch for epoch, _ in milestones]
    if any(epoch < 1 for epoch in epochs) or epochs != sorted(set(epochs)):
        raise ValueError(f"milestones are at epochs {epochs}; they must ascend from 1 on")
    return milestones


@record
class TrainingOptions(SeedOfTrial):
    """How a network is trained at chosen batch sizes; keys of the trial's config.

    Attributes:
        hyperparameters: Schedules of learning_rate, momentum and weight_decay of any lengths, laid over the epochs;
            a number stands for a constant. Hypergradient descent starts from their first values.
        optimizer: ``"sgd"``, or ``"sgd-hd"`` or ``"adam-hd"``, which learn the learning rate online.
        hyper_rate: β of hypergradient descent, at least 0.
        non_negative: Keep hypergradient descent's learning rate at 0 or above; off by default, as published.
        chosen_by: Who chooses the batch sizes: ``"arbiter"``; ``"heuristic"`` (the start and the milestones, so a
            constant without milestones); or a control made from the schedule that Arbiter learned: ``"mean"`` (a
            constant), ``"replay"`` (on a new initialization), ``"random-walk"`` (steps of the same sizes).
        arbiter: Fields of :class:`ArbiterConfig`.
        network: Builds the agent's network φ; None takes the default for images or vectors.
        layer: Name of the layer whose input is gated; None takes the last Linear layer.
        milestones: (epoch, batch size) pairs of a fixed heuristic, by ascending epoch from 1 on. At a milestone
            the batch size is the heuristic's and the agent is warmed up to it; in between the agent searches.
        recorded: One learned schedule per replicate for the controls; None lets the trial learn it first.
        trial_seed: Seed of initialization, data order and agent; by default it depends on the run's seed alone, so that
            Arbiter and its controls start from the same network and data order.
    """

    hyperparameters: Annotated[
        Mapping[str, tuple[float, ...]], BeforeValidator(_schedules), Field(validate_default=True)
    ] = field(default_factory=dict)
    optimizer: InnerOptimizer = "sgd"
    hyper_rate: NonNegative = 1e-4
    non_negative: bool = False
    chosen_by: ChosenBy = "arbiter"
    arbiter: Lenient[ArbiterConfig] = field(default_factory=ArbiterConfig)
    network: Callable[[], nn.Module] | None = None
    layer: str | None = None
    milestones: Annotated[Items[Pair[Whole]], AfterValidator(_ascending)] = ()
    recorded: Items[Items[Count]] | None = None

    @model_validator(mode="after")
    def _recorded_for_a_control(self) -> TrainingOptions:
        if self.recorded is not None and self.chosen_by not in NEEDS_RECORD:
            needing = ", ".join(sorted(NEEDS_RECORD))
            raise ValueError(f"recorded is given for chosen_by {self.chosen_by!r}; it must be None but for {needing}")
        return self

    @property
    def learning(self) -> TrainingOptions:
        """The same training with Arbiter choosing: where a control's record comes from."""
        return replace(self, chosen_by="arbiter", recorded=None)

    def heuristic(self, start: int, epochs: int) -> list[int]:
        """The fixed heuristic's batch size of every epoch.

        Args:
            start: Batch size of the first epoch.
            epochs: Number E of epochs.

        Returns:
            E sizes.
        """
        dictated = {0: start, **dict(self.milestones)}
        return [dictated[max(past for past in dictated if past <= epoch)] for epoch in range(epochs)]

    def check_sizes(self, start: int, instances: int, name: str) -> None:
        """Refuse batch sizes that the training set, or the agent's range, does not allow.

        Args:
            start: B_0.
            instances: Training examples.
            name: The problem's name.

        Raises:
            ValueError: In one line.
        """
        sizes = [("batch_size", start), *(("a milestone's batch size", size) for _, size in self.milestones)]
        low, high = 1, instances
        if self.chosen_by != "heuristic":
            low, high = self.arbiter.min_batch_size, self.arbiter.max_batch_size
            if high > instances:
                raise ValueError(f"max_batch_size is {high}; {name} has {instances} training examples")
        for what, size in sizes:
            if not low <= size <= high:
                raise ValueError(f"{what} is {size}; it must lie in [{low}, {high}]")
        for schedule in self.recorded or ():
            if not schedule or not 1 <= min(schedule) <= max(schedule) <= instances:
                raise ValueError(f"recorded is {list(schedule)}; it must hold batch sizes in [1, {instances}]")


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training was like.

    Attributes:
        batch_size: B.
        updates: Inner steps.
        learning_rates: The learning rate of every inner step (after its update, where it is learned).
        outer_loss: Mean of F over the outer steps that were finite; NaN where there were none.
        mixture: Mean of s, likewise.
        warm_up_steps: Adam steps of a warm-up before the epoch.
    """

    batch_size: int
    updates: int
    learning_rates: list[float]
    outer_loss: float
    mixture: float
    warm_up_steps: int


class BatchSizeTraining:
    """One network, its optimizer and the agent that chooses its batch sizes.

    With a constant batch size the training is bit for bit that of
    :class:`~raytune_hyperlearn.tune.sgd.SGDTrainable` from the same seed.

    Args:
        problem: On the training device.
        split: Its training and validation part.
        options: How to train.
        epochs: The whole training, over which schedules are laid.
        seed: Of initialization, data order and agent.
        bound: On batch gradients, or None.
        recorded: The schedule that a control is made from.

    Attributes:
        model: The network.
        agent: Chooses the batch sizes.
        sizes: B of every epoch so far.
        rates: Mean learning rate of every epoch so far.
    """

    def __init__(
        self,
        problem: Problem,
        split: Split,
        options: TrainingOptions,
        epochs: int,
        seed: int,
        bound: GradientBound | None = None,
        recorded: Sequence[int] | None = None,
    ) -> None:
        self.problem, self.split, self.options = problem, split, options
        self.epochs, self.bound = epochs, bound
        self.device = split.train.device
        self.seed = derived_seed(seed, Purpose.REPLAYED_SCHEDULE) if options.chosen_by == "replay" else seed
        self.model = initialize(problem.model, self.seed).to(self.device)
        self.optimizer = _inner_optimizer(self.model, options)
        self.agent = self._new_agent(recorded)
        self.sizes: list[int] = []
        self.rates: list[float] = []

    @property
    def next_batch_size(self) -> int:
        """B of the next epoch; assign to it to overrule the agent."""
        return self.agent.batch_size

    @next_batch_size.setter
    def next_batch_size(self, size: int) -> None:
        self.agent.batch_size = size

    def train_epoch(self) -> Epoch:
        """One pass over the training data (an incomplete batch at its end is dropped), then the agent decides."""
        epoch = len(self.sizes)
        warm_up_steps = self.agent.warm_up(self.agent.batch_size) if epoch == 0 or self._dictated(epoch) else 0
        size = self.agent.batch_size
        updates = len(self.split.train) // size
        first = epoch * updates
        rates, losses, mixtures = [], [], []
        self.model.train()
        with private_random_numbers(derived_seed(self.seed, Purpose.DROPOUT, first), self.device):
            augmentation, end = self.problem.augmentation, first + updates
            order = batches(self.split.train, size, end, self.seed, augmentation, first=first)
            for step, batch in enumerate(order, start=first):
                now = at_step(self.options.hyperparameters, step, self.epochs * updates)
                rates.append(self._inner_step(batch, now))
                seen = self.agent.observe()
                if seen is not None:
                    losses.append(seen.loss)
                    mixtures.append(seen.mixture)
        self.sizes.append(size)
        learning_rates = torch.stack(rates).tolist()
        self.rates.append(sum(learning_rates) / updates)
        self.agent.end_epoch()
        dictated = self._dictated(epoch + 1)
        if dictated:
            self.agent.batch_size = dictated
        return Epoch(size, updates, learning_rates, _finite_mean(losses), _finite_mean(mixtures), warm_up_steps)

    def memory(self) -> Memory:
        """Bytes at the last epoch's batch size, estimated: the larger of what an inner and an outer step keep."""
        modules = [self.model, *([self.agent.agent] if isinstance(self.agent, Arbiter) else [])]
        moments = {"sgd": 1, "sgd-hd": 1, "adam-hd": 2}[self.options.optimizer]
        copies = [2 + moments, 4]  # weights, gradients and moments; the agent's optimizer is Adam
        fixed = sum(count * tensor_bytes(m.parameters()) for count, m in zip(copies, modules, strict=False))
        inputs = self.split.train[slice(0, 4)].inputs
        # Gradient statistics are as many whatever the batch size.
        growing = modules if self.options.arbiter.agent_input != "gradients" else modules[:1]
        kept = max(saved_bytes_per_instance(module, inputs) for module in growing)
        return Memory(fixed, fixed + round((self.sizes or [self.agent.batch_size])[-1] * kept))

    def state_dict(self) -> dict[str, Any]:
        """Network, optimizer, agent with its generator, and the schedule so far."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "agent": self.agent.state_dict(),
            "sizes": list(self.sizes),
            "rates": list(self.rates),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.agent.load_state_dict(state["agent"])
        self.sizes, self.rates = list(state["sizes"]), list(state["rates"])

    def _dictated(self, epoch: int) -> int:
        """The heuristic's batch size at a milestone; 0 elsewhere, and where the record holds the milestones."""
        follows = self.options.chosen_by in FOLLOWS_MILESTONES
        return dict(self.options.milestones).get(epoch, 0) if follows else 0

    def _inner_step(self, batch: tuple[Tensor, Tensor], now: dict[str, float]) -> Tensor:
        """One update of the network; returns the learning rate, zero-dimensional."""
        if isinstance(self.optimizer, torch.optim.SGD):
            sgd_step(self.model, self.optimizer, self.problem.loss, batch, now, self.bound)
            return torch.tensor(now["learning_rate"], dtype=torch.float64)
        inputs, targets = batch
        self.optimizer.zero_grad()
        self.problem.loss(self.model(inputs), targets).mean().backward()
        if self.bound is not None:
            self.bound.apply_to(self.model.parameters())
        self.optimizer.step()
        return self.optimizer.hyperparameters["learning_rate"]

    def _new_agent(self, recorded: Sequence[int] | None) -> BatchSizeAgent:
        options, start = self.options, self.problem.batch_size
        if options.chosen_by == "heuristic":
            return ReplayedSchedule(options.heuristic(start, self.epochs))
        if options.chosen_by != "arbiter":
            assert recorded is not None
            if options.chosen_by == "mean":
                return ConstantBatchSize(recorded)
            if options.chosen_by == "replay":
                return ReplayedSchedule(recorded)
            low, high = options.arbiter.min_batch_size, options.arbiter.max_batch_size
            return RandomWalk(recorded, low, high, derived_seed(self.seed, Purpose.AGENT))
        seed = derived_seed(self.seed, Purpose.AGENT)
        return Arbiter(
            self.model,
            self.split.validation.inputs,
            self.split.validation.targets,
            start,
            seed,
            options.arbiter,
            options.layer,
            None if options.network is None else initialize(options.network, seed),
            lambda outputs, targets: self.problem.loss(outputs, targets).mean(),
        )


def _inner_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.SGD | SGDHD | AdamHD:
    """The optimizer of the network; hypergradient descent from the schedules' first values."""
    if options.optimizer == "sgd":
        return sgd_optimizer(model)
    rate, momentum, decay = (options.hyperparameters[name][0] for name in HYPERPARAMETERS)
    bounds = {"learning_rate": (0.0, math.inf)} if options.non_negative else {}
    if options.optimizer == "sgd-hd":
        return SGDHD(model.parameters(), rate, momentum, decay, HyperRates(options.hyper_rate), bounds)
    return AdamHD(model.parameters(), rate, weight_decay=decay, hyper_rate=options.hyper_rate, bounds=bounds)


def _finite_mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
