"""A learned schedule inside Hugging Face's ``Trainer``; needs the package ``transformers``.

Trainer(..., callbacks=[LearnedSchedule(Learned.load("best.json"))])
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from raytune_hyperlearn.learned import Learned, check_entries, set_entries


class LearnedSchedule(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Sets the learned hyperparameters of the trainer's optimizer before each update.

    The trainer's own learning rate schedule runs as well and is overridden. The position is the trainer's
    ``global_step``, so a training that is resumed continues where it was.

    Args:
        learned: What a search has found.
        steps: Number of updates that the schedule is spread over; None takes the trainer's ``max_steps``.
    """

    def __init__(self, learned: Learned, steps: int | None = None) -> None:
        self.learned, self.steps = learned, steps
        self._optimizer: torch.optim.Optimizer | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Keep the optimizer and set the first values.

        Raises:
            ValueError: In one line, if it lacks an entry.
        """
        optimizer = others["optimizer"]
        self._optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        check_entries(self._optimizer, self.learned)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Set the values of the update that comes now."""
        if self._optimizer is not None:
            set_entries(self._optimizer, self.learned.at(state.global_step, self.steps or state.max_steps))
