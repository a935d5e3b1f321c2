"""Hypergradient descent on Ray Tune: hyperparameters learned online while one network trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from raytune_hyperlearn.algorithms.hypergradient_descent import SGDHD, HyperRates
from raytune_hyperlearn.algorithms.sgd import HYPERPARAMETERS
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.problems import batches, derived_seed
from raytune_hyperlearn.tune.sgd import evaluation_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable


def start_values(space: SearchSpace, given: Mapping[str, Any]) -> dict[str, float]:
    """One start value per hyperparameter: what is given, else the space's (the first of a schedule).

    Raises:
        ValueError: If a name is unknown or a value is not a finite number.
    """
    values = {name: schedule[0] for name, schedule in space.initial().items()}
    for name, value in given.items():
        if name not in values:
            raise ValueError(f"start holds {name!r}; it must be {', '.join(values)}")
        if not math.isfinite(value):
            raise ValueError(f"start of {name} is {value}; it must be a finite number")
        values[name] = float(value)
    return values


class HypergradientDescentTrainable(HyperLearningTrainable):
    """One epoch of SGD-HD per ``step``, with learning rate, momentum and weight decay learned online.

    Config keys beyond the shared ones:

    - ``start``: start values by name; what is missing starts where the space starts.
    - ``hyper_rates``: fields of :class:`HyperRates` (default: 1e-4 for the learning rate, 0 for the others).
    - ``bounded``: keep the values inside the space's ranges; off by default, as published.
    - ``trial_seed``: as in :class:`SGDTrainable`.

    The result's ``hyperparameters`` hold the mean value of each epoch so far.
    """

    allowed: ClassVar[frozenset[str]] = frozenset({"start", "hyper_rates", "bounded", "trial_seed"})

    def start(self, config: dict[str, Any]) -> None:
        """Build the model and the optimiser that learns."""
        begin = start_values(self.settings.space, config.get("start", {}))
        rates = HyperRates(**config.get("hyper_rates", {}))
        self.trial_seed = config.get("trial_seed")
        if self.trial_seed is None:
            identity = {"start": begin, "rates": [rates.learning_rate, rates.momentum, rates.weight_decay]}
            self.trial_seed = evaluation_seed(self.settings.seed, identity, self.epochs)
        self.horizon = self.problem.horizon(self.epochs)
        self.steps_per_epoch = min(self.problem.horizon(1), self.horizon)
        self.model = self.new_model(self.trial_seed)
        bounds = self.settings.space.ranges() if config.get("bounded", False) else {}
        self.optimizer = SGDHD(self.model.parameters(), **begin, rates=rates, bounds=bounds)
        self.schedule: dict[str, list[float]] = {name: [] for name in HYPERPARAMETERS}
        self.done_steps = 0

    def step(self) -> dict[str, Any]:
        """Train for one epoch, learning as it goes, and score."""
        end = min(self.done_steps + self.steps_per_epoch, self.horizon)
        if self.horizon - end < self.steps_per_epoch / 2:
            end = self.horizon  # a rest shorter than half an epoch joins the last one
        totals = {name: torch.zeros((), device=self.device) for name in HYPERPARAMETERS}
        self.model.train()
        with private_random_numbers(derived_seed(self.trial_seed, self.done_steps), self.device):
            for inputs, targets in batches(
                self.split.train,
                self.problem.batch_size,
                end,
                self.trial_seed,
                self.problem.augmentation,
                first=self.done_steps,
            ):
                self.optimizer.zero_grad()
                self.problem.loss(self.model(inputs), targets).mean().backward()
                if self.settings.gradient_clamp is not None:
                    torch.nn.utils.clip_grad_value_(self.model.parameters(), self.settings.gradient_clamp)
                self.optimizer.step()
                for name, value in self.optimizer.hyperparameters.items():
                    totals[name] += value
        steps = end - self.done_steps
        for name, total in totals.items():
            self.schedule[name].append(total.item() / steps)
        self.done_steps = end
        self.model.eval()
        epochs = self.epochs * end / self.horizon
        values = {name: list(schedule) for name, schedule in self.schedule.items()}
        outcome = self.result(self.score(self.model), values, epochs, steps * self.problem.batch_size)
        return outcome | {"done": end == self.horizon or outcome["status"] != "completed"}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Model, optimiser with its learned values, and position."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule,
            "done_steps": self.done_steps,
            "trial_seed": self.trial_seed,
        }
        torch.save(state, Path(checkpoint_dir) / "hypergradient_descent.pt")

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Go on from :meth:`save_checkpoint`."""
        path = Path(checkpoint_dir) / "hypergradient_descent.pt"
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule = {name: list(values) for name, values in state["schedule"].items()}
        self.done_steps = state["done_steps"]
        self.trial_seed = state["trial_seed"]
