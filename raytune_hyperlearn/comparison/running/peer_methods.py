"""The peers of today as methods of the comparison: on the same space, clock, budgets and records as everybody else.

Each runs its library with that library's defaults. What a factory needs is imported when it runs, so that the table can
be read where a peer is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup
from raytune_hyperlearn.hyperparameters import Optimizer, Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from ray.tune.schedulers import AsyncHyperBandScheduler

    from raytune_hyperlearn.algorithms.coordinates import Axis
    from raytune_hyperlearn.hyperparameters import Schedule


def asha(arguments: MethodArguments) -> MethodSetup:
    """Random draws under Ray Tune's asynchronous successive halving; the rungs are `min_epochs` · η^k."""
    from raytune_hyperlearn.baselines.peers import RandomDraws
    from raytune_hyperlearn.tune import SGDTrainable

    searcher = RandomDraws(_axes(arguments.space), budget=arguments.experiment.epochs, **arguments.searching)
    config = {"epochs_per_step": arguments.experiment.min_epochs}
    return MethodSetup(SGDTrainable, config, searcher, _halving(arguments))


def population(kind: str) -> Callable[[MethodArguments], MethodSetup]:
    """PBT or PB2: populations one after the other, each member trained for the full budget."""

    def setup(arguments: MethodArguments) -> MethodSetup:
        from raytune_hyperlearn.baselines import peers
        from raytune_hyperlearn.tune import PopulationTrainable

        experiment, intervals = arguments.experiment, arguments.options["intervals"]
        _require_windows(arguments.space)
        axes = {name: own[0] for name, own in arguments.space.axes().items()}
        searcher = peers.RandomDraws(
            axes,
            budget=experiment.epochs,
            population=arguments.options["population"],
            config_key=None,
            **arguments.searching,
        )
        scheduler = getattr(peers, kind)(axes, interval=experiment.epochs / intervals, **arguments.searching)
        members = arguments.options["population"]
        return MethodSetup(PopulationTrainable, {"intervals": intervals}, searcher, scheduler, population=members)

    return setup


def optuna_sampler(sampler: str) -> Callable[[MethodArguments], MethodSetup]:
    """One of Optuna's samplers; with the option ``pruning``, successive halving stops bad trials early."""

    def setup(arguments: MethodArguments) -> MethodSetup:
        from raytune_hyperlearn.baselines import peers
        from raytune_hyperlearn.tune import SGDTrainable

        made: BaseSampler = getattr(peers, sampler)(arguments.seed)
        searcher = peers.OptunaSearcher(
            made,
            _axes(arguments.space),
            full_budget=arguments.experiment.epochs,
            **arguments.searching,
        )
        if not arguments.options.get("pruning", False):
            return MethodSetup(SGDTrainable, {}, searcher)
        config = {"epochs_per_step": arguments.experiment.min_epochs}
        return MethodSetup(SGDTrainable, config, searcher, _halving(arguments))

    return setup


def bracketed(searcher: str) -> Callable[[MethodArguments], MethodSetup]:
    """SMAC3 or DEHB, which ask for budgets between the smallest and the full one."""

    def setup(arguments: MethodArguments) -> MethodSetup:
        from raytune_hyperlearn.baselines import peers
        from raytune_hyperlearn.tune import SGDTrainable

        made = getattr(peers, searcher)(
            arguments.space.configuration_space(),
            min_budget=arguments.experiment.min_epochs,
            max_budget=arguments.experiment.epochs,
            **arguments.options,
            **arguments.searching,
        )
        return MethodSetup(SGDTrainable, {}, made)

    return setup


def tune_bohb(arguments: MethodArguments) -> MethodSetup:
    """Ray Tune's own BOHB; a trial of a later rung goes on from its checkpoint."""
    from ray.tune.schedulers import HyperBandForBOHB

    from raytune_hyperlearn.baselines.peers import TuneBOHB
    from raytune_hyperlearn.tune import SGDTrainable

    experiment = arguments.experiment
    searcher = TuneBOHB(arguments.space.configuration_space(), **arguments.searching)
    scheduler = HyperBandForBOHB(
        time_attr="training_iteration",
        metric=experiment.metric,
        mode=arguments.mode,
        max_t=_reports(arguments),
        reduction_factor=arguments.options["eta"],
    )
    return MethodSetup(SGDTrainable, {"epochs_per_step": experiment.min_epochs}, searcher, scheduler)


