"""An outer rule for FDS that suits thousands of values: Adam in units of each value's own step size.

Beyond the paper. A sign step moves every value by all of its step size, however small and noisy its hypergradient is;
with thousands of values, such as weights of single training examples, most of them are. Adam (D. P. Kingma, J. Ba,
ICLR 2015, arXiv 1412.6980) moves a value by its step size only where its hypergradients agree. With h the
hypergradient and γ the step size of a value λ in [low, high], and n the updates so far, this one among them:

    m ← β1 m + (1 − β1) h        s ← β2 s + (1 − β2) h²
    λ ← λ − γ · m / (1 − β1ⁿ) / √(s / (1 − β2ⁿ))        kept in [low, high]

There is no ε: hypergradients have no natural size, so none is small. A value whose hypergradients were all zero rests.
An entry that is not finite leaves its value and moments as they are. As with the sign rule, an outer step that failed
is retried half way back with halved step sizes.
"""

from __future__ import annotations

import math
from dataclasses import replace

from raytune_hyperlearn.algorithms.sign_descent import OuterState, check_shape, judged, retry, sign
from raytune_hyperlearn.algorithms.values import Ranges, Values

BETA1, BETA2 = 0.9, 0.999
"""Adam's own."""


def adam_step(
    state: OuterState,
    hypergradient: Values,
    loss: float,
    ranges: Ranges,
    tolerance: float | None = None,
    comparable: bool = True,
) -> OuterState:
    """The state after one outer step: accepted and moved, or retried.

    Args:
        state: Before the step.
        hypergradient: One entry per learned value.
        loss: Validation loss at ``state.values``; not finite where training diverged.
        ranges: (lowest, highest) allowed value of every learned hyperparameter.
        tolerance: Factor > 1 on the best loss so far above which the step has failed; None accepts every finite loss.
        comparable: Whether the loss may be held against others: not where training was shorter.

    Raises:
        ValueError: If ``tolerance`` ≤ 1 or the hypergradient does not have the learned values' shape.
    """
    accepted = judged(state, hypergradient, loss, tolerance, comparable)
    return retry(state) if accepted is None else adam_update(accepted, hypergradient, ranges)


def adam_update(state: OuterState, hypergradient: Values, ranges: Ranges) -> OuterState:
    """The state after Adam's move; arguments as in :func:`adam_step`."""
    values, means, squares, signs = dict(state.values), dict(state.means), dict(state.squares), dict(state.signs)
    moved = state.moved + 1
    for name, sizes in state.step_sizes.items():
        entries, (low, high) = check_shape(state, hypergradient, name), ranges[name]
        resting = [0.0] * len(sizes)
        before = zip(means.get(name, resting), squares.get(name, resting), entries, strict=True)
        moments = [_moments(mean, square, entry) for mean, square, entry in before]
        means[name], squares[name] = [mean for mean, _ in moments], [square for _, square in moments]
        given = zip(state.values[name], sizes, moments, entries, strict=True)
        values[name] = [_moved(value, size * _move(*moment, moved), h, low, high) for value, size, moment, h in given]
        signs[name] = [sign(h) or last for h, last in zip(entries, state.signs[name], strict=True)]
    return replace(state, index=state.index + 1, values=values, signs=signs, means=means, squares=squares, moved=moved)


def _moments(mean: float, square: float, entry: float) -> tuple[float, float]:
    """m and s after one entry."""
    if not math.isfinite(entry):
        return mean, square
    return BETA1 * mean + (1 - BETA1) * entry, BETA2 * square + (1 - BETA2) * entry**2


def _move(mean: float, square: float, moved: int) -> float:
    """m̂ / √ŝ; 0 where s is."""
    if square == 0:
        return 0.0
    return mean / (1 - BETA1**moved) / math.sqrt(square / (1 - BETA2**moved))


def _moved(value: float, by: float, entry: float, low: float, high: float) -> float:
    """The value in its range; where it was if the entry is not finite."""
    return min(max(value - by, low), high) if math.isfinite(entry) else value
