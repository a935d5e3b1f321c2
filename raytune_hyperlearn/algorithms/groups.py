"""Groups of parameters with hyperparameters of their own: every layer, or whatever patterns of names say.

A hyperparameter with groups stands under one name per group, ``learning_rate@features.0`` in place of
``learning_rate``. Each hyperparameter has its own groups; together they must hold every trainable parameter once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

Groups = Mapping[str, Mapping[str, Sequence[str]]]
"""Hyperparameter → group → patterns of parameters' names, such as ``"features.*"``."""

MARK = "@"


def grouped(hyperparameter: str, group: str) -> str:
    """The name of a group's own value."""
    return f"{hyperparameter}{MARK}{group}"


def ungrouped(name: str) -> str:
    """The hyperparameter of a group's own value, or of one without groups."""
    return name.partition(MARK)[0]


def layers(parameters: Sequence[str]) -> dict[str, list[str]]:
    """One group per module that owns parameters (under a parameter's own name where the model does).

    Args:
        parameters: Names of the trainable parameters.
    """
    found: dict[str, list[str]] = {}
    for name in parameters:
        found.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return found


def names_in_use(groups: Groups, hyperparameter: str, parameters: Sequence[str]) -> list[str]:
    """Under which name each parameter finds its value of a hyperparameter.

    Args:
        groups: Of the hyperparameters that have any.
        hyperparameter: For example ``"momentum"``.
        parameters: Names of the trainable parameters.

    Returns:
        One name per parameter.

    Raises:
        ValueError: In one line, if a parameter is in no group or in two, or a pattern fits none.
    """
    own = groups.get(hyperparameter)
    if own is None:
        return [hyperparameter] * len(parameters)
    for group, patterns in own.items():
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in parameters):
                raise ValueError(
                    f"group {group!r} of {hyperparameter} holds {pattern!r}; it must fit one of {', '.join(parameters)}"
                )
    return [grouped(hyperparameter, _group(hyperparameter, own, name)) for name in parameters]


def _group(hyperparameter: str, groups: Mapping[str, Sequence[str]], parameter: str) -> str:
    fitting = [group for group, patterns in groups.items() if any(fnmatchcase(parameter, p) for p in patterns)]
    if len(fitting) != 1:
        where = " and ".join(map(repr, fitting)) or "no group"
        raise ValueError(f"{parameter} is in {where} of {hyperparameter}; it must be in exactly one group")
    return fitting[0]
