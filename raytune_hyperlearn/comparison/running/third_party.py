"""Methods that other packages add to the comparison, by an entry point of the group ``raytune_hyperlearn.methods``.

A package names them in its metadata, here in ``pyproject.toml``::

    [project.entry-points."raytune_hyperlearn.methods"]
    my-search = "my_package.methods:MY_SEARCH"

where ``MY_SEARCH`` is a :class:`~raytune_hyperlearn.comparison.running.method.Method`. Once the package is installed,
``hyperlearn list`` shows ``my-search`` and ``hyperlearn compare --methods fds,my-search`` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import metadata

from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup

GROUP = "raytune_hyperlearn.methods"


class WithThirdParties(Mapping[str, Method]):
    """A table of methods together with those that installed packages add.

    The packages are looked up on every access, so a package counts as soon as it is installed. A package that cannot be
    loaded spoils nothing else: its method is listed with the reason, and refused when it is asked for.

    Args:
        own: This package's methods; their names cannot be taken.
    """

    def __init__(self, own: Mapping[str, Method]) -> None:
        self._own = own

    def __getitem__(self, name: str) -> Method:
        if name in self._own:
            return self._own[name]
        return _loaded(_added(self._own)[name])

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from _added(self._own)

    def __len__(self) -> int:
        return len(self._own) + len(_added(self._own))


def _added(own: Mapping[str, Method]) -> dict[str, metadata.EntryPoint]:
    """The entry points by name; of two with one name the first that Python finds counts."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=GROUP):
        if entry.name not in own:
            found.setdefault(entry.name, entry)
    return found


def _loaded(entry: metadata.EntryPoint) -> Method:
    """The entry point's method, or one that says why there is none."""
    try:
        method = entry.load()
    except Exception as error:
        return _unusable(entry, f"cannot be loaded: {type(error).__name__}: {error}")
    if not isinstance(method, Method):
        return _unusable(entry, f"is of type {type(method).__name__}; it must be a Method")
    return method


def _unusable(entry: metadata.EntryPoint, reason: str) -> Method:
    line = " ".join(f"entry point {entry.name} = {entry.value} {reason}".split())
    return Method(f"Not usable: {line}", partial(_refuse, line))


def _refuse(line: str, _arguments: MethodArguments) -> MethodSetup:
    raise ValueError(line)
