"""A learned schedule inside Lightning's ``Trainer``; needs the package ``lightning``.

Trainer(callbacks=[LearnedSchedule(Learned.load("best.json"))], max_epochs=10)
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from raytune_hyperlearn.learned import Learned, check_entries, set_entries


class LearnedSchedule(Callback):
    """Sets the learned hyperparameters of every optimizer before each of its updates.

    The schedule is spread over ``steps`` updates, or over all that the trainer will make. The position is the trainer's
    own ``global_step``, so a training that is resumed continues where it was. ``configure_optimizers`` should return no
    scheduler.

    Args:
        learned: What a search has found.
        steps: Number of updates; None asks the trainer.
    """

    def __init__(self, learned: Learned, steps: int | None = None) -> None:
        self.learned, self.steps = learned, steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the optimizers and ask for the number of updates.

        Raises:
            ValueError: In one line, if an optimizer lacks an entry or the trainer has no end.
        """
        for optimizer in trainer.optimizers:
            check_entries(optimizer, self.learned)
        self._total = self.steps or int(trainer.estimated_stepping_batches)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the values of the next update."""
        now = self.learned.at(trainer.global_step // len(trainer.optimizers), self._total)
        for optimizer in trainer.optimizers:
            set_entries(optimizer, now)
