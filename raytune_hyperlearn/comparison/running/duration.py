"""How long a comparison takes, from its settings alone."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from itertools import product

from raytune_hyperlearn.comparison.counted import counted
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.running.methods import METHODS


def plan_text(experiment: Experiment) -> str:
    """How many runs, how long in all, how many trials at once."""
    runs = _runs(experiment)
    at_once = f"{counted(experiment.workers, 'trial')} at a time"
    limit = duration_text(experiment.time_limit)
    if len(runs) == 1:
        return f"1 run of at most {limit}, {at_once}"
    whole = duration_text(_longest(experiment, runs))
    more = ", confirmations" if experiment.confirmations else ""
    counts = f"{counted(len(experiment.methods), 'method')} × {counted(len(experiment.seeds), 'seed')}"
    return (
        f"{len(runs)} runs ({counts}) of at most {limit}, {_order_text(experiment)}: up to {whole}, "
        f"beside the runs' start-up (5 to 10 s each){more}; "
        f"{at_once}{_crowd_text(experiment)}"
    )


def _runs(experiment: Experiment) -> set[tuple[str, int]]:
    return set(product(experiment.methods, experiment.seeds))


def _longest(experiment: Experiment, runs: Collection[tuple[str, int]]) -> float:
    """Seconds that runs take at most."""
    alone = sum(METHODS[method].alone for method, _ in runs)
    return (math.ceil((len(runs) - alone) / experiment.concurrent) + alone) * experiment.time_limit


def _order_text(experiment: Experiment) -> str:
    if experiment.concurrent == 1:
        return "one after the other"
    alone = [method for method in experiment.methods if METHODS[method].alone]
    return f"{experiment.concurrent} at a time" + (f", those of {', '.join(alone)} one by one" if alone else "")


def _crowd_text(experiment: Experiment) -> str:
    """That runs at the same time have too few processors on this machine; empty where they have enough."""
    here = os.cpu_count() or 1
    if experiment.concurrent == 1 or experiment.address is not None or experiment.cores <= here:
        return ""
    return f". They slow each other down: they use {experiment.cores} processors and this machine has {here}"


def missing_text(experiment: Experiment, finished: Collection[tuple[str, int]]) -> str:
    """How many runs are still to be made, and how long they take at most."""
    missing = _runs(experiment) - set(finished)
    if not missing:
        return "nothing to run: every run is finished"
    return f"{len(missing)} to run, up to {duration_text(_longest(experiment, missing))}"


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    for unit, size, below in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < below:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"
