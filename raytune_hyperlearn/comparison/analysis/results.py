"""Result folders read back, and joined into one study per problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hyperlearn.comparison.analysis.curves import (
    CLOCKS,
    Clock,
    FloatArray,
    Quantity,
    StepCurve,
    columns,
    in_time,
    regret_curve,
    regret_zero,
)
from raytune_hyperlearn.comparison.analysis.rows import Rows, read_rows, rows_by_run, rows_of
from raytune_hyperlearn.comparison.environment import read_environment
from raytune_hyperlearn.comparison.experiment import Experiment, Metric, read_experiment
from raytune_hyperlearn.comparison.records import (
    CONFIRMATIONS_FILE,
    ENVIRONMENT_FILE,
    EXPERIMENT_FILE,
    RECORDS_FILE,
    RUNS_FILE,
    Confirmation,
    Record,
    Run,
    read_confirmations,
    read_runs,
    require_results,
)
from raytune_hyperlearn.comparison.reference_record import Reference, reference_from_mapping

Pair = tuple[str, int]
"""A run's method and seed."""

# What folders of one problem may differ in; all else must agree for their curves to stand in one figure.
POOLED_SETTINGS = ("name", "methods", "seeds", "address", "method_options", "confirmations", "focus")
SHARED_SETTINGS = tuple(f.name for f in dataclasses.fields(Experiment) if f.name not in POOLED_SETTINGS)


@dataclass(frozen=True)
class RunResult:
    """What one method did with one seed.

    Attributes:
        method: name of the method.
        seed: seed of the run.
        records: its rows in the order of observation, late ones included; each is made when it is asked for.
        chosen: the rows that became its incumbent within the time limit, in order.
        run: its summary; None where the driver was killed before writing one.
        positions: where each chosen row stands on each clock, shape [E].
        spent: what all rows within the limit took on each clock; 0 without a row.
        confirmation: what its incumbent scored with fresh seeds; None where it was not trained again.
    """

    method: str
    seed: int
    records: Rows
    chosen: tuple[Record, ...]
    run: Run | None
    positions: Mapping[Clock, FloatArray]
    spent: Mapping[Clock, float]
    confirmation: Confirmation | None = None

    @property
    def errors(self) -> tuple[str, ...]:
        """First lines of the exceptions that ended evaluations, each once, in the order of their first appearance."""
        return tuple(filter(None, self.records.errors()))

    @property
    def incumbent(self) -> Record | None:
        """The incumbent at the end; None where no evaluation completed in time."""
        return self.chosen[-1] if self.chosen else None


