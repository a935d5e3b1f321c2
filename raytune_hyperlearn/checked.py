"""Frozen records whose fields are checked by type and range, and errors in one line of one grammar.

    @record
    class Options:
        steps: Count = 10
        way: Literal["fast", "exact"] = "exact"

    Options(steps=2.5)                     # ValueError: steps is 2.5; it must be a whole number of at least 1
    read(Options, {"stesp": 3})            # ValueError: option is 'stesp'; it must be steps (the closest) or way
    Options(steps=0, way="slow")           # ValueError: steps is 0; it must be …; also way is 'slow'; it must be …

pydantic checks; nothing is converted but whole numbers to floats, lists to tuples, and numpy's scalars to Python's.
A validator of a record's own raises a ValueError that begins with ``it must`` to complain of its field, or holds the
whole line.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import functools
import json
import numbers
import reprlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import annotated_types
import pydantic.dataclasses
from pydantic import AfterValidator as AfterValidator
from pydantic import AllowInfNan, ConfigDict, Field, GetCoreSchemaHandler, Strict, TypeAdapter, ValidationError
from pydantic import BeforeValidator as BeforeValidator
from pydantic import InstanceOf as InstanceOf
from pydantic_core import core_schema
from typing_extensions import dataclass_transform

Record = TypeVar("Record")
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Described:
    """Put into ``Annotated``: what errors say that the value must be."""

    text: str


def _python_scalar(value: object) -> object:
    """Python's own number for one of numpy's."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


class _Scalar:
    """Takes numpy's numbers too; JSON has none, and is read in a fraction of the time without asking."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        inner = handler(source)
        asked = core_schema.no_info_before_validator_function(_python_scalar, inner)
        return core_schema.json_or_python_schema(inner, asked)


_SCALAR = _Scalar()
Whole = Annotated[int, Field(ge=0), _SCALAR]
"""A whole number of at least 0."""
Count = Annotated[int, Field(ge=1), _SCALAR]
"""A whole number of at least 1."""
Finite = Annotated[float, _SCALAR]
"""A finite number."""
Positive = Annotated[float, Field(gt=0), _SCALAR]
"""A finite number above 0."""
NonNegative = Annotated[float, Field(ge=0), _SCALAR]
"""A finite number of at least 0."""
Fraction = Annotated[float, Field(ge=0, lt=1), _SCALAR]
"""A number in [0, 1)."""
AnyNumber = Annotated[float, AllowInfNan(True), _SCALAR]
"""A number, infinities and NaN included."""
Items = Annotated[tuple[Item, ...], Strict(False)]
"""A tuple of any length; a list is taken as well."""
Pair = Annotated[tuple[Item, Item], Strict(False)]
"""A tuple of two; a list is taken as well."""


class _AsMapping:
    """Strict mode takes instances of a dataclass alone; its fields stay strict."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        inner: dict[str, Any] = {**handler.resolve_ref_schema(handler(source)), "strict": False}
        inner.pop("ref", None)
        return inner


Lenient = Annotated[Item, _AsMapping()]
"""A record that may be given as a mapping of its fields."""


@dataclass_transform(frozen_default=True, kw_only_default=False, field_specifiers=(dataclasses.field, Field))
def record(cls: type[Record]) -> type[Record]:
    """A frozen dataclass whose fields are checked when it is made.

    Returns:
        The dataclass; making one raises a ValueError in one line for all that is wrong with it.
    """
    settings = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    made = pydantic.dataclasses.dataclass(frozen=True, config=settings)(cls)
    validate = made.__init__

    @functools.wraps(validate)
    def checked(self: Any, *arguments: Any, **named: Any) -> None:
        try:
            validate(self, *arguments, **named)
        except ValidationError as error:
            given = dict(zip(_hints(made), arguments, strict=False)) | named
            raise ValueError(one_line(error, made, given)) from None

    cast(Any, made).__init__ = checked
    return cast(type[Record], made)


