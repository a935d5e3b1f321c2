"""Names that a package offers, each imported when it is first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazily(
    package: str, homes: Mapping[str, Sequence[str]], subpackages: Sequence[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``.

    Args:
        package: The package's ``__name__``.
        homes: Module, relative to the package and with a leading dot → the names to take from it.
        subpackages: Names of subpackages that are imported when they are first used.

    Returns:
        The two functions, to be assigned at the package's top level where type checkers do not look: a module with a
        ``__getattr__`` has every attribute for them, misspelt ones as well.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> object:
        if name in home_of:
            value = getattr(import_module(home_of[name], package), name)
        elif name in subpackages:
            value = import_module(f".{name}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *subpackages})

    return get, names
