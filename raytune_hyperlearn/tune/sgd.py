"""Training with given hyperparameters: what black-box methods evaluate."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from raytune_hyperlearn.algorithms.schedules import at_step
from raytune_hyperlearn.algorithms.sgd import sgd_optimizer, sgd_step
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.hyperparameters import Hyperparameters, SearchSpace
from raytune_hyperlearn.problems import batches, derived_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable


def trial_hyperparameters(space: SearchSpace, given: Mapping[str, Any]) -> Hyperparameters:
    """Checked schedules from a config's ``hyperparameters``, nested by name or under flat names.

    Raises:
        ValueError: If they do not fit the space.
    """
    nested = all(name in space.initial() for name in given)
    return space.check(given) if nested and given else space.from_flat(given)


def evaluation_seed(seed: int, values: Mapping[str, Any], epochs: float) -> int:
    """Seed of the initialisation and data order of one evaluation: anew for each, the same when it is repeated."""
    return derived_seed(seed, zlib.crc32(json.dumps([values, epochs], sort_keys=True).encode()))


class SGDTrainable(HyperLearningTrainable):
    """Trains once with the config's hyperparameters and reports the scores; then the trial is done.

    Config keys beyond the shared ones (see :class:`TrialSettings`):

    - ``hyperparameters``: nested schedules or flat names; may also stand at the config's top level (flat).
    - ``epochs``: budget of this evaluation.
    - ``epochs_per_step``: report and allow a checkpoint every so many epochs; None (default) means once, at the end.
    - ``trial_seed``: seed of initialisation and data order; by default derived from the run's seed, the
      hyperparameters and the budget.
    """

    allowed: ClassVar[frozenset[str]] = frozenset({"hyperparameters", "epochs_per_step", "trial_seed"})

    def start(self, config: dict[str, Any]) -> None:
        """Build the model and the optimiser of one evaluation."""
        space = self.settings.space
        given = config.get("hyperparameters")
        if given is None:
            given = {name: config[name] for name in space.flat_names() if name in config}
        self.values = trial_hyperparameters(space, given)
        self.trial_seed = config.get("trial_seed")
        if self.trial_seed is None:
            self.trial_seed = evaluation_seed(self.settings.seed, self.values, self.epochs)
        per_step = config.get("epochs_per_step")
        if per_step is not None and not per_step > 0:
            raise ValueError(f"epochs_per_step is {per_step!r}; it must be positive or None")
        self.horizon = self.problem.horizon(self.epochs)
        self.steps_per_report = self.horizon if per_step is None else self.problem.horizon(per_step)
        self.model = self.new_model(self.trial_seed)
        self.optimizer = sgd_optimizer(self.model)
        self.done_steps = 0

    def step(self) -> dict[str, Any]:
        """Train on for ``epochs_per_step`` (default: to the end) and score."""
        end = min(self.done_steps + self.steps_per_report, self.horizon)
        self.model.train()
        with private_random_numbers(derived_seed(self.trial_seed, self.done_steps), self.device):
            for step, batch in enumerate(
                batches(
                    self.split.train,
                    self.problem.batch_size,
                    end,
                    self.trial_seed,
                    self.problem.augmentation,
                    first=self.done_steps,
                ),
                start=self.done_steps,
            ):
                now = at_step(self.values, step, self.horizon)
                sgd_step(self.model, self.optimizer, self.problem.loss, batch, now, self.settings.gradient_clamp)
        instances = (end - self.done_steps) * self.problem.batch_size
        self.done_steps = end
        self.model.eval()
        epochs = self.epochs * self.done_steps / self.horizon
        outcome = self.result(self.score(self.model), self.values, epochs, instances)
        finished = self.done_steps == self.horizon or outcome["status"] != "completed"
        return outcome | {"done": finished}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Model, optimiser and position."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done_steps": self.done_steps,
            "trial_seed": self.trial_seed,
        }
        torch.save(state, Path(checkpoint_dir) / "sgd.pt")

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Go on from :meth:`save_checkpoint`; the config's hyperparameters win over the optimiser's."""
        state = torch.load(Path(checkpoint_dir) / "sgd.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done_steps = state["done_steps"]
        self.trial_seed = state["trial_seed"]
