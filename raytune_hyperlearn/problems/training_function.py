"""A training function of the user's own: anything that trains and scores, for methods that only ask for scores.

    def train(config, report):
        model = GradientBoosting(learning_rate=config["learning_rate"], rounds=round(config["epochs"]))
        model.fit(…)
        report(validation_loss=…, test_loss=…)

    boosting = TrainingFunction("boosting", train, {"learning_rate": Schedule(range=(0.01, 1), scale="log")}, epochs=90)

The comparison gives it the same clock, budgets, records and report as a
:class:`~raytune_hyperlearn.problems.problem.Problem`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_hyperlearn.hyperparameters import OptimizerSpace, Schedule

RESERVED = ("epochs", "seed")
"""Entries of the config that are no hyperparameters."""


@dataclass(frozen=True)
class TrainingFunction:
    """A function that trains and scores, and the hyperparameters that a search may choose.

    Attributes:
        name: What error messages call it.
        train: Called as ``train(config, report)``. ``config`` has every hyperparameter (a number, or a list where its
            schedule has several values), ``epochs`` (the budget of this evaluation, in a unit that the function
            chooses) and ``seed`` (below 2³², another one for every evaluation). ``report`` is to be called as
            :meth:`Reported.__call__` describes. A NaN is a divergence, an exception a crash.
        hyperparameters: Name → schedule with range and scale, or a number where it is fixed.
        epochs: The full budget; methods that use several ask for parts of it.
        source: Where the data come from, for reports.

    Raises:
        ValueError: In one line, for hyperparameters that cannot be searched, or a budget that is not positive.
    """

    name: str
    train: Callable[[dict[str, Any], Reported], object]
    hyperparameters: Mapping[str, Schedule | float]
    epochs: float = 1.0
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not callable(self.train):
            raise ValueError(f"train is {self.train!r}; it must be a function of config and report")
        if not (isinstance(self.epochs, (int, float)) and 0 < self.epochs < math.inf):
            raise ValueError(f"epochs is {self.epochs!r}; it must be a positive number")
        if not isinstance(self.hyperparameters, Mapping):
            raise ValueError(f"hyperparameters is {self.hyperparameters!r}; it must map names to schedules or numbers")
        for name, part in self.hyperparameters.items():
            if not isinstance(name, str) or name in RESERVED or "@" in name:
                raise ValueError(f"hyperparameters hold {name!r}; it must be a name other than epochs and seed")
            if isinstance(part, Schedule) and (part.shape != "windows" or part.lengths or part.groups):
                raise ValueError(
                    f"hyperparameters hold {name!r} with a shape; it must be plain values, which train uses"
                )
        _ = self.space

    @property
    def space(self) -> OptimizerSpace:
        """The hyperparameters as a search space."""
        return OptimizerSpace(self.hyperparameters)

    def evaluate(self, values: Mapping[str, list[float]], epochs: float, seed: int) -> Reported:
        """Train once.

        Args:
            values: Of every hyperparameter.
            epochs: Budget.
            seed: Of everything that the function draws.

        Returns:
            What it reported.

        Raises:
            ValueError: If it has reported nothing, or no number.
        """
        reported = Reported()
        config = {name: own[0] if len(own) == 1 else list(own) for name, own in values.items()}
        self.train({**config, "epochs": epochs, "seed": seed % 2**32}, reported)
        if reported.scores is None:
            raise ValueError(f"train of {self.name} has reported nothing; it must call report(validation_loss=…)")
        return reported


class Reported:
    """What a training function calls as ``report``; the last call counts.

    Attributes:
        scores: Losses and accuracies by name, NaN where unknown; None before the first call.
        epochs: What was trained, if the function says so.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] | None = None
        self.epochs: float | None = None

    def __call__(
        self,
        validation_loss: float,
        test_loss: float | None = None,
        validation_accuracy: float | None = None,
        test_accuracy: float | None = None,
        epochs: float | None = None,
    ) -> None:
        """Report the scores after training.

        Args:
            validation_loss: What is minimized; NaN or infinite where the training diverged.
            test_loss: Of data that choose nothing.
            validation_accuracy: In [0, 1].
            test_accuracy: In [0, 1], of data that choose nothing.
            epochs: What was trained, where that is not the budget.

        Raises:
            ValueError: In one line, if something is no number, or an accuracy lies outside [0, 1].
        """
        given = {
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }
        self.scores = {name: math.nan if value is None else _number(name, value) for name, value in given.items()}
        for name in ("validation_accuracy", "test_accuracy"):
            if not (math.isnan(self.scores[name]) or 0 <= self.scores[name] <= 1):
                raise ValueError(f"{name} is {self.scores[name]:g}; it must lie in [0, 1]")
        self.epochs = None if epochs is None else _number("epochs", epochs)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}; it must be a number") from None
