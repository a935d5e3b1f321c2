"""One search space for every method: schedules with ranges, start values and step sizes.

The same definition gives FDS its columns and step sizes, HpBandSter its ConfigSpace, Tune its config and plain training
its values at every step, so no method is handed a different space by accident. A hyperparameter given as a plain
number is fixed::

    SearchSpace(learning_rate=LearningRate(values=7), momentum=Momentum(), weight_decay=5e-4)
    SearchSpace(learning_rate=LearningRate(shape="cosine", scale="log", range=(1e-3, 1)))

Values travel as ``{"learning_rate": [0.1, …], "momentum": [0.9], "weight_decay": [5e-4]}`` and, where a method
wants scalars, under flat names ``learning_rate_0``, ``learning_rate_1``, ….
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeVar, get_args

from raytune_hyperlearn.algorithms.coordinates import Axis, Scale
from raytune_hyperlearn.algorithms.curves import CURVES, Curve, CurveFunction, Role
from raytune_hyperlearn.algorithms.groups import MARK, grouped, layers
from raytune_hyperlearn.algorithms.schedules import Coordinates, Hats, Shape, Shapes, Windows
from raytune_hyperlearn.algorithms.values import Numbers, Values

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


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
        init: Where gradient methods start: one number for all parameters, or one each. None is 0 on a linear scale,
            the middle of the range on a logarithmic one, and a curve's own defaults for its shares and powers.
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
            given = math.sqrt(low * high) if self.scale == "log" else 0.0
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
            return tuple(_number(what, number) for number in given)
        return _number(what, given)

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


OwnSpace = TypeVar("OwnSpace", bound="Space")


class Space(ABC):
    """Named hyperparameters, each learned (a schedule) or fixed (a number)."""

    coordinates: Coordinates = "plain"

    @property
    @abstractmethod
    def given(self) -> Mapping[str, Schedule | float]:
        """Every hyperparameter's schedule, or its number where it is fixed."""

    @abstractmethod
    def with_given(self: OwnSpace, given: Mapping[str, Schedule | float]) -> OwnSpace:
        """This space with other schedules or numbers."""

    @property
    def parts(self) -> Mapping[str, Schedule | float]:
        """As :attr:`given`, but a schedule with groups stands once per group, under ``learning_rate@group``.

        Raises:
            ValueError: In one line, if groups are layers of a model that the space does not know yet.
        """
        parts: dict[str, Schedule | float] = {}
        for name, part in self.given.items():
            groups = part.groups if isinstance(part, Schedule) else None
            if groups == "layers":
                raise ValueError(f"groups of {name} is 'layers'; call for_model with a model first")
            parts |= {grouped(name, group): part for group in groups} if groups else {name: part}
        return parts

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The learned hyperparameters' schedules by name."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Schedule)}

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the learned hyperparameters."""
        return tuple(self.schedules)

    @property
    def dimensions(self) -> int:
        """Number K of learned values."""
        return sum(schedule.count for schedule in self.schedules.values())

    # ------------------------------------------------------------------------------------------------ groups

    @property
    def has_groups(self) -> bool:
        """Whether any schedule has groups, known or not."""
        return any(isinstance(part, Schedule) and part.groups is not None for part in self.given.values())

    @property
    def groups(self) -> dict[str, Mapping[str, Sequence[str]]]:
        """Groups of the hyperparameters that have any; :mod:`raytune_hyperlearn.algorithms.groups` explains them."""
        return {
            name: part.groups
            for name, part in self.given.items()
            if isinstance(part, Schedule) and isinstance(part.groups, Mapping)
        }

    def for_model(self: OwnSpace, parameters: Sequence[str]) -> OwnSpace:
        """The space whose groups ``"layers"`` are those of a model.

        Args:
            parameters: Names of its trainable parameters.
        """
        return self._with_layers({name: layers(parameters) for name in self.given})

    def for_values(self: OwnSpace, names: Iterable[str]) -> OwnSpace:
        """The space whose groups ``"layers"`` are those of known values' names, such as ``learning_rate@layer``."""
        found: dict[str, dict[str, list[str]]] = {}
        for name in names:
            hyperparameter, _, group = name.partition(MARK)
            found.setdefault(hyperparameter, {})[group] = [f"{group}.*", group]
        return self._with_layers(found)

    def _with_layers(self: OwnSpace, groups: Mapping[str, Mapping[str, Sequence[str]]]) -> OwnSpace:
        return self.with_given(
            {
                name: replace(part, groups=groups[name])
                if isinstance(part, Schedule) and part.groups == "layers"
                else part
                for name, part in self.given.items()
            }
        )

    # ------------------------------------------------------------------------------- values, one per parameter

    def shapes(self) -> Shapes:
        """How parameters give values at every step; equal windows, which fit any number of values, go unnamed."""
        named = {
            name: schedule.form
            for name, schedule in self.schedules.items()
            if schedule.shape != "windows" or schedule.lengths
        }
        return Shapes(named, self.coordinates)

    def at_step(self, values: Values, step: int, horizon: int) -> dict[str, float]:
        """The value of every hyperparameter that training uses at ``step`` ∈ [0, T]; step T has the last step's."""
        return self.shapes().at_step(values, step, horizon)

    def initial(self) -> Numbers:
        """Start values of every schedule; fixed hyperparameters as schedules of one value."""
        return {name: list(part.starts) if isinstance(part, Schedule) else [part] for name, part in self.parts.items()}

    def step_sizes(self) -> Numbers:
        """Initial step sizes γ_0 of the learned values, in their coordinates."""
        return {name: list(schedule.steps) for name, schedule in self.schedules.items()}

    def ranges(self) -> dict[str, Range]:
        """(lowest, highest) value of every learned hyperparameter; :meth:`axes` has every parameter's own."""
        return {name: schedule.bounds for name, schedule in self.schedules.items()}

    def axes(self) -> dict[str, tuple[Axis, ...]]:
        """Range and scale of every learned value."""
        return {name: schedule.axes for name, schedule in self.schedules.items()}

    def _flat(self) -> list[tuple[str, Axis]]:
        return [(f"{name}_{i}", axis) for name, own in self.axes().items() for i, axis in enumerate(own)]

    def flat_names(self) -> list[str]:
        """``learning_rate_0``, … for every learned value."""
        return [name for name, _ in self._flat()]

    def from_flat(self, flat: Mapping[str, float]) -> Numbers:
        """Schedules from flat names; fixed hyperparameters are filled in.

        Raises:
            ValueError: In one line, if a name is missing or a value does not fit.
        """
        missing = [name for name in self.flat_names() if name not in flat]
        if missing:
            raise ValueError(f"hyperparameters lack {missing[0]!r}; the space needs {', '.join(self.flat_names())}")
        return self.check({n: [flat[f"{n}_{i}"] for i in range(s.count)] for n, s in self.schedules.items()})

    def check(self, values: Values) -> Numbers:
        """The values as plain lists, if they fit the space; fixed hyperparameters may be left out.

        Raises:
            ValueError: In one line, if a name, a length, a number or a range does not fit.
        """
        checked = self.initial()
        for name, given in values.items():
            if name not in checked:
                raise ValueError(f"hyperparameters hold {name!r}; they must be {', '.join(checked)}")
            schedule: object = given  # configs are not typed: anything may stand here
            if not isinstance(schedule, Sequence) or isinstance(schedule, str):
                raise ValueError(f"{name} is {given!r}; it must be a list of numbers")
            if len(given) != len(checked[name]):
                raise ValueError(f"{name} has {len(given)} values; the space has {len(checked[name])}")
            axes = self.axes().get(name, (Axis(checked[name][0], checked[name][0]),))
            checked[name] = [_number(name, value) for value in given]
            for value, axis in zip(checked[name], axes, strict=True):
                if not axis.low <= value <= axis.high:
                    raise ValueError(f"{name} is {value:g}; it must lie in [{axis.low:g}, {axis.high:g}]")
        missing = [name for name in self.learned if name not in values]
        if missing:
            raise ValueError(f"hyperparameters lack {missing[0]!r}; the space needs {', '.join(self.learned)}")
        return checked

    def configuration_space(self) -> ConfigurationSpace:
        """The learned values as floats of a ConfigSpace, uniform or log-uniform, for HpBandSter."""
        from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter

        space = ConfigurationSpace()
        # All at once: each call checks the whole space, which takes minutes for thousands one by one.
        space.add(
            [
                UniformFloatHyperparameter(name, axis.low, axis.high, log=axis.scale == "log")
                for name, axis in self._flat()
            ]
        )
        return space

    def tune_space(self) -> dict[str, Any]:
        """The learned values as Ray Tune's uniform or log-uniform domains, for Tune's own searchers."""
        from ray import tune

        draw = {"linear": tune.uniform, "log": tune.loguniform}
        return {name: draw[axis.scale](axis.low, axis.high) for name, axis in self._flat()}


