"""The methods of a comparison: a table of names, each with a factory that says what Tune is to run.

A method is added in two steps: write a function from :class:`MethodArguments` to :class:`MethodSetup`, and put it
into ``METHODS`` under its name. The table is read by every command, ``hyperlearn list`` included, so what needs torch
or Ray is named through its package, which imports it when a factory runs. All methods get the same problem, search
space, budget, split and training code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn import algorithms, baselines, problems, tune
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup, problem_source
from raytune_hyperlearn.comparison.running.peer_methods import ANY, ASKING, PEERS
from raytune_hyperlearn.comparison.running.third_party import WithThirdParties
from raytune_hyperlearn.hyperparameters import KINDS, Space

if TYPE_CHECKING:
    from ray.tune.search import Searcher

    from raytune_hyperlearn.tune.arbiter_training import ChosenBy


def fds(arguments: MethodArguments) -> MethodSetup:
    """FDS: one trial, one outer step per result, the outer updates made by the scheduler."""
    options = dict(arguments.options)
    fractions = options.pop("horizon_fractions")
    horizons = [fraction * arguments.experiment.epochs for fraction in fractions]
    config = {**options, "horizons": horizons, "stop_when_converged": False}
    tune.FDSOptions.from_config(config)
    return MethodSetup(tune.FDSTrainable, config, scheduler=tune.FDSScheduler(), checkpoint_frequency=1)


def hypergradient_descent(arguments: MethodArguments) -> MethodSetup:
    """Hypergradient descent, restarted from random start values and hyper rates as in [FDS] figure 1."""
    from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter

    given = arguments.options["hyper_rate_range"]
    if len(given) != 2 or not 0 < given[0] < given[1]:
        raise ValueError(f"hyper_rate_range is {given}; it must be two numbers, 0 < lowest < highest")
    low, high = given
    space = ConfigurationSpace()
    for name, (lowest, highest) in arguments.space.ranges().items():
        space.add(UniformFloatHyperparameter(f"start/{name}", lowest, highest))
        # The hyper rate is relative to the width of the range: momentum and decay live on other scales.
        width = highest - lowest
        space.add(UniformFloatHyperparameter(f"rate/{name}", low * width, high * width, log=True))
    searcher = baselines.RandomSearch(
        space,
        max_budget=arguments.experiment.epochs,
        seed=arguments.seed,
        metric=arguments.experiment.metric,
        mode=arguments.mode,
        config_key="drawn",
    )
    # Hyperparameters that the space fixes are not drawn, and so not learned.
    config = {"bounded": arguments.options["bounded"], "hyper_rates": dict.fromkeys(KINDS, 0.0)}
    return MethodSetup(tune.HypergradientDescentTrainable, config, searcher)


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


def _full_budget(searcher: Callable[[], type[Searcher]]) -> Callable[[MethodArguments], MethodSetup]:
    def setup(arguments: MethodArguments) -> MethodSetup:
        made = searcher()(
            arguments.space.configuration_space(),
            **arguments.options,
            max_budget=arguments.experiment.epochs,
            seed=arguments.seed,
            metric=arguments.experiment.metric,
            mode=arguments.mode,
        )
        return MethodSetup(tune.SGDTrainable, searcher=made)

    return setup


def _bracketed(searcher: Callable[[], type[Searcher]]) -> Callable[[MethodArguments], MethodSetup]:
    def setup(arguments: MethodArguments) -> MethodSetup:
        made = searcher()(
            arguments.space.configuration_space(),
            min_budget=arguments.experiment.min_epochs,
            max_budget=arguments.experiment.epochs,
            **arguments.options,
            seed=arguments.seed,
            metric=arguments.experiment.metric,
            mode=arguments.mode,
        )
        return MethodSetup(tune.SGDTrainable, searcher=made)

    return setup


HPBANDSTER = ("hpbandster", "ConfigSpace")


def _hpbandster(
    description: str,
    setup: Callable[[MethodArguments], MethodSetup],
    reference: str,
    defaults: Mapping[str, Any] | None = None,
) -> Method:
    return Method(
        description, setup, defaults or {}, reference, packages=HPBANDSTER, extra="baselines", optimizers=ASKING
    )


# None is HpBandSter's own default and minimum, one more than there are values to learn: no smaller one can be fitted.
MODEL_OPTIONS = {"min_points_in_model": None}
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

FDS_OPTIONS: dict[str, Any] = {
    # Far from good values a short training tells the direction, and there is nothing worth scoring; then come longer
    # ones, scored at the full budget. In reverse a whole training costs little more than its plain self.
    "horizon_fractions": [1 / 9, 1 / 9, 1 / 3, 1.0],
    "outer_steps": None,
    "replay_from": 2,
    "coarse_steps": 0,
    "windows": "given",
    "outer_optimizer": "sign",
    "scaled_moves": True,
    "tolerance": 1.4,
    "growth": 1.0,
    "replay": True,
    "product_clamp": None,
    "hessian": {},
    "differentiation": "auto",
}

OWN_METHODS: Mapping[str, Method] = {
    "fds": Method(
        "FDS: hypergradients through the whole training run, with sharing (NeurIPS 2021), forward or in reverse",
        fds,
        FDS_OPTIONS,
        reference="Micaelli and Storkey, Gradient-based Hyperparameter Optimization Over Long Horizons, NeurIPS 2021",
        optimizers=ANY,
    ),
    "fds-forward": Method(
        "FDS as published, by forward mode: its cost grows with the number of values",
        fds,
        {
            **FDS_OPTIONS,
            "horizon_fractions": [1 / 27, 1 / 27, 2 / 27, 1 / 9],
            "replay_from": 3,
            "coarse_steps": 6,
            "scaled_moves": False,
            "differentiation": "forward",
        },
        reference="Micaelli and Storkey, Gradient-based Hyperparameter Optimization Over Long Horizons, NeurIPS 2021",
        optimizers=ANY,
    ),
    "hd": Method(
        "Hypergradient descent: lr, momentum and weight decay learned online, random restarts (ICLR 2018)",
        hypergradient_descent,
        {"hyper_rate_range": [1e-5, 1e-1], "bounded": False},
        reference="Baydin et al., Online Learning Rate Adaptation with Hypergradient Descent, ICLR 2018",
        packages=HPBANDSTER,
        extra="baselines",
    ),
    "rs": _hpbandster(
        "Random search (HpBandSter)",
        _full_budget(lambda: baselines.RandomSearch),
        "Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012",
    ),
    "bo": _hpbandster(
        "Bayesian optimization: BOHB's density model on full budgets (HpBandSter)",
        _full_budget(lambda: baselines.BayesianOptimization),
        "Falkner et al., BOHB, ICML 2018",
        MODEL_OPTIONS,
    ),
    "hb": _hpbandster(
        "Hyperband (HpBandSter)",
        _bracketed(lambda: baselines.Hyperband),
        "Li et al., Hyperband, JMLR 2018",
        {"eta": 3},
    ),
    "bohb": _hpbandster(
        "BOHB: Hyperband with a density model (HpBandSter)",
        _bracketed(lambda: baselines.BOHB),
        "Falkner et al., BOHB, ICML 2018",
        {"eta": 3, **MODEL_OPTIONS},
    ),
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
    **PEERS,
}

METHODS: Mapping[str, Method] = WithThirdParties(OWN_METHODS)


def method_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options: its defaults, overridden by what is given.

    Raises:
        ValueError: If the method or an option is unknown.
    """
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; it must be one of {', '.join(METHODS)}")
    defaults = METHODS[name].defaults
    for option in given:
        if option not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise ValueError(f"option of {name} is {option!r}; allowed: {allowed}")
    return {**defaults, **given}


