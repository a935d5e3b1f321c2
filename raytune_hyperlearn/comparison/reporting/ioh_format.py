"""A comparison's runs as IOHprofiler's files, which IOHanalyzer and iohinspector open.

One JSON file per problem and method names its runs; beside it a table holds, for each run, the number of the evaluation
and the incumbent's validation value (https://iohprofiler.github.io/IOHanalyzer/data). These viewers count evaluations,
whatever their budget, and know no wall-clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raytune_hyperlearn.comparison.analysis.curves import regret_curve, regret_zero
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.reporting.takeaway import slug

FORMAT_VERSION = "0.3.5"
"""Of IOHexperimenter, whose form the files have; from 0.3.3 on they are JSON."""
COLUMNS = ("evaluations", "raw_y")


def write_ioh(studies: Sequence[Study], folder: Path) -> None:
    """Writes one JSON file and one table per problem and method; runs without any usable result are left out.

    Args:
        studies: One per problem.
        folder: To make.
    """
    for number, study in enumerate(studies, start=1):
        for method in study.methods:
            runs = [(result, _points(study, result)) for result in study.runs_of(method) if result.chosen]
            if runs:
                _write_method(study, number, method, runs, folder)


def _write_method(
    study: Study,
    number: int,
    method: str,
    runs: Sequence[tuple[RunResult, list[tuple[int, float]]]],
    folder: Path,
) -> None:
    name = f"{number}_{slug(study.experiment.problem)}"
    dimension = _dimension(study)
    own = folder / slug(method)
    table = Path(f"data_f{name}") / f"IOHprofiler_f{number}_DIM{dimension}.dat"
    (own / table.parent).mkdir(parents=True)
    lines = [" ".join(COLUMNS) + "\n" + "".join(f"{at} {value!r}\n" for at, value in points) for _, points in runs]
    (own / table).write_text("".join(lines), encoding="utf-8")
    scenario = {"dimension": dimension, "path": table.as_posix(), "runs": [_run(*run) for run in runs]}
    described = {
        "version": FORMAT_VERSION,
        "suite": "raytune-hyperlearn",
        "function_id": number,
        "function_name": study.experiment.problem,
        "maximization": False,
        "algorithm": {"name": method, "info": f"raytune-hyperlearn {version('raytune-hyperlearn')}"},
        "experiment_attributes": [{"metric": study.metric}, {"time_limit": str(study.experiment.time_limit)}],
        "attributes": list(COLUMNS),
        "scenarios": [scenario],
    }
    (own / f"IOHprofiler_f{name}.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _run(result: RunResult, points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    best = result.chosen[-1]
    at = int(result.positions["evaluations"][-1])
    found = [float(value) for schedule in best.hyperparameters.values() for value in schedule]
    return {"instance": result.seed, "evals": points[-1][0], "best": {"evals": at, "y": points[-1][1], "x": found}}


def _points(study: Study, result: RunResult) -> list[tuple[int, float]]:
    """Number of the evaluation and the incumbent's value: at the first one, at every change, and at the last one."""
    zero = regret_zero(None, study.metric, "validation")
    curve = regret_curve(result.chosen, study.metric, "validation", zero, result.positions["evaluations"])
    values = {int(at): float(value) for at, value in zip(curve.times, curve.values, strict=True)}
    values = {1: math.inf} | values  # a run begins where a reader meets evaluation 1
    return sorted(({int(result.spent["evaluations"]): float(curve.values[-1])} | values).items())


def _dimension(study: Study) -> int:
    """Values of the largest setting that was evaluated: one number per problem, or a viewer tells methods apart."""
    settings = [result.chosen[-1].hyperparameters for result in study.runs.values() if result.chosen]
    return max(sum(map(len, setting.values())) for setting in settings)
