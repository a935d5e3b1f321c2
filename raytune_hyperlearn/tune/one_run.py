"""One training with an optimizer that promises to need no tuning: what a practitioner would try first.

- **Schedule-Free** AdamW (Defazio et al., NeurIPS 2024): an average of iterates in place of a schedule. Networks are
  scored at the average, for which BatchNorm's running statistics are first renewed, as its authors ask.
- **Prodigy** (Mishchenko and Defazio, ICML 2024): Adam that estimates its own step size; annealed by half a cosine, as
  its authors recommend.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores

RENEWING_BATCHES = 50
"""Batches that renew BatchNorm's statistics at an average of weights; the number in Schedule-Free's instructions."""


class Optimizing:
    """An optimizer in the course of one training.

    Args:
        optimizer: With its own learning rate.
        annealing: Factor of the learning rate by fraction of the training done.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, annealing: Callable[[float], float] = lambda _: 1.0) -> None:
        self.optimizer, self._annealing = optimizer, annealing
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, loss: Tensor, fraction: float, gradient_clamp: float | None) -> None:
        """One update.

        Args:
            loss: Of the batch [], with its graph.
            fraction: Of the training that is done.
            gradient_clamp: Bound on every element of the gradient, or None.
        """
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._annealing(fraction)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if gradient_clamp is not None:
            torch.nn.utils.clip_grad_value_(
                [p for g in self.optimizer.param_groups for p in g["params"]], gradient_clamp
            )
        self.optimizer.step()

    def begin(self) -> None:
        """Before training."""

    def finish(self, model: nn.Module, some: Iterable[tuple[Tensor, Tensor]]) -> None:
        """After training, before scoring; ``some`` batches of the training data are at hand."""


class ScheduleFree(Optimizing):
    """Schedule-Free AdamW, which must be told when it trains and when it is looked at."""

    def begin(self) -> None:
        """Go to the point at which gradients are taken."""
        self.optimizer.train()  # type: ignore[attr-defined]

    def finish(self, model: nn.Module, some: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Go to the average, and renew BatchNorm's statistics there."""
        self.optimizer.eval()  # type: ignore[attr-defined]
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            model.train()
            with torch.no_grad():
                for inputs, _ in some:
                    model(inputs)


def schedule_free(model: nn.Module, options: Mapping[str, Any], horizon: int) -> Optimizing:
    """Schedule-Free AdamW.

    Args:
        model: Whose parameters are trained.
        options: ``learning_rate``, ``weight_decay`` and ``warmup_fraction`` of the training.
        horizon: Steps of the training.
    """
    from schedulefree import AdamWScheduleFree

    warmup = round(options["warmup_fraction"] * horizon)
    rate, decay = options["learning_rate"], options["weight_decay"]
    return ScheduleFree(AdamWScheduleFree(_trainable(model), lr=rate, weight_decay=decay, warmup_steps=warmup))


def prodigy(model: nn.Module, options: Mapping[str, Any], horizon: int) -> Optimizing:
    """Prodigy under half a cosine.

    Args:
        model: Whose parameters are trained.
        options: ``learning_rate`` (1 means its own estimate) and ``weight_decay``.
        horizon: Steps of the training.
    """
    from prodigyopt import Prodigy

    rate, decay = options["learning_rate"], options["weight_decay"]
    with redirect_stdout(io.StringIO()):  # it prints what its weight decay is
        optimizer = Prodigy(_trainable(model), lr=rate, weight_decay=decay)
    return Optimizing(optimizer, lambda fraction: (1 + math.cos(math.pi * fraction)) / 2)


OPTIMIZERS: Mapping[str, Callable[[nn.Module, Mapping[str, Any], int], Optimizing]] = {
    "schedule-free": schedule_free,
    "prodigy": prodigy,
}


class OneRunTrainable(HyperLearningTrainable):
    """The whole training in one step, recorded once.

    Config keys beyond the shared ones:

    - ``optimizer``: ``schedule-free`` or ``prodigy``.
    - ``options``: the optimizer's numbers, see :func:`schedule_free` and :func:`prodigy`; also the result's
      ``hyperparameters``, as schedules of one value.
    - ``trial_seed``: seed of initialization and data order; by default the run's.
    """

    allowed: ClassVar[frozenset[str]] = frozenset({"optimizer", "options", "trial_seed"})

    def start(self, config: dict[str, Any]) -> None:
        """Check the optimizer's name."""
        name = str(config.get("optimizer"))
        if name not in OPTIMIZERS:
            raise ValueError(f"optimizer is {name!r}; it must be one of {', '.join(OPTIMIZERS)}")
        self.optimizing, self.options = OPTIMIZERS[name], dict(config.get("options", {}))
        self.trial_seed = config.get("trial_seed", derived_seed(self.settings.seed, Purpose.TRIAL))

    def step(self) -> dict[str, Any]:
        """Train and score."""
        every = [self._train_and_score(seed) for seed in self.replicate_seeds(self.trial_seed)]
        instances = self.settings.replicates * self.problem.horizon(self.epochs) * self.problem.batch_size
        values = {name: [float(value)] for name, value in self.options.items()}
        return self.result(mean_scores(every), values, self.epochs, instances) | {"done": True}

    def _train_and_score(self, seed: int) -> dict[str, float]:
        problem, horizon = self.problem, self.problem.horizon(self.epochs)
        model = self.new_model(seed)
        optimizing = self.optimizing(model, self.options, horizon)
        model.train()
        optimizing.begin()
        with private_random_numbers(derived_seed(seed, Purpose.DROPOUT, 0), self.device):
            order = batches(self.split.train, problem.batch_size, horizon, seed, problem.augmentation)
            for step, (inputs, targets) in enumerate(order):
                loss = problem.loss(model(inputs), targets).mean()
                optimizing.step(loss, step / horizon, self.settings.gradient_clamp)
            some = min(RENEWING_BATCHES, horizon)
            optimizing.finish(model, batches(self.split.train, problem.batch_size, some, seed, problem.augmentation))
        model.eval()
        return self.score(model)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
