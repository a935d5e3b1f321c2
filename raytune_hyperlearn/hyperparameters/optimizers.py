"""The search space that goes with what trains: an optimizer by name, or a training function of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from raytune_hyperlearn.algorithms.optimizer_defaults import ADAM
from raytune_hyperlearn.hyperparameters.schedules import Schedule, WeightDecay
from raytune_hyperlearn.hyperparameters.spaces import OptimizerSpace, SearchSpace, Space

Optimizer = Literal["sgd", "adam", "adamw", "own"]
"""``"own"``: a training function, which has hyperparameters of its own."""

RATES = Schedule(values=7, range=(1e-5, 1e-1), scale="log")
"""Seven windows, as SGD's, around PyTorch's default of 1e-3."""
FIXED: Mapping[str, float] = {name: ADAM[name] for name in ("beta1", "beta2", "epsilon")}
SEARCHED: Mapping[Optimizer, Mapping[str, Schedule | float]] = {
    "adam": {"learning_rate": RATES, "weight_decay": WeightDecay(), **FIXED},
    "adamw": {"learning_rate": RATES, "weight_decay": Schedule(step=0.03, range=(0.0, 0.3)), **FIXED},
}
"""What is searched where the settings do not say."""


def optimizer_space(optimizer: Optimizer, mapping: Mapping[str, Any]) -> Space:
    """A space from nested values, as files hold them.

    Args:
        optimizer: Whose hyperparameters they are.
        mapping: Name → settings of a schedule, or number. What is not named keeps the optimizer's default.

    Raises:
        ValueError: In one line, if a name or a value is not allowed.
    """
    if optimizer == "sgd":
        return SearchSpace.from_mapping(mapping)
    given = {name: _part(name, entry) for name, entry in mapping.items()}
    if optimizer == "own":
        return OptimizerSpace(given)
    for name in given:
        if name not in SEARCHED[optimizer]:
            raise ValueError(f"space holds {name!r}; {optimizer} has {', '.join(SEARCHED[optimizer])}")
    return OptimizerSpace({**SEARCHED[optimizer], **given})


def _part(name: str, entry: Any) -> Schedule | float:
    if not isinstance(entry, Mapping):
        return entry  # type: ignore[no-any-return]  # the space checks that it is a number
    allowed = [part.name for part in fields(Schedule)]
    for key in entry:
        if key not in allowed:
            raise ValueError(f"{name} holds {key!r}; it must be {', '.join(allowed)}")
    return Schedule(**entry)
