"""The search space that goes with what trains: an optimizer by name, or a training function of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from raytune_hyperlearn.hyperparameters.schedules import Schedule
from raytune_hyperlearn.hyperparameters.spaces import OptimizerSpace, SearchSpace, Space

Optimizer = Literal["sgd", "own"]
"""``"own"``: a training function, which has hyperparameters of its own."""


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
    return OptimizerSpace({name: _part(name, entry) for name, entry in mapping.items()})


def _part(name: str, entry: Any) -> Schedule | float:
    if not isinstance(entry, Mapping):
        return entry  # type: ignore[no-any-return]  # the space checks that it is a number
    allowed = [part.name for part in fields(Schedule)]
    for key in entry:
        if key not in allowed:
            raise ValueError(f"{name} holds {key!r}; it must be {', '.join(allowed)}")
    return Schedule(**entry)
