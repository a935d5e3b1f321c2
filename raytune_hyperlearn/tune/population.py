"""Training whose hyperparameters change between steps from outside: a member of a population, for PBT and PB2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.optimizer_defaults import OptimizerName
from raytune_hyperlearn.algorithms.optimizers import torch_optimizer
from raytune_hyperlearn.algorithms.schedules import equal_windows
from raytune_hyperlearn.algorithms.sgd import sgd_step
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.checked import Count, Finite, record
from raytune_hyperlearn.hyperparameters import OptimizerSpace, SearchSpace, Space
from raytune_hyperlearn.tune.replicates import ReplicatesTrainable
from raytune_hyperlearn.tune.sgd import evaluation_seed, require_space
from raytune_hyperlearn.tune.trainable import mean_scores
from raytune_hyperlearn.tune.trial_settings import SeedOfTrial


@record
class PopulationOptions(SeedOfTrial):
    """Settings of a member of a population; keys of the trial's config.

    Attributes:
        learning_rate: Its present value, inside the space's range; needed where the space learns it.
        momentum: Likewise.
        weight_decay: Likewise.
        beta1: Likewise, of Adam and AdamW.
        beta2: Likewise.
        epsilon: Likewise.
        intervals: Number N of steps in which the whole training is done.
        trial_seed: Seed of initialization and data order; by default derived from the run's seed, the first values and
            the budget.
        optimizer: What trains; the space is its own.
    """

    learning_rate: Finite | None = None
    momentum: Finite | None = None
    weight_decay: Finite | None = None
    beta1: Finite | None = None
    beta2: Finite | None = None
    epsilon: Finite | None = None
    intervals: Count = 1
    optimizer: OptimizerName = "sgd"

    def present(self, space: Space) -> dict[str, float]:
        """The present value of each hyperparameter; those that the space fixes are its own.

        Args:
            space: The trial's search space.

        Returns:
            Values by name.

        Raises:
            ValueError: If one is missing or outside its range.
        """
        given = {}
        for name, (low, high) in space.ranges().items():
            value = getattr(self, name)
            if value is None or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; it must be a number in [{low:g}, {high:g}]")
            given[name] = value
        return {**{name: values[0] for name, values in space.initial().items()}, **given}


class PopulationTrainable(ReplicatesTrainable[torch.optim.Optimizer]):
    """One interval of training per ``step``, with the config's present values.

    Config keys: the shared ones and the fields of :class:`PopulationOptions`.

    A checkpoint holds the values of all intervals so far, so a member that loads another's weights goes on with the
    other's past. The result's ``hyperparameters`` are schedules of N values: what the weights were trained with so
    far, and the present values for what is left. Plain training with them is the same course.

    A member that diverged does not end: a scheduler may give it another's weights.
    """

    allowed: ClassVar[frozenset[str]] = frozenset(PopulationOptions.__dataclass_fields__)
    spaces: ClassVar[tuple[type[Space], ...]] = (SearchSpace, OptimizerSpace)

    def start(self, config: dict[str, Any]) -> None:
        """Build the models and take the first values.

        Raises:
            ValueError: In one line, if an option is not allowed or the space has other windows than a population makes.
        """
        options = PopulationOptions.from_config(config)
        require_space(options.optimizer, self.settings.space)
        self.intervals, self.horizon = options.intervals, self.problem.horizon(self.epochs)
        if self.intervals > self.horizon:
            raise ValueError(f"intervals is {self.intervals}; it must be at most {self.horizon}, the training's steps")
        for name, schedule in self.settings.space.schedules.items():
            if schedule.shape != "windows" or schedule.lengths or schedule.groups:
                raise ValueError(f"{name} has a shape, lengths or groups; a population makes its own equal windows")
        self.present = options.present(self.settings.space)
        trial_seed = options.trial_seed_or(evaluation_seed(self.settings.seed, self.present, self.epochs))
        self.build(trial_seed, lambda model: torch_optimizer(model, options.optimizer))
        self.past: list[dict[str, float]] = []

    def step(self) -> dict[str, Any]:
        """Train for one interval and score."""
        first, end = equal_windows(self.intervals).support(len(self.past), self.horizon)
        every = [self._train_on(index, first, end) for index in range(self.settings.replicates)]
        self.past.append(self.present)
        instances = self.settings.replicates * (end - first) * self.problem.batch_size
        epochs = self.epochs * end / self.horizon
        outcome = self.result(mean_scores(every), self._schedules(), epochs, instances)
        return outcome | {"done": end == self.horizon}

    def _schedules(self) -> Numbers:
        every = [*self.past, *[self.present] * (self.intervals - len(self.past))]
        return {name: [values[name] for values in every] for name in self.present}

    def _train_on(self, index: int, first: int, end: int) -> dict[str, float]:
        """Train one replicate from step ``first`` up to ``end`` and score it."""
        model, optimizer = self.models[index], self.optimizers[index]
        # The space may have coordinates of its own, such as a learning rate in units of the momentum's gain.
        now = self.settings.space.at_step({name: [value] for name, value in self.present.items()}, first, self.horizon)

        def update(step: int, batch: tuple[Tensor, Tensor]) -> None:
            sgd_step(model, optimizer, self.problem.loss, batch, now, self.settings.bound)

        return self.train_on(index, first, end, update)

    def position(self) -> dict[str, Any]:
        """The values of all intervals so far."""
        return {"past": self.past}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Take another member's past, or this one's; the present values stay the config's."""
        self.past = list(position["past"])
