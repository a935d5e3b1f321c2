"""One hyperparameter: its schedule, the range in which its parameters are searched, start values and step sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NoReturn, get_args

from raytune_hyperlearn.algorithms.coordinates import Axis, Scale
from raytune_hyperlearn.algorithms.curves import CURVES, Curve, CurveFunction, Role
from raytune_hyperlearn.algorithms.schedules import Hats, Shape, Shapes, Windows

Range = tuple[float, float]
ShapeName = Literal["windows", "linear", "cosine", "one-cycle", "polynomial", "exponential"]
SHAPES: tuple[str, ...] = get_args(ShapeName)

ROLES: Mapping[Role, tuple[Range, float, float]] = {"share": ((0.0, 0.5), 0.1, 0.05), "power": ((0.5, 4.0), 1.0, 0.25)}
"""Range, start value and step size of curves' parameters that are no values of the hyperparameter."""


@dataclass(frozen=True)
class Schedule:
    """How a hyperparameter goes through the training run, and where its parameters are searched.

    Attributes:
        values: Number N of parameters, at least 1: of windows or of a piecewise-linear schedule's knots. A named curve
            has its own number; a function needs it given. None takes the class's default.
        init: Where gradient methods start: one number for all parameters, or one each. None is 0 on a linear scale (or
            the end of the range that is nearest to it), the middle of the range on a logarithmic one, and a curve's own
            defaults for its shares and powers.
        step: Initial step size γ_0 of FDS's updates, positive, one for all parameters or one each; on a logarithmic
            scale of ln λ. None takes the class's default (at most half of the range), or a tenth of
            the range on a logarithmic scale. One for all is at most the range's width.
        range: (lowest, highest) value that any method may use, or one such pair for each parameter.
        shape: ``"windows"`` (one value for each of N parts of the run), ``"linear"`` (straight lines through N knots),
            ``"cosine"`` (peak, final, warm-up share), ``"one-cycle"`` (start, peak, final, warm-up share),
            ``"polynomial"`` (start, final, power), ``"exponential"`` (start, final), or a differentiable function
            (share of the run in [0, 1], parameters [N]) ↦ value [] of PyTorch.
        scale: ``"linear"``, or ``"log"``: signs multiply, black-box methods draw log-uniformly. Shares and powers stay
            on a linear scale.
        lengths: Lengths of the windows where they are not equal, N whole numbers; only their proportions count.
        groups: Parameter groups with a schedule each: ``"layers"``, or group → patterns of the parameters' names, as in
            ``{"body": ["features.*"], "head": ["classifier.*"]}``. None is one schedule for all.

    Raises:
        ValueError: In one line, if a value is not allowed.
    """

    values: int | None = None
    init: float | Sequence[float] | None = None
    step: float | Sequence[float] | None = None
    range: Range | Sequence[Range] = (0.0, 1.0)
    shape: ShapeName | CurveFunction = "windows"
    scale: Scale = "linear"
    lengths: Sequence[int] | None = None
    groups: Literal["layers"] | Mapping[str, Sequence[str]] | None = None

    default_values: ClassVar[int] = 1
    default_step: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        if not callable(self.shape) and self.shape not in SHAPES:
            self._refuse("shape", self.shape, f"one of {', '.join(SHAPES)}, or a function")
        if self.scale not in get_args(Scale):
            self._refuse("scale", self.scale, "'linear' or 'log'")
        self._take(values=self._checked_count())
        self._take(range=self._checked_range())
        self._check_positive()
        self._take(lengths=self._checked_lengths(), groups=self._checked_groups())
        self._take(init=self._checked_init(), step=self._checked_step())

    # ------------------------------------------------------------------------------------------- what it says

    @property
    def count(self) -> int:
        """Number N of parameters."""
        assert self.values is not None  # set when the schedule was made
        return self.values

    @property
    def form(self) -> Shape:
        """How the parameters give a value at every step."""
        if self.shape == "windows":
            return Windows(self.count, tuple(self.lengths or ()))
        if self.shape == "linear":
            return Hats(self.count)
        return Curve(self.count, self.shape if callable(self.shape) else CURVES[self.shape].function)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Range and scale of every parameter."""
        if self._ranges_differ:
            ranges = [(float(low), float(high)) for low, high in self.range]  # type: ignore[misc]
        else:
            ranges = [self._own_range if role == "value" else ROLES[role][0] for role in self.roles]
        scales: list[Scale] = [self.scale if role == "value" else "linear" for role in self.roles]
        return tuple(Axis(low, high, scale) for (low, high), scale in zip(ranges, scales, strict=True))

    @property
    def roles(self) -> tuple[Role, ...]:
        """What every parameter is: a value of the hyperparameter, a share of the run, or a power."""
        if isinstance(self.shape, str) and self.shape in CURVES:
            return tuple(parameter.role for parameter in CURVES[self.shape].parameters)
        value: Role = "value"
        return (value,) * self.count

    @property
    def bounds(self) -> Range:
        """(lowest, highest) value of the hyperparameter itself."""
        own = [axis for axis, role in zip(self.axes, self.roles, strict=True) if role == "value"]
        return min(axis.low for axis in own), max(axis.high for axis in own)

    @property
    def starts(self) -> tuple[float, ...]:
        """Start value of every parameter."""
        return self._each(self.init, {role: start for role, (_, start, _) in ROLES.items()})

    @property
    def steps(self) -> tuple[float, ...]:
        """Initial step size of every parameter, in its coordinate."""
        return self._each(self.step, {role: step for role, (_, _, step) in ROLES.items()})

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for YAML; fields that keep their defaults are left out, but for the first four.

        Raises:
            ValueError: If the shape is a function.
        """
        if callable(self.shape):
            self._refuse("shape", self.shape, f"one of {', '.join(SHAPES)} to be written to a file")
        first = ("values", "init", "step", "range")
        written = {
            part.name: getattr(self, part.name)
            for part in fields(self)
            if part.name in first or getattr(self, part.name) != part.default
        }
        return {name: _plain(value) for name, value in written.items()}

    def at(self, parameters: Sequence[float], step: int, horizon: int) -> float:
        """The hyperparameter's value at ``step`` ∈ [0, T] of T; step T has the last step's.

        Args:
            parameters: N numbers.
            step: t; the share t / T of the run is what counts.
            horizon: T.
        """
        return Shapes({"value": self.form}).at_step({"value": parameters}, step, horizon)["value"]

    # ------------------------------------------------------------------------------------------------ checks

    def _take(self, **checked: Any) -> None:
        """Set fields of the frozen record, once, while it is made."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _refuse(self, name: str, value: object, allowed: str) -> NoReturn:
        raise ValueError(f"{type(self).__name__} {name} is {value!r}; it must be {allowed}")

    def _checked_count(self) -> int:
        own = len(CURVES[self.shape].parameters) if isinstance(self.shape, str) and self.shape in CURVES else None
        count = self.values if self.values is not None else own or self.default_values
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            self._refuse("values", count, "a whole number of at least 1")
        if own is not None and count != own:
            names = ", ".join(parameter.name for parameter in CURVES[str(self.shape)].parameters)
            self._refuse("values", count, f"{own} with shape {self.shape!r}: {names}")
        return count

    def _checked_range(self) -> Range | tuple[Range, ...]:
        """One pair, or one for each parameter."""
        name = type(self).__name__
        if self._ranges_differ:
            if len(self.range) != self.count:
                self._refuse("range", self.range, f"one pair of numbers, or {self.count} of them")
            return tuple(_checked_pair(name, pair) for pair in self.range)
        return _checked_pair(name, self.range)

    @property
    def _ranges_differ(self) -> bool:
        given = self.range
        return isinstance(given, Sequence) and bool(given) and all(isinstance(pair, (list, tuple)) for pair in given)

    @property
    def _own_range(self) -> Range:
        low, high = self.range
        return float(low), float(high)  # type: ignore[arg-type]

    def _check_positive(self) -> None:
        """Logarithms need positive values."""
        for reason, needed in (
            ("scale 'log'", self.scale == "log"),
            ("shape 'exponential'", self.shape == "exponential"),
        ):
            low, high = self.bounds
            if needed and not low > 0:
                allowed = f"with {reason} it must begin above 0"
                raise ValueError(f"{type(self).__name__} range is ({low:g}, {high:g}); {allowed}")

    def _checked_lengths(self) -> tuple[int, ...] | None:
        if self.lengths is None:
            return None
        if self.shape != "windows":
            self._refuse("lengths", self.lengths, "None where shape is not 'windows'")
        if not isinstance(self.lengths, (list, tuple)):
            self._refuse("lengths", self.lengths, "a list of whole numbers")
        try:
            return Windows(self.count, tuple(self.lengths)).lengths
        except ValueError as error:
            raise ValueError(f"{type(self).__name__} {error}") from None

    def _checked_groups(self) -> Literal["layers"] | dict[str, list[str]] | None:
        if self.groups is None or self.groups == "layers":
            return self.groups
        if not isinstance(self.groups, Mapping) or not self.groups:
            self._refuse("groups", self.groups, "'layers' or group → patterns of parameter names")
        for patterns in self.groups.values():
            if isinstance(patterns, str) or not isinstance(patterns, Sequence) or not patterns:
                self._refuse("groups", self.groups, "'layers' or group → a list of patterns of parameter names")
        return {group: list(patterns) for group, patterns in self.groups.items()}

    def _checked_init(self) -> float | tuple[float, ...]:
        """One number, or one for each parameter; each in its range."""
        given: Any = self.init
        if given is None:
            low, high = self.bounds
            given = math.sqrt(low * high) if self.scale == "log" else min(max(0.0, low), high)
        init = self._checked_numbers("init", given)
        for start, axis in zip(self._each(init, {r: s for r, (_, s, _) in ROLES.items()}), self.axes, strict=True):
            if not axis.low <= start <= axis.high:
                allowed = f"it must lie in its range [{axis.low:g}, {axis.high:g}]"
                raise ValueError(f"{type(self).__name__} init is {start:g}; {allowed}")
        return init

    def _checked_step(self) -> float | tuple[float, ...]:
        given: Any = self.step
        if given is None:
            low, high = self.bounds
            given = math.log(high / low) / 10 if self.scale == "log" else self.default_step
        steps = self._checked_numbers("step", given)
        for step in steps if isinstance(steps, tuple) else (steps,):
            if not step > 0:
                raise ValueError(f"{type(self).__name__} step is {step:g}; it must be positive")
        return steps if isinstance(steps, tuple) else self._within_width(steps)

    def _within_width(self, step: float) -> float:
        """The step; half of the range's width where the class's default is wider than that range.

        A wider step would leave nothing of the range but its bounds.

        Raises:
            ValueError: In one line, if a given step is wider.
        """
        low, high = self.bounds
        width = math.log(high / low) if self.scale == "log" else high - low
        if step <= width:
            return step
        if self.step is None:
            return width / 2
        raise ValueError(
            f"{type(self).__name__} step is {step:g}; it must be at most the width of its range, {width:g}"
        )

    def _checked_numbers(self, name: str, given: Any) -> float | tuple[float, ...]:
        what = f"{type(self).__name__} {name}"
        if isinstance(given, Sequence) and not isinstance(given, str):
            if len(given) != self.count:
                raise ValueError(f"{what} has {len(given)} numbers; it must be one number or {self.count}")
            return tuple(finite_number(what, number) for number in given)
        return finite_number(what, given)

    def _each(self, given: Any, others: Mapping[Role, float]) -> tuple[float, ...]:
        """One number per parameter from one for all: shares and powers have their own."""
        if isinstance(given, tuple):
            return given
        return tuple(given if role == "value" else others[role] for role in self.roles)


@dataclass(frozen=True)
class LearningRate(Schedule):
    """Learning rates α; by default seven windows in [0, 1] as in [FDS] figure 1."""

    default_values: ClassVar[int] = 7


@dataclass(frozen=True)
class Momentum(Schedule):
    """Momenta μ; by default one in [0, 1], with [FDS] figure 4's larger first step."""

    default_step: ClassVar[float] = 0.3


@dataclass(frozen=True)
class WeightDecay(Schedule):
    """Weight decays ξ; by default one in [0, 3e-3]."""

    range: Range | Sequence[Range] = (0.0, 3e-3)

    default_step: ClassVar[float] = 3e-4


KINDS: Mapping[str, type[Schedule]] = {
    "learning_rate": LearningRate,
    "momentum": Momentum,
    "weight_decay": WeightDecay,
}


def finite_number(what: str, value: Any) -> float:
    """A finite number; text such as YAML's ``1e-3`` counts.

    Raises:
        ValueError: In one line, if it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{what} is {value!r}; it must be a finite number")
    return number


def _plain(value: Any) -> Any:
    """Lists for tuples, inside too."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _checked_pair(name: str, given: Any) -> Range:
    """(lowest, highest)."""
    if not isinstance(given, Sequence) or len(given) != 2:
        raise ValueError(f"{name} range is {given!r}; it must be a pair of numbers (lowest, highest)")
    low, high = (finite_number(f"{name} range bound", bound) for bound in given)
    if not low < high:
        raise ValueError(f"{name} range is ({low:g}, {high:g}); the lower bound must lie below the upper one")
    return low, high
