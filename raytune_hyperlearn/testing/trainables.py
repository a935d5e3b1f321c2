"""What every trainable promises."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from raytune_hyperlearn.problems import load
from raytune_hyperlearn.results import COMPLETED
from raytune_hyperlearn.testing.check import (
    Check,
    checks_named,
    in_another_process,
    refusal,
    require_none,
    require_public_names,
    require_same,
    undisturbed_generators,
)
from raytune_hyperlearn.tune.trainable import HyperLearningTrainable
from raytune_hyperlearn.tune.trial_settings import TrialSettings

SHARED = (
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "status",
    "hyperparameters",
    "epochs",
    "instances",
    "training_seconds",
    "test_seconds",
)
"""Names in every result."""


@dataclass(frozen=True)
class TrainableCase:
    """A trainable with a config to try it with; choose a problem that trains in milliseconds.

    Attributes:
        trainable: A subclass of :class:`HyperLearningTrainable`.
        config: Of a trial.
        other: Config of another trial that the same actor may get next; None takes another seed.
        steps: Steps to try, if a trial does not end before.
        unchecked: Config keys of which no wrong value is tried.
        name: In the checks' names; empty takes the trainable's.
    """

    trainable: type[HyperLearningTrainable]
    config: Mapping[str, Any]
    other: Mapping[str, Any] | None = None
    steps: int = 4
    unchecked: frozenset[str] = frozenset()
    name: str = ""

    def checks(self) -> list[Check]:
        """All checks of this trainable."""
        promises: dict[str, Callable[[], None]] = {
            "a checkpoint continues bit for bit": self._continues,
            "a reused actor is as good as a new one": self._resets,
            "another process gives the same": self._repeats,
            "results have the shared names": self._reports,
            "a loss that is not finite ends nothing": self._survives,
            "unknown keys are refused": self._refuses_unknown,
            "ill-typed values are refused": self._refuses_ill_typed,
            "only public names of Ray are used": partial(require_public_names, self.trainable),
        }
        return checks_named(self.name or self.trainable.__name__, promises)

    def new(self, **changes: Any) -> HyperLearningTrainable:
        """A new actor of the case's trial.

        Args:
            changes: Config entries that replace the case's.
        """
        return self.trainable({**self.config, **changes})

    def _continues(self) -> None:
        expected = results(self.new(), self.steps)
        cut = len(expected) // 2
        stopped = self.new()
        results(stopped, cut)
        reused = self.new()
        reused.step()
        reused.reset_config(dict(self.config))
        with tempfile.TemporaryDirectory() as folder:
            stopped.save_checkpoint(folder)
            torch.rand(3)  # what else happens in the process does not matter
            for restored in (self.new(), reused):
                restored.load_checkpoint(folder)
                require_same(results(restored, self.steps - cut), expected[cut:], "what follows the checkpoint")

    def _resets(self) -> None:
        other = dict(self.other or {**self.config, "seed": self.config.get("seed", 0) + 1})
        actor = self.new()
        actor.step()
        if actor.reset_config(other) is not True:
            raise AssertionError("reset_config must return True")
        require_same(results(actor, self.steps), results(self.trainable(other), self.steps), "the second trial")

    def _repeats(self) -> None:
        with undisturbed_generators(by_caller=1):
            here = results(self.new(), self.steps)
        require_same(in_another_process(partial(_results_of, self)), here, "the other process's results")

    def _reports(self) -> None:
        result = self.new().step()
        require_none([f"{name} is missing in the result" for name in SHARED if name not in result])
        json.dumps(result)

    def _survives(self) -> None:
        problem = load(self.config["problem"])
        for factor in (math.nan, math.inf, -math.inf):
            broken = replace(problem, loss=partial(_times, factor, problem.loss))
            result = self.new(problem=broken).step()
            if result["status"] == COMPLETED or result["validation_loss"] != math.inf:
                found = {name: result[name] for name in ("status", "validation_loss")}
                raise AssertionError(f"a loss that is {factor} gives {found}")

    def _refuses_unknown(self) -> None:
        wrong = refusal(partial(self.new, no_such_key=1))
        require_none([f"an unknown key {wrong}"] if wrong else [])

    def _refuses_ill_typed(self) -> None:
        keys = {entry.name for entry in fields(TrialSettings)} | self.trainable.allowed
        tried = [(key, value) for key in sorted(keys - self.unchecked) for value in (object(), math.nan)]
        wrong = {(key, str(value)): refusal(partial(self.new, **{key: value})) for key, value in tried}
        require_none([f"{key}={value} {how}" for (key, value), how in wrong.items() if how])


def results(trainable: HyperLearningTrainable, steps: int) -> list[dict[str, Any]]:
    """Results of at most so many further steps, without their seconds."""
    found: list[dict[str, Any]] = []
    while len(found) < steps and not (found and found[-1].get("done")):
        found.append({key: value for key, value in trainable.step().items() if not key.endswith("_seconds")})
    return found


def _results_of(case: TrainableCase) -> list[dict[str, Any]]:
    return results(case.new(), case.steps)


def _times(factor: float, loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    return factor * loss(outputs, targets)
