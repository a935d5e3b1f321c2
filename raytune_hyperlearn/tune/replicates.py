"""Base of the trainables that train on from step to step: a network per replicate, all in one checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable

OptimizerType = TypeVar("OptimizerType", bound=torch.optim.Optimizer)


class ReplicatesTrainable(HyperLearningTrainable, Generic[OptimizerType]):
    """Networks and optimizers of all replicates.

    Subclasses call :meth:`build` in ``start`` and :meth:`train_on` in ``step``, and say in :meth:`position` and
    :meth:`go_to` what a checkpoint holds beside networks, optimizers and seeds.
    """

    models: list[nn.Module]
    optimizers: list[OptimizerType]
    seeds: list[int]

    def build(self, trial_seed: int, optimizer: Callable[[nn.Module], OptimizerType]) -> None:
        """Draw a network for each replicate.

        Args:
            trial_seed: Of which the replicates' seeds are derived.
            optimizer: Builds a network's optimizer.
        """
        self.seeds = self.replicate_seeds(trial_seed)
        self.models = [self.new_model(seed) for seed in self.seeds]
        self.optimizers = [optimizer(model) for model in self.models]

    def train_on(
        self, index: int, first: int, end: int, update: Callable[[int, tuple[Tensor, Tensor]], object]
    ) -> dict[str, float]:
        """Train one replicate from step ``first`` up to step ``end``.

        Args:
            index: Of the replicate.
            first: First step.
            end: The step after the last.
            update: Called with each step's number and batch; changes the network.

        Returns:
            The network's scores.
        """
        model, seed = self.models[index], self.seeds[index]
        model.train()
        with private_random_numbers(derived_seed(seed, Purpose.DROPOUT, first), self.device):
            order = batches(
                self.split.train, self.problem.batch_size, end, seed, self.problem.augmentation, first=first
            )
            for step, batch in enumerate(order, start=first):
                update(step, batch)
        model.eval()
        return self.score(model)

    def position(self) -> dict[str, Any]:
        """What a checkpoint holds beside networks, optimizers and seeds."""
        raise NotImplementedError(f"{type(self).__name__} must implement position")

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Go on from :meth:`position`."""
        raise NotImplementedError(f"{type(self).__name__} must implement go_to")

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimizers, seeds and position."""
        return {
            "models": [model.state_dict() for model in self.models],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "seeds": self.seeds,
            **self.position(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; the config's hyperparameters win over the optimizers'."""
        for model, saved in zip(self.models, state["models"], strict=True):
            model.load_state_dict(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.seeds = list(state["seeds"])
        self.go_to(state)
