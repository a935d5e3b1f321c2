"""Training with given hyperparameters: what black-box methods evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.optimizer_defaults import DEFAULTS, OptimizerName
from raytune_hyperlearn.algorithms.optimizers import torch_optimizer
from raytune_hyperlearn.algorithms.sgd import sgd_step
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.checked import Positive, record
from raytune_hyperlearn.hyperparameters import OptimizerSpace, SearchSpace, Space
from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.problems.seeds import content_index
from raytune_hyperlearn.results import COMPLETED
from raytune_hyperlearn.tune.replicates import ReplicatesTrainable
from raytune_hyperlearn.tune.trainable import mean_scores
from raytune_hyperlearn.tune.trial_settings import SeedOfTrial


def trial_hyperparameters(space: Space, given: Mapping[str, Any]) -> Numbers:
    """Checked schedules from a config's ``hyperparameters``, nested by name or under flat names.

    Raises:
        ValueError: If they do not fit the space.
    """
    nested = all(name in space.initial() for name in given)
    return space.check(given) if nested and given else space.from_flat(given)


def evaluation_seed(seed: int, values: Mapping[str, Any], epochs: float) -> int:
    """Seed of the initialization and data order of one evaluation: anew for each, the same when it is repeated."""
    return derived_seed(seed, Purpose.EVALUATION, content_index(json.dumps([values, float(epochs)], sort_keys=True)))


@record
class SGDOptions(SeedOfTrial):
    """Settings of plain training beyond the shared ones; keys of the trial's config.

    Attributes:
        hyperparameters: Nested schedules or flat names; None looks for flat names at the config's top level.
        epochs_per_step: Report at every multiple of so many epochs, and at the end; None only at the end.
        trial_seed: Seed of initialization and data order; by default derived from the run's seed, the hyperparameters
            and the budget.
        optimizer: What trains. Other than for SGD, the space is an :class:`OptimizerSpace`; hyperparameters that it
            does not name keep PyTorch's values.
    """

    hyperparameters: Mapping[str, Any] | None = None
    epochs_per_step: Positive | None = None
    optimizer: OptimizerName = "sgd"


def require_space(optimizer: OptimizerName, space: Space) -> None:
    """Refuse a space of another optimizer.

    Raises:
        ValueError: In one line.
    """
    kind = SearchSpace if optimizer == "sgd" else OptimizerSpace
    if not isinstance(space, kind):
        raise ValueError(f"space is of type {type(space).__name__}; {optimizer} needs a {kind.__name__}")
    for name in space.given:
        if name not in DEFAULTS[optimizer]:
            raise ValueError(f"space holds {name!r}; {optimizer} has {', '.join(DEFAULTS[optimizer])}")


class SGDTrainable(ReplicatesTrainable[torch.optim.Optimizer]):
    """Trains with the config's hyperparameters, reports the scores, and is done.

    Config keys: the shared ones (see :class:`TrialSettings`) and the fields of :class:`SGDOptions`; ``epochs`` is the
    budget of this evaluation.
    """

    allowed: ClassVar[frozenset[str]] = frozenset(SGDOptions.__dataclass_fields__)
    takes_groups: ClassVar[bool] = True
    spaces: ClassVar[tuple[type[Space], ...]] = (SearchSpace, OptimizerSpace)

    def known_keys(self) -> frozenset[str]:
        """Flat names of the space's values as well."""
        return super().known_keys() | frozenset(self.settings.space.flat_names())

    def start(self, config: dict[str, Any]) -> None:
        """Build the models and their optimizers, one for each replicate."""
        space = self.settings.space
        options = SGDOptions.from_config(config)
        require_space(options.optimizer, space)
        given = options.hyperparameters
        if given is None:
            given = {name: config[name] for name in space.flat_names() if name in config}
        self.values = self.schedules(trial_hyperparameters(space, given))
        trial_seed = options.trial_seed_or(evaluation_seed(self.settings.seed, self.values, self.epochs))
        self.build(trial_seed, lambda model: torch_optimizer(model, options.optimizer, space.groups))
        self.horizon = self.problem.horizon(self.epochs)
        self.epochs_per_step = options.epochs_per_step or self.epochs
        self.done_steps = 0

    def schedules(self, given: Numbers) -> Numbers:
        """What is trained with and recorded: the searched values themselves.

        Args:
            given: Searched values by name.

        Returns:
            Schedules by name, one value per window.
        """
        return given

    def step(self) -> dict[str, Any]:
        """Train on for ``epochs_per_step`` (default: to the end) and score."""
        end = self._next_report()
        every = [self._train_on(index, end) for index in range(self.settings.replicates)]
        instances = self.settings.replicates * (end - self.done_steps) * self.problem.batch_size
        self.done_steps = end
        epochs = self.epochs * self.done_steps / self.horizon
        outcome = self.result(mean_scores(every), self.values, epochs, instances)
        finished = self.done_steps == self.horizon or outcome["status"] != COMPLETED
        return outcome | {"done": finished}

    def _next_report(self) -> int:
        """The step of the next multiple of ``epochs_per_step``, rounded; a rest shorter than half of it is joined."""
        done = round(self.done_steps * self.epochs / (self.horizon * self.epochs_per_step))
        end = max(self.problem.horizon((done + 1) * self.epochs_per_step), self.done_steps + 1)
        return self.horizon if self.horizon - end < self.problem.horizon(self.epochs_per_step) / 2 else end

    def _train_on(self, index: int, end: int) -> dict[str, float]:
        """Train one replicate up to step ``end`` and score it."""
        model, optimizer, shapes = self.models[index], self.optimizers[index], self.settings.space.shapes()

        def update(step: int, batch: tuple[Tensor, Tensor]) -> None:
            now = shapes.at_step(self.values, step, self.horizon)
            sgd_step(model, optimizer, self.problem.loss, batch, now, self.settings.bound)

        return self.train_on(index, self.done_steps, end, update)

    def position(self) -> dict[str, Any]:
        """Steps done."""
        return {"done_steps": self.done_steps}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Take the steps as done.

        Args:
            position: What :meth:`position` gave.
        """
        self.done_steps = position["done_steps"]