def one_run(optimizer: str) -> Callable[[MethodArguments], MethodSetup]:
    """One training, recorded when it ends: nothing is searched for."""

    def setup(arguments: MethodArguments) -> MethodSetup:
        from raytune_hyperlearn.tune import OneRunTrainable

        return MethodSetup(OneRunTrainable, {"optimizer": optimizer, "options": dict(arguments.options)})

    return setup


def decayed(decay: str, sampler: str | None) -> Callable[[MethodArguments], MethodSetup]:
    """SGD under a cosine or one cycle: the peak, momentum and weight decay are searched, at full budgets.

    Args:
        decay: ``cosine`` or ``one-cycle``.
        sampler: One of Optuna's, or None for independent draws.
    """

    def setup(arguments: MethodArguments) -> MethodSetup:
        from raytune_hyperlearn.baselines import peers
        from raytune_hyperlearn.tune import DecayedTrainable

        experiment = arguments.experiment
        _require_windows(arguments.space)
        given = {name: _constant(part) for name, part in arguments.space.given.items()}
        space = arguments.space.with_given(given)
        config = {"decay": decay, "space": space}
        if sampler is None:
            draws = peers.RandomDraws(_axes(space), budget=experiment.epochs, **arguments.searching)
            return MethodSetup(DecayedTrainable, config, draws)
        made: BaseSampler = getattr(peers, sampler)(arguments.seed)
        return MethodSetup(DecayedTrainable, config, peers.OptunaSearcher(made, _axes(space), **arguments.searching))

    return setup


def _require_windows(space: Space) -> None:
    """Refuse a space whose records would look like the schedules that a method makes itself.

    Raises:
        ValueError: In one line.
    """
    for name, schedule in space.schedules.items():
        if schedule.shape != "windows" or schedule.lengths or schedule.groups:
            allowed = "equal windows without groups, because the method makes its own schedule"
            raise ValueError(f"space.{name} is of shape {schedule.shape!r}; it must be {allowed}")


def _constant(part: Schedule | float) -> Schedule | float:
    """One value in the schedule's range and on its scale."""
    if isinstance(part, (int, float)):
        return part
    low, high = part.bounds
    return type(part)(values=1, range=(low, high), scale=part.scale, init=low)


def _axes(space: Space) -> dict[str, Axis]:
    """Range and scale of every searched value, under its flat name."""
    return {f"{name}_{index}": axis for name, own in space.axes().items() for index, axis in enumerate(own)}


def _reports(arguments: MethodArguments) -> int:
    """Reports of a full training that makes one every `min_epochs`."""
    return max(1, round(arguments.experiment.epochs / arguments.experiment.min_epochs))


def _halving(arguments: MethodArguments) -> AsyncHyperBandScheduler:
    """ASHA; its rungs count reports, because counting epochs would miss one by a rounding error."""
    from ray.tune.schedulers import AsyncHyperBandScheduler

    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric=arguments.experiment.metric,
        mode=arguments.mode,
        max_t=_reports(arguments),
        grace_period=1,
        reduction_factor=arguments.options["eta"],
    )


OPTUNA = ("optuna",)
ANY: tuple[Optimizer, ...] = ("sgd", "adam", "adamw")
"""What methods can search that train as black-box methods do, or differentiate."""
ASKING: tuple[Optimizer, ...] = (*ANY, "own")
"""What methods can search that only ask for scores."""
POPULATION_OPTIONS = {"population": 8, "intervals": 9}

