"""Ray Tune's population schedulers, PBT and PB2, drawing from private generators and inside the ranges.

A bad member loads a good one's weights and goes on with other hyperparameters, so what is found is a schedule.

PBT: Jaderberg et al., arXiv 1711.09846. PB2: Parker-Holder et al., NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler, pb2

from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.baselines.global_generators import GlobalGenerators

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

Axes = Mapping[str, Axis]


class _Private(TrialScheduler):
    """Calls the scheduler after it with private generators, and shows it finite values.

    A diverged member's value is infinite: PB2's model cannot be fitted to it, and PBT's ranking does not mind the
    worst value so far instead.
    """

    own_metric: str
    own_mode: str
    _generators: GlobalGenerators
    _worst: float | None = None

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        # Ray refuses every searcher here, since a model would be told losses of values that it did not choose.
        # Independent draws learn nothing, so they are not shown.
        with self._generators.swapped_in():
            super().on_trial_add(SimpleNamespace(search_alg=None), trial)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        sign = 1.0 if self.own_mode == "min" else -1.0
        loss = sign * result[self.own_metric]
        if math.isfinite(loss):
            self._worst = loss if self._worst is None else max(self._worst, loss)
        if self._worst is None:
            return str(TrialScheduler.CONTINUE)  # nothing to rank by yet
        finite = loss if math.isfinite(loss) else self._worst
        with self._generators.swapped_in():
            decision = super().on_trial_result(tune_controller, trial, {**result, self.own_metric: sign * finite})
        return str(decision)


class PBT(_Private, PopulationBasedTraining):
    """Population-based training: at every interval the worst quarter copies the best, and perturbs or redraws."""

    def __init__(self, axes: Axes, *, interval: float, metric: str, mode: str, seed: int) -> None:
        """Start with an empty population.

        Args:
            axes: range and scale by key of a trial's config.
            interval: epochs between two decisions about a member.
            metric: key of the reported value.
            mode: "min" or "max".
            seed: of the choices.
        """
        from ray import tune

        self._generators, self.own_metric, self.own_mode = GlobalGenerators(seed), metric, mode
        super().__init__(
            time_attr="epochs",
            metric=metric,
            mode=mode,
            perturbation_interval=_just_below(interval),
            hyperparam_mutations={
                name: (tune.loguniform if axis.scale == "log" else tune.uniform)(axis.low, axis.high)
                for name, axis in axes.items()
            },
            custom_explore_fn=_Inside(axes),
            log_config=False,
        )


class PB2(_Private, pb2.PB2):
    """Population-based bandits: as PBT, with new values from a Gaussian process of the improvements so far."""

    def __init__(self, axes: Axes, *, interval: float, metric: str, mode: str, seed: int) -> None:
        """As `PBT`; its model knows linear scales only."""
        self._generators, self.own_metric, self.own_mode = GlobalGenerators(seed), metric, mode
        super().__init__(
            time_attr="epochs",
            metric=metric,
            mode=mode,
            perturbation_interval=_just_below(interval),
            hyperparam_bounds={name: [axis.low, axis.high] for name, axis in axes.items()},
            custom_explore_fn=_Inside(axes),
            log_config=False,
        )


class _Inside:
    """Brings perturbed values back into their ranges; both schedulers leave them. Can be pickled."""

    def __init__(self, axes: Axes) -> None:
        self._axes = dict(axes)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        axes = self._axes.items()
        inside = {name: min(max(float(config[name]), axis.low), axis.high) for name, axis in axes}
        return {**config, **inside}


def _just_below(interval: float) -> float:
    """Epochs are sums of fractions: an interval must not be missed by a rounding error."""
    return interval * (1 - 1e-6)
