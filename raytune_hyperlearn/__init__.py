"""Learn hyperparameters by gradients, during training, on Ray Tune; compare honestly with black-box search.

What is in ``__all__`` is the public interface; it is imported on first use, so that ``import raytune_hyperlearn`` is
quick and needs neither torch nor Ray. The searchers are in :mod:`raytune_hyperlearn.baselines`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn import algorithms, baselines, comparison, derivatives, problems, reproductions, tune
    from raytune_hyperlearn.algorithms.arbiter_config import ArbiterConfig
    from raytune_hyperlearn.algorithms.hypergradient_descent import SGDHD, AdamHD, HyperRates
    from raytune_hyperlearn.comparison.experiment import Experiment
    from raytune_hyperlearn.comparison.head_to_head import compare, extend
    from raytune_hyperlearn.comparison.reporting.page import build_report
    from raytune_hyperlearn.comparison.study import Study, load_study
    from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions
    from raytune_hyperlearn.hyperparameters import (
        LearningRate,
        Momentum,
        OptimizerSpace,
        Schedule,
        SearchSpace,
        WeightDecay,
    )
    from raytune_hyperlearn.learned import Learned
    from raytune_hyperlearn.learned_batches import LearnedBatchSampler
    from raytune_hyperlearn.problems.examples import Examples
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction
    from raytune_hyperlearn.tune.arbiter import ArbiterScheduler, ArbiterTrainable
    from raytune_hyperlearn.tune.arbiter_training import TrainingOptions
    from raytune_hyperlearn.tune.batch_adaptive import BatchAdaptiveScheduler, BatchAdaptiveTrainable, BatchSizeOptions
    from raytune_hyperlearn.tune.fds import FDSScheduler, FDSTrainable
    from raytune_hyperlearn.tune.fds_options import FDSOptions
    from raytune_hyperlearn.tune.hypergradient_descent import HypergradientDescentOptions, HypergradientDescentTrainable
    from raytune_hyperlearn.tune.kept_state import KeepState, can_restore, restore_tuner
    from raytune_hyperlearn.tune.retraining import RetrainingOptions, RetrainingTrainable
    from raytune_hyperlearn.tune.scheduler import HyperLearningScheduler
    from raytune_hyperlearn.tune.sgd import SGDTrainable
    from raytune_hyperlearn.tune.trainable import HyperLearningTrainable
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".algorithms.arbiter_config": ["ArbiterConfig"],
            ".algorithms.hypergradient_descent": ["AdamHD", "HyperRates", "SGDHD"],
            ".comparison.experiment": ["Experiment"],
            ".comparison.head_to_head": ["compare", "extend"],
            ".comparison.reporting.page": ["build_report"],
            ".comparison.study": ["Study", "load_study"],
            ".derivatives.hessian_products": ["HessianProductOptions"],
            ".hyperparameters": [
                "LearningRate",
                "Momentum",
                "OptimizerSpace",
                "Schedule",
                "SearchSpace",
                "WeightDecay",
            ],
            ".learned": ["Learned"],
            ".learned_batches": ["LearnedBatchSampler"],
            ".problems.problem": ["Examples", "Problem"],
            ".problems.training_function": ["TrainingFunction"],
            ".tune.arbiter": ["ArbiterScheduler", "ArbiterTrainable"],
            ".tune.arbiter_training": ["TrainingOptions"],
            ".tune.batch_adaptive": ["BatchAdaptiveScheduler", "BatchAdaptiveTrainable", "BatchSizeOptions"],
            ".tune.fds": ["FDSScheduler", "FDSTrainable"],
            ".tune.fds_options": ["FDSOptions"],
            ".tune.hypergradient_descent": ["HypergradientDescentOptions", "HypergradientDescentTrainable"],
            ".tune.kept_state": ["KeepState", "can_restore", "restore_tuner"],
            ".tune.retraining": ["RetrainingOptions", "RetrainingTrainable"],
            ".tune.scheduler": ["HyperLearningScheduler"],
            ".tune.sgd": ["SGDTrainable"],
            ".tune.trainable": ["HyperLearningTrainable"],
        },
        subpackages=["algorithms", "baselines", "comparison", "derivatives", "problems", "reproductions", "tune"],
    )

__version__ = "0.2.0"

__all__ = [
    "SGDHD",
    "AdamHD",
    "ArbiterConfig",
    "ArbiterScheduler",
    "ArbiterTrainable",
    "BatchAdaptiveScheduler",
    "BatchAdaptiveTrainable",
    "BatchSizeOptions",
    "Examples",
    "Experiment",
    "FDSOptions",
    "FDSScheduler",
    "FDSTrainable",
    "HessianProductOptions",
    "HyperLearningScheduler",
    "HyperLearningTrainable",
    "HyperRates",
    "HypergradientDescentOptions",
    "HypergradientDescentTrainable",
    "KeepState",
    "Learned",
    "LearnedBatchSampler",
    "LearningRate",
    "Momentum",
    "OptimizerSpace",
    "Problem",
    "RetrainingOptions",
    "RetrainingTrainable",
    "SGDTrainable",
    "Schedule",
    "SearchSpace",
    "Study",
    "TrainingFunction",
    "TrainingOptions",
    "WeightDecay",
    "__version__",
    "algorithms",
    "baselines",
    "build_report",
    "can_restore",
    "compare",
    "comparison",
    "derivatives",
    "extend",
    "load_study",
    "problems",
    "reproductions",
    "restore_tuner",
    "tune",
]
