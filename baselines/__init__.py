"""What gradient-based hyper-learning is compared with.

`RandomSearch`, `BayesianOptimization`, `Hyperband` and `BOHB` are Ray Tune searchers that drive HpBandSter's own
optimizers; HpBandSter is imported when one of them is constructed. The others are rules for batch sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.baselines.batch_sizes import CABS, Constant, GradientNoiseScale, Manual
    from raytune_hyperlearn.baselines.optimizers import BOHB, BayesianOptimization, Hyperband, RandomSearch
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".batch_sizes": ["CABS", "Constant", "GradientNoiseScale", "Manual"],
            ".optimizers": ["BOHB", "BayesianOptimization", "Hyperband", "RandomSearch"],
        },
    )

__all__ = [
    "BOHB",
    "CABS",
    "BayesianOptimization",
    "Constant",
    "GradientNoiseScale",
    "Hyperband",
    "Manual",
    "RandomSearch",
]