@dataclass(frozen=True)
class Study:
    """All runs on one problem, from one folder or several.

    Attributes:
        experiment: the settings, with the methods and seeds of all folders.
        reference: regret's zero, or None.
        runs: by method and seed, in the experiment's order; runs that never began are absent.
        environments: the machines' descriptions, one per folder, without repetition.
        folders: where the results came from.
    """

    experiment: Experiment
    reference: Reference | None
    runs: dict[tuple[str, int], RunResult]
    environments: tuple[dict[str, Any], ...]
    folders: tuple[Path, ...]

    @property
    def metric(self) -> Metric:
        """The validation value that chooses."""
        return self.experiment.metric

    @property
    def focus(self) -> str:
        """The method that is tested against each other one."""
        return self.experiment.tested

    def with_focus(self, method: str) -> Study:
        """The same study with another method tested against each other one.

        Args:
            method: Name of one of the methods.

        Raises:
            ValueError: if it is none of the study's methods.
        """
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, focus=method))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods with at least one run, in the experiment's order."""
        begun = {method for method, _ in self.runs}
        return tuple(method for method in self.experiment.methods if method in begun)

    @property
    def missing(self) -> tuple[tuple[str, int], ...]:
        """Planned runs that never began."""
        planned = ((method, seed) for method in self.experiment.methods for seed in self.experiment.seeds)
        return tuple(pair for pair in planned if pair not in self.runs)

    @property
    def error_of_all(self) -> str:
        """The first exception if every evaluation of every run crashed; empty where one did not, or none began."""
        begun = [result.records for result in self.runs.values() if result.records]
        return begun[0][0].error if begun and all(rows.statuses().keys() == {"crashed"} for rows in begun) else ""

    def runs_of(self, method: str) -> tuple[RunResult, ...]:
        """The runs of one method, by seed.

        Args:
            method: Name of a method.
        """
        return tuple(result for (name, _), result in self.runs.items() if name == method)

    def records_in_time(self, result: RunResult) -> Rows:
        """The run's rows that count: those observed within the time limit.

        Args:
            result: One of the study's runs.
        """
        return in_time(result.records, self.experiment.time_limit)

    def zero(self, quantity: Quantity) -> float:
        """Where the regret of validation or test is zero.

        Args:
            quantity: Of which score: validation or test.

        Returns:
            A score in units of the metric.
        """
        return regret_zero(self.reference, self.metric, quantity)

    def curve(self, result: RunResult, quantity: Quantity, clock: Clock = "time") -> StepCurve:
        """The run's anytime curve of regret.

        Args:
            result: One of the study's runs.
            quantity: Regret of which score: validation or test.
            clock: What the curve runs over.
        """
        return regret_curve(result.chosen, self.metric, quantity, self.zero(quantity), result.positions[clock])


def load_study(folder: str | Path) -> Study:
    """Reads one result folder.

    Args:
        folder: Folder of one comparison.

    Raises:
        ValueError: if a file is missing or malformed, or its rows belong to another experiment; one line.
    """
    folder = Path(folder)
    if not (folder / EXPERIMENT_FILE).is_file():
        raise ValueError(f"folder is {str(folder)!r}; it must hold {EXPERIMENT_FILE} and {RECORDS_FILE}")
    experiment = read_experiment(folder / EXPERIMENT_FILE)
    rows, owners = read_rows(folder / RECORDS_FILE) if (folder / RECORDS_FILE).exists() else ({}, ())
    runs = read_runs(folder / RUNS_FILE) if (folder / RUNS_FILE).exists() else ()
    _require_own_rows(folder, experiment, owners, [*rows, *((run.method, run.seed) for run in runs)])
    require_results(folder, {pair: len(own) for pair, own in rows.items()}, runs)
    environment = read_environment(folder / ENVIRONMENT_FILE)
    study = _study(experiment, rows, runs, read_confirmations(folder / CONFIRMATIONS_FILE))
    return dataclasses.replace(study, environments=(environment,) if environment else (), folders=(folder,))


def study_of_records(
    experiment: Experiment,
    records: Iterable[Record],
    runs: Iterable[Run] = (),
    confirmations: Iterable[Confirmation] = (),
) -> Study:
    """The study of rows in memory, all of the experiment's methods and seeds."""
    return _study(experiment, rows_by_run(records), runs, confirmations)


def _study(
    experiment: Experiment, rows: Mapping[Pair, Rows], runs: Iterable[Run], confirmations: Iterable[Confirmation]
) -> Study:
    return Study(
        experiment,
        None if experiment.reference is None else reference_from_mapping(experiment.reference),
        _runs(experiment, rows, runs, confirmations),
        (),
        (),
    )


def load_studies(folders: Sequence[Path], focus: str | None = None) -> tuple[Study, ...]:
    """Reads result folders and joins those of one problem; one study per problem, in order of first appearance.

    Args:
        folders: at least one.
        focus: the method to test against each other one, in place of the one that the experiments named.

    Raises:
        ValueError: if there are no folders, one is unreadable, two of one problem hold the same run, another
            reference or other settings, or ``focus`` is none of a study's methods.
    """
    if not folders:
        raise ValueError("folders must name at least one result folder, not none")
    studies: dict[str, Study] = {}
    for folder in folders:
        study = load_study(folder)
        known = studies.get(study.experiment.problem)
        studies[study.experiment.problem] = study if known is None else join(known, study)
    return tuple(study if focus is None else study.with_focus(focus) for study in studies.values())