@dataclass(frozen=True)
class SearchSpace(Space):
    """Learning rate, momentum and weight decay of SGD, each learned (a schedule) or fixed (a number).

    Attributes:
        learning_rate: Of SGD; of α / (1 − μ) in effective coordinates.
        momentum: Of SGD.
        weight_decay: Of SGD.
        coordinates: ``"effective"``: the learning rate's values are those of α / (1 − μ), which uncouples it from the
            momentum (:class:`raytune_hyperlearn.algorithms.schedules.Shapes`).

    Raises:
        ValueError: In one line, if a part is not allowed or none is learned.
    """

    learning_rate: Schedule | float = field(default_factory=LearningRate)
    momentum: Schedule | float = field(default_factory=Momentum)
    weight_decay: Schedule | float = field(default_factory=WeightDecay)
    coordinates: Coordinates = "plain"

    def __post_init__(self) -> None:
        for name, part in self.given.items():
            object.__setattr__(self, name, _checked(name, part))
        Shapes({}, self.coordinates)
        _require_schedule(self)
        if self.coordinates == "effective" and not self._momentum_has_the_rates_groups():
            raise ValueError(
                "coordinates is 'effective'; groups of momentum must be those of learning_rate, or momentum have none"
            )

    def _momentum_has_the_rates_groups(self) -> bool:
        groups = [part.groups if isinstance(part, Schedule) else None for part in (self.momentum, self.learning_rate)]
        return groups[0] is None or groups[0] == groups[1]

    @property
    def given(self) -> Mapping[str, Schedule | float]:
        """The three by name."""
        return {name: getattr(self, name) for name in KINDS}

    def with_given(self, given: Mapping[str, Schedule | float]) -> SearchSpace:
        """This space with other parts."""
        return replace(
            self,
            learning_rate=given["learning_rate"],
            momentum=given["momentum"],
            weight_decay=given["weight_decay"],
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested values for YAML; :meth:`from_mapping` reads them back.

        Raises:
            ValueError: If a schedule's shape is a function, which no file can hold.
        """
        mapping = {name: part.to_mapping() if isinstance(part, Schedule) else part for name, part in self.given.items()}
        return mapping if self.coordinates == "plain" else {**mapping, "coordinates": self.coordinates}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SearchSpace:
        """A space from nested values; what is not named keeps its default.

        Raises:
            ValueError: In one line, if a name or a value is not allowed.
        """
        if not isinstance(mapping, Mapping):
            raise ValueError(f"space is {mapping!r}; it must map {', '.join(KINDS)} to schedules or numbers")
        parts: dict[str, Any] = {}
        for name, entry in mapping.items():
            if name not in KINDS and name != "coordinates":
                raise ValueError(f"space holds {name!r}; it must be {', '.join(KINDS)}")
            if isinstance(entry, Mapping):
                allowed = [part.name for part in fields(Schedule)]
                for key in entry:
                    if key not in allowed:
                        raise ValueError(f"{name} holds {key!r}; it must be {', '.join(allowed)}")
                parts[name] = KINDS[name](**entry)
            else:
                parts[name] = entry
        return cls(**parts)


@dataclass(frozen=True)
class OptimizerSpace(Space):
    """Hyperparameters of any optimizer: what FDS can learn beyond SGD's three. Names not given keep their defaults.

    Attributes:
        named: Name → schedule, or number where it is fixed, for example
            ``{"learning_rate": Schedule(values=5, step=1e-3, range=(0, 0.1)), "beta1": 0.9}``.

    Raises:
        ValueError: In one line, if a part is not allowed or none is learned.
    """

    named: Mapping[str, Schedule | float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "named", {name: _checked(name, part) for name, part in self.named.items()})
        _require_schedule(self)

    @property
    def given(self) -> Mapping[str, Schedule | float]:
        """As given."""
        return self.named

    def with_given(self, given: Mapping[str, Schedule | float]) -> OptimizerSpace:
        """This space with other parts."""
        return replace(self, named=given)


def _plain(value: Any) -> Any:
    """Lists for tuples, inside too."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _checked(name: str, part: Any) -> Schedule | float:
    """A schedule as it is, or a finite number."""
    return part if isinstance(part, Schedule) else _number(name, part)


def _require_schedule(space: Space) -> None:
    if not any(isinstance(part, Schedule) for part in space.given.values()):
        raise ValueError("the search space has no schedule; at least one hyperparameter must be learned")


def _checked_pair(name: str, given: Any) -> Range:
    """(lowest, highest)."""
    if not isinstance(given, Sequence) or len(given) != 2:
        raise ValueError(f"{name} range is {given!r}; it must be a pair of numbers (lowest, highest)")
    low, high = (_number(f"{name} range bound", bound) for bound in given)
    if not low < high:
        raise ValueError(f"{name} range is ({low:g}, {high:g}); the lower bound must lie below the upper one")
    return low, high


def _number(what: str, value: Any) -> float:
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
