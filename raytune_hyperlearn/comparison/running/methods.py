"""The methods of a comparison: a table of names, each with a factory that says what Tune is to run.

A method is added in two steps: write a function from :class:`MethodArguments` to :class:`MethodSetup`, and put it
into ``METHODS`` under its name. The table is read by every command, ``hyperlearn list`` included, so what needs torch
or Ray is named through its package, which imports it when a factory runs. All methods get the same problem, search
space, budget, split and training code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn import baselines, problems, tune
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.running.batch_size_methods import BATCH_SIZE_METHODS
from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup, problem_source
from raytune_hyperlearn.comparison.running.peer_methods import ANY, ASKING, PEERS
from raytune_hyperlearn.comparison.running.third_party import WithThirdParties
from raytune_hyperlearn.hyperparameters import KINDS, Space

if TYPE_CHECKING:
    from ray.tune.search import Searcher


def fds(arguments: MethodArguments) -> MethodSetup:
    """FDS: one trial, one outer step per result, the outer updates made by the scheduler."""
    options = dict(arguments.options)
    fractions = options.pop("horizon_fractions")
    horizons = [fraction * arguments.experiment.epochs for fraction in fractions]
    if options["growth"] is None:
        # Moves have become small where trainings are whole, so the sign rule's grow again while a sign stays.
        options["growth"] = 2.0 if options["outer_optimizer"] == "sign" else 1.0
    config = {**options, "horizons": horizons, "stop_when_converged": False}
    tune.FDSOptions.from_config(config)
    return MethodSetup(tune.FDSTrainable, config, scheduler=tune.FDSScheduler(), checkpoint_frequency=1)


def hypergradient_descent(arguments: MethodArguments) -> MethodSetup:
    """Hypergradient descent, restarted from random start values and hyper rates as in [FDS] figure 1."""
    from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter

    given = arguments.options["hyper_rate_range"]
    if len(given) != 2 or not 0 < given[0] < given[1]:
        raise ValueError(f"hyper_rate_range is {given!r}; it must be two numbers, 0 < lowest < highest")
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
        config_key="drawn",
        **arguments.searching,
    )
    # Hyperparameters that the space fixes are not drawn, and so not learned.
    config = {"bounded": arguments.options["bounded"], "hyper_rates": dict.fromkeys(KINDS, 0.0)}
    return MethodSetup(tune.HypergradientDescentTrainable, config, searcher)


def _full_budget(searcher: Callable[[], type[Searcher]]) -> Callable[[MethodArguments], MethodSetup]:
    def setup(arguments: MethodArguments) -> MethodSetup:
        space, budget = arguments.space.configuration_space(), arguments.experiment.epochs
        made = searcher()(space, max_budget=budget, **arguments.options, **arguments.searching)
        return MethodSetup(tune.SGDTrainable, searcher=made)

    return setup


def _bracketed(searcher: Callable[[], type[Searcher]]) -> Callable[[MethodArguments], MethodSetup]:
    def setup(arguments: MethodArguments) -> MethodSetup:
        space, experiment = arguments.space.configuration_space(), arguments.experiment
        budgets = {"min_budget": experiment.min_epochs, "max_budget": experiment.epochs}
        made = searcher()(space, **budgets, **arguments.options, **arguments.searching)
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
    "growth": None,
    "replay": True,
    "product_clamp": None,
    "hessian": {},
    "differentiation": "auto",
    "memory_limit": 2**30,
}

HYPERGRADIENT_METHODS = ("fds", "fds-forward")
"""Those that differentiate a problem's gradient."""

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
            "growth": 1.0,
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
    **BATCH_SIZE_METHODS,
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
