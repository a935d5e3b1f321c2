"""What gradient-based hyper-learning is compared with.

`RandomSearch`, `BayesianOptimization`, `Hyperband` and `BOHB` are Ray Tune searchers that drive HpBandSter's
own optimisers. They are loaded on first use; HpBandSter itself only when one is constructed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytune_hyperlearn.baselines.optimisers import BOHB, BayesianOptimization, Hyperband, RandomSearch

__all__ = ["BOHB", "BayesianOptimization", "Hyperband", "RandomSearch"]


def __getattr__(name: str) -> Any:
    """Import a searcher when it is asked for, so that the package does not import Ray."""
    if name in __all__:
        from raytune_hyperlearn.baselines import optimisers

        return getattr(optimisers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
