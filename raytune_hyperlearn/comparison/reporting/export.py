"""A comparison's records in the formats of other viewers: one table, a journal, or a folder of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_hyperlearn.comparison.analysis.curves import is_usable, score
from raytune_hyperlearn.comparison.analysis.frames import records_frame
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.comparison.reporting.deepcave_format import write_deepcave
from raytune_hyperlearn.comparison.reporting.ioh_format import write_ioh

FILE_NAMES = {"csv": "records.csv", "optuna": "optuna-journal.log", "deepcave": "deepcave", "ioh": "ioh"}


def export(studies: Sequence[Study], to: str, path: Path) -> Path:
    """Writes all records in another format.

    Args:
        studies: one per problem.
        to: ``csv`` (a row per record, a column per hyperparameter value) or ``optuna`` (a journal file with one Optuna
            study per problem, method and seed: ``optuna-dashboard PATH`` opens it), ``deepcave`` (a folder with a
            folder per run, for DeepCAVE) or ``ioh`` (a folder for IOHanalyzer and iohinspector).
        path: a file, or for the last two a folder, that does not exist yet.

    Returns:
        ``path``.

    Raises:
        ValueError: for an unknown format, or a file or folder that exists.
    """
    file_name(to)
    if path.exists():
        raise ValueError(f"output is {path}; it must be a file or folder that does not exist yet")
    if to == "csv":
        import pandas

        pandas.concat([records_frame(study) for study in studies]).to_csv(path, index=False)
    elif to == "optuna":
        _to_optuna(studies, path)
    else:
        {"deepcave": write_deepcave, "ioh": write_ioh}[to](studies, path)
    return path


def file_name(to: str) -> str:
    """The usual name of a file in a format.

    Raises:
        ValueError: for an unknown format.
    """
    if to not in FILE_NAMES:
        raise ValueError(f"to is {to!r}; it must be one of {', '.join(FILE_NAMES)}")
    return FILE_NAMES[to]


def _to_optuna(studies: Sequence[Study], path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    for study in studies:
        for result in study.runs.values():
            name = f"{study.experiment.problem} {result.method} seed {result.seed}"
            made = optuna.create_study(storage=storage, study_name=name, direction="minimize")
            made.add_trials([_trial(study, row) for row in _rows(study, result)])


def _rows(study: Study, result: RunResult) -> list[Record]:
    return [row for row in study.records_in_time(result) if row.hyperparameters]


def _trial(study: Study, row: Record) -> Any:
    import optuna

    values = {
        name if len(schedule) == 1 else f"{name}[{i}]": (float(value), _range(study, name, float(value)))
        for name, schedule in row.hyperparameters.items()
        for i, value in enumerate(schedule)
    }
    usable = is_usable(row, study.metric)
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if usable else optuna.trial.TrialState.FAIL,
        value=score(row, study.metric) if usable else None,
        params={name: value for name, (value, _) in values.items()},
        distributions={name: optuna.distributions.FloatDistribution(*span) for name, (_, span) in values.items()},
        user_attrs={"seconds": row.time, "epochs": row.budget, "status": row.status, "error": row.error},
    )


def _range(study: Study, name: str, value: float) -> tuple[float, float]:
    """The hyperparameter's range as the space has it, widened to what was evaluated."""
    entry = study.experiment.space.get(name)
    given: Any = entry.get("range") if isinstance(entry, dict) else None
    low, high = (min(given), max(given)) if _is_pair(given) else (value, value)
    return min(low, value), max(high, value)


def _is_pair(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and len(given) == 2 and all(isinstance(end, (int, float)) for end in given)
