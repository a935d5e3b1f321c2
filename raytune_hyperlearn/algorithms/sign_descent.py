"""The outer step of FDS: sign updates with halved step sizes ([FDS] appendix G), as a pure function of plain numbers.

Every learned value λ has its own step size γ. With h its hypergradient:

    γ ← γ / 2 if sign(h) differs from its last non-zero sign        λ ← λ − γ sign(h), kept in its range

A zero or non-finite entry counts as sign 0: the value stays, and so do its step size and its last sign. The
search has converged when γ < 0.05 |λ| for every value; a value that has come to rest at a bound of its range,
0 among them, has converged when the hypergradient holds it there.

Beyond the paper: ``growth`` > 1 multiplies γ by that factor while the sign stays the same (as in RPROP), so that
values far from their start are reached in fewer outer steps, but not where the range cuts the step; ``growth`` = 1
is the paper's rule. And an outer step that failed — training diverged, or ended at more than ``tolerance`` times the
best validation loss so far — is retried: half way back to the values before it, with halved step sizes.

Where trainings become longer from one outer step to the next, a move of γ is made smaller by as much,

    λ ← λ − γ (T_0 / T) sign(h)        T_0 the steps of the first training, T those of the next

because T steps with another learning rate carry the weights T times as far as one: so a move changes what is trained
as much as it did at first. γ itself and its halvings do not know of T.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from raytune_hyperlearn.algorithms.values import Numbers, Ranges, Values

CONVERGED = 0.05
"""γ/|λ| under which a value has converged ([FDS] appendix G)."""


@dataclass(frozen=True)
class OuterState:
    """State of the outer loop before outer step ``index``.

    Attributes:
        index: Outer steps done.
        values: λ: name → schedule of values; hyperparameters that are not learned are among them.
        step_sizes: γ of every learned value.
        signs: Last non-zero sign (−1, 0 before the first, or 1) of every learned value's hypergradient.
        accepted: λ of the last outer step that did not fail; empty before the first.
        best_loss: Lowest validation loss of the outer steps so far; infinite before the first.
        best: λ of that outer step; empty before the first.
        best_index: Its index.
        history: Outer steps before, where :mod:`.surrogate_descent` makes the updates.
        means: First moments of the hypergradients, where :mod:`.adam_descent` makes the updates; empty before.
        squares: Second moments, likewise.
        moved: Updates that the moments hold.
        entries: Hypergradients of the last outer steps, where :class:`.windows.ChosenWindows` shares them.
        windows: Name → parts of the schedule in each window that shared the last hypergradient, likewise.
    """

    index: int
    values: Numbers
    step_sizes: Numbers
    signs: Numbers
    accepted: Numbers = field(default_factory=dict)
    best_loss: float = math.inf
    best: Numbers = field(default_factory=dict)
    best_index: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    means: Numbers = field(default_factory=dict)
    squares: Numbers = field(default_factory=dict)
    moved: int = 0
    entries: list[Numbers] = field(default_factory=list)
    windows: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def start(cls, values: Values, step_sizes: Values) -> OuterState:
        """The state before the first outer step.

        Args:
            values: Start values of each schedule's windows, by hyperparameter.
            step_sizes: Size of the first move of each learned window, likewise.
        """
        return cls(
            index=0,
            values={name: [float(v) for v in schedule] for name, schedule in values.items()},
            step_sizes={name: [float(g) for g in schedule] for name, schedule in step_sizes.items()},
            signs={name: [0.0] * len(schedule) for name, schedule in step_sizes.items()},
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested values; :meth:`from_mapping` reads them back."""
        return {**asdict(self), "best_loss": self.best_loss if math.isfinite(self.best_loss) else None}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> OuterState:
        """The state that :meth:`to_mapping` wrote.

        Args:
            mapping: Plain numbers, lists and strings by name.
        """
        best = mapping.get("best_loss")
        return cls(**{**mapping, "best_loss": math.inf if best is None else best})


def sign(entry: float) -> float:
    """−1, 0 or 1; 0 for an entry that is zero or not finite."""
    return math.copysign(1.0, entry) if math.isfinite(entry) and entry != 0 else 0.0


def sign_update(
    state: OuterState,
    hypergradient: Values,
    ranges: Ranges,
    growth: float = 1.0,
    scale: float = 1.0,
) -> OuterState:
    """The state after one outer step.

    Args:
        state: Before the step.
        hypergradient: One entry per learned value.
        ranges: (lowest, highest) allowed value of every learned hyperparameter.
        growth: Factor ≥ 1 on γ while the sign stays the same and the range does not cut the step.
        scale: T_0 / T: factor on the move.

    Raises:
        ValueError: If ``growth`` < 1 or the hypergradient does not have the learned values' shape.
    """
    if not growth >= 1:
        raise ValueError(f"growth is {growth}; it must be at least 1")
    values, step_sizes, signs = dict(state.values), dict(state.step_sizes), dict(state.signs)
    for name, sizes in state.step_sizes.items():
        entries = check_shape(state, hypergradient, name)
        low, high = ranges[name]
        moved = [
            _move(value, size, last, sign(entry), low, high, growth, scale)
            for value, size, last, entry in zip(state.values[name], sizes, state.signs[name], entries, strict=True)
        ]
        values[name] = [m[0] for m in moved]
        step_sizes[name] = [m[1] for m in moved]
        signs[name] = [m[2] for m in moved]
    return replace(state, index=state.index + 1, values=values, step_sizes=step_sizes, signs=signs)


