"""Trains every run's incumbent again with fresh seeds: does what was found hold, or was it a lucky training?

An incumbent is the best of many noisy evaluations, so its own score is too good by selection; a method that tries more
settings gains more from that. The scores here are not selected. They are made after all runs, outside every clock,
the same way as the reference's, and choose nothing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.comparison.analysis.results import RunResult, load_study
from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.json_lines import replace_lines
from raytune_hyperlearn.comparison.plain_data import to_mapping
from raytune_hyperlearn.comparison.records import CONFIRMATIONS_FILE, Confirmation, read_confirmations
from raytune_hyperlearn.comparison.running.methods import searched_space
from raytune_hyperlearn.comparison.running.retraining import retrain
from raytune_hyperlearn.results import SCORES, VALIDATION_LOSS, worst_scores


def confirm(experiment: Experiment, folder: Path, console: Console) -> None:
    """Train the incumbents of a folder's runs again, ``experiment.confirmations`` times each, and write the scores.

    Incumbents that are not schedules of the space's hyperparameters (those of batch-size methods) are left out, and
    nothing is done where every other run is confirmed already. Ray is running.

    Args:
        experiment: The folder's experiment.
        folder: Folder of the comparison.
        console: Shows how far it is.
    """
    path = folder / CONFIRMATIONS_FILE
    known = read_confirmations(path)
    confirmed = {(row.method, row.seed) for row in known}
    names = sorted(searched_space(experiment).parts)
    runs = [
        result for run, result in load_study(folder).runs.items() if run not in confirmed and _schedules(result, names)
    ]
    if not experiment.confirmations or not runs:
        return
    cores = int(ray.cluster_resources().get("CPU", 1)) if experiment.address is None else 1
    at_once = max(experiment.workers, cores // experiment.cpus_per_trial)
    settings = [_schedules(run, names) for run in runs]
    rows = retrain(experiment, settings, experiment.confirmations, at_once, "what was found, again", console)
    found = [_confirmation(run, row, experiment.confirmations) for run, row in zip(runs, rows, strict=True)]
    replace_lines(path, map(to_mapping, (*known, *found)))


def _schedules(result: RunResult, names: list[str]) -> Numbers:
    """What the run found; empty if that cannot be trained again by schedules of ``names`` alone."""
    found = {} if result.incumbent is None else result.incumbent.hyperparameters
    return found if sorted(found) == names and all(found.values()) else {}


def _confirmation(run: RunResult, row: dict[str, Any] | None, seeds: int) -> Confirmation:
    """The scores; a trial that crashed has the worst."""
    worst = worst_scores()
    every = row["scores"] if row is not None else [worst] * seeds
    finite = [scores if math.isfinite(scores[VALIDATION_LOSS]) else worst for scores in every]
    return Confirmation(run.method, run.seed, **{name: [scores[name] for scores in finite] for name in SCORES})
