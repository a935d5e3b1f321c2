"""How long a comparison takes, from its settings alone."""

from __future__ import annotations

import math
import os

from raytune_hyperlearn.comparison.experiment import Experiment


def plan_text(experiment: Experiment) -> str:
    """How many runs, how long in all, how many trials at once."""
    runs = len(experiment.methods) * len(experiment.seeds)
    at_once = f"{experiment.workers} trial{'s' if experiment.workers > 1 else ''} at a time"
    limit = duration_text(experiment.time_limit)
    if runs == 1:
        return f"1 run of at most {limit}, {at_once}"
    whole = duration_text(math.ceil(runs / experiment.concurrent) * experiment.time_limit)
    order = "one after the other" if experiment.concurrent == 1 else f"{experiment.concurrent} at a time"
    more = " and the confirmations" if experiment.confirmations else ""
    methods, seeds = len(experiment.methods), len(experiment.seeds)
    counts = f"{methods} method{'s' if methods > 1 else ''} × {seeds} seed{'s' if seeds > 1 else ''}"
    return (
        f"{runs} runs ({counts}) of at most {limit}, {order}: up to {whole}{more}; {at_once}{_crowd_text(experiment)}"
    )


def _crowd_text(experiment: Experiment) -> str:
    """That runs at the same time have too few processors on this machine; empty where they have enough."""
    here = os.cpu_count() or 1
    if experiment.concurrent == 1 or experiment.address is not None or experiment.cores <= here:
        return ""
    return f". They slow each other down: they use {experiment.cores} processors and this machine has {here}"


def missing_text(experiment: Experiment, finished: int) -> str:
    """How many runs are still to be made, and how long they take at most."""
    missing = len(experiment.methods) * len(experiment.seeds) - finished
    if not missing:
        return "nothing to run: every run is finished"
    whole = math.ceil(missing / experiment.concurrent) * experiment.time_limit
    return f"{missing} to run, up to {duration_text(whole)}"


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    for unit, size, below in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < below:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"