PEERS: Mapping[str, Method] = {
    "asha": Method(
        "ASHA: asynchronous successive halving of random draws (Ray Tune)",
        asha,
        {"eta": 3},
        reference="Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020",
        packages=("ray",),
        optimizers=ANY,
    ),
    "pbt": Method(
        "PBT: bad members of a population copy good ones and perturb (Ray Tune)",
        population("PBT"),
        POPULATION_OPTIONS,
        reference="Jaderberg et al., Population Based Training of Neural Networks, arXiv 1711.09846, 2017",
        packages=("ray",),
        optimizers=ANY,
        alone=True,
    ),
    "pb2": Method(
        "PB2: PBT that chooses new values by a Gaussian process (Ray Tune)",
        population("PB2"),
        POPULATION_OPTIONS,
        reference="Parker-Holder et al., Provably Efficient Online Hyperparameter Optimization, NeurIPS 2020",
        packages=("ray", "scikit-learn"),
        optimizers=ANY,
        alone=True,
    ),
    "tpe": Method(
        "TPE: tree-structured Parzen estimator, bad trials pruned by successive halving (Optuna)",
        optuna_sampler("tpe"),
        {"pruning": True, "eta": 3},
        reference="Bergstra et al., NeurIPS 2011; Akiba et al., Optuna, KDD 2019",
        packages=OPTUNA,
        extra="peers",
        optimizers=ASKING,
    ),
    "gp": Method(
        "Gaussian process with log expected improvement, full budgets (Optuna)",
        optuna_sampler("gaussian_process"),
        reference="Akiba et al., Optuna, KDD 2019; Ament et al., LogEI, NeurIPS 2023",
        packages=OPTUNA,
        extra="peers",
        optimizers=ASKING,
    ),
    "cma-es": Method(
        "CMA-ES: covariance matrix adaptation, full budgets (Optuna)",
        optuna_sampler("cma_es"),
        reference="Hansen, The CMA Evolution Strategy, arXiv 1604.00772, 2016; Akiba et al., Optuna, KDD 2019",
        packages=("optuna", "cmaes"),
        extra="peers",
        optimizers=ASKING,
    ),
    "smac": Method(
        "SMAC3: Hyperband with a random forest (multi-fidelity facade)",
        bracketed("SMAC"),
        {"eta": 3, "expected_evaluations": 100},
        reference="Lindauer et al., SMAC3, JMLR 2022",
        packages=("smac", "ConfigSpace"),
        extra="peers",
        optimizers=ASKING,
    ),
    "dehb": Method(
        "DEHB: Hyperband with differential evolution",
        bracketed("DEHB"),
        {"eta": 3},
        reference="Awad et al., DEHB, IJCAI 2021",
        packages=("dehb", "ConfigSpace"),
        extra="peers",
        optimizers=ASKING,
    ),
    "tune-bohb": Method(
        "BOHB as Ray Tune has it: its model never sees trials that a bracket stopped",
        tune_bohb,
        {"eta": 3},
        reference="Falkner et al., BOHB, ICML 2018",
        packages=("ray", "hpbandster", "ConfigSpace"),
        extra="baselines",
        optimizers=ANY,
    ),
    **{
        f"{decay}-{name}": Method(
            f"SGD under {what}: its peak, momentum and weight decay by {how}, full budgets",
            decayed(decay, sampler),
            reference=reference,
            packages=packages,
            extra="peers" if packages == OPTUNA else "",
        )
        for decay, what, reference in (
            ("cosine", "a cosine", "Loshchilov and Hutter, SGDR, ICLR 2017"),
            ("one-cycle", "one cycle", "Smith and Topin, Super-Convergence, arXiv 1708.07120, 2017"),
        )
        for name, how, sampler, packages in (("tpe", "TPE", "tpe", OPTUNA), ("rs", "random search", None, ("torch",)))
    },
    "schedule-free": Method(
        "One training by Schedule-Free AdamW, nothing searched for",
        one_run("schedule-free"),
        # The authors' default rate; they recommend a warm-up, of which 5 % of the training is the usual length.
        {"learning_rate": 0.0025, "weight_decay": 0.0, "warmup_fraction": 0.05},
        reference="Defazio et al., The Road Less Scheduled, NeurIPS 2024",
        packages=("schedulefree",),
        extra="peers",
    ),
    "prodigy": Method(
        "One training by Prodigy, annealed by a cosine, nothing searched for",
        one_run("prodigy"),
        {"learning_rate": 1.0, "weight_decay": 0.0},
        reference="Mishchenko and Defazio, Prodigy, ICML 2024",
        packages=("prodigyopt",),
        extra="peers",
    ),
}
