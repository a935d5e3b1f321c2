"""One search space for every method: schedules with ranges, start values and step sizes.

The same definition gives FDS its columns and step sizes, HpBandSter its ConfigSpace, Tune its config and plain training
its values at every step, so no method is handed a different space by accident. A hyperparameter given as a plain
number is fixed::

    SearchSpace(learning_rate=LearningRate(values=7), momentum=Momentum(), weight_decay=5e-4)
    SearchSpace(learning_rate=LearningRate(shape="cosine", scale="log", range=(1e-3, 1)))

Values travel as ``{"learning_rate": [0.1, …], "momentum": [0.9], "weight_decay": [5e-4]}`` and, where a method
wants scalars, under flat names ``learning_rate_0``, ``learning_rate_1``, ….
"""

from raytune_hyperlearn.hyperparameters.optimizers import Optimizer, optimizer_space
from raytune_hyperlearn.hyperparameters.schedules import KINDS, LearningRate, Momentum, Schedule, WeightDecay
from raytune_hyperlearn.hyperparameters.spaces import OptimizerSpace, SearchSpace, Space

__all__ = [
    "KINDS",
    "LearningRate",
    "Momentum",
    "Optimizer",
    "OptimizerSpace",
    "Schedule",
    "SearchSpace",
    "Space",
    "WeightDecay",
    "optimizer_space",
]
