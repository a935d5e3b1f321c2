"""Arbiter on Ray Tune: a batch size learned while a network trains, and a scheduler that grants it.

    tune.run(ArbiterTrainable, config={"problem": "digits"}, scheduler=ArbiterScheduler(memory_limit=8e9))

With Tune's default scheduler the trainable takes its agent's decisions itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

import ray
import torch
from ray.tune import PlacementGroupFactory
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, ResourceChangingScheduler, TrialScheduler

from raytune_hyperlearn.algorithms.arbiter import Arbiter
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.checked import record
from raytune_hyperlearn.problems import Purpose, derived_seed, evaluate
from raytune_hyperlearn.results import COMPLETED
from raytune_hyperlearn.tune.arbiter_training import NEEDS_RECORD, BatchSizeTraining, Epoch, TrainingOptions
from raytune_hyperlearn.tune.memory import Memory, largest_batch_size
from raytune_hyperlearn.tune.scheduler import UPDATED_BY, FromScheduler, HyperLearningScheduler
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, mean_scores

DECIDED = "decided"


@record
class FromArbiterScheduler(FromScheduler):
    """What an :class:`ArbiterScheduler` puts into a trial's config: its last :func:`decision` too."""

    decided: Mapping[str, Any] = field(default_factory=lambda: {"epoch": -1})


