"""DEHB (Awad, Mallik, Hutter, IJCAI 2021): Hyperband whose configurations come from differential evolution.

Its library is asked and told, with no Dask client and no files. DEHB takes +inf for a member that was not evaluated
yet, so a configuration that crashed or diverged is told as the largest finite number.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.peers.replayed import ReplayedOptimizer
from raytune_hyperlearn.baselines.searcher import AskTellSearcher, check_budgets, check_count
from raytune_hyperlearn.baselines.spaces import check_configuration_space, plain_values
from raytune_hyperlearn.results import VALIDATION_LOSS

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


class DEHBOptimizer(ReplayedOptimizer):
    """DEHB with its defaults, asked and told.

    Args:
        space: What to search; it is copied.
        min_budget: Budget of the lowest rung.
        max_budget: Budget of the highest rung, larger than the lowest.
        eta: Factor between two rungs' budgets.
        seed: Of DEHB's generator and of the copy of the space.
    """

    def __init__(
        self, space: ConfigurationSpace, *, min_budget: float, max_budget: float, eta: float, seed: int
    ) -> None:
        self._space, self._budgets, self._eta = copy.deepcopy(space), (min_budget, max_budget), eta
        super().__init__(seed)

    def build(self) -> Any:
        """`dehb.DEHB`, without its log file."""
        from loguru import logger

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dehb

        logger.disable("dehb")

        class Quiet(dehb.DEHB):
            def _setup_logger(self, kwargs: dict[str, Any]) -> None:
                """Write nothing: the library itself adds a log file, a queue and a thread to everybody's logger."""
                self.output_path, self.logger, self.log_filename = Path(kwargs["output_path"]), logger, ""

        space = copy.deepcopy(self._space)
        space.seed(self._seed)
        smallest, largest = self._budgets
        with tempfile.TemporaryDirectory() as empty, _without_deprecations():
            return Quiet(
                cs=space,
                f=None,
                min_fidelity=smallest,
                max_fidelity=largest,
                eta=self._eta,
                seed=self._seed,
                n_workers=1,
                output_path=empty,
                save_freq="end",
            )

    def next_job(self, library: Any) -> Any:
        """A dictionary of DEHB's."""
        with _without_deprecations():
            return library.ask()

    def evaluation(self, job: Any, number: int) -> Evaluation:
        """DEHB has no model: every configuration is a child of others, or one of the first population."""
        return Evaluation(int(job["config_id"]), plain_values(job["config"]), float(job["fidelity"]), None, number)

    def finish(self, library: Any, job: Any, loss: float) -> None:
        """Tell the fitness."""
        with _without_deprecations():
            library.tell(job, {"fitness": loss, "cost": 0.0})

    def bad_loss(self, worst: float) -> float:
        """The largest number: DEHB only compares losses, and takes +inf for "not evaluated yet"."""
        return sys.float_info.max


class DEHB(AskTellSearcher):
    """DEHB as a Ray Tune searcher.

    Use it with Tune's default scheduler, `num_samples=-1`, `reuse_actors=True` and an explicit
    `max_concurrent_trials`. It never finishes by itself.
    """

    def __init__(
        self,
        space: ConfigurationSpace,
        *,
        min_budget: float,
        max_budget: float,
        seed: int,
        eta: float = 3,
        metric: str = VALIDATION_LOSS,
        mode: str = "min",
        budget_key: str = "epochs",
        config_key: str | None = "hyperparameters",
    ) -> None:
        """Check the arguments and build the optimizer.

        Args:
            space: a `ConfigSpace.ConfigurationSpace`; it is copied, its own seed is not used.
            min_budget: budget of the lowest rung, > 0, in the trainable's unit (epochs by default).
            max_budget: budget of the highest rung, > min_budget.
            seed: non-negative; the same seed and the same losses in the same order give the same suggestions.
            eta: factor between two rungs' budgets, >= 2.
            metric: key of the reported value; the trial's last result counts.
            mode: "min" or "max".
            budget_key: where a trial's config holds the budget.
            config_key: where it holds the hyperparameters; None puts them at the top level.

        Raises:
            ImportError: DEHB is not installed.
            ValueError: an argument is outside its range.
        """
        check_configuration_space(space)
        check_budgets(min_budget, max_budget, eta)
        if min_budget == max_budget:
            raise ValueError(f"min_budget is {min_budget:g}; DEHB needs one below max_budget, {max_budget:g}")
        check_count("seed", seed, smallest=0)
        super().__init__(
            DEHBOptimizer(space, min_budget=min_budget, max_budget=max_budget, eta=eta, seed=seed),
            tuple(space),
            metric=metric,
            mode=mode,
            budget_key=budget_key,
            config_key=config_key,
        )


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """DEHB uses names that ConfigSpace deprecates, hundreds of times a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
