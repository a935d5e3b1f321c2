"""What every trainable shares: its problem, its device, its scores, its checkpoints, its result's names."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import ray
import torch
from ray import tune
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.optimizer_defaults import OptimizerName
from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.derivatives.freed_memory import keep_freed_memory
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
from raytune_hyperlearn.hyperparameters import SearchSpace, Space
from raytune_hyperlearn.problems import Problem, Purpose, batches, check_problem, derived_seed, evaluate, load
from raytune_hyperlearn.problems.mixed_precision import with_precision
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.problems.references import ProblemSource
from raytune_hyperlearn.results import COMPLETED, DIVERGED, OUT_OF_MEMORY, SCORES, VALIDATION_LOSS, Result, worst_scores
from raytune_hyperlearn.tune.checkpoint_files import read_checkpoint, write_checkpoint
from raytune_hyperlearn.tune.node_data import shared_on_node
from raytune_hyperlearn.tune.trial_settings import FROM_SEARCHERS, TrialSettings, refuse_unknown_keys

DIVERGENCE_FACTOR = 100.0
"""A validation loss so many times that of the untrained network's is a divergence, although it is finite."""


def mean_scores(every: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the replicates' scores, name by name; not finite if any of them is not."""
    return {name: sum(scores[name] for scores in every) / len(every) for name in every[0]}


class HyperLearningTrainable(tune.Trainable):
    """Base of the trainables: one problem, one split, one device.

    Subclasses implement :meth:`start`, ``step``, :meth:`state_dict` and :meth:`load_state_dict`. A step's result is
    :meth:`result`'s, whose names are the same for every method. Config keys that begin with an underscore are the
    caller's (and Tune's) own marks of a trial; any other key that is not known is refused.
    """

    allowed: ClassVar[frozenset[str]] = frozenset()
    """Config keys beyond the shared ones that a subclass reads."""
    spaces: ClassVar[tuple[type[Space], ...]] = (SearchSpace,)
    """Kinds of search space that a subclass can train in."""

    takes_groups: ClassVar[bool] = False
    """Whether a subclass can train with values of their own for groups of parameters."""

    full_precision_only: ClassVar[bool] = False
    """Whether a subclass takes derivatives that bfloat16 would spoil."""

    config: dict[str, Any]
    settings: TrialSettings
    problem: Problem

    def setup(self, config: dict[str, Any]) -> None:
        """Read the config, load the data onto the assigned device and start.

        Raises:
            ValueError: If the config does not fit; the trial then ends in an error that says why.
        """
        keep_freed_memory()
        self._loaded: tuple[object, Problem] | None = None
        self._untrained: tuple[int | None, float] = None, math.nan
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in the same actor; data that are already loaded stay."""
        self._begin(new_config)
        return True

    def start(self, config: dict[str, Any]) -> None:
        """Set up one trial; called with the settings, the problem and the split in place.

        Args:
            config: The trial's config, whose keys have been checked.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement start")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: all that later steps need."""
        raise NotImplementedError(f"{type(self).__name__} must implement state_dict")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`, whose tensors are on the CPU here."""
        raise NotImplementedError(f"{type(self).__name__} must implement load_state_dict")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write :meth:`state_dict`, with a digest."""
        write_checkpoint(Path(checkpoint_dir), {"iteration": self.iteration, "state": self.state_dict()})

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from :meth:`save_checkpoint`.

        If the file is damaged, the newest whole one before it is taken and the steps since are made again, unreported:
        Tune counts them already.

        Raises:
            ValueError: In one line that names the file, if it is damaged and there is no whole one before it.
        """
        kept = read_checkpoint(Path(checkpoint_dir))
        self.load_state_dict(kept["state"])
        self.make_again(self.iteration - kept["iteration"])

    def make_again(self, steps: int) -> None:
        """Make steps whose results Tune has had, after a damaged checkpoint.

        Args:
            steps: How many; none where it is not positive.
        """
        for _ in range(steps):
            self.step()

    def known_keys(self) -> frozenset[str]:
        """All config keys that this trainable, Tune or a searcher reads; called with the settings in place."""
        return frozenset(entry.name for entry in fields(TrialSettings)) | self.allowed | FROM_SEARCHERS

    def _begin(self, config: dict[str, Any]) -> None:
        self.settings = TrialSettings.from_config(config)
        if not isinstance(self.settings.space, self.spaces):
            kind, allowed = type(self.settings.space).__name__, " or ".join(kind.__name__ for kind in self.spaces)
            raise ValueError(f"space is of type {kind}; {type(self).__name__} needs a {allowed}")
        if self.full_precision_only and self.settings.precision != "full":
            raise ValueError(f"precision is {self.settings.precision!r}; {type(self).__name__} needs 'full'")
        self.device = assigned_device()
        self.problem = self._load_once(self.settings.problem)
        if self.settings.batch_size is not None:
            self.problem = replace(self.problem, batch_size=self.settings.batch_size)
        self.settings = replace(self.settings, space=self._space_of_the_model())
        known = self.known_keys()  # flat names of layers' values among them
        refuse_unknown_keys(config, known)
        self.split = self.problem.split(self.settings.seed)
        self.training_seconds = 0.0
        self.test_seconds = 0.0
        self.waiting_seconds = 0.0
        self.start(config)

    def _space_of_the_model(self) -> Space:
        """The space, whose groups may be the model's layers."""
        space = self.settings.space
        if not space.has_groups:
            return space
        if not self.takes_groups:
            raise ValueError(f"groups of the space are set; {type(self).__name__} needs a space without groups")
        model = self.new_model(self.settings.seed)
        return space.for_model([name for name, parameter in model.named_parameters() if parameter.requires_grad])

    def _load_once(self, asked: str | Problem | Callable[[], Problem]) -> Problem:
        """The problem with its data on the device; the one that is there already if the same is asked for."""
        if self._loaded is not None:
            known, problem = self._loaded
            if asked is known or (isinstance(asked, (str, ProblemSource)) and asked == known):
                return problem
        with shared_on_node(asked):
            problem = load(asked).to(self.device)
        check_problem(problem)
        self._loaded = asked, problem
        self._untrained = None, math.nan
        return problem

    @property
    def epochs(self) -> float:
        """The trial's full budget."""
        return self.problem.epochs if self.settings.epochs is None else self.settings.epochs

    def replicate_seeds(self, trial_seed: int) -> list[int]:
        """Seeds of the networks that are trained for one evaluation.

        Args:
            trial_seed: Seed of the evaluation.

        Returns:
            One seed per replicate.
        """
        return [derived_seed(trial_seed, Purpose.REPLICATE, index) for index in range(self.settings.replicates)]

    def new_model(self, seed: int) -> nn.Module:
        """A freshly initialized model on the trial's device.

        Args:
            seed: Of the initialization.
        """
        return with_precision(initialize(self.problem.model, seed).to(self.device), self.settings.precision)

    def score(self, outputs: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Validation and test loss and accuracy of ``outputs``, a function in evaluation mode.

        The time that test scoring takes is kept apart, so that it can be left out of every method's clock.

        Args:
            outputs: Inputs [N, …] to outputs [N, …].

        Returns:
            Four numbers by name.
        """
        validation_loss, validation_accuracy = evaluate(outputs, self.problem, self.split.validation)
        begun = time.perf_counter()
        test_loss, test_accuracy = evaluate(outputs, self.problem, self.problem.test)
        self.test_seconds += time.perf_counter() - begun
        return dict(zip(SCORES, (validation_loss, validation_accuracy, test_loss, test_accuracy), strict=True))

    def train_and_score(
        self, values: Numbers, epochs: float, seed: int, optimizer: OptimizerName = "sgd"
    ) -> dict[str, float]:
        """Scores of plain training with ``values``, from a fresh initialization and in a data order of ``seed``.

        Args:
            values: Schedules by name, one value per window.
            epochs: Length of the training, in epochs.
            seed: Of initialization, order and dropout.
            optimizer: What trains.
        """
        horizon, space = self.problem.horizon(epochs), self.settings.space
        shapes = space.shapes()
        model = self.new_model(seed)
        with private_random_numbers(derived_seed(seed, Purpose.DROPOUT, 0), self.device):
            order = batches(self.split.train, self.problem.batch_size, horizon, seed, self.problem.augmentation)
            bound = self.settings.bound
            train(model, self.problem.loss, order, values, horizon, bound, shapes, space.groups, optimizer)
        model.eval()
        return self.score(model)

    def is_divergence(self, loss: float) -> bool:
        """Whether a validation loss is not finite, or beyond ``DIVERGENCE_FACTOR`` times the untrained network's.

        Where the untrained network's loss is not positive (some losses are negative) any finite loss is none.

        Args:
            loss: Mean validation loss.
        """
        if not math.isfinite(loss):
            return True
        untrained = self.untrained_loss()
        return 0 < untrained < math.inf and loss > DIVERGENCE_FACTOR * untrained

    def untrained_loss(self) -> float:
        """Validation loss of a freshly initialized network; measured once for a problem and seed."""
        measured, loss = self._untrained
        if measured != self.settings.seed:
            model = self.new_model(self.settings.seed).eval()
            loss = evaluate(model, self.problem, self.split.validation)[0]
            self._untrained = self.settings.seed, loss
        return loss

    def result(
        self,
        scores: Mapping[str, float],
        hyperparameters: Numbers,
        epochs: float,
        instances: int,
        **more: Any,
    ) -> dict[str, Any]:
        """A step's result under the names that every method uses; a loss that :meth:`is_divergence` is one.

        Args:
            scores: From :meth:`score`, or empty for a failure.
            hyperparameters: What the scored network was trained with.
            epochs: Budget that it was trained for.
            instances: Training examples read by this step.
            more: What the method adds.
        """
        diverged = self.is_divergence(scores.get(VALIDATION_LOSS, math.nan))
        known = Result(
            status=DIVERGED if diverged else COMPLETED,
            hyperparameters=hyperparameters,
            epochs=epochs,
            instances=instances,
            training_seconds=self.training_seconds,
            test_seconds=self.test_seconds,
        )
        worst = worst_scores(unknown=SCORES if self.problem.score is None else ())
        return {**known.to_mapping(), **(worst if diverged else scores), **more}

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Wrap the subclass's ``step`` with the clock and with the handling of exhausted memory."""
        super().__init_subclass__(**arguments)
        if "step" in cls.__dict__:
            cls.step = _timed(cls.__dict__["step"])


def _timed(
    step: Callable[[HyperLearningTrainable], dict[str, Any]],
) -> Callable[[HyperLearningTrainable], dict[str, Any]]:
    """``step`` with its own seconds in the result, and a row with status ``out_of_memory`` instead of a crash."""

    def timed(self: HyperLearningTrainable) -> dict[str, Any]:
        begun, self.test_seconds, self.waiting_seconds = time.perf_counter(), 0.0, 0.0
        try:
            outcome = step(self)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            outcome = self.result({}, {}, self.epochs, 0) | {"status": OUT_OF_MEMORY, "done": True}
        outcome["test_seconds"] = self.test_seconds
        outcome["training_seconds"] = time.perf_counter() - begun - self.test_seconds - self.waiting_seconds
        return outcome

    timed.__doc__ = step.__doc__
    return timed


def assigned_device() -> torch.device:
    """The first GPU that Ray assigned to this worker, else the CPU; without Ray, the machine's first GPU.

    Ray makes the assigned GPUs a worker's only visible ones, but where it assigned none it may leave all visible.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if ray.is_initialized():
        worker = ray.get_runtime_context()
        if worker.get_actor_id() is not None and not worker.get_accelerator_ids().get("GPU"):
            return torch.device("cpu")
    return torch.device("cuda", 0)
