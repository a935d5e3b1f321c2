"""Plain data, as YAML and JSON can hold: the form in which records are written, and the type of their free entries."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Strict

from raytune_hyperlearn.checked import AnyNumber, Described

ALLOWED = "plain data (text, numbers, lists, mappings)"
DEEPEST = 20
"""Levels of lists and mappings within each other; a file that holds more is broken or hostile."""


def as_plain(value: Any, depth: int = 0) -> Any:
    """``value`` with Python's own scalars, lists and dicts only.

    Args:
        value: Text, numbers of Python's or numpy's, and mappings, lists and tuples of them.
        depth: Lists and mappings around the value.

    Raises:
        ValueError: If it holds anything else, or more than ``DEEPEST`` levels.
    """
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):  # most values, at once
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if depth < DEEPEST and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: as_plain(item, depth + 1) for name, item in value.items()}
    if depth < DEEPEST and isinstance(value, (list, tuple)):
        return [as_plain(item, depth + 1) for item in value]
    raise ValueError(f"it must be {ALLOWED}, at most {DEEPEST} levels deep")


Plain = Annotated[Any, BeforeValidator(as_plain), Described(ALLOWED)]
"""Anything that YAML and JSON can hold."""
NumberList = Annotated[list[AnyNumber], Strict(False)]
"""A list of numbers, infinities and NaN included; a tuple is taken as well."""
Schedules = dict[str, NumberList]
"""A list of values by hyperparameter."""


def to_mapping(record: Any) -> dict[str, Any]:
    """A record's fields as plain data, in the order of their declaration."""
    return {field.name: as_plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