def setup_method(experiment: Experiment, name: str, seed: int) -> MethodSetup:
    """What Tune is to run for one method and seed.

    Args:
        experiment: Problem, space and budgets.
        name: One of ``METHODS``.
        seed: Seed of the run.

    Raises:
        ImportError: If a package of the method is not installed.
        ValueError: If the method, an option or the space is not allowed.
    """
    options = method_options(name, experiment.method_options.get(name, {}))
    METHODS[name].require(name)
    METHODS[name].require_optimizer(experiment.optimizer, experiment.problem)
    setup = METHODS[name].setup(MethodArguments(experiment, searched_space(experiment), seed, options))
    if experiment.optimizer == "own":
        return calling(setup)
    if experiment.optimizer == "sgd":
        return setup
    return replace(setup, config={**setup.config, "optimizer": experiment.optimizer})


def calling(setup: MethodSetup) -> MethodSetup:
    """The setup with a training function in the place of SGD.

    Raises:
        ValueError: In one line, if the method stops trainings on their way.
    """
    if "epochs_per_step" in setup.config:
        advice = "methods with the option pruning run with pruning: false"
        raise ValueError(f"the method stops trainings on their way, which a training function does not allow; {advice}")
    return replace(setup, trainable=tune.TrainingFunctionTrainable)


def searched_space(experiment: Experiment) -> Space:
    """The experiment's space; groups ``"layers"`` are those of the problem's model."""
    space = experiment.searched
    if not space.has_groups:
        return space
    model = problems.load(problem_source(experiment)).model()
    return space.for_model([name for name, parameter in model.named_parameters() if parameter.requires_grad])
