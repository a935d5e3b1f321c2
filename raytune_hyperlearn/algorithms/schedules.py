r"""Schedules: how few parameters θ give a hyperparameter's value λ_t at every step t = 0 … T − 1 of training.

A :class:`Shape` says how. Three kinds share one interface:

- :class:`Windows`: λ_t = θ_i in window i, a range of contiguous steps ([FDS]'s sharing);
- :class:`Hats`: λ_t is piecewise linear through θ_0 … θ_{N−1};
- curves (:mod:`.curves`): λ_t = f(t / T, θ) for any differentiable f, such as a cosine.

With the per-step hypergradients h_t = ∂L_val/∂λ_t, the chain rule gives for all of them

    ∂L_val/∂θ_k = Σ_t h_t ∂λ_t/∂θ_k

**Normalization.** [FDS] takes the *mean* of h_t over the W steps that share a value, not the sum. :meth:`Shape.divisor`
is what the sum is divided by, and :func:`fold` (reverse mode) and the read-out of :mod:`.forward_mode` are the two
places that apply it: W for windows, Σ_t φ_k(t) for hats, 1 for curves, whose entries are plain derivatives.

Shapes know no horizon: the same parameters can be replayed over any number of steps.

[FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from typing import Literal, Protocol, get_args

from raytune_hyperlearn.algorithms.groups import ungrouped
from raytune_hyperlearn.algorithms.values import Numbers, Values

"""Hyperparameter name → the parameters θ of its schedule, for example ``{"learning_rate": [0.1, 0.01], …}``."""

Slopes = Mapping[str, Mapping[tuple[str, int], float]]
"""Hyperparameter → (schedule's name, index of the parameter) → ∂λ_t/∂θ; what is not there is zero."""


# ---------------------------------------------------------------------------------------------------- shapes


class Shape(Protocol):
    """A schedule with parameters θ_0 … θ_{N−1}."""

    @property
    def count(self) -> int:
        """Number N of parameters."""

    def value(self, parameters: Sequence[float], step: int, horizon: int) -> float:
        """λ_t at ``step`` t ∈ [0, T)."""

    def slopes(self, parameters: Sequence[float], step: int, horizon: int) -> Mapping[int, float]:
        """Index k → ∂λ_t/∂θ_k; indices that are not there have slope zero."""

    def support(self, index: int, horizon: int) -> tuple[int, int]:
        """Steps [first, end) outside of which parameter ``index`` has slope zero; first = end where it is unused."""

    def divisor(self, index: int, steps: range, horizon: int) -> float:
        """What the sum of h_t ∂λ_t/∂θ_k over ``steps`` is divided by; 0 where none of them uses the parameter."""


@dataclass(frozen=True)
class Windows:
    """Parameter i serves window i: steps [c_i T / c_N, c_{i+1} T / c_N) with c_i = l_0 + … + l_{i−1}.

    Equal windows use parameter ⌊N t / T⌋ at step t. Lengths l keep their proportions over any horizon; at T = c_N
    they are numbers of steps.

    Attributes:
        count: Number N of windows, at least 1.
        lengths: N whole numbers of at least 1; empty for equal windows.

    Raises:
        ValueError: In one line, if a number is not allowed.
    """

    count: int
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_count(self.count)
        object.__setattr__(self, "lengths", tuple(self.lengths))
        if self.lengths and len(self.lengths) != self.count:
            raise ValueError(f"lengths has {len(self.lengths)} entries; it must have {self.count}, one per window")
        if any(not isinstance(length, int) or length < 1 for length in self.lengths):
            raise ValueError(f"lengths is {list(self.lengths)}; it must hold whole numbers of at least 1")
        object.__setattr__(self, "_ends", tuple(accumulate(self.lengths or (1,) * self.count)))

    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def index(self, step: int, horizon: int) -> int:
        """Which parameter ``step`` uses."""
        return bisect_right(self._ends, self._ends[-1] * step // horizon)

    def value(self, parameters: Sequence[float], step: int, horizon: int) -> float:
        """The window's parameter."""
        return parameters[self.index(step, horizon)]

    def slopes(self, parameters: Sequence[float], step: int, horizon: int) -> Mapping[int, float]:
        """1 for the window's parameter."""
        return {self.index(step, horizon): 1.0}

    def support(self, index: int, horizon: int) -> tuple[int, int]:
        """The window."""
        first, end, total = self._ends[index - 1] if index else 0, self._ends[index], self._ends[-1]
        return -(-first * horizon // total), -(-end * horizon // total)

    def divisor(self, index: int, steps: range, horizon: int) -> float:
        """W, the number of steps that share the parameter."""
        first, end = self.support(index, horizon)
        return float(max(0, min(end, steps.stop) - max(first, steps.start)))


@dataclass(frozen=True)
class Hats:
    """Piecewise linear: λ_t runs straight from θ_i to θ_{i+1} between knots i and i + 1.

    Knot i lies at step i (T − 1) / (N − 1), so the first step has θ_0 and the last one θ_{N−1}. The slope of θ_k is
    the hat φ_k(t): 1 at its knot, 0 from the knots beside it on. The hats add up to 1 at every step.

    Attributes:
        count: Number N of knots, at least 1; one knot is a constant.

    Raises:
        ValueError: In one line, if ``count`` is not allowed.
    """

    count: int

    def __post_init__(self) -> None:
        _check_count(self.count)

    def value(self, parameters: Sequence[float], step: int, horizon: int) -> float:
        """The straight line's value."""
        return sum(parameters[k] * height for k, height in self.slopes(parameters, step, horizon).items())

    def slopes(self, parameters: Sequence[float], step: int, horizon: int) -> Mapping[int, float]:
        """Heights of the one or two hats at ``step``."""
        if horizon == 1:
            return {0: 1.0}
        knot, rest = divmod(step * (self.count - 1), horizon - 1)
        share = rest / (horizon - 1)
        return {knot: 1.0 - share, knot + 1: share} if rest else {knot: 1.0}

    def support(self, index: int, horizon: int) -> tuple[int, int]:
        """Steps strictly between the knots beside this one."""
        intervals = self.count - 1
        if intervals == 0 or horizon == 1:
            return (0, horizon) if index == 0 else (horizon, horizon)
        first = max(0, (index - 1) * (horizon - 1) // intervals + 1)
        end = min(horizon, -(-(index + 1) * (horizon - 1) // intervals))
        if index == intervals:
            end = horizon
        return first, max(first, end)

    def divisor(self, index: int, steps: range, horizon: int) -> float:
        """Σ φ_k(t) over the steps."""
        first, end = self.support(index, horizon)
        within_steps = range(max(first, steps.start), min(end, steps.stop))
        return sum(self.slopes((), step, horizon).get(index, 0.0) for step in within_steps)


@cache
def equal_windows(count: int) -> Windows:
    """Windows of equal lengths."""
    return Windows(count)


def _check_count(count: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"count is {count!r}; it must be a whole number of at least 1")


# ------------------------------------------------------------------------------------ all hyperparameters


Coordinates = Literal["plain", "effective"]


@dataclass(frozen=True)
class Shapes:
    """The shapes of all hyperparameters' schedules.

    Attributes:
        named: Name → shape; names that are not there have equal windows, one per value.
        coordinates: ``"plain"``, or ``"effective"``: the schedule of the learning rate gives e = α / (1 − μ), the step
            that a steady gradient makes in the end, and α_t = e_t (1 − μ_t) trains. In (e, μ) the two are nearly
            uncoupled: a large momentum no longer makes a good learning rate diverge.
    """

    named: Mapping[str, Shape] = field(default_factory=dict)
    coordinates: Coordinates = "plain"

    def __post_init__(self) -> None:
        if self.coordinates not in get_args(Coordinates):
            raise ValueError(f"coordinates is {self.coordinates!r}; it must be 'plain' or 'effective'")

    def of(self, name: str, count: int) -> Shape:
        """The shape of one hyperparameter's schedule of ``count`` parameters."""
        return self.named.get(name) or equal_windows(count)

    def check(self, values: Values) -> None:
        """Refuse values that do not fit.

        Raises:
            ValueError: In one line, if a shape's name is unknown or it has another number of parameters.
        """
        for name, shape in self.named.items():
            if name not in values:
                raise ValueError(f"shapes hold {name!r}; they must be of {', '.join(values)}")
            if len(values[name]) != shape.count:
                raise ValueError(f"{name} has {len(values[name])} values; its shape needs {shape.count}")

    def at_step(self, values: Values, step: int, horizon: int) -> dict[str, float]:
        """The value of every hyperparameter at ``step`` ∈ [0, T]; step T has the last step's values.

        Schedulers such as PyTorch's ``LambdaLR`` ask for step T after the last update.

        Raises:
            ValueError: If the step is not in [0, T].
        """
        if not 0 <= step <= horizon:
            raise ValueError(f"step is {step}; it must lie in [0, {horizon}]")
        now = self._scheduled(values, min(step, horizon - 1), horizon)
        return now | {rate: now[rate] * (1 - now[momentum]) for rate, momentum in self._coupled(values).items()}

    def slopes(self, values: Values, step: int, horizon: int) -> Slopes:
        """Derivatives of every hyperparameter's value at ``step`` with respect to the schedules' parameters.

        In effective coordinates ∂α_t/∂θ = (1 − μ_t) ∂e_t/∂θ − e_t ∂μ_t/∂θ.
        """
        found = {
            name: {(name, k): slope for k, slope in self.of(name, len(own)).slopes(own, step, horizon).items()}
            for name, own in values.items()
        }
        coupled = self._coupled(values)
        if not coupled:
            return found
        now = self._scheduled(values, step, horizon)
        for rate, momentum in coupled.items():
            by_rate = {key: (1 - now[momentum]) * slope for key, slope in found[rate].items()}
            found[rate] = by_rate | {key: -now[rate] * slope for key, slope in found[momentum].items()}
        return found

    def moved(self, values: Values, learned: Container[str]) -> tuple[str, ...]:
        """The hyperparameters that the parameters of the learned schedules move at any step, in order."""
        coupled = self._coupled(values)
        return tuple(name for name in values if name in learned or coupled.get(name) in learned)

    def weights(self, name: str, count: int, horizon: int) -> list[float]:
        """What turns every entry of one schedule into ∂L_val/∂θ / T: its divisor over T."""
        return [divisor / horizon for divisor in self.divisors(name, count, range(horizon), horizon)]

    def coarse(self, values: Values) -> tuple[dict[str, Sequence[float]], Shapes]:
        """Windows and straight lines as constants of their first values, and the shapes that go with them.

        Curves, which have few parameters, stay as they are.
        """
        curves = {name: shape for name, shape in self.named.items() if not isinstance(shape, (Windows, Hats))}
        constants = {name: own if name in curves else own[:1] for name, own in values.items()}
        return constants, replace(self, named=curves)

    def _scheduled(self, values: Values, step: int, horizon: int) -> dict[str, float]:
        """What the schedules themselves give."""
        return {name: self.of(name, len(own)).value(own, step, horizon) for name, own in values.items()}

    def _coupled(self, values: Values) -> dict[str, str]:
        """Learning rate → the momentum that it is given with: of its own group, or that of all."""
        if self.coordinates == "plain":
            return {}
        rates = [name for name in values if ungrouped(name) == "learning_rate"]
        partners = {rate: (rate.replace("learning_rate", "momentum", 1), "momentum") for rate in rates}
        return {rate: found[0] for rate, names in partners.items() if (found := [n for n in names if n in values])}

    def divisors(self, name: str, count: int, steps: range, horizon: int) -> list[float]:
        """:meth:`Shape.divisor` of every parameter of one schedule."""
        shape = self.of(name, count)
        return [shape.divisor(index, steps, horizon) for index in range(count)]


EQUAL_WINDOWS = Shapes()
"""[FDS]'s sharing: every schedule has equal windows, one per value."""


def at_step(values: Values, step: int, horizon: int, shapes: Shapes = EQUAL_WINDOWS) -> dict[str, float]:
    """:meth:`Shapes.at_step`."""
    return shapes.at_step(values, step, horizon)


def fold(per_step: Values, values: Values, learned: Sequence[str], shapes: Shapes = EQUAL_WINDOWS) -> Numbers:
    """Hypergradient of the schedules' parameters from per-step entries: Σ_t h_t ∂λ_t/∂θ_k, divided as the shape says.

    Args:
        per_step: Hyperparameter → h_t = ∂L_val/∂λ_t for t = 0 … T − 1.
        values: Parameters of every schedule.
        learned: Names of the schedules to differentiate.
        shapes: Shapes of the schedules.

    Returns:
        Name → one entry per parameter; 0 for those that no step uses.
    """
    horizon = len(next(iter(per_step.values())))
    sums = {name: [0.0] * len(values[name]) for name in learned}
    for step in range(horizon):
        for hyperparameter, slopes in shapes.slopes(values, step, horizon).items():
            for (name, index), slope in slopes.items():
                if name in sums and hyperparameter in per_step:
                    sums[name][index] += slope * per_step[hyperparameter][step]
    return {
        name: [divided(total, by) for total, by in zip(own, divisors, strict=True)]
        for name, own in sums.items()
        for divisors in [shapes.divisors(name, len(own), range(horizon), horizon)]
    }


def divided(total: float, divisor: float) -> float:
    """The quotient; 0 where the divisor is 0: no step used the parameter."""
    return total / divisor if divisor else 0.0


# --------------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Column:
    """One parameter of a schedule and the steps [first, end) that it moves.

    Attributes:
        name: Of the schedule, for example ``"learning_rate"``.
        index: Which of its parameters.
        first: First step that it moves.
        end: First step after those.
    """

    name: str
    index: int
    first: int
    end: int

    @property
    def steps(self) -> int:
        """Number of steps from the first to the last one that it moves; W for a window."""
        return self.end - self.first


def columns(values: Values, learned: Sequence[str], horizon: int, shapes: Shapes = EQUAL_WINDOWS) -> list[Column]:
    """The K columns of the learned schedules, by the first step that they move.

    In this order the columns that have begun are always a prefix, so those that have not cost nothing.
    """
    found = [
        Column(name, index, *shapes.of(name, len(values[name])).support(index, horizon))
        for name in learned
        for index in range(len(values[name]))
    ]
    return sorted(found, key=lambda column: column.first)


def within(learnable: Sequence[Column], first: int, end: int) -> list[Column]:
    """The parts of the columns' supports in the steps [first, end), in order; columns without any are left out."""
    parts = [replace(column, first=max(column.first, first), end=min(column.end, end)) for column in learnable]
    return [part for part in parts if part.steps > 0]


@dataclass(frozen=True)
class Active:
    """How K columns enter one step of training.

    Attributes:
        moving: The first so many columns can have tangents other than zero before the step.
        begun: The first so many columns can have them after it.
        slopes: Hyperparameter → place of the column → ∂λ_t/∂θ, for the columns that move the hyperparameter now.
        learned: Hyperparameters that any of the K columns moves at any step, in a fixed order.
    """

    moving: int
    begun: int
    slopes: Mapping[str, Mapping[int, float]]
    learned: tuple[str, ...]


def active(
    learnable: Sequence[Column], values: Values, step: int, horizon: int, shapes: Shapes = EQUAL_WINDOWS
) -> Active:
    """What each of the columns, in order of their beginnings, does at ``step``."""
    places = {(column.name, column.index): place for place, column in enumerate(learnable)}
    slopes = {
        hyperparameter: {places[key]: slope for key, slope in found.items() if key in places}
        for hyperparameter, found in shapes.slopes(values, step, horizon).items()
    }
    return Active(
        moving=sum(column.first < step for column in learnable),
        begun=sum(column.first <= step for column in learnable),
        slopes={name: found for name, found in slopes.items() if found},
        learned=shapes.moved(values, {column.name for column in learnable}),
    )
