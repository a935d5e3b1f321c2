"""An outer rule for FDS that uses how large hypergradients are where they change sign, and whether the loss rose.

Beyond the paper. The sign rule ([FDS] appendix G, :mod:`raytune_hyperlearn.algorithms.sign_descent`) halves a value's
step size γ when its hypergradient h changes sign and goes back half way, whatever happened. But two positions with
hypergradients of opposite signs bracket a root of h, and the line through them says where it lies; and all values
move at once, so that a step that is right for each of them can be too long together, which the loss tells. With λ'
and h' the value and the hypergradient at its last position:

    h and h' of opposite signs    λ ← λ + s (λ' − λ),  s = |h| / (|h| + |h'|),  γ ← min(s, ½) |λ' − λ|
    equal signs, the loss rose    λ ← λ + (λ' − λ) / 2,  γ ← γ / 2, and λ', h' stay as they were
    else                          λ ← λ − γ sign(h)

each kept in its range. s is kept in [0.3, 0.7], or in [0.5, 0.9] where the loss rose: hypergradients of single runs
are noisy and, where training becomes unstable, too large by orders of magnitude.

The rest (zero and non-finite entries, failed steps, convergence) is as for the sign rule; the state is the same, with
λ' and h' under ``memory``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from raytune_hyperlearn.algorithms.sign_descent import Numbers, OuterState, check_shape, sign

SHARES = (0.3, 0.7)
SHARES_AFTER_RISE = (0.5, 0.9)


@dataclass(frozen=True)
class Position:
    """One value and what is remembered of it.

    Attributes:
        value: λ.
        size: γ.
        last: Sign of h', or 0 before the first.
        before: λ'.
        entry: h'.
    """

    value: float
    size: float
    last: float
    before: float
    entry: float


def secant_update(
    state: OuterState,
    hypergradient: Mapping[str, Sequence[float]],
    ranges: Mapping[str, tuple[float, float]],
    rose: bool,
) -> OuterState:
    """The state after one outer step; arguments and errors as for any :data:`.sign_descent.Rule`."""
    moved: dict[str, list[Position]] = {}
    for name in state.step_sizes:
        entries, (low, high) = check_shape(state, hypergradient, name), ranges[name]
        pairs = zip(_positions(state, name), entries, strict=True)
        moved[name] = [_within(_move(position, entry, rose), low, high) for position, entry in pairs]
    return replace(
        state,
        index=state.index + 1,
        values={**state.values, **_column(moved, "value")},
        step_sizes=_column(moved, "size"),
        signs=_column(moved, "last"),
        memory={key: _column(moved, key) for key in ("before", "entry")},
    )


def _move(at: Position, entry: float, rose: bool) -> Position:
    now, back = sign(entry), at.before - at.value
    if now == 0:
        return at
    if now * at.last < 0 and back != 0:
        low, high = SHARES_AFTER_RISE if rose else SHARES
        share = min(max(abs(entry) / (abs(entry) + abs(at.entry)), low), high)
        return Position(at.value + share * back, min(share, 0.5) * abs(back), now, at.value, entry)
    if now * at.last > 0 and back != 0 and rose:
        return replace(at, value=at.value + back / 2, size=at.size / 2)
    size = at.size / 2 if now * at.last < 0 else at.size
    return Position(at.value - size * now, size, now, at.value, entry)


def _within(at: Position, low: float, high: float) -> Position:
    return replace(at, value=min(max(at.value, low), high))


def _positions(state: OuterState, name: str) -> list[Position]:
    schedule, sizes, signs = state.values[name], state.step_sizes[name], state.signs[name]
    none = [0.0] * len(schedule)
    before, entries = (state.memory.get(key, {}).get(name, none) for key in ("before", "entry"))
    return [Position(*numbers) for numbers in zip(schedule, sizes, signs, before, entries, strict=True)]


def _column(moved: Mapping[str, Sequence[Position]], key: str) -> Numbers:
    return {name: [getattr(position, key) for position in positions] for name, positions in moved.items()}
