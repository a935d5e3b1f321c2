"""The published algorithms. A paper's files share its name; each begins with its mathematics.

They need torch alone, but for :mod:`.reverse_mode`, which also needs checkpoint-schedules, and
:mod:`.surrogate_descent`, which also needs NumPy and SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.algorithms.arbiter import Arbiter, OuterStep
    from raytune_hyperlearn.algorithms.arbiter_agent import default_agent, image_agent, vector_agent
    from raytune_hyperlearn.algorithms.arbiter_config import ArbiterConfig
    from raytune_hyperlearn.algorithms.arbiter_controls import (
        BatchSizeAgent,
        ConstantBatchSize,
        RandomWalk,
        ReplayedSchedule,
    )
    from raytune_hyperlearn.algorithms.batch_adaptive import BatchAdaptiveSGD, GaussianWalkRule, Walk, best_batch_size
    from raytune_hyperlearn.algorithms.fds import Clamps, SGDStep, greedy_hypergradients, hypergradient
    from raytune_hyperlearn.algorithms.forward_mode import Hypergradient, InnerStep, hypergradients
    from raytune_hyperlearn.algorithms.hypergradient_descent import SGDHD, AdamHD, HyperRates
    from raytune_hyperlearn.algorithms.objectives import Objective
    from raytune_hyperlearn.algorithms.ruled_sgd import (
        BatchSizeRule,
        BatchStatistics,
        Progress,
        RuledSGD,
        WithoutMemory,
    )
    from raytune_hyperlearn.algorithms.sampler import EpochSampler, Sampler
    from raytune_hyperlearn.algorithms.sgd import train
    from raytune_hyperlearn.algorithms.sign_descent import OuterState, converged, outer_step
    from raytune_hyperlearn.algorithms.surrogate_descent import surrogate_step
    from raytune_hyperlearn.algorithms.update_maps import SGD, Adam, AdamW, GradientUpdate, UpdateMap
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".arbiter": ["Arbiter", "OuterStep"],
            ".arbiter_agent": ["default_agent", "image_agent", "vector_agent"],
            ".arbiter_config": ["ArbiterConfig"],
            ".arbiter_controls": ["BatchSizeAgent", "ConstantBatchSize", "RandomWalk", "ReplayedSchedule"],
            ".batch_adaptive": ["BatchAdaptiveSGD", "GaussianWalkRule", "Walk", "best_batch_size"],
            ".fds": ["Clamps", "SGDStep", "greedy_hypergradients", "hypergradient"],
            ".forward_mode": ["Hypergradient", "InnerStep", "hypergradients"],
            ".hypergradient_descent": ["AdamHD", "HyperRates", "SGDHD"],
            ".objectives": ["Objective"],
            ".ruled_sgd": ["BatchSizeRule", "BatchStatistics", "Progress", "RuledSGD", "WithoutMemory"],
            ".sampler": ["EpochSampler", "Sampler"],
            ".sgd": ["train"],
            ".sign_descent": ["OuterState", "converged", "outer_step"],
            ".surrogate_descent": ["surrogate_step"],
            ".update_maps": ["Adam", "AdamW", "GradientUpdate", "SGD", "UpdateMap"],
        },
    )

__all__ = [
    "SGD",
    "SGDHD",
    "Adam",
    "AdamHD",
    "AdamW",
    "Arbiter",
    "ArbiterConfig",
    "BatchAdaptiveSGD",
    "BatchSizeAgent",
    "BatchSizeRule",
    "BatchStatistics",
    "Clamps",
    "ConstantBatchSize",
    "EpochSampler",
    "GaussianWalkRule",
    "GradientUpdate",
    "HyperRates",
    "Hypergradient",
    "InnerStep",
    "Objective",
    "OuterState",
    "OuterStep",
    "Progress",
    "RandomWalk",
    "ReplayedSchedule",
    "RuledSGD",
    "SGDStep",
    "Sampler",
    "UpdateMap",
    "Walk",
    "WithoutMemory",
    "best_batch_size",
    "converged",
    "default_agent",
    "greedy_hypergradients",
    "hypergradient",
    "hypergradients",
    "image_agent",
    "outer_step",
    "surrogate_step",
    "train",
    "vector_agent",
]
