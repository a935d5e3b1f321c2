"""The frozen reference of a problem: regret's zero, with how it was obtained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from raytune_hyperlearn.checked import AfterValidator, AnyNumber, Count, Items, Positive, Whole, read, record
from raytune_hyperlearn.comparison.plain_data import Plain, Schedules, to_mapping


def _not_empty(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds:
        raise ValueError("it must be a list of at least one seed")
    return seeds


@record
class Reference:
    """Means over seeds of the best setting of a grid around the usual ones; never moved by adding a method.

    Attributes:
        problem: name of the problem.
        epochs: training length of every grid point, in epochs.
        batch_size: examples per step.
        validation_loss: mean over ``seeds``; likewise the three below. Accuracies are fractions in [0, 1].
        validation_accuracy: see above.
        test_loss: see above.
        test_accuracy: see above.
        deviations: standard deviation over ``seeds`` of each of the four, by its name.
        hyperparameters: the best setting, a list of values (a schedule) per hyperparameter.
        seeds: the seeds averaged over.
        grid: what was searched: values per hyperparameter, and any notes.
        how: the command that makes it again.
        date: when it was made, ISO 8601.
        versions: version of each package that matters, by name.
    """

    problem: str
    epochs: Positive
    batch_size: Count
    validation_loss: AnyNumber
    validation_accuracy: AnyNumber
    test_loss: AnyNumber
    test_accuracy: AnyNumber
    deviations: dict[str, AnyNumber]
    hyperparameters: Schedules
    seeds: Annotated[Items[Whole], AfterValidator(_not_empty)]
    grid: dict[str, Plain]
    how: str
    date: str
    versions: dict[str, str]

    def require_match(self, problem: str, epochs: float) -> None:
        """Refuses to serve as the zero of another problem or another training length.

        Args:
            problem: Name of the problem that is compared on.
            epochs: Full budget of its trainings, in epochs.

        Raises:
            ValueError: if the problem or the epochs differ from the reference's.
        """
        if problem != self.problem:
            raise ValueError(f"reference is for the problem {self.problem!r}; it must be for {problem!r}")
        if epochs != self.epochs:
            raise ValueError(f"reference is for {self.epochs:g} epochs; it must be for {epochs:g}, as the experiment")


def reference_from_mapping(data: object, where: str = "reference") -> Reference:
    """Builds a reference from plain data.

    Raises:
        ValueError: for unknown, missing or ill-typed entries, in one line that begins with ``where``.
    """
    return read(Reference, data, where, "entry")


def reference_to_mapping(reference: Reference) -> dict[str, Any]:
    """The reference as plain data, the form in which an experiment carries it."""
    return to_mapping(reference)


def read_reference(path: Path) -> Reference:
    """Reads a reference from a JSON file.

    Args:
        path: A file that :func:`write_reference` wrote.

    Raises:
        ValueError: if the file is not a reference, naming the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return reference_from_mapping(data, str(path))


def write_reference(reference: Reference, path: Path) -> None:
    """Writes a reference as JSON.

    Args:
        reference: What to write.
        path: File to write or replace.
    """
    path.write_text(json.dumps(reference_to_mapping(reference), indent=2) + "\n", encoding="utf-8")