class ArbiterTrainable(HyperLearningTrainable):
    """One epoch per ``step`` at the batch size that Arbiter, or a control of it, has chosen.

    Config keys: the shared ones (``batch_size`` is B_0; ``epochs`` must be whole) and the fields of
    :class:`TrainingOptions`.

    A control that needs a learned schedule and is given none trains with Arbiter first, from the same seed, within
    its first step: that time counts, those scores do not.

    Besides the shared names a result holds, with one entry per replicate: ``batch_sizes`` (of this epoch),
    ``next_batch_sizes`` (decided for the next one), ``learning_rates`` (of every inner step of this epoch); means
    over the replicates: ``mean_batch_size``, ``outer_loss``, ``mixture``, ``warm_up_steps``, ``training_loss`` (of
    the whole training part, without dropout; the time that it takes is counted with test scoring, as no method uses
    it); and ``updates`` (a sum), ``memory_fixed`` and ``memory_peak`` (bytes) and ``with_replacement`` (whether the
    validation set is smaller than B_max).
    """

    full_precision_only: ClassVar[bool] = True
    allowed: ClassVar[frozenset[str]] = frozenset(TrainingOptions.__dataclass_fields__) | {DECIDED, UPDATED_BY}

    def start(self, config: dict[str, Any]) -> None:
        """Check the options and build what is trained.

        Raises:
            ValueError: In one line, if an option is not allowed or ``epochs`` is not a whole number.
        """
        self.options = TrainingOptions.from_config(config)
        if self.epochs != int(self.epochs):
            raise ValueError(f"epochs is {self.epochs}; {type(self).__name__} needs a whole number")
        self.options.check_sizes(self.problem.batch_size, len(self.split.train), self.problem.name)
        self.makes_decisions = FromArbiterScheduler.from_config(config).updates_itself
        own_seed = derived_seed(self.settings.seed, Purpose.TRIAL)
        self.seeds = self.replicate_seeds(self.options.trial_seed_or(own_seed))
        self.recorded: list[list[int]] | None = None
        self.trainings: list[BatchSizeTraining] = []
        if self.options.recorded is not None:
            self._take_record([list(schedule) for schedule in self.options.recorded])
        elif self.options.chosen_by not in NEEDS_RECORD:
            self.trainings = [self._training(self.options, seed) for seed in self.seeds]

    @property
    def done_epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.trainings[0].sizes) if self.trainings else 0

    def step(self) -> dict[str, Any]:
        """Train every replicate for one epoch, decide, and score."""
        if not self.trainings:
            self._take_record([self._learned_schedule(seed) for seed in self.seeds])
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            fixed = torch.cuda.memory_allocated(self.device)
        every = [training.train_epoch() for training in self.trainings]
        if self.device.type == "cuda":
            memory = Memory(fixed, torch.cuda.max_memory_allocated(self.device))
        else:
            memory = max((training.memory() for training in self.trainings), key=lambda one: one.peak)
        outcome = self.result(
            mean_scores([self._score(training) for training in self.trainings]),
            self._schedules(),
            self.done_epochs,
            sum(epoch.updates * epoch.batch_size for epoch in every),
            **_summary(every),
            next_batch_sizes=[training.next_batch_size for training in self.trainings],
            memory_fixed=memory.fixed,
            memory_peak=memory.peak,
            with_replacement=any(_with_replacement(training) for training in self.trainings),
        )
        outcome.setdefault("training_loss", math.inf)
        if self.makes_decisions:
            self.apply_update({DECIDED: decision(outcome, None)})
        return outcome | {"done": self.done_epochs >= self.epochs or outcome["status"] != COMPLETED}

    def apply_update(self, update: Mapping[str, Any]) -> None:
        """Take the batch sizes decided for the next epoch; called between steps, by the scheduler or by itself.

        Args:
            update: The decision, under its config key.
        """
        self.config = {**self.config, DECIDED: update[DECIDED]}
        self._follow(update[DECIDED])

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimizers, agents with their generators, schedules so far, and the controls' record."""
        return {"recorded": self.recorded, "trainings": [training.state_dict() for training in self.trainings]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; a decision in the config for the next epoch wins over the agent's."""
        if state["recorded"] is not None:
            self._take_record(state["recorded"])
        for training, saved in zip(self.trainings, state["trainings"], strict=True):
            training.load_state_dict(saved)
        self._follow(FromArbiterScheduler.from_config(self.config).decided)

    def make_again(self, steps: int) -> None:
        """As the agents decide, but for a decision in the config for the next epoch."""
        decided = FromArbiterScheduler.from_config(self.config).decided
        super().make_again(steps)
        self._follow(decided)

    def _follow(self, decided: Mapping[str, Any]) -> None:
        if decided["epoch"] == self.done_epochs:
            for training, size in zip(self.trainings, decided["batch_sizes"], strict=True):
                training.next_batch_size = size

    def _training(self, options: TrainingOptions, seed: int, recorded: list[int] | None = None) -> BatchSizeTraining:
        bound = self.settings.bound
        return BatchSizeTraining(self.problem, self.split, options, int(self.epochs), seed, bound, recorded)

    def _learned_schedule(self, seed: int) -> list[int]:
        """The schedule that Arbiter learns from this seed."""
        training = self._training(self.options.learning, seed)
        for _ in range(int(self.epochs)):
            training.train_epoch()
        return training.sizes

    def _take_record(self, recorded: list[list[int]]) -> None:
        if len(recorded) != len(self.seeds):
            raise ValueError(f"recorded holds {len(recorded)} schedules; replicates is {len(self.seeds)}")
        self.recorded = recorded
        pairs = zip(self.seeds, recorded, strict=True)
        self.trainings = [self._training(self.options, seed, schedule) for seed, schedule in pairs]

    def _score(self, training: BatchSizeTraining) -> dict[str, float]:
        training.model.eval()
        scores = self.score(training.model)
        begun = time.perf_counter()
        training_loss, _ = evaluate(training.model, self.problem, self.split.train)
        self.test_seconds += time.perf_counter() - begun
        return {**scores, "training_loss": training_loss}

    def _schedules(self) -> Numbers:
        """What the networks were trained with, epoch by epoch: means over the replicates."""

        def means(every: list[list[float]]) -> list[float]:
            return [sum(values) / len(values) for values in zip(*every, strict=True)]

        given = {name: list(self.options.hyperparameters[name]) for name in ("momentum", "weight_decay")}
        return {
            "learning_rate": means([training.rates for training in self.trainings]),
            **given,
            "batch_size": means([[float(size) for size in training.sizes] for training in self.trainings]),
        }


def _summary(every: list[Epoch]) -> dict[str, Any]:
    """One epoch's entries of a result, over the replicates."""
    means = {
        name: sum(getattr(epoch, name) for epoch in every) / len(every)
        for name in ("outer_loss", "mixture", "warm_up_steps")
    }
    return {
        **means,
        "mean_batch_size": sum(epoch.batch_size for epoch in every) / len(every),
        "updates": sum(epoch.updates for epoch in every),
        "batch_sizes": [epoch.batch_size for epoch in every],
        "learning_rates": [epoch.learning_rates for epoch in every],
    }


def _with_replacement(training: BatchSizeTraining) -> bool:
    return isinstance(training.agent, Arbiter) and training.agent.with_replacement


def decision(result: Mapping[str, Any], max_batch_size: int | None) -> dict[str, Any]:
    """The batch sizes of the next epoch: those that the agents decided, at most ``max_batch_size``.

    Args:
        result: Of :meth:`ArbiterTrainable.step`.
        max_batch_size: The largest batch size allowed, or None.
    """
    sizes = [size if max_batch_size is None else min(size, max_batch_size) for size in result["next_batch_sizes"]]
    return {"epoch": round(result["epochs"]), "batch_sizes": sizes}


class ArbiterScheduler(HyperLearningScheduler):
    """Grants the agents' batch sizes on the driver: within a memory limit, with more resources as they grow.

    The decision travels in the trial's results and config, so a run that is restored goes on where it was.

    Args:
        memory_limit: Bytes that a trial may use; a batch that would take more, judged by what the last epoch took, is
            cut down to what fits. None for no limit.
        resources: Resources of a trial by the largest batch size that they serve, such as
            ``{128: {"cpu": 1, "gpu": 0.25}, 600: {"cpu": 1, "gpu": 1}}``. No batch is larger than the largest key
            whose resources the cluster has. Tune's ``reuse_actors`` must be off: the trial is paused at a checkpoint
            and goes on with the new resources, by the mechanism of Ray's ResourceChangingScheduler.

    Raises:
        ValueError: In one line, if an argument is not allowed.
    """

    def __init__(
        self, memory_limit: float | None = None, resources: Mapping[int, Mapping[str, float]] | None = None
    ) -> None:
        super().__init__()
        if memory_limit is not None and not memory_limit > 0:
            raise ValueError(f"memory_limit is {memory_limit}; it must be a positive number of bytes or None")
        self.memory_limit = memory_limit
        self._allocation = None if resources is None else ResourcesByBatchSize(resources)
        # Ray's own scheduler does the pausing; what it decides by itself is first in, first out as here.
        unchanging = self._allocation is None
        self._changes = None if unchanging else ResourceChangingScheduler(FIFOScheduler(), self._allocation)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Tell the trial that its batch sizes are granted from here; adding it again changes nothing."""
        if trial.config.get(UPDATED_BY) != "scheduler":
            trial.set_config({**trial.config, UPDATED_BY: "scheduler"})

    def update(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        """The batch sizes of the next epoch."""
        limits = []
        if self.memory_limit is not None:
            memory = Memory(result["memory_fixed"], result["memory_peak"])
            limits.append(largest_batch_size(self.memory_limit, max(result["batch_sizes"]), memory))
        if self._allocation is not None:
            limits.append(self._allocation.max_batch_size())
        return {DECIDED: decision(result, min(limits, default=None))}

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Grant the next batch size; pause the trial if it needs other resources."""
        decided = super().on_trial_result(tune_controller, trial, result)
        if decided != TrialScheduler.CONTINUE or self._changes is None or DECIDED not in trial.config:
            return decided
        return str(self._changes.on_trial_result(tune_controller, trial, result))

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """First in, first out; a paused trial gets its new resources first.

        Raises:
            ValueError: If resources are to change and Tune reuses actors.
        """
        if self._changes is None:
            return super().choose_trial_to_run(tune_controller)
        return self._changes.choose_trial_to_run(tune_controller)


class ResourcesByBatchSize:
    """A trial's resources from the batch size granted to it: an allocation function of ResourceChangingScheduler.

    Args:
        resources: By the largest batch size that they serve.

    Raises:
        ValueError: In one line, if there are none, or a batch size or an amount is not allowed.
    """

    metric: str | None = None  # the scheduler that calls sets these
    mode: str | None = None

    def __init__(self, resources: Mapping[int, Mapping[str, float]]) -> None:
        if not resources or any(size < 1 for size in resources):
            raise ValueError(f"resources is for batch sizes {list(resources)}; it must hold at least one, each above 0")
        for size, amounts in resources.items():
            if not amounts or any(amount < 0 for amount in amounts.values()):
                raise ValueError(
                    f"resources of batch size {size} is {dict(amounts)}; it must hold amounts of at least 0"
                )
        self.resources = {
            size: {{"cpu": "CPU", "gpu": "GPU"}.get(name, name): amount for name, amount in resources[size].items()}
            for size in sorted(resources)
        }

    def max_batch_size(self) -> int:
        """The largest batch size whose resources the cluster has.

        Raises:
            ValueError: If it has not even the smallest's.
        """
        has = ray.cluster_resources()
        fitting = [
            size
            for size, amounts in self.resources.items()
            if all(amount <= has.get(name, 0.0) for name, amount in amounts.items())
        ]
        if not fitting:
            raise ValueError(f"resources asks for at least {next(iter(self.resources.values()))}; Ray has {has}")
        return max(fitting)

    def __call__(
        self,
        tune_controller: TuneController,
        trial: Trial,
        result: Mapping[str, Any],
        scheduler: ResourceChangingScheduler,
    ) -> PlacementGroupFactory:
        """Resources that serve the batch sizes just granted to the trial."""
        granted = max(trial.config[DECIDED]["batch_sizes"])
        serving = min((size for size in self.resources if size >= granted), default=max(self.resources))
        return PlacementGroupFactory([dict(self.resources[serving])])
