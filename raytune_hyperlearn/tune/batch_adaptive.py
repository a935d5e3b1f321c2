"""Batch adaptive training on Ray Tune.

Inside a trainable, a batch grows until it is worth its update, one epoch of instances per step::

    tune.run(BatchAdaptiveTrainable, config={"problem": "fashion-mnist-cnn3", "momentum": 0.9})

Between the steps of anybody's own trainable, which reports its loss s, μ and σ, a scheduler chooses the next batch
size by the same rule::

    tune.run(MyTrainable, config={"learning_rate": 0.02}, scheduler=BatchAdaptiveScheduler(max_batch_size=512))
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import torch
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from torch import nn

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule, Walk, best_batch_size
from raytune_hyperlearn.algorithms.ruled_sgd import BatchSizeRule, RuledSGD
from raytune_hyperlearn.algorithms.sampler import EpochSampler
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.checked import Count, Described, Fraction, Positive, record
from raytune_hyperlearn.problems import Purpose, derived_seed, evaluate
from raytune_hyperlearn.results import COMPLETED, OUT_OF_MEMORY
from raytune_hyperlearn.tune.memory import Memory, largest_batch_size
from raytune_hyperlearn.tune.scheduler import HyperLearningScheduler
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores
from raytune_hyperlearn.tune.trial_settings import SeedOfTrial

BATCH_SIZE, LIMIT = "batch_size", "batch_size_limit"
REPORTED = ("loss", "drift", "deviation")
"""What a trainable must report for :class:`BatchAdaptiveScheduler`."""


@record
class BatchSizeOptions(SeedOfTrial):
    """How a network is trained at batch sizes that a rule chooses; keys of the trial's config.

    Attributes:
        rule: Builds the rule: :class:`GaussianWalkRule` (batch adaptive training) or ``partial`` of it, or one of
            ``raytune_hyperlearn.baselines.batch_sizes`` such as ``partial(Constant, 32)``, or the user's own.
        learning_rate: η > 0.
        momentum: ρ in [0, 1).
        max_batch_size: B_max ≥ 1.
        micro_batch_size: Instances evaluated at once, or None to find the largest number that fits.
        channels_last: Keep images with their channels last in memory: the same training up to rounding, and faster
            where convolutions have many channels.
        trial_seed: Seed of initialization, data order and dropout; by default it depends on the run's seed alone, so
            that all rules start from the same network and data order.
    """

    rule: Annotated[
        Callable[[], BatchSizeRule], Described("a function that builds a batch-size rule, as GaussianWalkRule does")
    ] = GaussianWalkRule
    learning_rate: Positive = 0.02
    momentum: Fraction = 0.0
    max_batch_size: Count = 512
    micro_batch_size: Count | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        self.rule()  # refuses its own settings


class BatchAdaptiveTrainable(HyperLearningTrainable):
    """One epoch of instances per ``step``, in batches whose sizes a rule chooses; batch adaptive training by default.

    Config keys: the shared ones (``batch_size`` is of no use here, gradients must have no bound) and the fields of
    :class:`BatchSizeOptions`.

    Besides the shared names a result holds ``training_loss`` (of the whole training part, without dropout; the time
    that it takes is counted with test scoring, as no method uses it), ``batch_sizes`` (of every update of this
    epoch, of the first replicate), and ``mean_batch_size``, ``largest_batch_size`` and ``updates`` (of this epoch,
    of all replicates). ``hyperparameters`` holds the mean batch size of every epoch so far.
    """

    full_precision_only: ClassVar[bool] = True
    allowed: ClassVar[frozenset[str]] = frozenset(BatchSizeOptions.__dataclass_fields__)

    def start(self, config: dict[str, Any]) -> None:
        """Check the options and build models and optimizers, one for each replicate.

        Raises:
            ValueError: In one line, if an option is not allowed or a gradient clamp is given.
        """
        self.options = BatchSizeOptions.from_config(config)
        for name in ("gradient_clamp", "gradient_norm"):
            given = getattr(self.settings, name)
            if given is not None:
                raise ValueError(f"{name} is {given}; {type(self).__name__} has none, it must be None")
        seeds = self.replicate_seeds(self.options.trial_seed_or(derived_seed(self.settings.seed, Purpose.TRIAL)))
        layout = torch.channels_last if self.options.channels_last else torch.preserve_format
        self.models = [self.new_model(seed).to(memory_format=layout) for seed in seeds]
        self.optimizers = [self._optimizer(model, seed) for model, seed in zip(self.models, seeds, strict=True)]
        self.done_epochs = 0.0
        self.mean_sizes: list[float] = []

    def step(self) -> dict[str, Any]:
        """Train every replicate until it has scanned one more epoch of instances, and score."""
        end = min(self.done_epochs + 1, self.epochs)
        scanned = sum(optimizer.sampler.instances for optimizer in self.optimizers)
        sizes = [self._train_until(end, optimizer) for optimizer in self.optimizers]
        scores = mean_scores([self._scores(model) for model in self.models])
        self.done_epochs = end
        every = [size for replicate in sizes for size in replicate]
        self.mean_sizes.append(sum(every) / len(every))
        outcome = self.result(
            scores,
            self._hyperparameters(),
            end,
            sum(optimizer.sampler.instances for optimizer in self.optimizers) - scanned,
            batch_sizes=sizes[0],
            mean_batch_size=self.mean_sizes[-1],
            largest_batch_size=max(every),
            updates=len(every),
        )
        outcome.setdefault("training_loss", math.inf)
        return outcome | {"done": end >= self.epochs or outcome["status"] != COMPLETED}

    def state_dict(self) -> dict[str, Any]:
        """Models; momentum buffers, rules, generators and positions inside the epoch; mean batch sizes so far."""
        return {
            "models": [model.state_dict() for model in self.models],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "done_epochs": self.done_epochs,
            "mean_sizes": self.mean_sizes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; the config's learning rate and momentum win over the optimizers'."""
        for model, saved in zip(self.models, state["models"], strict=True):
            model.load_state_dict(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            optimizer.param_groups[0]["lr"] = self.options.learning_rate
            optimizer.param_groups[0]["momentum"] = self.options.momentum
        self.done_epochs = state["done_epochs"]
        self.mean_sizes = list(state["mean_sizes"])

    def _optimizer(self, model: nn.Module, seed: int) -> RuledSGD:
        train = self.split.train
        return RuledSGD(
            model,
            self.problem.loss,
            EpochSampler(train.inputs, train.targets, derived_seed(seed, Purpose.ORDER), self.problem.augmentation),
            self.options.rule(),
            lr=self.options.learning_rate,
            momentum=self.options.momentum,
            max_batch_size=self.options.max_batch_size,
            micro_batch_size=self.options.micro_batch_size,
            seed=derived_seed(seed, Purpose.DROPOUT),
        )

    def _train_until(self, epochs: float, optimizer: RuledSGD) -> list[int]:
        """Batch sizes of the updates until ``epochs`` have been scanned in all; fewer if training diverges."""
        optimizer.model.train()
        sizes = []
        while optimizer.sampler.instances < epochs * len(optimizer.sampler):
            update = optimizer.step()
            sizes.append(update.batch_size)
            if not math.isfinite(update.loss):
                break
        return sizes

    def _scores(self, model: nn.Module) -> dict[str, float]:
        model.eval()
        scores = self.score(model)
        begun = time.perf_counter()
        training_loss, _ = evaluate(model, self.problem, self.split.train)
        self.test_seconds += time.perf_counter() - begun
        return {**scores, "training_loss": training_loss}

    def _hyperparameters(self) -> Numbers:
        return {
            "learning_rate": [self.options.learning_rate],
            "momentum": [self.options.momentum],
            "weight_decay": [0.0],
            "batch_size": list(self.mean_sizes),
        }


class BatchAdaptiveScheduler(HyperLearningScheduler):
    """Chooses a live trial's next batch size from what its last step reported: m* of batch adaptive training.

    The trainable, anybody's own, reports after each step ``loss`` (s, mean loss of its batch or batches), ``drift``
    (f·P, or |f|² without momentum) and ``deviation`` (√(fᵀΣf), of single instances); has the learning rate η in its
    config or its result as ``learning_rate``; and trains at the config's ``batch_size``, which changes by
    ``apply_update({"batch_size": m})``, called between its steps. A step may be one update or many.

    A trainable that also reports ``memory_fixed`` and ``memory_peak`` (bytes) is kept within ``memory_limit``. One
    that runs out of memory nevertheless may report ``status`` "out_of_memory" instead of the three numbers, and gets
    half of the batch size that failed, never more again. All that is decided travels in the trial's config, so a
    trial that is started again goes on where it was.

    Args:
        max_batch_size: Largest batch size.
        min_batch_size: Smallest batch size, and the first where the config has none.
        minimum_loss: S*, the least attainable loss.
        instances_per_device: Largest batch size per GPU of the trial (per trial, where it has none), or None.
        memory_limit: Bytes that a trial may use, or None.

    Raises:
        ValueError: In one line, if an argument is not allowed.
    """

    def __init__(
        self,
        max_batch_size: int = 512,
        min_batch_size: int = 32,
        minimum_loss: float = 0.0,
        instances_per_device: int | None = None,
        memory_limit: float | None = None,
    ) -> None:
        super().__init__()
        if min_batch_size < 1:
            raise ValueError(f"min_batch_size is {min_batch_size}; it must be at least 1")
        if max_batch_size < min_batch_size:
            raise ValueError(
                f"max_batch_size is {max_batch_size}; it must be at least min_batch_size, {min_batch_size}"
            )
        if not math.isfinite(minimum_loss):
            raise ValueError(f"minimum_loss is {minimum_loss}; it must be finite")
        if instances_per_device is not None and instances_per_device < min_batch_size:
            raise ValueError(
                f"instances_per_device is {instances_per_device}; it must be at least min_batch_size, "
                f"{min_batch_size}, or None"
            )
        if memory_limit is not None and not memory_limit > 0:
            raise ValueError(f"memory_limit is {memory_limit}; it must be a positive number of bytes or None")
        self.max_batch_size, self.min_batch_size, self.minimum_loss = max_batch_size, min_batch_size, minimum_loss
        self.instances_per_device = instances_per_device
        self.memory_limit = memory_limit

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Give the trial a batch size to begin with; adding it again changes nothing.

        Raises:
            ValueError: If the trainable cannot change its batch size between steps.
        """
        trainable = trial.get_trainable_cls()
        if not hasattr(trainable, "apply_update"):
            name = getattr(trainable, "__name__", trial.trainable_name)
            raise ValueError(
                f"trainable is {name}; BatchAdaptiveScheduler needs one with a method apply_update(update)"
            )
        if BATCH_SIZE not in trial.config:
            trial.set_config({**trial.config, BATCH_SIZE: self.min_batch_size})

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Change the trial's batch size; after exhausted memory to half of what failed."""
        if result.get("status") != OUT_OF_MEMORY or result.get("done"):
            return super().on_trial_result(tune_controller, trial, result)
        size = trial.config[BATCH_SIZE]
        if size == 1:
            return str(TrialScheduler.STOP)
        self.send(trial, {BATCH_SIZE: size // 2, LIMIT: size // 2})
        return str(TrialScheduler.CONTINUE)

    def update(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        """The next batch size.

        Raises:
            ValueError: If the result lacks a number that is needed, or holds one that is not allowed.
        """
        known = {**trial.config, **result}
        for name in (*REPORTED, "learning_rate"):
            if not isinstance(known.get(name), numbers.Real):
                where = "the config or the result" if name == "learning_rate" else "the result"
                raise ValueError(f"{name} is {known.get(name)!r}; {where} must hold a number under this name")
        walk = Walk(known["loss"], known["drift"], known["deviation"], known["learning_rate"], self.minimum_loss)
        largest = self.allowed(trial, result)
        return {BATCH_SIZE: max(min(self.min_batch_size, largest), best_batch_size(walk, largest))}

    def allowed(self, trial: Trial, result: Mapping[str, Any]) -> int:
        """The largest batch size within all limits.

        Args:
            trial: The trial, with its batch size and its devices.
            result: Its newest result, with the memory it used.

        Returns:
            A number of instances.
        """
        limits = [self.max_batch_size, trial.config.get(LIMIT, self.max_batch_size)]
        if self.instances_per_device is not None:
            gpus = trial.placement_group_factory.required_resources.get("GPU", 0.0)
            limits.append(self.instances_per_device * max(1, math.floor(gpus)))
        if self.memory_limit is not None and {"memory_fixed", "memory_peak"} <= result.keys():
            memory = Memory(result["memory_fixed"], result["memory_peak"])
            limits.append(largest_batch_size(self.memory_limit, trial.config[BATCH_SIZE], memory))
        return int(min(limits))
