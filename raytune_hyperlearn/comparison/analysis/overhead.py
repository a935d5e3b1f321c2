"""What a run's wall-clock went into: training, the searcher's own computing, and the rest, which is the harness's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study


@dataclass(frozen=True)
class Overhead:
    """One run from its clock's start, when the first worker is up, to its last result in time.

    Attributes:
        seconds: of that stretch.
        training: seconds of it in which at least one worker trained and validated.
        searcher: seconds of the searcher's or scheduler's own computing.
        evaluations: results in it, at least 1.
    """

    seconds: float
    training: float
    searcher: float
    evaluations: int

    @property
    def rest(self) -> float:
        """Seconds in which nothing trained and no searcher computed: starts, scheduling, checkpoints, messages.

        A searcher may compute while a worker trains; then both are taken off and the rest is a lower bound.
        """
        return max(self.seconds - self.training - self.searcher, 0.0)


def overhead(study: Study, result: RunResult) -> Overhead | None:
    """Where the wall-clock of a run went; None for a run without a summary or a result in time."""
    rows = study.records_in_time(result)
    if result.run is None or not len(rows):
        return None
    ends, took = rows.column("time"), np.nan_to_num(rows.column("training_seconds"))
    return Overhead(float(ends.max()), covered(ends - took, ends), result.run.searcher_seconds, len(rows))


def covered(starts: FloatArray, ends: FloatArray) -> float:
    """Length of the union of intervals that end at or after 0.

    Args:
        starts: of each interval, shape [N]; what lies before 0 is left out.
        ends: of each interval, at least its start, shape [N].
    """
    order = np.argsort(starts)
    starts, ends = np.maximum(starts[order], 0.0), ends[order]
    before = np.concatenate([[0.0], np.maximum.accumulate(ends)[:-1]])
    return float(np.maximum(ends - np.maximum(starts, before), 0.0).sum())
