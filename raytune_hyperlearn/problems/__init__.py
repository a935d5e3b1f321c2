"""Problems: data sets, models and splits, by name or the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.problems.data import MissingDataError
    from raytune_hyperlearn.problems.names import PROBLEMS, BuiltIn
    from raytune_hyperlearn.problems.problem import (
        Augmentation,
        Examples,
        LossFunction,
        Problem,
        Split,
        batches,
        correct,
        cross_entropy,
        evaluate,
    )
    from raytune_hyperlearn.problems.references import load
    from raytune_hyperlearn.problems.seeds import Purpose, derived_seed
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".data": ["MissingDataError"],
            ".names": ["BuiltIn", "PROBLEMS"],
            ".problem": [
                "Augmentation",
                "Examples",
                "LossFunction",
                "Problem",
                "Split",
                "batches",
                "correct",
                "cross_entropy",
                "evaluate",
            ],
            ".references": ["load"],
            ".seeds": ["Purpose", "derived_seed"],
        },
    )

__all__ = [
    "PROBLEMS",
    "Augmentation",
    "BuiltIn",
    "Examples",
    "LossFunction",
    "MissingDataError",
    "Problem",
    "Purpose",
    "Split",
    "batches",
    "correct",
    "cross_entropy",
    "derived_seed",
    "evaluate",
    "load",
]
