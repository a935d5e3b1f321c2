"""Problems: data sets, models and splits, by name or the user's own."""

from raytune_hyperlearn.problems.data import MissingDataError
from raytune_hyperlearn.problems.problem import Examples, Problem, Split, batches, derived_seed, evaluate
from raytune_hyperlearn.problems.registry import PROBLEMS, load

__all__ = [
    "PROBLEMS",
    "Examples",
    "MissingDataError",
    "Problem",
    "Split",
    "batches",
    "derived_seed",
    "evaluate",
    "load",
]
