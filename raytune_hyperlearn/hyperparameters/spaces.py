"""Named hyperparameters as one space, and the forms that every method takes it in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.algorithms.groups import MARK, grouped, layers
from raytune_hyperlearn.algorithms.schedules import Coordinates, Shapes
from raytune_hyperlearn.algorithms.values import Numbers, Values
from raytune_hyperlearn.hyperparameters.schedules import (
    KINDS,
    LearningRate,
    Momentum,
    Range,
    Schedule,
    WeightDecay,
    finite_number,
)

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

OwnSpace = TypeVar("OwnSpace", bound="Space")


class Space(ABC):
    """Named hyperparameters, each learned (a schedule) or fixed (a number)."""

    coordinates: Coordinates = "plain"

    @property
    @abstractmethod
    def given(self) -> Mapping[str, Schedule | float]:
        """Every hyperparameter's schedule, or its number where it is fixed."""

    @abstractmethod
    def to_mapping(self) -> dict[str, Any]:
        """Plain nested values, as files hold them.

        Raises:
            ValueError: If a schedule's shape is a function.
        """

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
            checked[name] = [finite_number(name, value) for value in given]
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
        """This space with other parts.

        Args:
            given: A schedule or a fixed number for each part, by name.
        """
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

        Args:
            mapping: By name of the part, a number or the fields of its schedule.

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
        """This space with other parts.

        Args:
            given: A schedule or a fixed number for each part, by name.
        """
        return replace(self, named=given)

    def to_mapping(self) -> dict[str, Any]:
        """Plain nested values, as files hold them.

        Raises:
            ValueError: If a schedule's shape is a function.
        """
        return {name: part.to_mapping() if isinstance(part, Schedule) else part for name, part in self.named.items()}


def _checked(name: str, part: Any) -> Schedule | float:
    """A schedule as it is, or a finite number."""
    return part if isinstance(part, Schedule) else finite_number(name, part)


def _require_schedule(space: Space) -> None:
    if not any(isinstance(part, Schedule) for part in space.given.values()):
        raise ValueError("the search space has no schedule; at least one hyperparameter must be learned")
