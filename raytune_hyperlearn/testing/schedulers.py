"""What every scheduler promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

from ray import cloudpickle, tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils import flatten_dict

from raytune_hyperlearn.testing.check import Check, checks_named, require_none, require_public_names, require_same

DECISIONS = {TrialScheduler.CONTINUE, TrialScheduler.PAUSE, TrialScheduler.STOP}


@dataclass
class StandIn:
    """The part of a trial that a scheduler touches, its worker just being started."""

    config: dict[str, Any]
    trainable: type[tune.Trainable]
    trial_id: str = "trial"
    status: str = "RUNNING"
    last_result: dict[str, Any] = field(default_factory=dict)
    temporary_state: Any = field(default_factory=lambda: SimpleNamespace(ray_actor=None))
    placement_group_factory: Any = field(default_factory=lambda: tune.PlacementGroupFactory([{"CPU": 1}]))

    def set_config(self, config: dict[str, Any]) -> None:
        """Take a changed config."""
        self.config = config

    def is_finished(self) -> bool:
        """Never."""
        return False

    def get_trainable_cls(self) -> type[tune.Trainable]:
        """What it runs."""
        return self.trainable


@dataclass(frozen=True)
class SchedulerCase:
    """A scheduler, and the trainable whose trials it moves.

    Attributes:
        make: Makes the scheduler anew.
        trainable: A trainable with a method ``apply_update``.
        config: Of a trial.
        steps: Results that the scheduler is told.
        name: In the checks' names; empty takes the scheduler's.
    """

    make: Callable[[], TrialScheduler]
    trainable: type[tune.Trainable]
    config: Mapping[str, Any]
    steps: int = 3
    name: str = ""

    def checks(self) -> list[Check]:
        """All checks of this scheduler."""
        promises: dict[str, Callable[[], None]] = {
            "a trial that is added again after an error goes on alike": partial(self._same, self._added_again),
            "a restored scheduler decides alike": partial(self._same, self._restored),
            "results that are not finite end nothing": self._survives,
            "only public names of Ray are used": partial(require_public_names, type(self.make())),
        }
        return checks_named(self.name or type(self.make()).__name__, promises)

    def _same(self, disturbed: Callable[[Any, Any, Any], Any]) -> None:
        require_same(self.decisions(disturbed), self.decisions(lambda scheduler, *_: scheduler), "what it decides")

    def decisions(self, between: Callable[[Any, Any, Any], Any]) -> list[tuple[str, dict[str, Any]]]:
        """The scheduler's decisions, each with the trial's config after it.

        Args:
            between: Called after each result with scheduler, trial and controller; gives the scheduler that continues.
        """
        scheduler, trial, controller = self._begin()
        trainable = self.trainable(dict(self.config))
        decided = []
        for _ in range(self.steps):
            before, result = trial.config, flatten_dict({**trainable.step(), "config": dict(trial.config)})
            trial.last_result = result
            decision = scheduler.on_trial_result(controller, trial, result)
            decided.append((decision, trial.config))
            update = {key: value for key, value in trial.config.items() if before.get(key) != value}
            if decision != TrialScheduler.CONTINUE:
                break
            if update:
                trainable.apply_update(update)
            scheduler = between(scheduler, trial, controller)
        return decided

    def _begin(self) -> tuple[Any, Any, Any]:
        scheduler, trial = self.make(), StandIn(dict(self.config), self.trainable)
        controller = SimpleNamespace(get_trials=lambda: [trial])
        scheduler.on_trial_add(controller, trial)
        return scheduler, trial, controller

    def _added_again(self, scheduler: Any, trial: Any, controller: Any) -> Any:
        scheduler.on_trial_error(controller, trial)
        scheduler.on_trial_add(controller, trial)
        return scheduler

    def _restored(self, scheduler: Any, trial: Any, controller: Any) -> Any:
        restored = cloudpickle.loads(cloudpickle.dumps(scheduler))
        restored.on_trial_add(controller, trial)
        return restored

    def _survives(self) -> None:
        result = flatten_dict({**self.trainable(dict(self.config)).step(), "config": dict(self.config)})
        numbers = [key for key, value in result.items() if isinstance(value, float) and not key.startswith("config/")]
        found = []
        for key in numbers:
            for value in (math.nan, math.inf, -math.inf):
                how = self._on_result({**result, key: value})
                found += [f"{key}={value} {how}"] if how else []
        require_none(found)

    def _on_result(self, result: dict[str, Any]) -> str:
        """What is wrong with how a result is taken: a decision is right, and so is a refusal in one line."""
        scheduler, trial, controller = self._begin()
        try:
            decision = scheduler.on_trial_result(controller, trial, result)
        except ValueError as error:
            return f"is refused in several lines, {str(error)!r}" if "\n" in str(error) else ""
        except Exception as error:
            return f"raises {type(error).__name__}: {error}"
        return "" if decision in DECISIONS else f"is answered by {decision!r}"
