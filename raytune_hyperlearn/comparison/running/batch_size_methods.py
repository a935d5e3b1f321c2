"""The methods that choose batch sizes: batch adaptive training, Arbiter, and what the two are held against.

Each is one training at its own hyperparameters; none is searched for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn import algorithms, baselines, problems, tune
from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup, problem_source

if TYPE_CHECKING:
    from raytune_hyperlearn.tune.arbiter_training import ChosenBy


def batch_adaptive(arguments: MethodArguments) -> Callable[[], algorithms.BatchSizeRule]:
    """BA's rule."""
    options = arguments.options
    return partial(algorithms.GaussianWalkRule, options["m0"], options["minimum_loss"], options["covariance"])


def manual(arguments: MethodArguments) -> Callable[[], algorithms.BatchSizeRule]:
    """Manual's rule: doublings at equal parts of the full budget."""
    options = arguments.options
    double_every = options["double_every_fraction"] * arguments.experiment.epochs
    return partial(baselines.Manual, options["start"], double_every, options["max_batch_size"])


def _constant(batch_size: int) -> Method:
    """Mini-k."""
    return Method(
        f"Constant batch size {batch_size}, with momentum",
        _at_batch_sizes(lambda arguments: partial(baselines.Constant, batch_size)),
        {"learning_rate": 0.02, "momentum": 0.9},
    )


def _averaging(
    rule: Callable[[], type[baselines.CABS] | type[baselines.GradientNoiseScale]],
) -> Callable[[MethodArguments], MethodSetup]:
    def made(arguments: MethodArguments) -> Callable[[], algorithms.BatchSizeRule]:
        names = ("start", "min_batch_size", "decay", "trace")
        return partial(rule(), **{name: arguments.options[name] for name in names})

    return _at_batch_sizes(made)


def _at_batch_sizes(
    rule: Callable[[MethodArguments], Callable[[], algorithms.BatchSizeRule]],
) -> Callable[[MethodArguments], MethodSetup]:
    """One trial that trains at the batch sizes of a rule: no hyperparameter is searched for."""

    def setup(arguments: MethodArguments) -> MethodSetup:
        names = ("learning_rate", "momentum", "max_batch_size")
        config = {name: arguments.options[name] for name in names if name in arguments.options}
        config["rule"] = rule(arguments)
        config["rule"]()  # refuses sizes that it cannot use here, and not in a worker
        tune.BatchSizeOptions.from_config(config)
        return MethodSetup(tune.BatchAdaptiveTrainable, config, checkpoint_frequency=1)

    return setup


@lru_cache(maxsize=8)
def _sizes(problem: str | problems.ProblemSource) -> tuple[int, int]:
    """A problem's training examples and its default batch size."""
    loaded = problems.load(problem)
    return len(loaded.train) - loaded.validation_size, loaded.batch_size


