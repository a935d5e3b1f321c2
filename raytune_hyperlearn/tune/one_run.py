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
from dataclasses import asdict, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raytune_hyperlearn.checked import NonNegative, Positive, read, record
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores
from raytune_hyperlearn.tune.trial_settings import SeedOfTrial

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

    def step(self, loss: Tensor, fraction: float, bound: GradientBound | None) -> None:
        """One update.

        Args:
            loss: Of the batch [], with its graph.
            fraction: Of the training that is done.
            bound: On the gradient, or None.
        """
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._annealing(fraction)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if bound is not None:
            bound.apply_to([p for g in self.optimizer.param_groups for p in g["params"]])
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


@record
class ScheduleFreeOptions:
    """Numbers of Schedule-Free AdamW.

    Attributes:
        learning_rate: The authors' default.
        weight_decay: Decoupled, as AdamW's.
        warmup_fraction: Part of the training in which the learning rate rises.
    """

    learning_rate: Positive = 0.0025
    weight_decay: NonNegative = 0.0
    warmup_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05

    def optimizing(self, model: nn.Module, horizon: int) -> Optimizing:
        """The optimizer of a model's parameters for a training of ``horizon`` steps.

        Args:
            model: The module to train.
            horizon: Number T of steps, at least 1.
        """
        from schedulefree import AdamWScheduleFree

        warmup = round(self.warmup_fraction * horizon)
        rate, decay = self.learning_rate, self.weight_decay
        return ScheduleFree(AdamWScheduleFree(_trainable(model), lr=rate, weight_decay=decay, warmup_steps=warmup))


@record
class ProdigyOptions:
    """Numbers of Prodigy, which is annealed by half a cosine.

    Attributes:
        learning_rate: Factor on its own estimate.
        weight_decay: Decoupled, as AdamW's.
    """

    learning_rate: Positive = 1.0
    weight_decay: NonNegative = 0.0

    def optimizing(self, model: nn.Module, horizon: int) -> Optimizing:
        """The optimizer of a model's parameters; how long the training is does not matter to it.

        Args:
            model: The module to train.
            horizon: Not used.
        """
        from prodigyopt import Prodigy

        with redirect_stdout(io.StringIO()):  # it prints what its weight decay is
            optimizer = Prodigy(_trainable(model), lr=self.learning_rate, weight_decay=self.weight_decay)
        return Optimizing(optimizer, lambda fraction: (1 + math.cos(math.pi * fraction)) / 2)


OPTIMIZERS: Mapping[str, type[ScheduleFreeOptions] | type[ProdigyOptions]] = {
    "schedule-free": ScheduleFreeOptions,
    "prodigy": ProdigyOptions,
}


@record
class OneRunOptions(SeedOfTrial):
    """Which optimizer trains; keys of the trial's config.

    Attributes:
        optimizer: Its name.
        options: :class:`ScheduleFreeOptions` or :class:`ProdigyOptions`, or a mapping of the fields; also the result's
            ``hyperparameters``, as schedules of one value.
        trial_seed: Seed of initialization and data order; by default the run's.
    """

    optimizer: Literal["schedule-free", "prodigy"]
    options: Any = field(default_factory=dict)

    def of_the_optimizer(self) -> ScheduleFreeOptions | ProdigyOptions:
        """The optimizer's own options.

        Raises:
            ValueError: If they are not its own, or one is not allowed.
        """
        return read(OPTIMIZERS[self.optimizer], self.options, what=f"option of {self.optimizer}")


class OneRunTrainable(HyperLearningTrainable):
    """The whole training in one step, recorded once.

    Config keys: the shared ones and the fields of :class:`OneRunOptions`.
    """

    allowed: ClassVar[frozenset[str]] = frozenset(OneRunOptions.__dataclass_fields__)

    def start(self, config: dict[str, Any]) -> None:
        """Read the options."""
        options = OneRunOptions.from_config(config)
        self.options = options.of_the_optimizer()
        self.trial_seed = options.trial_seed_or(derived_seed(self.settings.seed, Purpose.TRIAL))

    def step(self) -> dict[str, Any]:
        """Train and score."""
        every = [self._train_and_score(seed) for seed in self.replicate_seeds(self.trial_seed)]
        instances = self.settings.replicates * self.problem.horizon(self.epochs) * self.problem.batch_size
        values = {name: [float(value)] for name, value in asdict(self.options).items()}
        return self.result(mean_scores(every), values, self.epochs, instances) | {"done": True}

    def _train_and_score(self, seed: int) -> dict[str, float]:
        problem, horizon = self.problem, self.problem.horizon(self.epochs)
        model = self.new_model(seed)
        optimizing = self.options.optimizing(model, horizon)
        model.train()
        optimizing.begin()
        with private_random_numbers(derived_seed(seed, Purpose.DROPOUT, 0), self.device):
            order = batches(self.split.train, problem.batch_size, horizon, seed, problem.augmentation)
            for step, (inputs, targets) in enumerate(order):
                loss = problem.loss(model(inputs), targets).mean()
                optimizing.step(loss, step / horizon, self.settings.bound)
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
