"""One search space for every method: schedules with ranges, start values and step sizes.

The same definition gives FDS its columns and step sizes, HpBandSter its ConfigSpace and Tune its config, so no
method is handed a different space by accident. A hyperparameter given as a plain number is fixed::

    SearchSpace(learning_rate=LearningRate(values=7), momentum=Momentum(), weight_decay=5e-4)

Values travel as ``{"learning_rate": [0.1, …], "momentum": [0.9], "weight_decay": [5e-4]}`` and, where a method
wants scalars, under flat names ``learning_rate_0``, ``learning_rate_1``, ….
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Hyperparameters = dict[str, list[float]]
"""Name → schedule of values."""


@dataclass(frozen=True)
class Schedule:
    """N values over the training run, each searched in the same range.

    Attributes:
        values: N, at least 1.
        init: Where gradient methods start.
        step: Initial step size γ_0 of FDS's sign updates, positive.
        range: (lowest, highest) value that any method may use.
    """

    values: int = 1
    init: float = 0.0
    step: float = 0.1
    range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not isinstance(self.range, Sequence) or len(self.range) != 2:
            raise ValueError(f"{name} range is {self.range!r}; it must be a pair of numbers (lowest, highest)")
        low, high = (_number(f"{name} range bound", bound) for bound in self.range)
        init, step = _number(f"{name} init", self.init), _number(f"{name} step", self.step)
        if not isinstance(self.values, int) or isinstance(self.values, bool) or self.values < 1:
            raise ValueError(f"{name} values is {self.values!r}; it must be a whole number of at least 1")
        if not low < high:
            raise ValueError(f"{name} range is ({low:g}, {high:g}); the lower bound must lie below the upper one")
        if not low <= init <= high:
            raise ValueError(f"{name} init is {init:g}; it must lie in its range [{low:g}, {high:g}]")
        if not step > 0:
            raise ValueError(f"{name} step is {step:g}; it must be positive")
        for field_name, value in (("range", (low, high)), ("init", init), ("step", step)):
            object.__setattr__(self, field_name, value)


@dataclass(frozen=True)
class LearningRate(Schedule):
    """Learning rates α; by default seven in [0, 1] as in [FDS] figure 1."""

    values: int = 7


@dataclass(frozen=True)
class Momentum(Schedule):
    """Momenta μ; by default one in [0, 1], with [FDS] figure 4's larger first step."""

    step: float = 0.3


@dataclass(frozen=True)
class WeightDecay(Schedule):
    """Weight decays ξ; by default one in [0, 3e-3]."""

    step: float = 3e-4
    range: tuple[float, float] = (0.0, 3e-3)


KINDS: Mapping[str, type[Schedule]] = {
    "learning_rate": LearningRate,
    "momentum": Momentum,
    "weight_decay": WeightDecay,
}


