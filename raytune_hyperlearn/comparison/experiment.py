"""What a comparison runs: one record, written as YAML beside its results."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field

from raytune_hyperlearn.checked import (
    AfterValidator,
    Count,
    Described,
    Finite,
    Items,
    NonNegative,
    Positive,
    Whole,
    read,
    record,
    shown,
)
from raytune_hyperlearn.comparison.plain_data import Plain, as_plain, to_mapping
from raytune_hyperlearn.comparison.reference_record import reference_from_mapping
from raytune_hyperlearn.hyperparameters import Optimizer, Space, optimizer_space

Metric = Literal["validation_loss", "validation_accuracy"]
Precision = Literal["full", "bf16-mixed"]
Member = TypeVar("Member")
LARGEST_SEED = 2**32 - 1
"""The largest seed that numpy's older generators take."""
MOST_SEEDS = 10_000
MOST_VALUES = 100_000


def _distinct(values: tuple[Member, ...]) -> tuple[Member, ...]:
    if not 1 <= len(values) <= MOST_SEEDS or len(set(values)) < len(values):
        raise ValueError(f"it must be a list of 1 to {MOST_SEEDS:,}, without repetitions")
    return values


def _of_one_line(text: str) -> str:
    if not (text.strip() and text.isprintable()):
        raise ValueError("it must be text of one line")
    return text


def _space_entry(entry: Any) -> Any:
    if isinstance(entry, bool) or not isinstance(entry, (dict, int, float)):
        raise ValueError("it must be a mapping of a schedule's settings, or a number")
    return as_plain(entry)


def check_space_sizes(space: object) -> None:
    """Refuse schedules of so many values that building them would not end.

    Args:
        space: Settings of a search space, checked or not.

    Raises:
        ValueError: In one line.
    """
    for name, entry in space.items() if isinstance(space, dict) else ():
        values = entry.get("values") if isinstance(entry, dict) else None
        if isinstance(values, (int, float)) and not values <= MOST_VALUES:
            raise ValueError(f"space.{name}.values is {values}; it must be a whole number in [1, {MOST_VALUES}]")


OneLine = Annotated[str, AfterValidator(_of_one_line), Described("text of one line")]
Distinct = Annotated[Items[Member], AfterValidator(_distinct)]
SpaceEntry = Annotated[Any, BeforeValidator(_space_entry)]
Seed = Annotated[Whole, Field(le=LARGEST_SEED)]
Amount = Annotated[Positive, Field(le=10**9)]


