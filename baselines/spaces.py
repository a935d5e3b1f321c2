"""What all searchers over a ConfigSpace share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_configuration_space(space: object) -> None:
    """Refuse what is not a configuration space of at least one hyperparameter.

    Raises:
        ValueError: In one line.
    """
    from ConfigSpace import ConfigurationSpace

    if not isinstance(space, ConfigurationSpace):
        raise ValueError(f"space must be a ConfigSpace.ConfigurationSpace, got {type(space).__name__}")
    if len(space) == 0:
        raise ValueError("space must have at least one hyperparameter, got an empty ConfigurationSpace")


def plain_values(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Plain Python values: NumPy's cannot be written by every serializer, nor compared by every trainable."""
    values = {name: configuration[name] for name in configuration}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
