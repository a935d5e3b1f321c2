"""What every searcher promises."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

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

NOT_LOSSES = (math.nan, math.inf, -math.inf, None, "text")


@dataclass(frozen=True)
class SearcherCase:
    """A searcher, with results for what it suggests.

    Attributes:
        make: Makes it anew, with a seed; a function that can be pickled.
        result: A trial's result from the config that was suggested.
        trials: Trials to run, enough for a model to be used.
        name: In the checks' names.
    """

    make: Callable[[], Searcher]
    result: Callable[[Mapping[str, Any]], dict[str, Any]]
    trials: int = 12
    name: str = ""

    def checks(self) -> list[Check]:
        """All checks of this searcher."""
        promises: dict[str, Callable[[], None]] = {
            "another process gives the same": self._repeats,
            "a saved searcher goes on with its open trials": self._continues,
            "a trial that ends again changes nothing": self._ends_once,
            "results that are no numbers end nothing": self._survives,
            "another metric is refused": self._refuses,
            "only public names of Ray are used": lambda: require_public_names(type(self.make())),
        }
        return checks_named(self.name or type(self.make()).__name__, promises)

    def _repeats(self) -> None:
        with undisturbed_generators(by_caller=1):
            here = self.drive(self.make())
        require_same(in_another_process(partial(_driven, self)), here, "the other process's suggestions")

    def _continues(self) -> None:
        searcher, restored = self.make(), self.make()
        self.drive(searcher)
        opened = searcher.suggest("open")
        with tempfile.TemporaryDirectory() as folder:
            searcher.save(str(Path(folder) / "state"))
            restored.restore(str(Path(folder) / "state"))
        follows = []
        for one in (searcher, restored):
            if isinstance(opened, dict):
                one.on_trial_complete("open", self.result(opened))
            follows.append(self.drive(one, first=self.trials, trials=4))
        require_same(follows[1], follows[0], "what follows the saved state")

    def _ends_once(self) -> None:
        once, again = self.make(), self.make()
        for searcher, times in ((once, 1), (again, 2)):
            self.drive(searcher, trials=self.trials // 2)
            searcher.suggest("failed")
            for _ in range(times):
                searcher.on_trial_complete("failed", error=True)
            if times == 2:
                searcher.on_trial_complete("never seen", error=True)
        follows = [self.drive(searcher, first=self.trials, trials=4) for searcher in (once, again)]
        require_same(follows[1], follows[0], "what follows a trial that ended twice")

    def _survives(self) -> None:
        searcher = self.make()
        for number in range(self.trials):
            suggested = searcher.suggest(str(number))
            if not isinstance(suggested, dict):
                break
            result = self.result(suggested)
            if number % 2:
                result[str(searcher.metric)] = NOT_LOSSES[number // 2 % len(NOT_LOSSES)]
            searcher.on_trial_complete(str(number), result)

    def _refuses(self) -> None:
        wrong = refusal(lambda: self.make().set_search_properties("no_such_metric", "min", {}))
        require_none([f"another metric {wrong}"] if wrong else [])

    def drive(self, searcher: Searcher, first: int = 0, trials: int | None = None) -> list[Any]:
        """What it suggests, one trial at a time, each of which ends with its result.

        Args:
            searcher: What suggests.
            first: Number of the first trial, which is also its name.
            trials: How many trials; None for the case's own number.
        """
        suggestions = []
        for number in range(first, first + (self.trials if trials is None else trials)):
            suggested = searcher.suggest(str(number))
            suggestions.append(suggested)
            if isinstance(suggested, dict):
                searcher.on_trial_complete(str(number), self.result(suggested))
        return suggestions


def _driven(case: SearcherCase) -> list[Any]:
    return case.drive(case.make())