def _arbiter(chosen_by: ChosenBy, **agent: Any) -> Callable[[MethodArguments], MethodSetup]:
    """One trial that trains at the batch sizes of Arbiter or of a control: no hyperparameter is searched for."""

    def setup(arguments: MethodArguments) -> MethodSetup:
        options, experiment = arguments.options, arguments.experiment
        instances, batch_size = _sizes(problem_source(experiment))
        largest = options["max_batch_size"] or min(600, instances // 4)
        names = ("min_batch_size", "learn_every", "agent_lr", "mixing_lr", "warm_up_lr")
        config = {
            "hyperparameters": {name: options[name] for name in ("learning_rate", "momentum", "weight_decay")},
            "arbiter": {**{name: options[name] for name in names}, "max_batch_size": largest, **agent},
            "chosen_by": chosen_by,
            **{name: options[name] for name in ("batch_size", "optimizer", "hyper_rate", "layer", "milestones")},
        }
        start = options["batch_size"] or batch_size
        tune.TrainingOptions.from_config(config).check_sizes(start, instances, experiment.problem)
        if experiment.epochs != int(experiment.epochs):
            raise ValueError(f"epochs is {experiment.epochs:g}; Arbiter and its controls need a whole number")
        scheduler = tune.ArbiterScheduler(memory_limit=options["memory_limit"])
        return MethodSetup(tune.ArbiterTrainable, config, scheduler=scheduler, checkpoint_frequency=1)

    return setup


BATCH_ADAPTIVE_OPTIONS = {"m0": 32, "max_batch_size": 512, "minimum_loss": 0.0, "covariance": "exact"}
RULE_OPTIONS = {"learning_rate": 0.02, "momentum": 0.9, "max_batch_size": 512}
ARBITER_OPTIONS = {
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "optimizer": "sgd",
    "hyper_rate": 1e-4,
    "batch_size": None,  # B_0: the problem's own
    "min_batch_size": 8,
    "max_batch_size": None,  # the authors' 600, but at most a quarter of the training examples
    "learn_every": 1,
    "agent_lr": 1e-5,
    "mixing_lr": 1e-4,
    "warm_up_lr": 1e-3,
    "layer": None,
    "milestones": [],
    "memory_limit": None,
}
LEARNED_FIRST = "learned first, in the same trial and from the same seed, and charged to its clock"


BATCH_SIZE_METHODS: Mapping[str, Method] = {
    "ba-sgd": Method(
        "Batch adaptive SGD: batches grow until they are worth their update (KDD 2017)",
        _at_batch_sizes(batch_adaptive),
        {"learning_rate": 0.02, "momentum": 0.0, **BATCH_ADAPTIVE_OPTIONS},
    ),
    "ba-momentum": Method(
        "Batch adaptive momentum (2018)",
        _at_batch_sizes(batch_adaptive),
        {"learning_rate": 0.02, "momentum": 0.9, **BATCH_ADAPTIVE_OPTIONS},
    ),
    **{f"mini-{size}": _constant(size) for size in (32, 64, 128, 256)},
    "manual": Method(
        "Batch size doubled by hand at each quarter of the budget, with momentum",
        _at_batch_sizes(manual),
        {"learning_rate": 0.02, "momentum": 0.9, "start": 32, "max_batch_size": 256, "double_every_fraction": 1 / 4},
    ),
    "cabs": Method(
        "CABS: batch size by gradient variance over loss, with momentum (UAI 2017)",
        _averaging(lambda: baselines.CABS),
        # Its authors' per-instance gradients ("diagonal") are slow for recurrent networks and undefined with BatchNorm.
        {"start": 32, "min_batch_size": 16, "decay": 0.95, "trace": "pieces", **RULE_OPTIONS},
    ),
    "gns": Method(
        "Batch size by the gradient noise scale, with momentum (McCandlish et al. 2018)",
        _averaging(lambda: baselines.GradientNoiseScale),
        {"start": 32, "min_batch_size": 8, "decay": 0.95, "trace": "pieces", **RULE_OPTIONS},
    ),
    "arbiter": Method(
        "Arbiter: the batch size of every epoch, learned by an agent network (2022)",
        _arbiter("arbiter"),
        ARBITER_OPTIONS,
    ),
    "arbiter-frozen": Method(
        "Control of Arbiter: its response map stays as it was drawn",
        _arbiter("arbiter", response="frozen"),
        ARBITER_OPTIONS,
    ),
    "arbiter-noise": Method(
        "Control of Arbiter: its agent is shown noise instead of validation data",
        _arbiter("arbiter", agent_input="noise"),
        ARBITER_OPTIONS,
    ),
    "arbiter-constant": Method(
        "Control of Arbiter: its start (and milestones) without it, same optimizer and seed",
        _arbiter("heuristic"),
        ARBITER_OPTIONS,
    ),
    "arbiter-constant-mean": Method(
        f"Control of Arbiter: the mean of its schedule throughout; the schedule is {LEARNED_FIRST}",
        _arbiter("mean"),
        ARBITER_OPTIONS,
    ),
    "arbiter-replay": Method(
        f"Control of Arbiter: its schedule on a new initialization; the schedule is {LEARNED_FIRST}",
        _arbiter("replay"),
        ARBITER_OPTIONS,
    ),
    "arbiter-random-walk": Method(
        f"Control of Arbiter: its schedule's steps with random signs; the schedule is {LEARNED_FIRST}",
        _arbiter("random-walk"),
        ARBITER_OPTIONS,
    ),
}
