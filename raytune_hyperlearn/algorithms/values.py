"""Types in which numbers of schedules travel: one number for every parameter of every hyperparameter's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Values = Mapping[str, Sequence[float]]
"""Hyperparameter name → a number per parameter θ of its schedule, to be read: ``{"learning_rate": [0.1, 0.01], …}``."""

Numbers = dict[str, list[float]]
"""The same, made by whoever returns it: values, hypergradients, step sizes."""

Ranges = Mapping[str, tuple[float, float]]
"""Hyperparameter name → the lowest and the highest value allowed."""
