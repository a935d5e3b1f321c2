"""Default settings of a comparison, by problem; what an experiment's settings do not name is taken from here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn.comparison.experiment import Experiment, check_space_sizes, experiment_from_mapping
from raytune_hyperlearn.comparison.reference_record import Reference, read_reference, reference_to_mapping
from raytune_hyperlearn.hyperparameters import optimizer_space
from raytune_hyperlearn.problems.names import PROBLEMS
from raytune_hyperlearn.problems.references import (
    OTHERS,
    ProblemSource,
    digest_of,
    load,
    short_name,
    source_of,
    training_function_of,
)

if TYPE_CHECKING:
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction

METHODS = ("fds", "hd", "rs", "bo", "hb", "bohb")
SEARCHED_BY = ("sgd", "adam", "adamw")
METHODS_OF_FUNCTIONS = ("rs", "bo", "hb", "bohb")
BY_PROBLEM: Mapping[str, Mapping[str, Any]] = {
    # Five seeds where all methods' runs take less than an hour in all; on digits three, so that they take minutes:
    # 18 runs with 5 to 8 s of Ray's start-up each, at most twelve minutes in all on two cores. Half a minute is
    # about what BO takes for the 20 evaluations before its model's first pick and as many again: in less it is random
    # search.
    "digits": {
        "seeds": [0, 1, 2],
        "time_limit": 30.0,
        "epochs": 27.0,
        "min_epochs": 1.0,
        "replicates": 2,
        "confirmations": 3,
    },
    "mnist-5k": {"seeds": [0, 1, 2, 3, 4], "time_limit": 30.0, "epochs": 5.0, "min_epochs": 5 / 9, "confirmations": 3},
    "fashion-mnist": {
        "seeds": [0, 1, 2, 3, 4],
        "time_limit": 60.0,
        "epochs": 1.0,
        "min_epochs": 1 / 9,
        "confirmations": 3,
    },
    "fashion-mnist-cnn3": {"seeds": [0], "time_limit": 900.0, "epochs": 5.0, "min_epochs": 1.0},
    "connect-4": {"seeds": [0, 1, 2, 3, 4], "time_limit": 40.0, "epochs": 2.0, "min_epochs": 2 / 9, "confirmations": 3},
    "wordnet-relations": {"seeds": [0, 1, 2], "time_limit": 300.0, "epochs": 15.0, "min_epochs": 1.0},
    "cifar10-wrn16-1": {"seeds": [0, 1, 2], "time_limit": 86_400.0, "epochs": 50.0, "min_epochs": 1.0},
}
GENERAL: Mapping[str, Any] = {"seeds": [0, 1, 2], "time_limit": 600.0, "epochs": 9.0, "min_epochs": 1.0}


def stored_reference(problem: str) -> Reference | None:
    """The reference that comes with the package, or None."""
    file = resources.files("raytune_hyperlearn.problems") / "references" / f"{problem}.json"
    if not file.is_file():
        return None
    with resources.as_file(file) as path:
        return read_reference(path)


def experiment_from_settings(settings: Mapping[str, Any]) -> Experiment:
    """A complete experiment from the settings that somebody named.

    Args:
        settings: Any of the experiment's fields; the rest are the problem's defaults. An own problem is built for its
            number of epochs unless they name one. The stored reference is taken where it was made for the same number
            of epochs.

    Raises:
        ValueError: If a setting is unknown or not allowed, in one line.
    """
    problem = settings.get("problem", "digits")
    if not isinstance(problem, str):
        raise ValueError(f"problem is {problem!r}; it must be one of {', '.join(PROBLEMS)}, or {OTHERS}")
    source = source_of(problem, settings.get("problem_args"))
    function = training_function_of(source)
    complete: dict[str, Any] = {
        "name": short_name(problem),
        "problem": problem,
        "problem_digest": digest_of(source),
        "methods": list(METHODS if function is None else METHODS_OF_FUNCTIONS),
        **(_settings_of_problem(source, "epochs" in settings) if function is None else _settings_of(function)),
        **settings,
    }
    check_space_sizes(complete.get("space"))
    if function is None:
        complete["space"] = _space_of(complete)
    else:
        _require_own(complete, function)
    if "min_epochs" not in settings and isinstance(complete["epochs"], (int, float)):
        complete["min_epochs"] = min(complete["min_epochs"], complete["epochs"])
    found = stored_reference(problem)
    if "reference" not in settings and found is not None and found.epochs == complete["epochs"]:
        complete["reference"] = reference_to_mapping(found)
    return experiment_from_mapping(complete, "settings")


def _space_of(complete: Mapping[str, Any]) -> dict[str, Any]:
    """The whole space, with the optimizer's defaults for what the settings do not name."""
    optimizer = complete.get("optimizer", "sgd")
    if optimizer not in SEARCHED_BY:
        raise ValueError(f"optimizer is {optimizer!r}; for a Problem it must be {', '.join(SEARCHED_BY)}")
    return optimizer_space(optimizer, complete.get("space", {})).to_mapping()


def _settings_of(function: TrainingFunction) -> dict[str, Any]:
    """Defaults where a training function is the problem."""
    return {**GENERAL, **_budgets_of(function), "optimizer": "own", "space": function.space.to_mapping()}


def _settings_of_problem(source: str | ProblemSource, has_epochs: bool) -> Mapping[str, Any]:
    """Defaults of a built-in problem by its name, and of an own one by what it says of itself."""
    if isinstance(source, str):
        return BY_PROBLEM.get(source, GENERAL)
    return GENERAL if has_epochs else {**GENERAL, **_budgets_of(load(source))}


def _budgets_of(problem: Problem | TrainingFunction) -> dict[str, float]:
    """The full budget that it names, and a ninth of it as the smallest."""
    return {"epochs": float(problem.epochs), "min_epochs": problem.epochs / 9}


def _require_own(complete: Mapping[str, Any], function: TrainingFunction) -> None:
    """Refuse another optimizer or space beside a training function.

    Raises:
        ValueError: In one line.
    """
    for name, own in (("optimizer", "own"), ("space", function.space.to_mapping())):
        if complete[name] != own:
            raise ValueError(f"{name} is {complete[name]!r}; {function.name} brings its own: leave {name} out")
