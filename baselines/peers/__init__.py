"""The black-box methods of today, as Ray Tune searchers and schedulers, each driving its own library unmodified.

`SMAC` and `DEHB` are searchers that may be used on their own, as the ones in :mod:`raytune_hyperlearn.baselines`.
They need the extra ``raytune_hyperlearn[peers]``, and are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.baselines.peers.dehb import DEHB
    from raytune_hyperlearn.baselines.peers.optuna import OptunaSearcher, cma_es, gaussian_process, tpe
    from raytune_hyperlearn.baselines.peers.population import PB2, PBT
    from raytune_hyperlearn.baselines.peers.random_draws import RandomDraws
    from raytune_hyperlearn.baselines.peers.smac import SMAC
    from raytune_hyperlearn.baselines.peers.tune_bohb import TuneBOHB
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".dehb": ["DEHB"],
            ".optuna": ["OptunaSearcher", "cma_es", "gaussian_process", "tpe"],
            ".population": ["PB2", "PBT"],
            ".random_draws": ["RandomDraws"],
            ".smac": ["SMAC"],
            ".tune_bohb": ["TuneBOHB"],
        },
    )

__all__ = [
    "DEHB",
    "PB2",
    "PBT",
    "SMAC",
    "OptunaSearcher",
    "RandomDraws",
    "TuneBOHB",
    "cma_es",
    "gaussian_process",
    "tpe",
]
