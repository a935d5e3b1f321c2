"""Coordinates in which an outer rule moves the searched values.

A value θ ∈ [low, high] is moved in its coordinate u: u = θ on a linear scale, u = ln θ on a logarithmic one. With

    dL/du = dL/dθ · dθ/du        dθ/du = 1 or θ

any outer rule (:mod:`.sign_descent`, :mod:`.adam_descent`, :mod:`.surrogate_descent`) serves every scale: it sees
coordinates, their ranges and slopes, and knows nothing else. A sign step of size γ then multiplies θ by e^(±γ).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from raytune_hyperlearn.algorithms.sign_descent import OuterState, check_shape, converged
from raytune_hyperlearn.algorithms.values import Numbers, Ranges, Values

Scale = Literal["linear", "log"]
Rule = Callable[[OuterState, Numbers, Ranges], OuterState]
"""(state before, hypergradient, ranges) ↦ state after one outer step."""


@dataclass(frozen=True)
class Axis:
    """Where one searched value lies.

    Attributes:
        low: Lowest value.
        high: Highest value.
        scale: ``"linear"`` or ``"log"``; the latter needs ``low`` > 0.
    """

    low: float
    high: float
    scale: Scale = "linear"

    def coordinate(self, value: float) -> float:
        """u of a value."""
        return math.log(value) if self.scale == "log" else value

    def value(self, coordinate: float) -> float:
        """The value of u. Exponentials are kept in the range, which rules keep u in: rounding may lead out of it."""
        if self.scale == "linear":
            return coordinate
        return min(max(math.exp(coordinate), self.low), self.high)

    def slope(self, value: float) -> float:
        """dθ/du."""
        return value if self.scale == "log" else 1.0


Axes = Mapping[str, Sequence[Axis]]
"""Name → one axis per searched value."""


def moved(
    rule: Rule,
    state: OuterState,
    hypergradient: Values,
    weights: Values,
    axes: Axes,
) -> OuterState:
    """The state after one outer step of a rule that moves coordinates.

    Args:
        rule: Makes the step. It sees every value as a schedule of its own.
        state: Before the step; step sizes are in coordinates.
        hypergradient: One entry per searched value.
        weights: What turns each entry into dL/dθ / T: its shape's divisor over T.
        axes: Of every searched value.

    Returns:
        The state with the new values, in their ranges.

    Raises:
        ValueError: If the hypergradient does not have the searched values' shape, or as ``rule``.
    """
    entries = {name: _slopes(state, hypergradient, weights, own, name) for name, own in axes.items()}
    inside = _in_coordinates(state, axes)
    after = rule(inside, apart(entries), _ranges(axes))
    return replace(
        after,
        values={**state.values, **_values(after.values, axes)},
        accepted=state.values if after.accepted is inside.values else state.accepted,
        best=state.values if after.best is inside.values else state.best,
        step_sizes=_together(after.step_sizes, axes),
        signs=_together(after.signs, axes),
        means=_together(after.means, axes),
        squares=_together(after.squares, axes),
    )


def settled(state: OuterState, axes: Axes) -> bool:
    """Whether the search has converged (:func:`.sign_descent.converged`); on a logarithmic scale where γ < 0.05."""
    logarithms = {_key(name, i) for name, own in axes.items() for i, axis in enumerate(own) if axis.scale == "log"}
    return converged(_in_coordinates(state, axes), _ranges(axes), logarithms)


# ------------------------------------------------------------------------------------- every value on its own


def _in_coordinates(state: OuterState, axes: Axes) -> OuterState:
    """The state of the coordinates, each under a name of its own."""
    return replace(
        state,
        values=_coordinates(state.values, axes),
        accepted=_coordinates(state.accepted, axes),
        best=_coordinates(state.best, axes),
        step_sizes=apart(state.step_sizes),
        signs=apart(state.signs),
        means=apart(state.means),
        squares=apart(state.squares),
    )


def _slopes(
    state: OuterState,
    hypergradient: Values,
    weights: Values,
    axes: Sequence[Axis],
    name: str,
) -> list[float]:
    """dL/du / T."""
    entries = check_shape(state, hypergradient, name)
    given = zip(entries, weights[name], axes, state.values[name], strict=True)
    return [entry * weight * axis.slope(value) for entry, weight, axis, value in given]


def _coordinates(values: Values, axes: Axes) -> Numbers:
    """Coordinates under the values' own names; none of no values."""
    found = {
        name: [axis.coordinate(value) for axis, value in zip(own, values[name], strict=True)]
        for name, own in axes.items()
        if name in values
    }
    return apart(found)


def _values(coordinates: Numbers, axes: Axes) -> Numbers:
    """Values from coordinates."""
    together = _together(coordinates, axes)
    return {name: [axis.value(u) for axis, u in zip(own, together[name], strict=True)] for name, own in axes.items()}


def _ranges(axes: Axes) -> dict[str, tuple[float, float]]:
    return {
        _key(name, index): (axis.coordinate(axis.low), axis.coordinate(axis.high))
        for name, own in axes.items()
        for index, axis in enumerate(own)
    }


def apart(numbers: Values) -> Numbers:
    """Every number under a name of its own."""
    return {_key(name, index): [number] for name, own in numbers.items() for index, number in enumerate(own)}


def _together(numbers: Values, axes: Axes) -> Numbers:
    """Lists by name from :func:`_apart`; empty if there are none."""
    if not numbers:
        return {}
    return {name: [numbers[_key(name, index)][0] for index in range(len(own))] for name, own in axes.items()}


def _key(name: str, index: int) -> str:
    return f"{name}[{index}]"