def join(first: Study, second: Study) -> Study:
    """Pools the methods and seeds of two studies of one problem.

    Raises:
        ValueError: if both hold the same run, or their references or settings differ.
    """
    for name in SHARED_SETTINGS:
        mine, other = getattr(first.experiment, name), getattr(second.experiment, name)
        if mine != other:
            shown = "another" if name in ("reference", "space") else f"{other!r}, not {mine!r},"
            raise ValueError(f"{name} must be the same in all folders: {second.folders[0]} has {shown} {name}")
    for method, seed in second.runs:
        if (method, seed) in first.runs:
            raise ValueError(
                f"folders must hold each run once: {first.folders[0]} and {second.folders[0]} both hold "
                f"method {method!r} with seed {seed}"
            )
    for method in set(first.methods) & set(second.methods):
        if first.experiment.method_options.get(method) != second.experiment.method_options.get(method):
            raise ValueError(
                f"method_options must be the same in all folders: {second.folders[0]} has others for {method!r}"
            )
    experiment = dataclasses.replace(
        first.experiment,
        name=" + ".join(_united((first.experiment.name,), (second.experiment.name,))),
        methods=_united(first.experiment.methods, second.experiment.methods),
        seeds=_united(first.experiment.seeds, second.experiment.seeds),
        method_options={**second.experiment.method_options, **first.experiment.method_options},
    )
    runs = {**first.runs, **second.runs}
    return Study(
        experiment,
        first.reference,
        {pair: runs[pair] for pair in _pairs(experiment) if pair in runs},
        first.environments + tuple(item for item in second.environments if item not in first.environments),
        first.folders + second.folders,
    )


def _runs(
    experiment: Experiment, rows: Mapping[Pair, Rows], runs: Iterable[Run], confirmations: Iterable[Confirmation]
) -> dict[Pair, RunResult]:
    none = rows_of(())
    summaries = {(run.method, run.seed): run for run in runs}
    confirmed = {(row.method, row.seed): row for row in confirmations}
    return {
        pair: _run_result(experiment, pair, rows.get(pair, none), summaries.get(pair), confirmed.get(pair))
        for pair in _pairs(experiment)
        if pair in rows or pair in summaries
    }


def _run_result(
    experiment: Experiment,
    pair: Pair,
    records: Rows,
    run: Run | None,
    confirmation: Confirmation | None,
) -> RunResult:
    rows = in_time(records, experiment.time_limit)
    own = columns(rows, experiment.metric)
    places = own.incumbents()
    on_clocks = {clock: own.positions(clock) for clock in CLOCKS}
    return RunResult(
        *pair,
        records,
        tuple(rows[place] for place in places),
        run,
        {clock: positions[places] for clock, positions in on_clocks.items()},
        {clock: float(positions[-1]) if positions.size else 0.0 for clock, positions in on_clocks.items()},
        confirmation,
    )


def _require_own_rows(
    folder: Path, experiment: Experiment, owners: Iterable[tuple[str, str]], pairs: Iterable[Pair]
) -> None:
    for name, problem in owners:
        if (name, problem) != (experiment.name, experiment.problem):
            raise ValueError(
                f"{folder / RECORDS_FILE}: rows must be of experiment {experiment.name!r} on {experiment.problem!r}, "
                f"not of {name!r} on {problem!r}"
            )
    planned = set(_pairs(experiment))
    for method, seed in pairs:
        if (method, seed) not in planned:
            raise ValueError(
                f"{folder}: rows must be of the methods and seeds in {EXPERIMENT_FILE}, "
                f"not of method {method!r} with seed {seed}"
            )


def _pairs(experiment: Experiment) -> list[Pair]:
    return [(method, seed) for method in experiment.methods for seed in experiment.seeds]


def _united(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(first + second))
