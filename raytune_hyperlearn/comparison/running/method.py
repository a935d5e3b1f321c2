"""What a method of the comparison is: a record with a factory that says what Tune is to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.hyperparameters import Optimizer, Space
from raytune_hyperlearn.problems.references import ProblemSource, digest_of, source_of

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import Searcher

    from raytune_hyperlearn.tune import HyperLearningTrainable, TrainingFunctionTrainable


@dataclass(frozen=True)
class MethodArguments:
    """What a factory is given.

    Attributes:
        experiment: Problem, budgets, metric and resources.
        space: The shared search space.
        seed: Seed of the run.
        options: The method's own options: its defaults, overridden by the experiment's.
    """

    experiment: Experiment
    space: Space
    seed: int
    options: Mapping[str, Any]

    @property
    def mode(self) -> str:
        """``min`` for losses, ``max`` for accuracies."""
        return "min" if self.experiment.metric.endswith("loss") else "max"

    @property
    def searching(self) -> dict[str, Any]:
        """What every searcher is given: seed, metric and mode."""
        return {"seed": self.seed, "metric": self.experiment.metric, "mode": self.mode}


@dataclass(frozen=True)
class MethodSetup:
    """What Tune is to run.

    Attributes:
        trainable: Evaluates one trial.
        config: The trial's config beyond the shared keys.
        searcher: Proposes trials; None for a single trial.
        scheduler: Changes trials while they run; None for Tune's default.
        checkpoint_frequency: Checkpoint every so many steps; 0 for never.
        population: Trials that live at the same time and take turns on the workers; None where each has its own.
    """

    trainable: type[HyperLearningTrainable | TrainingFunctionTrainable]
    config: dict[str, Any] = field(default_factory=dict)
    searcher: Searcher | None = None
    scheduler: TrialScheduler | None = None
    checkpoint_frequency: int = 0
    population: int | None = None


@dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        description: One line for ``hyperlearn list``.
        setup: Factory of what Tune runs.
        defaults: Options and their default values; only these names are accepted.
        reference: The publication that describes it.
        packages: The distributions that implement it, the main one first; empty for this package's own methods.
        extra: The extra of this package that installs them; empty where they are always installed.
        optimizers: Whose hyperparameters the method can search; ``"own"`` if it only asks for scores, so that a
            training function can be its problem.
        alone: Whether a run needs Ray to itself, since Tune starts every trial for which there are processors.
    """

    description: str
    setup: Callable[[MethodArguments], MethodSetup]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    optimizers: tuple[Optimizer, ...] = ("sgd",)
    alone: bool = False

    @property
    def implementation(self) -> str:
        """Name and version of every package that implements the method, such as ``optuna 5.0.0``."""
        return ", ".join(f"{package} {_version(package) or 'not installed'}" for package in self.packages)

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(package for package in self.packages if _version(package) is None)

    def require(self, name: str) -> None:
        """Refuse to start without the packages.

        Args:
            name: How the comparison calls the method.

        Raises:
            ImportError: In one line that says what to install.
        """
        if self.missing:
            source = f"raytune_hyperlearn[{self.extra}]" if self.extra else " ".join(self.missing)
            raise ImportError(f"method {name} needs {', '.join(self.missing)}; install by: pip install '{source}'")

    def require_optimizer(self, optimizer: Optimizer, problem: str) -> None:
        """Refuse what the method cannot search.

        Args:
            optimizer: Whose hyperparameters are searched.
            problem: Name of the problem.

        Raises:
            ValueError: In one line.
        """
        if optimizer in self.optimizers:
            return
        if optimizer == "own":
            raise ValueError(
                f"problem {problem} is a training function; a method that trains by itself needs a Problem"
            )
        raise ValueError(f"optimizer is {optimizer!r}; it must be {' or '.join(self.optimizers)}")


def problem_source(experiment: Experiment) -> str | ProblemSource:
    """What trials of the experiment are given as their problem.

    Raises:
        ValueError: In one line, if an own problem cannot be found or its file has changed since the experiment began.
    """
    source = source_of(experiment.problem, experiment.problem_args)
    digest = digest_of(source)
    if digest != experiment.problem_digest:
        raise ValueError(f"problem is {experiment.problem!r}; its file has changed since the comparison began")
    return source


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
