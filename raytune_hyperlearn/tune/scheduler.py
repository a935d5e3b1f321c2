"""Base of the hyper-learning schedulers.

A hyper-learning scheduler changes a live trial's hyperparameters between its steps from the gradient information
that the trial reports. The change reaches the worker in two ways: an actor call that is queued before the
trial's next step, and the trial's config, from which a worker that is started again takes it. So nothing is
lost whichever of them dies, and the scheduler itself keeps no state that would have to be saved: what an update
depends on is in the result.
"""

from __future__ import annotations

from typing import Any, Literal

import ray
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raytune_hyperlearn.checked import FromConfig, record
from raytune_hyperlearn.results import OUT_OF_MEMORY, unflattened

CONTINUE: str = TrialScheduler.CONTINUE
STOP: str = TrialScheduler.STOP
UPDATED_BY = "updated_by"
"""Config key: whether the ``"trainable"`` itself or the ``"scheduler"`` moves a trial's hyperparameters."""


@record
class FromScheduler(FromConfig):
    """Who moves a trial's hyperparameters; a subclass adds what its own scheduler puts into the trial's config."""

    updated_by: Literal["trainable", "scheduler"] = "trainable"

    @property
    def updates_itself(self) -> bool:
        """Whether the trainable makes the updates itself."""
        return self.updated_by == "trainable"


class HyperLearningScheduler(FIFOScheduler):
    """Runs trials first in, first out, and changes each one's hyperparameters after its results.

    Subclasses implement :meth:`update`. Their trainables have a method ``apply_update(update)``, and read the keys
    of an update from their config when they start.
    """

    _supports_buffered_results = False

    def __init__(self) -> None:
        super().__init__()
        self._sent: dict[str, Any] = {}

    def update(self, trial: Trial, result: dict[str, Any]) -> dict[str, Any] | None:
        """The config entries to change after ``result``, or None to stop the trial.

        Args:
            trial: The trial that reported.
            result: As the trial reported it, before Tune flattened it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement update")

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Change the trial's hyperparameters; the actor call is ordered before its next step."""
        self._confirm(trial)
        if result.get("status") == OUT_OF_MEMORY:
            return CONTINUE
        update = self.update(trial, unflattened(result))
        if update is None:
            return STOP
        self.send(trial, update)
        return CONTINUE

    def send(self, trial: Trial, update: dict[str, Any]) -> None:
        """Hand an update to the trial's worker and to its config.

        Args:
            trial: The trial, running or paused.
            update: What its ``apply_update`` takes and its config keeps.
        """
        trial.set_config({**trial.config, **update})
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            self._sent[trial.trial_id] = actor.apply_update.remote(update)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Forget the trial."""
        self.forget(trial)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Forget what was sent to the lost worker: the next one reads it from the config."""
        self.forget(trial)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Forget the trial."""
        self.forget(trial)

    def forget(self, trial: Trial) -> None:
        """Drop what is held of a trial that has ended, or whose worker is lost.

        Args:
            trial: Which one.
        """
        self._sent.pop(trial.trial_id, None)

    def _confirm(self, trial: Trial) -> None:
        """Raise what the last update raised in the worker; a bare remote call would only log it."""
        sent = self._sent.pop(trial.trial_id, None)
        if sent is not None:
            ray.get(sent)

    def __getstate__(self) -> dict[str, Any]:
        """Without the handles of what is under way, which cannot be pickled."""
        return {**self.__dict__, "_sent": {}}