@record
class Experiment:
    """Problem, methods, seeds, limits and resources of a comparison.

    Attributes:
        name: how records and report call the experiment.
        problem: name of a built-in problem, or reference of an own one: ``file.py:name`` or ``package.module:name``.
        problem_args: given to the function that builds an own problem.
        problem_digest: SHA-256 of an own problem's source file.
        methods: names of the methods, each run once per seed.
        seeds: seeds, each >= 0.
        time_limit: wall-clock seconds per run, from its first worker being up.
        epochs: the full budget of one training, in epochs.
        min_epochs: the smallest budget of the methods that use several, in epochs; 0 < min_epochs <= epochs.
        workers: trials at a time of the methods that can run several.
        concurrent: runs at a time; each has as many workers as one alone.
        cpus_per_trial: processors of one trial, which trains with as many threads.
        gpus_per_trial: GPUs of one trial, fractions allowed.
        address: Ray cluster to join; None starts a local one.
        storage: path or URI that all nodes reach, empty at first, where Tune keeps the runs' checkpoints and state
            while they last; None keeps them in the experiment's folder.
        metric: the validation value that chooses; losses are minimized, accuracies maximized.
        replicates: networks trained per evaluation, from different initializations and data orders, by every method;
            its scores are their means, so that hyperparameters are compared and not lucky starts.
        confirmations: fresh seeds with which every run's incumbent is trained again at the end, outside the clock.
        gradient_clamp: bound on every element of a batch gradient in every method's training; None for no bound.
        gradient_norm: bound on a batch gradient's norm, likewise; only one of the two may be given.
        precision: full, or bf16-mixed: models of every method compute in bfloat16 under autocast.
        optimizer: what trains, and whose hyperparameters are searched: sgd, adam or adamw; own for a training function.
        space: the search space shared by all methods: by hyperparameter values, init, step and range, or a number
            where it is fixed.
        method_options: options by method.
        focus: the method whose differences from each other one are tested, named before the run; None takes FDS where
            it takes part, else the first method.
        targets: regrets whose first time is reported, in the metric's own unit (0.01 is 1 % of accuracy).
        reference: regret's zero as in :class:`~raytune_hyperlearn.comparison.reference_record.Reference`; without one
            the report shows the metric itself.
    """

    name: OneLine
    problem: OneLine
    methods: Distinct[OneLine]
    seeds: Distinct[Seed]
    time_limit: Amount
    epochs: Amount
    min_epochs: Amount
    workers: Annotated[Count, Field(le=100_000)] = 1
    concurrent: Annotated[Count, Field(le=10_000)] = 1
    cpus_per_trial: Annotated[Count, Field(le=10_000)] = 1
    gpus_per_trial: Annotated[NonNegative, Field(le=10_000)] = 0.0
    address: OneLine | None = None
    storage: OneLine | None = None
    metric: Metric = "validation_loss"
    replicates: Annotated[Count, Field(le=10_000)] = 1
    confirmations: Annotated[Whole, Field(le=10_000)] = 0
    gradient_clamp: Positive | None = None
    gradient_norm: Positive | None = None
    precision: Precision = "full"
    optimizer: Optimizer = "sgd"
    space: dict[str, SpaceEntry] = field(default_factory=dict)
    method_options: dict[str, dict[str, Plain]] = field(default_factory=dict)
    focus: str | None = None
    targets: Distinct[Finite] = (0.0, 0.01, 0.02, 0.05)
    reference: dict[str, Plain] | None = None
    problem_args: dict[str, Plain] = field(default_factory=dict)
    problem_digest: str | None = None

    def __post_init__(self) -> None:
        """Check what hangs together."""
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs is {self.min_epochs:g}; it must be at most epochs ({self.epochs:g})")
        for method in self.method_options:
            if method not in self.methods:
                raise ValueError(f"method_options is for {shown(method)}; it must be for {', '.join(self.methods)}")
        if self.concurrent > 1 and (self.address or "").startswith("ray://"):
            raise ValueError(f"concurrent is {self.concurrent}; through Ray's client ({self.address}) it must be 1")
        if self.storage is not None:
            self._check_storage(self.storage)
        if self.focus is not None and self.focus not in self.methods:
            raise ValueError(f"focus is {shown(self.focus)}; it must be None or one of {', '.join(self.methods)}")
        if self.gradient_clamp is not None and self.gradient_norm is not None:
            raise ValueError(f"gradient_norm is {self.gradient_norm:g} beside gradient_clamp; one of them must be None")
        if self.reference is not None:
            reference_from_mapping(self.reference).require_match(self.problem, self.epochs)

    def _check_storage(self, storage: str) -> None:
        if "://" not in storage and not storage.startswith("/"):
            raise ValueError(
                f"storage is {shown(storage)}; it must be a URI, such as s3://bucket/folder, or a whole path"
            )
        if (self.address or "").startswith("ray://"):
            raise ValueError(f"storage is {shown(storage)}; through Ray's client ({self.address}) it must be None")

    @property
    def tested(self) -> str:
        """The method that is tested against each other one."""
        return self.focus or ("fds" if "fds" in self.methods else self.methods[0])

    @property
    def cores(self) -> int:
        """Processors of all trials that run at a time."""
        return self.workers * self.concurrent * self.cpus_per_trial

    @cached_property
    def searched(self) -> Space:
        """The search space: ``space``, read once.

        Raises:
            ValueError: In one line, if a hyperparameter or a setting of its schedule is not allowed.
        """
        return optimizer_space(self.optimizer, self.space)


def experiment_from_mapping(data: object, where: str = "experiment") -> Experiment:
    """Builds an experiment from plain data.

    Raises:
        ValueError: for unknown, missing or ill-typed entries, in one line that begins with ``where``.
    """
    return read(Experiment, data, where, "setting")


def experiment_to_yaml(experiment: Experiment) -> str:
    """The experiment as YAML; reading it back gives an equal experiment."""
    return yaml.dump(
        to_mapping(experiment),
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # PyYAML's own for a date such as 2026-13-40
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: it holds {shown(data)}; it must be a mapping of settings")
    return data


def read_experiment(path: Path) -> Experiment:
    """Reads a complete experiment from YAML.

    Args:
        path: A YAML file with every setting.

    Raises:
        ValueError: if it is not one, naming the file and the entry.
    """
    return experiment_from_mapping(read_settings(path), str(path))


def write_experiment(experiment: Experiment, path: Path) -> None:
    """Writes the experiment as YAML.

    Args:
        experiment: What to write.
        path: File to write or replace.
    """
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
