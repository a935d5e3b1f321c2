"""Every public function says what it takes and what it raises."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.test_front_door import PACKAGES

OURS = ("raytune_hyperlearn", "baselines")
REFUSAL = re.compile(r"^\s+raise (ValueError|TypeError)", re.MULTILINE)


def public() -> list[Any]:
    """What the packages export, each once."""
    modules = [importlib.import_module(package) for package in PACKAGES]
    found = {id(value): value for module in modules for value in (getattr(module, name) for name in module.__all__)}
    return list(found.values())


def functions_of(value: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A function itself, or the public methods that a class defines, with their names."""
    if inspect.isfunction(value):
        yield value.__name__, value
    elif inspect.isclass(value) and value.__module__.startswith(OURS):
        for name, member in vars(value).items():
            function = getattr(member, "__func__", member)
            is_own = inspect.isfunction(function) and function.__qualname__.startswith(value.__name__)
            if is_own and not name.startswith("_"):
                yield f"{value.__name__}.{name}", function


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of what is passed; Ray adds an underscored one to the methods of what it has made an actor of."""
    return [name for name in inspect.signature(function).parameters if name not in {"self", "cls"} and name[0] != "_"]


def inherits(value: Any, function: Callable[..., Any], protocols: list[type]) -> bool:
    """Whether a base class, or a protocol of ours that takes the same, describes a method of this name."""
    name, taken = function.__name__, parameters(function)
    if any(name in vars(base) for base in value.__mro__[1:-1]):
        return True
    return any(name in vars(known) and parameters(vars(known)[name]) == taken for known in protocols if known != value)


def missing_sections(values: list[Any]) -> list[str]:
    """One line for each section that a docstring should have."""
    protocols = [value for value in values if inspect.isclass(value) and getattr(value, "_is_protocol", False)]
    lines = []
    for value in values:
        for name, function in functions_of(value):
            text = inspect.getdoc(function) or ""
            described = inspect.isclass(value) and inherits(value, function, protocols)
            if parameters(function) and "Args:" not in text and not described:
                lines.append(f"{function.__module__}: {name} has no Args")
            if REFUSAL.search(inspect.getsource(function)) and "Raises:" not in text:
                lines.append(f"{function.__module__}: {name} has no Raises")
    return lines


def undescribed(size: int) -> None:
    """Takes a size."""
    if size < 1:
        raise ValueError(f"size is {size}; it must be at least 1")


class Named:
    def bare(self, size: int) -> None:
        """Takes a size."""


class Heir(Named):
    def bare(self, size: int) -> None:
        """The same here."""


def test_every_public_function_says_what_it_takes_and_raises() -> None:
    values = public()
    assert len(values) > 150
    assert missing_sections(values) == []


@pytest.mark.parametrize(("value", "lines"), [(undescribed, ["Args", "Raises"]), (Heir, [])])
def test_what_is_missing_is_named(value: Any, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heir, "__module__", "raytune_hyperlearn")
    assert [line.split()[-1] for line in missing_sections([value])] == lines
