"""The best of a study, in the form in which it can be used."""

from __future__ import annotations

from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.learned import Learned
from raytune_hyperlearn.results import SCORES

BEST_FILE = "best.json"
BATCH_SIZE = "batch_size"


def best_of(study: Study, method: str | None = None) -> Learned | None:
    """The incumbent of the best run, by validation.

    Where all runs with an incumbent were trained again with fresh seeds, these scores decide: the best of many noisy
    evaluations flatters itself.

    Args:
        study: The results.
        method: Its name, or None for the best of all.

    Returns:
        What was found, or None where no evaluation completed in time.
    """
    results = [run for run in study.runs.values() if run.incumbent is not None and method in (None, run.method)]
    if not results:
        return None
    confirmed = all(run.confirmation is not None for run in results)
    sign = 1 if study.metric.endswith("loss") else -1
    return _learned(study, min(results, key=lambda run: sign * _score(study, run, confirmed)))


def _score(study: Study, run: RunResult, confirmed: bool) -> float:
    """Mean over the trainings with fresh seeds, or the incumbent's own value, of the validation metric."""
    if confirmed:
        scores: tuple[float, ...] = getattr(run.confirmation, study.metric)
        return sum(scores) / len(scores)
    return float(getattr(run.incumbent, study.metric))


def _learned(study: Study, run: RunResult) -> Learned:
    record = run.incumbent
    assert record is not None  # as above
    schedules = {name: list(map(float, own)) for name, own in record.hyperparameters.items()}
    batch_sizes = tuple(schedules.pop(BATCH_SIZE, ()))
    found = {
        "problem": study.experiment.problem,
        "method": run.method,
        "seed": run.seed,
        "epochs": record.budget,
        **{name: getattr(record, name) for name in SCORES},
    }
    space = study.experiment.searched.for_values(schedules)
    return Learned(schedules, space, found, batch_sizes)
