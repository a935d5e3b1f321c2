"""Hypergradient descent on Ray Tune: hyperparameters learned online while one network trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.hypergradient_descent import SGDHD, HyperRates
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.checked import AfterValidator, Finite, Lenient, read, record
from raytune_hyperlearn.hyperparameters import Space
from raytune_hyperlearn.results import COMPLETED
from raytune_hyperlearn.tune.replicates import ReplicatesTrainable
from raytune_hyperlearn.tune.sgd import evaluation_seed
from raytune_hyperlearn.tune.trainable import mean_scores
from raytune_hyperlearn.tune.trial_settings import SeedOfTrial

START, RATE = "start/", "rate/"


def _begin_with_a_purpose(drawn: dict[str, float]) -> dict[str, float]:
    for name in drawn:
        if not name.startswith((START, RATE)):
            raise ValueError(f"drawn holds {name!r}; its names must begin with {START} or {RATE}")
    return drawn


@record
class HypergradientDescentOptions(SeedOfTrial):
    """Settings of hypergradient descent beyond the shared ones; keys of the trial's config.

    Attributes:
        start: Start values by name; what is missing starts where the space starts (a schedule at its first value).
        hyper_rates: :class:`HyperRates` or a mapping of its fields.
        drawn: What a searcher drew, under the flat names ``start/NAME`` and ``rate/NAME``; wins over the two above.
        bounded: Keep the values inside the space's ranges; off by default, as published.
        trial_seed: Seed of initialization and data order; by default derived from the run's seed, the start values, the
            rates and the budget.
    """

    start: dict[str, Finite] = field(default_factory=dict)
    hyper_rates: Lenient[HyperRates] = field(default_factory=HyperRates)
    drawn: Annotated[dict[str, Finite], AfterValidator(_begin_with_a_purpose)] = field(default_factory=dict)
    bounded: bool = False

    def start_values(self, space: Space) -> dict[str, float]:
        """One start value for each of the space's hyperparameters.

        Args:
            space: The trial's search space.

        Returns:
            Values by name.

        Raises:
            ValueError: If a name is not one of them.
        """
        values = {name: schedule[0] for name, schedule in space.initial().items()}
        given = {**self.start, **_under(START, self.drawn)}
        for name in given:
            if name not in values:
                raise ValueError(f"start holds {name!r}; it must be {', '.join(values)}")
        return {**values, **given}

    def rates(self) -> HyperRates:
        """The hyper rates, those drawn among them.

        Raises:
            ValueError: If what was drawn has an unknown name or is not allowed.
        """
        return read(HyperRates, {**asdict(self.hyper_rates), **_under(RATE, self.drawn)}, what="option of hyper_rates")


class HypergradientDescentTrainable(ReplicatesTrainable[SGDHD]):
    """One epoch of SGD-HD per ``step``, with learning rate, momentum and weight decay learned online.

    Config keys: the shared ones and the fields of :class:`HypergradientDescentOptions`.

    The result's ``hyperparameters`` hold the mean value of each epoch so far.
    """

    allowed: ClassVar[frozenset[str]] = frozenset(HypergradientDescentOptions.__dataclass_fields__)

    def start(self, config: dict[str, Any]) -> None:
        """Build the model and the optimizer that learns."""
        options = HypergradientDescentOptions.from_config(config)
        begin, rates = options.start_values(self.settings.space), options.rates()
        identity = {"start": begin, "rates": [rates.learning_rate, rates.momentum, rates.weight_decay]}
        self.trial_seed = options.trial_seed_or(evaluation_seed(self.settings.seed, identity, self.epochs))
        self.horizon = self.problem.horizon(self.epochs)
        self.steps_per_epoch = min(self.problem.horizon(1), self.horizon)
        bounds = self.settings.space.ranges() if options.bounded else {}
        lr, momentum, decay = (begin[name] for name in HYPERPARAMETERS)
        self.build(self.trial_seed, lambda model: SGDHD(model.parameters(), lr, momentum, decay, rates, bounds))
        self.schedule: Numbers = {name: [] for name in HYPERPARAMETERS}
        self.done_steps = 0

    def step(self) -> dict[str, Any]:
        """Train for one epoch, learning as it goes, and score."""
        end = min(self.done_steps + self.steps_per_epoch, self.horizon)
        if self.horizon - end < self.steps_per_epoch / 2:
            end = self.horizon  # a rest shorter than half an epoch joins the last one
        trained = [self._train_on(index, end) for index in range(self.settings.replicates)]
        means = mean_scores([values for _, values in trained])
        for name in HYPERPARAMETERS:
            self.schedule[name].append(means[name])
        instances = self.settings.replicates * (end - self.done_steps) * self.problem.batch_size
        self.done_steps = end
        epochs = self.epochs * end / self.horizon
        values = {name: list(schedule) for name, schedule in self.schedule.items()}
        outcome = self.result(mean_scores([scores for scores, _ in trained]), values, epochs, instances)
        return outcome | {"done": end == self.horizon or outcome["status"] != COMPLETED}

    def _train_on(self, index: int, end: int) -> tuple[dict[str, float], dict[str, float]]:
        """Train one replicate up to step ``end``: its scores, and the mean value of each hyperparameter on the way."""
        model, optimizer, first = self.models[index], self.optimizers[index], self.done_steps
        totals = {name: torch.zeros((), device=self.device) for name in HYPERPARAMETERS}

        def update(step: int, batch: tuple[Tensor, Tensor]) -> None:
            inputs, targets = batch
            optimizer.zero_grad()
            self.problem.loss(model(inputs), targets).mean().backward()
            if self.settings.bound is not None:
                self.settings.bound.apply_to(model.parameters())
            optimizer.step()
            for name, value in optimizer.hyperparameters.items():
                totals[name] += value

        scores = self.train_on(index, first, end, update)
        return scores, {name: total.item() / (end - first) for name, total in totals.items()}

    def position(self) -> dict[str, Any]:
        """Steps done and the mean values of each epoch."""
        return {"schedule": self.schedule, "done_steps": self.done_steps}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Take the steps as done."""
        self.schedule = {name: list(values) for name, values in position["schedule"].items()}
        self.done_steps = position["done_steps"]


def _under(prefix: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in flat.items() if name.startswith(prefix)}