def check_shape(state: OuterState, hypergradient: Values, name: str) -> Sequence[float]:
    """The hypergradient's entries of one hyperparameter.

    Raises:
        ValueError: If they are not as many as its learned values.
    """
    entries, expected = hypergradient.get(name, ()), len(state.step_sizes[name])
    if len(entries) != expected:
        raise ValueError(f"hypergradient of {name} has {len(entries)} entries; it must have {expected}")
    return entries


def retry(state: OuterState) -> OuterState:
    """The state after a failed outer step: half way back to the last accepted values, with halved step sizes."""
    values = dict(state.values)
    for name in state.step_sizes:
        pairs = zip(state.accepted[name], state.values[name], strict=True)
        values[name] = [(before + after) / 2 for before, after in pairs]
    step_sizes = {name: [size / 2 for size in sizes] for name, sizes in state.step_sizes.items()}
    return replace(state, index=state.index + 1, values=values, step_sizes=step_sizes)


def outer_step(
    state: OuterState,
    hypergradient: Values,
    loss: float,
    ranges: Ranges,
    growth: float = 1.0,
    tolerance: float | None = None,
    comparable: bool = True,
    scale: float = 1.0,
) -> OuterState:
    """Accept an outer step and make a :func:`sign_update`, or :func:`retry` it.

    Args:
        state: Before the step.
        hypergradient: One entry per learned value.
        loss: Validation loss at ``state.values``; not finite where training diverged.
        ranges: (lowest, highest) allowed value of every learned hyperparameter.
        growth: As in :func:`sign_update`.
        tolerance: Factor > 1 on the best loss so far above which the step has failed; None accepts every finite loss.
        comparable: Whether the loss may be held against others: not where training was shorter.
        scale: As in :func:`sign_update`.

    Raises:
        ValueError: If ``tolerance`` ≤ 1, or as in :func:`sign_update`.
    """
    accepted = judged(state, hypergradient, loss, tolerance, comparable)
    return retry(state) if accepted is None else sign_update(accepted, hypergradient, ranges, growth, scale)


def judged(
    state: OuterState,
    hypergradient: Values,
    loss: float,
    tolerance: float | None = None,
    comparable: bool = True,
) -> OuterState | None:
    """The state with its values accepted and their loss noted, before any move; None where it is to be retried.

    Arguments as in :func:`outer_step`. Before the first success there is nothing to go back to: nothing is retried.

    Raises:
        ValueError: If ``tolerance`` ≤ 1.
    """
    if tolerance is not None and not tolerance > 1:
        raise ValueError(f"tolerance is {tolerance}; it must be greater than 1 or None")
    entries = [entry for name in state.step_sizes for entry in hypergradient.get(name, ())]
    failed = not math.isfinite(loss) or not any(math.isfinite(entry) for entry in entries)
    if tolerance is not None and comparable and loss > tolerance * state.best_loss:
        failed = True
    if failed:
        return None if state.accepted else state
    accepted = replace(state, accepted=state.values)
    return with_loss(accepted, loss) if comparable else accepted


def with_loss(state: OuterState, loss: float) -> OuterState:
    """The state whose best outer step is this one, if its loss is the lowest so far."""
    if not loss < state.best_loss:
        return state
    return replace(state, best_loss=loss, best=state.values, best_index=state.index)


def _move(
    value: float, size: float, last: float, now: float, low: float, high: float, growth: float, scale: float
) -> tuple[float, float, float]:
    """Value, step size and last sign after one step."""
    if now == 0:
        return value, size, last
    if now * last < 0:
        size /= 2
    elif now * last > 0 and low <= value - size * scale * now <= high:
        size *= growth
    return min(max(value - size * scale * now, low), high), size, now


def converged(state: OuterState, ranges: Ranges, logarithms: Container[str] = frozenset()) -> bool:
    """Whether γ < 0.05 |λ| for every value, or the value rests at a bound that its hypergradient pushes against.

    A bound counts once training there has been differentiated: the last sign of a value that has only just been moved
    to its bound was measured elsewhere.

    Args:
        state: After an outer step.
        ranges: (lowest, highest) allowed value of every learned hyperparameter.
        logarithms: Names of values that are logarithms: γ is relative already, and γ < 0.05 is asked for.
    """
    for name, sizes in state.step_sizes.items():
        low, high = ranges[name]
        evaluated = state.accepted.get(name, [math.nan] * len(sizes))
        every = zip(state.values[name], evaluated, sizes, state.signs[name], strict=True)
        for value, before, size, last in every:
            held = (before <= low and value <= low and last > 0) or (before >= high and value >= high and last < 0)
            scale = 1.0 if name in logarithms else abs(value)
            if not held and not size < CONVERGED * scale:
                return False
    return True
