"""One search space for every method: schedules with ranges, start values and step sizes.

The same definition gives FDS its columns and step sizes, HpBandSter its ConfigSpace and Tune its config, so no
method is handed a different space by accident. A hyperparameter given as a plain number is fixed::

    SearchSpace(learning_rate=LearningRate(values=7), momentum=Momentum(), weight_decay=5e-4)

Values travel as ``{"learning_rate": [0.1, …], "momentum": [0.9], "weight_decay": [5e-4]}`` and, where a method
wants scalars, under flat names ``learning_rate_0``, ``learning_rate_1``, ….
"""

from __future__ import annotations

import math
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
        low, high = (float(bound) for bound in self.range)
        if not isinstance(self.values, int) or self.values < 1:
            raise ValueError(f"{name} values is {self.values}; it must be a whole number of at least 1")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{name} range is ({low:g}, {high:g}); the lower bound must lie below the upper one")
        if not low <= self.init <= high:
            raise ValueError(f"{name} init is {self.init:g}; it must lie in its range [{low:g}, {high:g}]")
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"{name} step is {self.step:g}; it must be positive")
        object.__setattr__(self, "range", (low, high))


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


@dataclass(frozen=True)
class SearchSpace:
    """Learning rate, momentum and weight decay of SGD, each learned (a schedule) or fixed (a number)."""

    learning_rate: Schedule | float = field(default_factory=LearningRate)
    momentum: Schedule | float = field(default_factory=Momentum)
    weight_decay: Schedule | float = field(default_factory=WeightDecay)

    def __post_init__(self) -> None:
        if not self.schedules:
            raise ValueError("the search space has no schedule; at least one hyperparameter must be learned")

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The learned hyperparameters' schedules by name."""
        named = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: schedule for name, schedule in named.items() if isinstance(schedule, Schedule)}

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
            name: [part.init] * part.values if isinstance(part, Schedule) else [float(part)]
            for name, part in ((f.name, getattr(self, f.name)) for f in fields(self))
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
            ValueError: If a name is missing.
        """
        missing = [name for name in self.flat_names() if name not in flat]
        if missing:
            raise ValueError(f"hyperparameters lack {missing[0]!r}; the space needs {', '.join(self.flat_names())}")
        values = self.initial()
        for name, schedule in self.schedules.items():
            values[name] = [float(flat[f"{name}_{index}"]) for index in range(schedule.values)]
        return values

    def check(self, values: Mapping[str, Sequence[float]]) -> Hyperparameters:
        """The values as plain lists, if they fit the space.

        Raises:
            ValueError: In one line, if a name, a length, a number or a range does not fit.
        """
        expected = self.initial()
        for name in values:
            if name not in expected:
                raise ValueError(f"hyperparameters hold {name!r}; they must be {', '.join(expected)}")
        checked = expected | {name: [float(value) for value in schedule] for name, schedule in values.items()}
        for name, schedule in self.schedules.items():
            low, high = schedule.range
            if len(checked[name]) != schedule.values:
                raise ValueError(f"{name} has {len(checked[name])} values; the space has {schedule.values}")
            for value in checked[name]:
                if not low <= value <= high:
                    raise ValueError(f"{name} is {value:g}; it must lie in [{low:g}, {high:g}]")
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

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested values for YAML; :meth:`from_mapping` reads them back."""
        result: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Schedule):
                result[part.name] = {**asdict(value), "range": list(value.range)}
            else:
                result[part.name] = float(value)
        return result

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SearchSpace:
        """A space from nested values; what is not named keeps its default.

        Raises:
            ValueError: In one line, if a name or a value is not allowed.
        """
        parts: dict[str, Schedule | float] = {}
        for name, entry in mapping.items():
            if name not in KINDS:
                raise ValueError(f"space holds {name!r}; it must be {', '.join(KINDS)}")
            if isinstance(entry, Mapping):
                allowed = [part.name for part in fields(Schedule)]
                for key in entry:
                    if key not in allowed:
                        raise ValueError(f"{name} holds {key!r}; it must be {', '.join(allowed)}")
                options = dict(entry)
                if "range" in options:
                    options["range"] = tuple(options["range"])
                parts[name] = KINDS[name](**options)
            else:
                parts[name] = float(entry)
        return cls(**parts)