class Space(ABC):
    """Named hyperparameters, each learned (a schedule) or fixed (a number)."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Schedule | float]:
        """Every hyperparameter's schedule, or its number where it is fixed."""

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
        return sum(schedule.values for schedule in self.schedules.values())

    def initial(self) -> Hyperparameters:
        """Start values of every schedule; fixed hyperparameters as schedules of one value."""
        return {
            name: [part.init] * part.values if isinstance(part, Schedule) else [part]
            for name, part in self.parts.items()
        }

    def step_sizes(self) -> Hyperparameters:
        """Initial step sizes γ_0 of the learned values."""
        return {name: [schedule.step] * schedule.values for name, schedule in self.schedules.items()}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """(lowest, highest) of every learned hyperparameter."""
        return {name: schedule.range for name, schedule in self.schedules.items()}

    def flat_names(self) -> list[str]:
        """``learning_rate_0``, … for every learned value."""
        return [f"{name}_{index}" for name, s in self.schedules.items() for index in range(s.values)]

    def from_flat(self, flat: Mapping[str, float]) -> Hyperparameters:
        """Schedules from flat names; fixed hyperparameters are filled in.

        Raises:
            ValueError: In one line, if a name is missing or a value does not fit.
        """
        missing = [name for name in self.flat_names() if name not in flat]
        if missing:
            raise ValueError(f"hyperparameters lack {missing[0]!r}; the space needs {', '.join(self.flat_names())}")
        return self.check({n: [flat[f"{n}_{i}"] for i in range(s.values)] for n, s in self.schedules.items()})

    def check(self, values: Mapping[str, Sequence[float]]) -> Hyperparameters:
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
            low, high = self.ranges().get(name, (checked[name][0], checked[name][0]))
            checked[name] = [_number(name, value) for value in given]
            for value in checked[name]:
                if not low <= value <= high:
                    raise ValueError(f"{name} is {value:g}; it must lie in [{low:g}, {high:g}]")
        missing = [name for name in self.learned if name not in values]
        if missing:
            raise ValueError(f"hyperparameters lack {missing[0]!r}; the space needs {', '.join(self.learned)}")
        return checked

    def configuration_space(self) -> ConfigurationSpace:
        """The learned values as uniform floats of a ConfigSpace, for HpBandSter."""
        from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter

        space = ConfigurationSpace()
        for name, schedule in self.schedules.items():
            for index in range(schedule.values):
                space.add(UniformFloatHyperparameter(f"{name}_{index}", *schedule.range))
        return space

    def tune_space(self) -> dict[str, Any]:
        """The learned values as Ray Tune's uniform domains under flat names, for Tune's own searchers."""
        from ray import tune

        return {
            f"{name}_{index}": tune.uniform(*schedule.range)
            for name, schedule in self.schedules.items()
            for index in range(schedule.values)
        }


@dataclass(frozen=True)
class SearchSpace(Space):
    """Learning rate, momentum and weight decay of SGD, each learned (a schedule) or fixed (a number)."""

    learning_rate: Schedule | float = field(default_factory=LearningRate)
    momentum: Schedule | float = field(default_factory=Momentum)
    weight_decay: Schedule | float = field(default_factory=WeightDecay)

    def __post_init__(self) -> None:
        for name, part in self.parts.items():
            object.__setattr__(self, name, _checked(name, part))
        _require_schedule(self)

    @property
    def parts(self) -> Mapping[str, Schedule | float]:
        """The three by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested values for YAML; :meth:`from_mapping` reads them back."""
        result: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Schedule):
                result[part.name] = {**asdict(value), "range": list(value.range)}
            else:
                result[part.name] = value
        return result

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SearchSpace:
        """A space from nested values; what is not named keeps its default.

        Raises:
            ValueError: In one line, if a name or a value is not allowed.
        """
        if not isinstance(mapping, Mapping):
            raise ValueError(f"space is {mapping!r}; it must map {', '.join(KINDS)} to schedules or numbers")
        parts: dict[str, Schedule | float] = {}
        for name, entry in mapping.items():
            if name not in KINDS:
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
    """Hyperparameters of any optimiser: what FDS can learn beyond SGD's three. Names not given keep their defaults.

    Attributes:
        named: Name → schedule, or number where it is fixed, for example
            ``{"learning_rate": Schedule(values=5, step=1e-3, range=(0, 0.1)), "beta1": 0.9}``.
    """

    named: Mapping[str, Schedule | float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "named", {name: _checked(name, part) for name, part in self.named.items()})
        _require_schedule(self)

    @property
    def parts(self) -> Mapping[str, Schedule | float]:
        """As given."""
        return self.named


def _checked(name: str, part: Any) -> Schedule | float:
    """A schedule as it is, or a finite number."""
    return part if isinstance(part, Schedule) else _number(name, part)


def _require_schedule(space: Space) -> None:
    if not space.schedules:
        raise ValueError("the search space has no schedule; at least one hyperparameter must be learned")


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
