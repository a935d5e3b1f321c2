"""The entries of a result: trainables fill them; observers, schedulers and searchers read them.

Ray Tune hands results on as mappings, to schedulers flattened by ``/``. Their names stand here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Status = Literal["completed", "diverged", "crashed", "out_of_memory"]
COMPLETED: Status = "completed"
DIVERGED: Status = "diverged"
CRASHED: Status = "crashed"
OUT_OF_MEMORY: Status = "out_of_memory"

Ending = Literal["converged", "outer_steps"]
"""Why a search ended by itself: its values have settled, or it has made its last outer step."""
ENDED = "ended"
"""Entry of a result, and config key of a trial that its scheduler has ended: why the search ended, or None."""

VALIDATION_LOSS = "validation_loss"
SCORES = (VALIDATION_LOSS, "validation_accuracy", "test_loss", "test_accuracy")
"""What every trained network is scored by."""


def worst_scores(unknown: Container[str] = ()) -> dict[str, float]:
    """The scores of a training that diverged or crashed: infinite losses, nothing predicted right.

    Args:
        unknown: Names of accuracies that are not measured; they are NaN.
    """
    accuracies = {name: math.nan if name in unknown else 0.0 for name in SCORES}
    return {name: math.inf if name.endswith("loss") else accuracies[name] for name in SCORES}


SEPARATOR = "/"
"""Between the names of nested entries where Tune has flattened a result."""


@dataclass(frozen=True)
class Result:
    """What every trainable reports of a step; entries of one method alone come beside these.

    Attributes:
        validation_loss: Infinite where training diverged, NaN where unknown, as are the three below.
        validation_accuracy: In [0, 1].
        test_loss: Scored, never used to choose.
        test_accuracy: Likewise.
        status: How the evaluation ended.
        hyperparameters: What the scored network was trained with: name → schedule.
        epochs: Budget that it was trained for.
        instances: Training examples read by this step.
        training_seconds: That the step took, without scoring on test examples and without waiting.
        test_seconds: That scoring on test examples took.
    """

    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    status: Status = COMPLETED
    hyperparameters: dict[str, list[float]] = field(default_factory=dict)
    epochs: float = 0.0
    instances: int = 0
    training_seconds: float = 0.0
    test_seconds: float = 0.0

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Result:
        """The shared entries of a result; those that somebody else's trainable does not report keep their defaults."""
        known = {part.name: mapping[part.name] for part in fields(cls) if part.name in mapping}
        result = cls(**known)
        if result.status not in get_args(Status):
            raise ValueError(f"status is {result.status!r}; it must be one of {', '.join(get_args(Status))}")
        return result

    def to_mapping(self) -> dict[str, Any]:
        """As Tune takes it."""
        return asdict(self)


def unflattened(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A result as it was before Tune flattened it."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(SEPARATOR)
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree
