"""Problems: data sets, models and splits, by name or the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.problems.checking import check_problem
    from raytune_hyperlearn.problems.data import MissingDataError
    from raytune_hyperlearn.problems.datasets import padded
    from raytune_hyperlearn.problems.examples import Examples, StoredExamples
    from raytune_hyperlearn.problems.fields import Fields
    from raytune_hyperlearn.problems.loading import loaded_once
    from raytune_hyperlearn.problems.losses import LossFunction, PerExample, per_example
    from raytune_hyperlearn.problems.names import PROBLEMS, BuiltIn
    from raytune_hyperlearn.problems.problem import (
        Augmentation,
        Problem,
        Split,
        batches,
        correct,
        cross_entropy,
        evaluate,
    )
    from raytune_hyperlearn.problems.references import ProblemSource, load, source_of
    from raytune_hyperlearn.problems.seeds import Purpose, derived_seed
    from raytune_hyperlearn.problems.training_function import TrainingFunction
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".checking": ["check_problem"],
            ".data": ["MissingDataError"],
            ".datasets": ["padded"],
            ".examples": ["Examples", "StoredExamples"],
            ".fields": ["Fields"],
            ".loading": ["loaded_once"],
            ".losses": ["LossFunction", "PerExample", "per_example"],
            ".names": ["BuiltIn", "PROBLEMS"],
            ".problem": [
                "Augmentation",
                "Problem",
                "Split",
                "batches",
                "correct",
                "cross_entropy",
                "evaluate",
            ],
            ".references": ["ProblemSource", "load", "source_of"],
            ".seeds": ["Purpose", "derived_seed"],
            ".training_function": ["TrainingFunction"],
        },
    )

__all__ = [
    "PROBLEMS",
    "Augmentation",
    "BuiltIn",
    "Examples",
    "Fields",
    "LossFunction",
    "MissingDataError",
    "PerExample",
    "Problem",
    "ProblemSource",
    "Purpose",
    "Split",
    "StoredExamples",
    "TrainingFunction",
    "batches",
    "check_problem",
    "correct",
    "cross_entropy",
    "derived_seed",
    "evaluate",
    "load",
    "loaded_once",
    "padded",
    "per_example",
    "source_of",
]
