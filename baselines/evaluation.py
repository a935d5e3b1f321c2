"""What an optimizer asks for, and how anything that can evaluate a configuration drives it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Evaluation:
    """One thing to do: train one configuration on one budget.

    Attributes:
        config_id: The library's identity of the configuration; it stays the same on a larger budget. HpBandSter's is
            (iteration, stage it was sampled in, position).
        hyperparameters: Active hyperparameters only, as plain Python values.
        budget: In the units of the smallest and the largest budget.
        model_based_pick: Whether the configuration came from a model rather than from the prior; None where a library
            draws no such line.
        number: Tells evaluations of the same configuration apart that may run at the same time; None where there
            are none.
    """

    config_id: Hashable
    hyperparameters: dict[str, Any]
    budget: float
    model_based_pick: bool | None
    number: int | None = None

    @property
    def key(self) -> Hashable:
        """What the optimizer is told the loss under."""
        return self.config_id if self.number is None else self.number


class AskTell(Protocol):
    """An optimizer that is asked for evaluations and told their losses, in any order; it can be pickled at any point.

    Attributes:
        seconds: Time spent in the optimizer so far.
    """

    seconds: float

    def ask(self) -> Evaluation | None:
        """The next evaluation, or None: something that is running has to end first or, if nothing is, all is done."""

    def tell(self, key: Any, loss: float) -> None:
        """Hand back a running evaluation's loss, to be minimized; NaN and ±inf mark a bad configuration."""

    def tell_crash(self, key: Any, exception: str) -> None:
        """Say that a running evaluation ended without a loss, and why."""
