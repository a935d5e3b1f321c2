"""A training function of the user's own: what it is called with, what counts as its score, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from raytune_hyperlearn import Schedule, TrainingFunction
from raytune_hyperlearn.problems.training_function import Reported

SPACE: dict[str, Schedule | float] = {"rate": Schedule(range=(0.1, 1)), "steps": Schedule(values=2), "fixed": 7.0}
VALUES = {"rate": [0.5], "steps": [0.1, 0.2], "fixed": [7.0]}


def test_it_is_called_with_numbers_lists_a_budget_and_a_seed_and_its_last_report_counts() -> None:
    seen: dict[str, Any] = {}

    def train(config: dict[str, Any], report: Reported) -> None:
        seen.update(config)
        report(3.0)
        report(validation_loss=2.0, test_accuracy=0.5, epochs=4)

    reported = TrainingFunction("mine", train, SPACE, epochs=9).evaluate(VALUES, 3.0, 2**40 + 5)
    assert seen == {"rate": 0.5, "steps": [0.1, 0.2], "fixed": 7.0, "epochs": 3.0, "seed": 5}
    assert reported.scores is not None
    assert reported.scores["validation_loss"] == 2
    assert reported.scores["test_accuracy"] == 0.5
    assert math.isnan(reported.scores["test_loss"])
    assert reported.epochs == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 3}, "train is 3; it must be a function of config and report"),
        ({"epochs": 0}, "epochs is 0; it must be a positive number"),
        ({"hyperparameters": {"seed": Schedule()}}, "hyperparameters hold 'seed'; it must be a name other than"),
        ({"hyperparameters": {"a": Schedule(shape="cosine")}}, "hyperparameters hold 'a' with a shape; it must be"),
        ({"hyperparameters": {"a": 1.0}}, "the search space has no schedule; at least one"),
        ({"hyperparameters": [1]}, r"hyperparameters is \[1\]; it must map names"),
    ],
)
def test_what_is_no_training_function_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"train": lambda config, report: None, "hyperparameters": SPACE}
    with pytest.raises(ValueError, match=f"^{message}"):
        TrainingFunction("mine", **{**good, **arguments})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"validation_loss": "low"}, "validation_loss is 'low'; it must be a number"),
        ({"validation_loss": 1, "test_accuracy": 80}, r"test_accuracy is 80; it must lie in \[0, 1\]"),
        (None, r"train of mine has reported nothing; it must call report\(validation_loss=…\)"),
    ],
)
def test_what_is_no_report_is_refused(given: dict[str, Any] | None, message: str) -> None:
    def train(config: dict[str, Any], report: Reported) -> None:
        if given is not None:
            report(**given)

    with pytest.raises(ValueError, match=f"^{message}"):
        TrainingFunction("mine", train, SPACE).evaluate(VALUES, 1.0, 0)
