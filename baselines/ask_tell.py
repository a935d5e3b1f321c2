"""HpBandSter's optimizers, asked and told instead of run.

HpBandSter's `Master.run` hands evaluations to workers that it finds through a Pyro name server, from threads
of its own. Here the same master, unmodified, is *asked* for the next evaluation and *told* its loss, so that
anything that can evaluate a configuration may drive it: no name server, no threads. The order of evaluations
is that of `Master.run` with as many workers as evaluations run at a time.

Hyperband: Li et al., JMLR 2018. BOHB: Falkner, Klein, Hutter, ICML 2018.
"""

from __future__ import annotations

import copy
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.spaces import plain_values

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

# What a master holds for its threads and cannot be pickled; without `Master.run` only the condition is used.
_THREADING = ("thread_cond", "dispatcher", "dispatcher_thread")

# A rung that misses an integer by a rounding error would cost a trial a whole further epoch.
_BUDGET_TOLERANCE = 1e-9

# (category, module, message), all raised hundreds of times per run: names that ConfigSpace deprecates; a generator
# that statsmodels does not use here; a density model whose good configurations share one category.
_KNOWN_WARNINGS: tuple[tuple[type[Warning], str, str], ...] = (
    (DeprecationWarning, r"hpbandster\.", ""),
    (FutureWarning, "", "After 0.17 or January 2028"),
    (RuntimeWarning, r"statsmodels\.nonparametric\.", "divide by zero"),
)

ConfigId = tuple[int, int, int]
Run = tuple[ConfigId, Mapping[str, Any], float]  # identity, configuration, budget


