"""An outer rule for FDS that uses how large hypergradients are where they change sign, not only that they do.

Beyond the paper. The sign rule ([FDS] appendix G, :mod:`raytune_hyperlearn.algorithms.sign_descent`) halves a value's
step size γ when its hypergradient h changes sign, and goes back half way. But two positions with hypergradients of
opposite signs bracket a root of h, and the line through them says where it lies. With λ' and h' the value and the
hypergradient of the outer step before:

    sign(h) ≠ sign(h'):    λ ← λ + s (λ' − λ),  s = |h| / (|h| + |h'|) kept in [0.3, 0.7],  γ ← min(s, ½) |λ' − λ|
    sign(h) = sign(h'):    λ ← λ − γ sign(h),   with γ ← 1.5 γ first until the value's first change of sign

kept in its range. Bounds on s are there because hypergradients of single runs are noisy and, where training becomes
unstable, too large by orders of magnitude. Steps grow only until the first change of sign: values that start far from
their place get there sooner, values near it are not driven off by a streak of equal signs.

The rest (zero and non-finite entries, failed steps, convergence) is as for the sign rule; the state is the same, with
the position before under ``memory``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from raytune_hyperlearn.algorithms.sign_descent import Numbers, OuterState, check_shape, sign

GROWTH = 1.5
SHARES = (0.3, 0.7)


@dataclass(frozen=True)
class Position:
    """One value and what is remembered of it.

    Attributes:
        value: λ.
        size: γ.
        last: Last non-zero sign of h, or 0.
        before: λ at that sign.
        entry: h there.
        turned: 1 once the sign has changed, else 0.
    """

    value: float
    size: float
    last: float
    before: float
    entry: float
    turned: float


def secant_update(
    state: OuterState,
    hypergradient: Mapping[str, Sequence[float]],
    ranges: Mapping[str, tuple[float, float]],
) -> OuterState:
    """The state after one outer step; arguments and errors as in :func:`.sign_descent.sign_update`."""
    moved: dict[str, list[Position]] = {}
    for name in state.step_sizes:
        entries = check_shape(state, hypergradient, name)
        pairs = zip(_positions(state, name), entries, strict=True)
        moved[name] = [_move(position, entry, *ranges[name]) for position, entry in pairs]
    return replace(
        state,
        index=state.index + 1,
        values={**state.values, **_column(moved, "value")},
        step_sizes=_column(moved, "size"),
        signs=_column(moved, "last"),
        memory={key: _column(moved, key) for key in ("before", "entry", "turned")},
    )


def _move(at: Position, entry: float, low: float, high: float) -> Position:
    now = sign(entry)
    if now == 0:
        return at
    distance = abs(at.before - at.value)
    turned = 1.0 if now * at.last < 0 else at.turned
    if now * at.last < 0 and distance > 0:
        share = min(max(abs(entry) / (abs(entry) + abs(at.entry)), SHARES[0]), SHARES[1])
        value, size = at.value + share * (at.before - at.value), min(share, 0.5) * distance
    else:
        size = at.size / 2 if now * at.last < 0 else at.size
        if now * at.last > 0 and not at.turned and low <= at.value - size * now <= high:
            size *= GROWTH
        value = at.value - size * now
    return Position(min(max(value, low), high), size, now, at.value, entry, turned)


def _positions(state: OuterState, name: str) -> list[Position]:
    schedule = state.values[name]
    none = [0.0] * len(schedule)
    before, entry, turned = (state.memory.get(key, {}).get(name, none) for key in ("before", "entry", "turned"))
    return [
        Position(*numbers)
        for numbers in zip(schedule, state.step_sizes[name], state.signs[name], before, entry, turned, strict=True)
    ]


def _column(moved: Mapping[str, Sequence[Position]], key: str) -> Numbers:
    return {name: [getattr(position, key) for position in positions] for name, positions in moved.items()}
