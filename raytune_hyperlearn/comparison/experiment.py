"""What a comparison runs: one record, written as YAML beside its results."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from raytune_hyperlearn.comparison.reference_record import reference_from_mapping
from raytune_hyperlearn.comparison.schema import conform_fields, row_from_mapping, row_to_mapping

Metric = Literal["validation_loss", "validation_accuracy"]


@dataclass(frozen=True)
class Experiment:
    """Problem, methods, seeds, limits and resources of a comparison.

    Attributes:
        name: how records and report call the experiment.
        problem: name of the problem.
        methods: names of the methods, each run once per seed.
        seeds: seeds, each >= 0.
        time_limit: wall-clock seconds per run, from its first worker being up.
        epochs: the full budget of one training, in epochs.
        min_epochs: the smallest budget of the methods that use several, in epochs; 0 < min_epochs <= epochs.
        workers: trials at a time of the methods that can run several.
        gpus_per_trial: GPUs of one trial, fractions allowed.
        address: Ray cluster to join; None starts a local one.
        metric: the validation value that chooses; losses are minimised, accuracies maximised.
        replicates: networks trained per evaluation, from different initialisations and data orders, by every method;
            its scores are their means, so that hyperparameters are compared and not lucky starts.
        confirmations: fresh seeds with which every run's incumbent is trained again at the end, outside the clock.
        gradient_clamp: bound on every element of a batch gradient in every method's training; None for no bound.
        space: the search space shared by all methods: by hyperparameter values, init, step and range, or a number
            where it is fixed.
        method_options: options by method.
        focus: the method whose differences from each other one are tested, named before the run; None takes FDS where
            it takes part, else the first method.
        targets: regrets whose first time is reported, in the metric's own unit (0.01 is 1 % of accuracy).
        reference: regret's zero as in :class:`~raytune_hyperlearn.comparison.reference_record.Reference`; without one
            the report shows the metric itself.
    """

    name: str
    problem: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    time_limit: float
    epochs: float
    min_epochs: float
    workers: int = 1
    gpus_per_trial: float = 0.0
    address: str | None = None
    metric: Metric = "validation_loss"
    replicates: int = 1
    confirmations: int = 0
    gradient_clamp: float | None = None
    space: dict[str, Any] = field(default_factory=dict)
    method_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    focus: str | None = None
    targets: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05)
    reference: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        conform_fields(self)
        _require_text("name", self.name)
        _require_text("problem", self.problem)
        _require_distinct("methods", self.methods)
        _require_distinct("seeds", self.seeds)
        _require(min(self.seeds) >= 0, "seeds", "whole numbers >= 0", self.seeds)
        _require(0 < self.time_limit < math.inf, "time_limit", "a number of seconds > 0", self.time_limit)
        _require(0 < self.epochs < math.inf, "epochs", "a number > 0", self.epochs)
        _require(
            0 < self.min_epochs <= self.epochs, "min_epochs", f"> 0 and <= epochs ({self.epochs:g})", self.min_epochs
        )
        _require(self.workers >= 1, "workers", "a whole number >= 1", self.workers)
        _require(0 <= self.gpus_per_trial < math.inf, "gpus_per_trial", "a number >= 0", self.gpus_per_trial)
        _require(self.replicates >= 1, "replicates", "a whole number >= 1", self.replicates)
        _require(self.confirmations >= 0, "confirmations", "a whole number >= 0", self.confirmations)
        _require(
            self.gradient_clamp is None or self.gradient_clamp > 0,
            "gradient_clamp",
            "a number > 0 or null",
            self.gradient_clamp,
        )
        for name, entry in self.space.items():
            _require(isinstance(entry, (dict, int, float)), f"space.{name}", "names with values or a number", entry)
        for method in self.method_options:
            _require(method in self.methods, "method_options", f"for one of {', '.join(self.methods)}", method)
        allowed = f"null or one of {', '.join(self.methods)}"
        _require(self.focus is None or self.focus in self.methods, "focus", allowed, self.focus)
        _require_distinct("targets", self.targets)
        _require(all(map(math.isfinite, self.targets)), "targets", "finite numbers", self.targets)
        if self.reference is not None:
            reference_from_mapping(self.reference).require_match(self.problem, self.epochs)

    @property
    def tested(self) -> str:
        """The method that is tested against each other one."""
        return self.focus or ("fds" if "fds" in self.methods else self.methods[0])


def experiment_from_mapping(data: object, where: str = "experiment") -> Experiment:
    """Builds an experiment from plain data.

    Raises:
        ValueError: for unknown, missing or ill-typed entries, in one line that begins with ``where``.
    """
    return row_from_mapping(Experiment, data, where)


def experiment_to_yaml(experiment: Experiment) -> str:
    """The experiment as YAML; reading it back gives an equal experiment."""
    return yaml.dump(
        row_to_mapping(experiment),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a YAML file of experiment settings, complete or not, without checking their names.

    Numbers may be written as in 3e-4, which YAML 1.1 would take for text; a name given twice is refused.

    Raises:
        ValueError: if the file is no YAML mapping, naming the file.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected names with values, not {type(data).__name__}")
    return data


def read_experiment(path: Path) -> Experiment:
    """Reads a complete experiment from YAML.

    Raises:
        ValueError: if it is not one, naming the file and the entry.
    """
    return experiment_from_mapping(read_settings(path), str(path))


def write_experiment(experiment: Experiment, path: Path) -> None:
    """Writes the experiment as YAML."""
    path.write_text(experiment_to_yaml(experiment), encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, made to refuse repeated names (which it would overwrite silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"{repeated.pop()!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, made to quote text that the loader here would read as a number."""


_FLOAT_WITHOUT_POINT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+\Z")
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT_WITHOUT_POINT, list("-+.0123456789"))


def _require(holds: bool, name: str, allowed: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}, not {value!r}")


def _require_text(name: str, value: str) -> None:
    _require(bool(value.strip()) and value.isprintable(), name, "text of one line", value)


def _require_distinct(name: str, values: Sequence[object]) -> None:
    _require(len(values) >= 1, name, "a list of at least one", values)
    _require(len(set(values)) == len(values), name, "a list without repetitions", values)
