"""Frozen dataclasses out of plain data (YAML, JSON) and back, refusing what does not fit in one line.

A dataclass that calls :func:`conform_fields` in its ``__post_init__`` holds exactly the types it declares, whether it
was built by code or read from a file: whole numbers become floats where a float is declared, lists become tuples,
and numpy's scalars become Python's.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import reprlib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Row = TypeVar("Row")

_WORDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Any: "plain data (text, numbers, lists, mappings)",
}


def conform_fields(row: Any) -> None:
    """Replaces every field of a frozen dataclass by its value in the declared type.

    Raises:
        ValueError: if a value does not fit its declared type.
    """
    row_type: Any = type(row)
    for name, hint in _hints(row_type).items():
        object.__setattr__(row, name, conform(getattr(row, name), hint, name))


def row_from_mapping(row_type: type[Row], data: object, where: str) -> Row:
    """Builds a dataclass from a mapping of its fields.

    Args:
        row_type: a dataclass.
        data: what a YAML or JSON file held.
        where: put before every error, such as ``"records.jsonl line 3"``.

    Raises:
        ValueError: for unknown or missing names and for values that do not fit.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected names with values, not {_shown(data)}")
    fields = {field.name: field for field in dataclasses.fields(row_type)}  # type: ignore[arg-type]
    unknown = [str(name) for name in data if name not in fields]
    if unknown:
        raise ValueError(f"{where}: unknown name {unknown[0]!r}; allowed are {', '.join(fields)}")
    for name, field in fields.items():
        if name not in data and _has_no_default(field):
            raise ValueError(f"{where}: {name} is missing")
    try:
        return row_type(**data)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def row_to_mapping(row: Any) -> dict[str, Any]:
    """The dataclass's fields as plain data that YAML and JSON can hold, in the order of declaration."""
    return {field.name: plain(getattr(row, field.name), field.name) for field in dataclasses.fields(row)}


def conform(value: object, hint: Any, name: str) -> Any:
    """Returns ``value`` in the type ``hint``.

    Args:
        value: the value received.
        hint: str, bool, int, float, Any, a Literal, ``tuple[X, ...]``, ``list[X]``, ``dict[str, X]``, or ``X | None``.
        name: how errors call the value.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return plain(value, name)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else conform(value, inner, name)
    if origin is Literal and value in arguments:
        return value
    if origin in (tuple, list) and isinstance(value, (tuple, list)):
        return origin(conform(item, arguments[0], f"{name}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {
            conform(key, str, f"a name in {name}"): conform(item, arguments[1], f"{name}.{key}")
            for key, item in value.items()
        }
    if hint in (str, bool) and isinstance(value, hint):
        return hint(value)
    if hint is int and _is_number(value, numbers.Integral):
        return int(value)  # type: ignore[call-overload]
    if hint is float and _is_number(value, numbers.Real):
        return float(value)  # type: ignore[arg-type]
    raise ValueError(f"{name} must be {_allowed(hint)}, not {_shown(value)}")


def plain(value: Any, name: str) -> Any:
    """Returns ``value`` with Python's own scalars, lists and dicts only.

    Raises:
        ValueError: if it holds anything else.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {conform(key, str, f"a name in {name}"): plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    raise ValueError(f"{name} must be {_WORDS[Any]}, not {_shown(value)}")


@functools.cache
def _hints(row_type: type) -> dict[str, Any]:
    return get_type_hints(row_type)


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _shown(value: object) -> str:
    return " ".join(reprlib.repr(value).split())


def _allowed(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (tuple, list):
        return f"a list, each item {_allowed(arguments[0])}"
    if origin is dict:
        return f"names with values, each {_allowed(arguments[1])}"
    return _WORDS[hint]