def read(record_type: type[Record], data: object, where: str = "", what: str = "option") -> Record:
    """A record from a mapping of its fields; a record is returned as it is.

    Args:
        record_type: What :func:`record` decorated, or a plain dataclass.
        data: A record or a mapping.
        where: Put before the error, such as ``"experiment.yaml"``; empty for nothing.
        what: What an unknown name is called.

    Raises:
        ValueError: In one line.
    """
    if isinstance(data, record_type):
        return data
    begin = f"{where}: " if where else ""
    if not isinstance(data, Mapping):
        raise ValueError(f"{begin}{what} is {shown(data)}; it must be {allowed(record_type)}")
    names = _hints(record_type)
    for name in data:
        if name not in names:
            raise ValueError(begin + unknown(what, name, names))
    try:
        return record_type(**data)
    except ValueError as error:
        raise ValueError(f"{begin}{error}") from None


def read_json(record_type: type[Record], text: bytes, where: str = "", what: str = "option") -> Record:
    """A record from a JSON object, as :func:`read` makes it and many times faster.

    Args:
        record_type: What :func:`record` decorated.
        text: The object.
        where: As for :func:`read`.
        what: As for :func:`read`.

    Raises:
        ValueError: In one line.
    """
    try:
        made: Record = _adapter(cast(Any, record_type)).validate_json(text)
    except ValidationError:  # said in our own words
        begin = f"{where}: " if where else ""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{begin}not JSON ({error})") from None
        return read(record_type, data, where, what)
    return made


@functools.cache
def _adapter(record_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record_type)


def read_part(record_type: type[Record], data: Mapping[str, Any]) -> Record:
    """A record from those entries of a mapping that are its fields; an entry that is None keeps the default.

    Raises:
        ValueError: In one line.
    """
    return record_type(**{name: data[name] for name in _hints(record_type) if data.get(name) is not None})