class AskTellOptimizer:
    """One of HpBandSter's optimizers as a state machine that can be pickled at any point.

    HpBandSter draws from numpy's global generator. Every call swaps in a state that belongs to this object
    and restores the caller's afterwards, so a run depends on `seed` alone and disturbs nobody. The two words of
    `numpy.random.SeedSequence(seed).generate_state(2)` seed a copy of the configuration space and that state,
    in this order.

    Attributes:
        seconds: time spent inside HpBandSter so far.
    """

    def __init__(
        self,
        optimizer: str,
        space: ConfigurationSpace,
        *,
        min_budget: float,
        max_budget: float,
        eta: float,
        seed: int,
        iterations: int | None,
        **model: Any,
    ) -> None:
        """Build the optimizer.

        Args:
            optimizer: a class of `hpbandster.optimizers`: "RandomSearch", "HyperBand" or "BOHB".
            space: what to search.
            min_budget: budget of the lowest rung, positive.
            max_budget: budget of the highest rung, at least `min_budget`.
            eta: factor between the budgets of two rungs, at least 2.
            seed: non-negative integer.
            iterations: HpBandSter's iterations (brackets) to run; None: there is always a further one.
            model: further arguments of that class, such as BOHB's `min_points_in_model`.

        Raises:
            ImportError: HpBandSter or ConfigSpace is not installed.
        """
        require_hpbandster()
        space_seed, state_seed = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
        own_space = copy.deepcopy(space)
        own_space.seed(space_seed)
        self.seconds = 0.0
        self._random_state = np.random.RandomState(state_seed).get_state()
        self._iterations = iterations
        self._running: dict[ConfigId, Any] = {}
        with self._inside_hpbandster():
            self._master = _master_without_workers(
                optimizer, configspace=own_space, eta=eta, min_budget=min_budget, max_budget=float(max_budget), **model
            )
        self._master.budgets = [_whole_if_nearly(budget) for budget in self._master.budgets]

    @property
    def budgets(self) -> tuple[float, ...]:
        """The rungs, ascending. HpBandSter's rounding may drop the lowest: (1, 243), eta 3 begins at 3."""
        return tuple(self._master.budgets)

    def ask(self) -> Evaluation | None:
        """Return the next evaluation, or None: a rung waits for results or, if none is running, all done."""
        from hpbandster.core.dispatcher import Job

        with self._inside_hpbandster():
            run = self._next_run()
            if run is None:
                return None
            config_id, config, budget = run
            job = Job(config_id, config=config, budget=budget)
            job.time_it("submitted")
            job.time_it("started")
            self._master.num_running_jobs += 1
        self._running[config_id] = job
        datum = self._master.iterations[config_id[0]].data[config_id]
        return Evaluation(
            config_id=config_id,
            hyperparameters=plain_values(config),
            budget=budget,
            model_based_pick=datum.config_info.get("model_based_pick"),
        )

    def tell(self, config_id: ConfigId, loss: float) -> None:
        """Hand back a running evaluation's loss, to be minimized; NaN and ±inf mark a bad configuration."""
        job = self._running.pop(config_id)
        job.result = {"loss": loss, "info": {}}
        self._return_job(job)

    def tell_crash(self, config_id: ConfigId, exception: str) -> None:
        """Say that a running evaluation ended without a loss, and why."""
        job = self._running.pop(config_id)
        job.exception = exception
        self._return_job(job)

    def _return_job(self, job: Any) -> None:
        job.time_it("finished")
        with self._inside_hpbandster():
            self._master.job_callback(job)

    def _next_run(self) -> Run | None:
        """The choice that `Master.run` makes each time a worker is free."""
        master = self._master
        while True:
            for index in master.active_iterations():
                run: Run | None = master.iterations[index].get_next_run()
                if run is not None:
                    return run
            if self._iterations is not None and len(master.iterations) >= self._iterations:
                return None
            master.iterations.append(master.get_next_iteration(len(master.iterations), {}))

    @contextmanager
    def _inside_hpbandster(self) -> Iterator[None]:
        start = time.perf_counter()
        callers_state = np.random.get_state()
        np.random.set_state(self._random_state)
        try:
            with warnings.catch_warnings():
                for category, module, message in _KNOWN_WARNINGS:
                    warnings.filterwarnings("ignore", category=category, module=module, message=message)
                yield
        finally:
            self._random_state = np.random.get_state()
            np.random.set_state(callers_state)
            self.seconds += time.perf_counter() - start

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the threading, in one piece, because iterations hold the generator's bound methods."""
        attributes = {name: value for name, value in vars(self._master).items() if name not in _THREADING}
        return {**self.__dict__, "_master": (type(self._master), attributes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the master around a new condition."""
        master_class, attributes = state["_master"]
        master = master_class.__new__(master_class)
        master.__dict__.update(attributes, thread_cond=threading.Condition())
        self.__dict__.update(state, _master=master)


def require_hpbandster() -> None:
    """Import HpBandSter and ConfigSpace.

    Raises:
        ImportError: one line that names the extra to install.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ConfigSpace  # noqa: F401
            import hpbandster.optimizers  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"random search, BO, Hyperband and BOHB need HpBandSter ({error}): "
            "pip install 'raytune_hyperlearn[baselines]'"
        ) from error


class _NoDispatcher:
    """Takes the Pyro dispatcher's place while a master is built: it finds no worker and starts nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Accept what a dispatcher accepts."""

    def run(self) -> None:
        """End the dispatcher's thread at once."""


def _master_without_workers(optimizer: str, **settings: Any) -> Any:
    """Build a master of `hpbandster.optimizers` that has no connection to a name server."""
    from hpbandster import optimizers
    from hpbandster.core import master

    dispatcher = master.Dispatcher
    master.Dispatcher = _NoDispatcher
    try:
        return getattr(optimizers, optimizer)(run_id="ask-tell", **settings)
    finally:
        master.Dispatcher = dispatcher


def _whole_if_nearly(budget: float) -> float:
    nearest = float(round(budget))
    return nearest if abs(budget - nearest) <= _BUDGET_TOLERANCE * abs(nearest) else float(budget)
