"""Ray Tune's face of the algorithms: a trainable and, where a driver can help, a scheduler each."""

from raytune_hyperlearn.tune.arbiter import ArbiterScheduler, ArbiterTrainable
from raytune_hyperlearn.tune.batch_adaptive import BatchAdaptiveScheduler, BatchAdaptiveTrainable
from raytune_hyperlearn.tune.fds import FDSScheduler, FDSTrainable
from raytune_hyperlearn.tune.hypergradient_descent import HypergradientDescentTrainable
from raytune_hyperlearn.tune.kept_state import KeepState, can_restore, restore_tuner
from raytune_hyperlearn.tune.retraining import RetrainingTrainable
from raytune_hyperlearn.tune.scheduler import HyperLearningScheduler
from raytune_hyperlearn.tune.sgd import SGDTrainable
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable, TrialSettings

__all__ = [
    "ArbiterScheduler",
    "ArbiterTrainable",
    "BatchAdaptiveScheduler",
    "BatchAdaptiveTrainable",
    "FDSScheduler",
    "FDSTrainable",
    "HyperLearningScheduler",
    "HyperLearningTrainable",
    "HypergradientDescentTrainable",
    "KeepState",
    "RetrainingTrainable",
    "SGDTrainable",
    "TrialSettings",
    "can_restore",
    "restore_tuner",
]
