"""Random search, Bayesian optimization, Hyperband and BOHB as Ray Tune searchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import Unpack

from raytune_hyperlearn.baselines.hpbandster_searcher import HpBandSterSearcher
from raytune_hyperlearn.baselines.searcher import TrialNames

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


class Hyperband(HpBandSterSearcher):
    """Successive halving in brackets, configurations from the prior (Li et al., Hyperband, JMLR 2018)."""

    optimizer = "HyperBand"


class BOHB(HpBandSterSearcher):
    """Hyperband whose configurations come from a kernel density model (Falkner et al., BOHB, ICML 2018).

    The model needs two groups, good and bad, of more than dim configurations each on one budget before its first pick
    (`min_points_in_model` asks for larger ones), and a third of all picks stays random. A trial's `model_based_pick`
    says which it was.
    """

    optimizer = "BOHB"


class _FullBudgetSearcher(HpBandSterSearcher):
    """One rung: every configuration is trained on the whole budget."""

    def __init__(
        self,
        space: ConfigurationSpace,
        *,
        max_budget: float,
        seed: int,
        iterations: int | None = None,
        min_points_in_model: int | None = None,
        **names: Unpack[TrialNames],
    ) -> None:
        """As `HpBandSterSearcher`, with `min_budget` = `max_budget`; `iterations` counts evaluations."""
        super().__init__(
            space,
            min_budget=max_budget,
            max_budget=max_budget,
            seed=seed,
            iterations=iterations,
            min_points_in_model=min_points_in_model,
            **names,
        )


class RandomSearch(_FullBudgetSearcher):
    """Independent draws from the space's prior, each trained on the whole budget."""

    optimizer = "RandomSearch"


class BayesianOptimization(_FullBudgetSearcher):
    """BOHB's density model on the whole budget, without brackets.

    Until the model's first pick, which takes 2 (dim + 1) evaluations, it draws what `RandomSearch` draws.
    """

    optimizer = "BOHB"