class FromConfig:
    """Base of records whose fields are keys of a trial's config, which holds others too."""

    @classmethod
    def from_config(cls: type[Record], config: Mapping[str, Any]) -> Record:
        """Read and check the keys.

        Raises:
            ValueError: In one line that names the key, its value and what is allowed.
        """
        return read_part(cls, config)


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The complaint about a name that is not known: the closest known one first, then the rest.

    Args:
        what: What the name is of, such as ``"config key"``.
        name: As given.
        known: All that are allowed.
    """
    rest = sorted(known)
    closest = difflib.get_close_matches(str(name), rest, n=1)
    ordered = [f"{closest[0]} (the closest)"] if closest else []
    ordered += [one for one in rest if one not in closest]
    return f"{what} is {name!r}; it must be {_joined(ordered) or 'left out'}"


def one_line(error: ValidationError, record_type: type, given: object) -> str:
    """All that is wrong with a record, in one line: ``name is value; it must be …; also …``.

    Args:
        error: What pydantic raised.
        record_type: The record that was to be made.
        given: Its fields as given, by name.
    """
    complaints = (_complaint(found, record_type, given) for found in error.errors(include_url=False))
    return "; also ".join(dict.fromkeys(complaints))


def allowed(annotation: Any) -> str:
    """What a value of a type annotation must be, in words."""
    hint, marks = _bare(annotation)
    for mark in marks:
        if isinstance(mark, Described):
            return mark.text
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (int, float):
        return _number(hint, marks)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return _joined([repr(value) for value in arguments])
    if origin in (Union, types.UnionType):
        return _joined([allowed(argument) for argument in arguments])
    if origin in (tuple, list, collections.abc.Sequence):
        return _sequence(arguments, marks)
    if origin in (dict, collections.abc.Mapping):
        return f"names with values, each {allowed(arguments[1])}"
    if origin is collections.abc.Callable:
        return "a function"
    if dataclasses.is_dataclass(hint):
        return f"a mapping of {_joined(list(_hints(hint)))}"
    return f"a {getattr(hint, '__name__', hint)}"


def shown(value: object) -> str:
    """The value in one line, cut where it is long."""
    return " ".join(reprlib.repr(value).split())


_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    str: "text",
    types.NoneType: "None",
    Any: "plain data",
}


def _complaint(found: Any, record_type: type, given: object) -> str:
    """One entry of pydantic's list."""
    location: Sequence[str | int] = found["loc"]
    if found["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        *_, last = location
        name, hint, value = _at(record_type, given, location[:-1])
        owner = _bare(_present(hint))[0]
        if dataclasses.is_dataclass(owner):
            return unknown(f"option of {name}" if name else "option", last, _hints(owner))
        return f"{name} is {shown(value)}; it must be {allowed(hint)}"
    name, hint, value = _at(record_type, given, location)
    if found["type"] == "value_error":
        text = str(found["ctx"]["error"])
        return f"{name} is {shown(value)}; {text}" if text.startswith("it must") else text
    if found["type"] == "missing" and isinstance(location[-1], str):
        return f"{name} is missing; it must be {allowed(hint)}"
    return f"{name} is {shown(value)}; it must be {allowed(hint)}"


def _at(record_type: Any, given: object, location: Sequence[str | int]) -> tuple[str, Any, object]:
    """Name, annotation and value at a location; it ends where the annotation leaves a choice."""
    name, hint, value = "", record_type, given
    for part in location:
        bare = _bare(_present(hint))[0]
        arguments = get_args(bare)
        if dataclasses.is_dataclass(bare) and isinstance(part, str) and part in _hints(bare):
            name, hint = f"{name}.{part}" if name else part, _hints(bare)[part]
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        elif get_origin(bare) in (tuple, list, collections.abc.Sequence) and isinstance(part, int):
            if not isinstance(value, Sequence) or part >= len(value):
                break
            name, value = f"{name}[{part}]", value[part]
            hint = arguments[0] if len(arguments) < 2 or arguments[1] is Ellipsis else arguments[part]
        elif get_origin(bare) in (dict, collections.abc.Mapping) and isinstance(value, Mapping) and part in value:
            name, hint, value = f"{name}.{part}", arguments[1], value[part]
        else:
            break
    return name, hint, value


def _present(annotation: Any) -> Any:
    """X of ``X | None``; other annotations as they are."""
    hint, _ = _bare(annotation)
    if get_origin(hint) in (Union, types.UnionType):
        others = [argument for argument in get_args(hint) if argument is not types.NoneType]
        return others[0] if len(others) == 1 else hint
    return annotation


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The annotation without ``Annotated``, and what that adds."""
    if get_origin(annotation) is Annotated:
        hint, *marks = get_args(annotation)
        inner, more = _bare(hint)
        return inner, (*more, *marks)
    return annotation, ()


def _number(kind: type, marks: Sequence[Any]) -> str:
    limits = list(_limits(marks))
    bounds = {type(limit): dataclasses.astuple(limit)[0] for limit in limits}
    low = bounds.get(annotated_types.Ge, bounds.get(annotated_types.Gt))
    high = bounds.get(annotated_types.Le, bounds.get(annotated_types.Lt))
    open_ = annotated_types.Gt in bounds
    any_number = any(isinstance(mark, AllowInfNan) for mark in marks)
    noun = "whole number" if kind is int else "number" if any_number or bounds else "finite number"
    if low is not None and high is not None:
        return f"a {noun} in {'(' if open_ else '['}{low}, {high}{')' if annotated_types.Lt in bounds else ']'}"
    if open_:
        return f"a positive {noun}" if low == 0 else f"a {noun} greater than {low}"
    if low is not None:
        return f"a {noun} of at least {low}"
    return f"a {noun}" if high is None else f"a {noun} of at most {high}"


def _limits(marks: Sequence[Any]) -> Iterable[Any]:
    kinds = (annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt)
    for mark in marks:
        yield from (limit for limit in (mark, *getattr(mark, "metadata", ())) if isinstance(limit, kinds))


def _sequence(arguments: Sequence[Any], marks: Sequence[Any]) -> str:
    lengths = [limit for mark in marks for limit in (mark, *getattr(mark, "metadata", ()))]
    least = next((limit.min_length for limit in lengths if isinstance(limit, annotated_types.MinLen)), 0)
    if len(arguments) == 2 and arguments[1] is not Ellipsis:
        return f"a pair of {_joined([allowed(argument) for argument in arguments], 'and')}"
    return f"a list{f' of at least {least}' if least else ''}, each {allowed(arguments[0])}"


def _joined(words: Sequence[str], last: str = "or") -> str:
    *begin, end = words or ("",)
    return f"{', '.join(begin)} {last} {end}" if begin else end


def _hints(record_type: Any) -> dict[str, Any]:
    """The fields' annotations by name."""
    return _looked_up(record_type)


@functools.cache
def _looked_up(record_type: Any) -> dict[str, Any]:
    """The same, once: it takes a millisecond."""
    hints = get_type_hints(record_type, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(record_type)}
