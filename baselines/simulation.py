"""A searcher on a simulated clock: what Ray Tune would do with it, where trainings are looked up and not waited for.

The clock counts the searcher's own computing as it is and the trainings' seconds as they are given. So thousands of
evaluations take seconds, and what remains of a real run's curve is the searcher's doing.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import Searcher

Evaluate = Callable[[Mapping[str, Any], float], tuple[float, float]]
"""(hyperparameters, budget) → (loss, seconds of training)."""


@dataclass(frozen=True)
class Observation:
    """One evaluation as the driver sees it.

    Attributes:
        time: Seconds on the simulated clock.
        hyperparameters: As suggested.
        budget: As suggested.
        loss: As evaluated.
    """

    time: float
    hyperparameters: dict[str, Any]
    budget: float
    loss: float


def simulate(
    searcher: Searcher,
    evaluate: Evaluate,
    *,
    full_budget: float,
    time_limit: float,
    evaluations: int,
    workers: int = 1,
    count_searcher: bool = True,
) -> list[Observation]:
    """Run a searcher until the time limit, or until so many evaluations have ended, or until it has finished.

    Args:
        searcher: Suggests ``{"hyperparameters": {...}}``, and ``"epochs"`` unless every budget is the full one.
        evaluate: Looked up when a trial starts.
        full_budget: Budget of a suggestion that names none.
        time_limit: Seconds on the simulated clock; what ends after is not observed.
        evaluations: At most so many.
        workers: Trials at a time.
        count_searcher: Whether the searcher's computing is on the clock; without it a run can be repeated exactly.

    Returns:
        The observations in the order of their times.
    """
    clock = _Clock(count_searcher)
    running: list[tuple[float, int, Observation]] = []
    observed: list[Observation] = []
    started, finished = 0, False
    while len(observed) < evaluations:
        while not finished and len(running) < workers:
            suggestion = clock.count(searcher.suggest, str(started))
            if not isinstance(suggestion, dict):
                finished = suggestion == Searcher.FINISHED
                break
            values, budget = suggestion["hyperparameters"], float(suggestion.get("epochs", full_budget))
            loss, seconds = evaluate(values, budget)
            ending = clock.now + seconds
            heapq.heappush(running, (ending, started, Observation(ending, values, budget, loss)))
            started += 1
        if not running:
            break
        ending, trial, ended = heapq.heappop(running)
        clock.now = max(clock.now, ending)
        if clock.now > time_limit:
            break
        observed.append(Observation(clock.now, ended.hyperparameters, ended.budget, ended.loss))
        result = {searcher.metric: ended.loss, "epochs": ended.budget, TRAINING_ITERATION: 1}
        clock.count(searcher.on_trial_complete, str(trial), result)
    return observed


class _Clock:
    def __init__(self, counts: bool) -> None:
        self.now, self._counts = 0.0, counts

    def count(self, call: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        returned = call(*arguments)
        if self._counts:
            self.now += time.perf_counter() - begun
        return returned
