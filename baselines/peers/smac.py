"""SMAC3 (Lindauer et al., JMLR 2022): a random forest that predicts losses, in Hyperband's brackets.

Its multi-fidelity facade, named by BOHB's authors as what to use after HpBandSter, is asked and told with its own
defaults, and writes no files. The forest is trained and searched in Tune's loop: seconds per model, counted by the
clock of a comparison as any searcher's computing is.
"""

from __future__ import annotations

import copy
import logging
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.peers.replayed import ReplayedOptimizer
from raytune_hyperlearn.baselines.searcher import AskTellSearcher, check_budgets, check_count
from raytune_hyperlearn.baselines.spaces import check_configuration_space, plain_values
from raytune_hyperlearn.results import VALIDATION_LOSS

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

EXPECTED_EVALUATIONS = 100
"""SMAC's own default of how many evaluations a run has; a quarter of them at most are its initial design."""


class SMACOptimizer(ReplayedOptimizer):
    """SMAC's `MultiFidelityFacade`, asked and told.

    Args:
        space: What to search; it is copied.
        min_budget: Budget of the lowest rung.
        max_budget: Budget of the highest rung, larger than the lowest.
        eta: Factor between two rungs' budgets, a whole number.
        expected_evaluations: SMAC's `n_trials`: sets the size of its initial design, and ends nothing.
        seed: Of SMAC's generators and of the copy of the space.
    """

    def __init__(
        self,
        space: ConfigurationSpace,
        *,
        min_budget: float,
        max_budget: float,
        eta: int,
        expected_evaluations: int,
        seed: int,
    ) -> None:
        self._space, self._budgets, self._eta = copy.deepcopy(space), (min_budget, max_budget), eta
        self._expected_evaluations = expected_evaluations
        super().__init__(seed)

    def build(self) -> Any:
        """The facade; what it writes on construction goes with its folder."""
        from smac import MultiFidelityFacade, Scenario

        logging.getLogger("smac").setLevel(logging.ERROR)  # it warns whenever its forest finds few new points
        space = copy.deepcopy(self._space)
        space.seed(self._seed)
        smallest, largest = self._budgets
        with tempfile.TemporaryDirectory() as written:
            scenario = Scenario(
                space,
                output_directory=Path(written),
                deterministic=True,
                n_trials=self._expected_evaluations,
                min_budget=smallest,
                max_budget=largest,
                seed=self._seed,
            )
            return MultiFidelityFacade(
                scenario,
                target_function=None,
                intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=self._eta),
                overwrite=True,
                logging_level=False,
            )

    def next_job(self, library: Any) -> Any:
        """A `TrialInfo` of SMAC's."""
        return library.ask()

    def evaluation(self, job: Any, number: int) -> Evaluation:
        """SMAC says of every configuration where it came from."""
        identity = self._library.runhistory.get_config_id(job.config)
        modeled = str(job.config.origin).startswith("Acquisition Function Maximizer")
        return Evaluation(int(identity), plain_values(job.config), float(job.budget), modeled, number)

    def finish(self, library: Any, job: Any, loss: float) -> None:
        """Tell the cost."""
        from smac.runhistory.dataclasses import TrialValue

        library.tell(job, TrialValue(cost=loss), save=False)

    def bad_loss(self, worst: float) -> float:
        """The worst so far: the forest would spend its splits on a number that is far from all others."""
        return worst if math.isfinite(worst) else 1e3


class SMAC(AskTellSearcher):
    """SMAC3's multi-fidelity facade as a Ray Tune searcher.

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
        eta: int = 3,
        expected_evaluations: int = EXPECTED_EVALUATIONS,
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
            eta: factor between two rungs' budgets, a whole number >= 2.
            expected_evaluations: how many the run is thought to have, >= 1: sizes SMAC's initial design.
            metric: key of the reported value; the trial's last result counts.
            mode: "min" or "max".
            budget_key: where a trial's config holds the budget.
            config_key: where it holds the hyperparameters; None puts them at the top level.

        Raises:
            ImportError: SMAC is not installed.
            ValueError: an argument is outside its range.
        """
        check_configuration_space(space)
        check_budgets(min_budget, max_budget, eta)
        if min_budget == max_budget:
            raise ValueError(f"min_budget is {min_budget:g}; SMAC's brackets need one below max_budget, {max_budget:g}")
        check_count("eta", eta, smallest=2)
        check_count("expected_evaluations", expected_evaluations, smallest=1)
        check_count("seed", seed, smallest=0)
        optimizer = SMACOptimizer(
            space,
            min_budget=min_budget,
            max_budget=max_budget,
            eta=eta,
            expected_evaluations=expected_evaluations,
            seed=seed,
        )
        super().__init__(
            optimizer, tuple(space), metric=metric, mode=mode, budget_key=budget_key, config_key=config_key
        )
