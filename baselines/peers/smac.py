"""SMAC3 (Lindauer et al., JMLR 2022): a random forest that predicts losses, in Hyperband's brackets.

Its multi-fidelity facade, named by BOHB's authors as what to use after HpBandSter, is asked and told with its own
defaults, and writes no files. The forest is trained and searched in Tune's loop: seconds per model, counted by the
clock of a comparison as any searcher's computing is.
"""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.peers.bracketed import BracketedOptimizer, BracketedSearcher
from raytune_hyperlearn.baselines.searcher import TrialNames, check_budgets, check_count
from raytune_hyperlearn.baselines.spaces import plain_values

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

EXPECTED_EVALUATIONS = 100
"""SMAC's own default of how many evaluations a run has; a quarter of them at most are its initial design."""


class SMACOptimizer(BracketedOptimizer):
    """SMAC's `MultiFidelityFacade`, asked and told.

    Args:
        space: What to search; it is copied.
        expected_evaluations: SMAC's `n_trials`: sets the size of its initial design, and ends nothing.
        shared: As for `BracketedOptimizer`; `eta` is a whole number.
    """

    def __init__(self, space: ConfigurationSpace, *, expected_evaluations: int, **shared: Any) -> None:
        self._expected_evaluations = expected_evaluations
        super().__init__(space, **shared)

    def build(self) -> Any:
        """The facade; what it writes on construction goes with its folder."""
        from smac import MultiFidelityFacade, Scenario

        logging.getLogger("smac").setLevel(logging.ERROR)  # it warns whenever its forest finds few new points
        smallest, largest = self._budgets
        with tempfile.TemporaryDirectory() as written:
            scenario = Scenario(
                self.seeded_space(),
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


class SMAC(BracketedSearcher):
    """SMAC3's multi-fidelity facade as a Ray Tune searcher."""

    optimizer = SMACOptimizer

    def __init__(
        self,
        space: ConfigurationSpace,
        *,
        min_budget: float,
        max_budget: float,
        seed: int,
        eta: int = 3,
        expected_evaluations: int = EXPECTED_EVALUATIONS,
        **names: Unpack[TrialNames],
    ) -> None:
        """As for every `BracketedSearcher`, with a whole `eta`.

        Args:
            space: what to search.
            min_budget: budget of the lowest rung.
            max_budget: budget of the highest rung.
            seed: non-negative.
            eta: factor between two rungs' budgets, a whole number >= 2.
            expected_evaluations: how many the run is thought to have, >= 1: sizes SMAC's initial design.
            names: as `TrialNames` has them.

        Raises:
            ImportError: SMAC is not installed.
            ValueError: an argument is outside its range.
        """
        check_budgets(min_budget, max_budget, eta)
        check_count("eta", eta, smallest=2)
        check_count("expected_evaluations", expected_evaluations, smallest=1)
        options = {"expected_evaluations": expected_evaluations}
        budgets = {"min_budget": min_budget, "max_budget": max_budget}
        super().__init__(space, **budgets, seed=seed, eta=eta, options=options, **names)
