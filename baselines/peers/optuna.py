"""Optuna's samplers in Ray Tune: TPE, a Gaussian process and CMA-ES.

A study of Optuna's is asked and told. Ray Tune's `OptunaSearch` forgets a trial that crashed, leaves one that ended in
NaN running forever, and calls one that a scheduler stopped early complete. Here the first two have the worst loss, and
the third is pruned, with its intermediate losses, as in Optuna itself.

Optuna: Akiba et al., KDD 2019. TPE: Bergstra et al., NeurIPS 2011; Watanabe, arXiv 2304.11127.
CMA-ES: Hansen, arXiv 1604.00772. The Gaussian process is Optuna's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from ray.tune.result import TRAINING_ITERATION

from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.baselines.global_generators import GlobalGenerators
from raytune_hyperlearn.baselines.searcher import OwnSpaceSearcher
from raytune_hyperlearn.results import VALIDATION_LOSS


class OptunaSearcher(OwnSpaceSearcher):
    """One of Optuna's samplers as a Ray Tune searcher over a box.

    A suggestion is ``{"hyperparameters": {...}}``. The time spent in Optuna is in ``optimizer_seconds``.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        axes: Mapping[str, Axis],
        *,
        seed: int,
        full_budget: float | None = None,
        metric: str = VALIDATION_LOSS,
        mode: str = "min",
        budget_key: str = "epochs",
    ) -> None:
        """Start a study in memory.

        Args:
            sampler: seeded by the caller.
            axes: range and scale by hyperparameter.
            seed: of the global generators, as far as a sampler draws from them.
            full_budget: a trial whose last result has a smaller budget was pruned; None prunes nothing.
            metric: key of the reported value; a trial's last result counts.
            mode: "min" or "max".
            budget_key: key of a result's budget.
        """
        super().__init__(metric=metric, mode=mode)
        self.optimizer_seconds = 0.0
        self._live: dict[str, optuna.Trial] = {}
        self._full_budget, self._budget_key = full_budget, budget_key
        self._generators = GlobalGenerators(seed)
        self._space = {
            name: FloatDistribution(axis.low, axis.high, log=axis.scale == "log") for name, axis in axes.items()
        }
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(sampler=sampler, direction="minimize" if mode == "min" else "maximize")
        finally:
            optuna.logging.set_verbosity(verbosity)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's part of the config."""
        begun = time.perf_counter()
        with self._generators.swapped_in():
            trial = self._live[trial_id] = self.study.ask(self._space)
        self.optimizer_seconds += time.perf_counter() - begun
        return {"hyperparameters": trial.params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an intermediate value."""
        if trial_id in self._live:
            self._live[trial_id].report(self._finite_or_worst(result.get(self.metric)), result[TRAINING_ITERATION])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell how a trial ended; one that is not under way is ignored."""
        if trial_id not in self._live:
            return
        begun = time.perf_counter()
        trial, value = self._live.pop(trial_id), self._finite_or_worst((result or {}).get(self.metric))
        with self._generators.swapped_in():
            if result and not error and self._was_stopped_early(result, value):
                trial.report(value, result[TRAINING_ITERATION])
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, value, state=TrialState.COMPLETE)
        self.optimizer_seconds += time.perf_counter() - begun

    def _finite_or_worst(self, value: object) -> float:
        """Optuna refuses NaN and takes an infinite value as the worst."""
        if isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
        return math.inf if self.mode == "min" else -math.inf

    def _was_stopped_early(self, result: Mapping[str, Any], value: float) -> bool:
        """Whether a scheduler ended the trial; one that diverged ended by itself."""
        if self._full_budget is None or not math.isfinite(value):
            return False
        return bool(result[self._budget_key] < self._full_budget * (1 - 1e-9))


def tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator, with Optuna's defaults."""
    return optuna.samplers.TPESampler(seed=seed)


def gaussian_process(seed: int) -> BaseSampler:
    """Gaussian process with log expected improvement, with Optuna's defaults."""
    return optuna.samplers.GPSampler(seed=seed)


def cma_es(seed: int) -> BaseSampler:
    """CMA-ES, with Optuna's defaults; the package `cmaes` does the work."""
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
