"""The algorithms in Ray Tune: a trainable each and, where a driver can help, a scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.tune.arbiter import ArbiterScheduler, ArbiterTrainable
    from raytune_hyperlearn.tune.arbiter_training import TrainingOptions
    from raytune_hyperlearn.tune.batch_adaptive import BatchAdaptiveScheduler, BatchAdaptiveTrainable, BatchSizeOptions
    from raytune_hyperlearn.tune.decayed import DecayedTrainable
    from raytune_hyperlearn.tune.fds import FDSScheduler, FDSTrainable
    from raytune_hyperlearn.tune.fds_options import FDSOptions
    from raytune_hyperlearn.tune.groups import GroupScheduler
    from raytune_hyperlearn.tune.hypergradient_descent import HypergradientDescentOptions, HypergradientDescentTrainable
    from raytune_hyperlearn.tune.kept_state import KeepState, can_restore, restore_tuner
    from raytune_hyperlearn.tune.one_run import OneRunOptions, OneRunTrainable, ProdigyOptions, ScheduleFreeOptions
    from raytune_hyperlearn.tune.population import PopulationOptions, PopulationTrainable
    from raytune_hyperlearn.tune.retraining import RetrainingOptions, RetrainingTrainable
    from raytune_hyperlearn.tune.scalars import Scalars
    from raytune_hyperlearn.tune.scheduler import HyperLearningScheduler
    from raytune_hyperlearn.tune.sgd import SGDTrainable
    from raytune_hyperlearn.tune.trainable import HyperLearningTrainable
    from raytune_hyperlearn.tune.training_function import EvaluationOptions, TrainingFunctionTrainable
    from raytune_hyperlearn.tune.trial_settings import TrialSettings
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".arbiter": ["ArbiterScheduler", "ArbiterTrainable"],
            ".arbiter_training": ["TrainingOptions"],
            ".batch_adaptive": ["BatchAdaptiveScheduler", "BatchAdaptiveTrainable", "BatchSizeOptions"],
            ".decayed": ["DecayedTrainable"],
            ".fds": ["FDSScheduler", "FDSTrainable"],
            ".fds_options": ["FDSOptions"],
            ".groups": ["GroupScheduler"],
            ".hypergradient_descent": ["HypergradientDescentOptions", "HypergradientDescentTrainable"],
            ".kept_state": ["KeepState", "can_restore", "restore_tuner"],
            ".one_run": ["OneRunOptions", "OneRunTrainable", "ProdigyOptions", "ScheduleFreeOptions"],
            ".population": ["PopulationOptions", "PopulationTrainable"],
            ".retraining": ["RetrainingOptions", "RetrainingTrainable"],
            ".scalars": ["Scalars"],
            ".scheduler": ["HyperLearningScheduler"],
            ".sgd": ["SGDTrainable"],
            ".trainable": ["HyperLearningTrainable"],
            ".trial_settings": ["TrialSettings"],
            ".training_function": ["EvaluationOptions", "TrainingFunctionTrainable"],
        },
    )

__all__ = [
    "ArbiterScheduler",
    "ArbiterTrainable",
    "BatchAdaptiveScheduler",
    "BatchAdaptiveTrainable",
    "BatchSizeOptions",
    "DecayedTrainable",
    "EvaluationOptions",
    "FDSOptions",
    "FDSScheduler",
    "FDSTrainable",
    "GroupScheduler",
    "HyperLearningScheduler",
    "HyperLearningTrainable",
    "HypergradientDescentOptions",
    "HypergradientDescentTrainable",
    "KeepState",
    "OneRunOptions",
    "OneRunTrainable",
    "PopulationOptions",
    "PopulationTrainable",
    "ProdigyOptions",
    "RetrainingOptions",
    "RetrainingTrainable",
    "SGDTrainable",
    "Scalars",
    "ScheduleFreeOptions",
    "TrainingFunctionTrainable",
    "TrainingOptions",
    "TrialSettings",
    "can_restore",
    "restore_tuner",
]
