"""Which hyperparameters mattered: by the hypergradients that were computed anyway, and by others' evaluators.

- **Hypergradients**: mean over outer steps of |h_i| · (width of λ_i's range), h_i = dL/dλ_i / W as FDS reports it, L
  the validation loss at the end of the training, λ_i one value of a schedule, W the steps that share it. To first order
  that is one step's share of what the loss would change over the range. It costs nothing: the method has computed h to
  make its steps. It is local, along the path that was taken.
- **PED-ANOVA** (Watanabe et al., IJCAI 2023) and **fANOVA** (Hutter et al., ICML 2014), as Optuna computes them, from
  the evaluations of black-box methods at one budget. They are global, over what was sampled.

Each is divided by its sum, so that the columns can be compared.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from raytune_hyperlearn.comparison.analysis.curves import FloatArray, score, scores
from raytune_hyperlearn.comparison.analysis.results import RunResult, Study
from raytune_hyperlearn.comparison.analysis.rows import Rows, evenly, thinned
from raytune_hyperlearn.comparison.records import Record

FEWEST_ROWS = 20
"""Evaluations that an evaluator needs before its answer means anything."""
MOST_ROWS = 250
"""Evaluations that an evaluator is given, drawn at random from more; fANOVA's time grows with their square."""
DRAW_SEED = 0
MOST_STEPS = 1000
LAST_STEPS = 5
"""The last outer steps, by which windows are chosen: none of them is left out."""
TREES = 32


@dataclass(frozen=True)
class OuterSteps:
    """What one run's outer steps were at and what they found, for one hyperparameter.

    Attributes:
        method: name of the method.
        seed: seed of the run.
        name: the hyperparameter.
        steps: outer step of each row, shape [T].
        values: the schedule at that step, shape [T, N].
        hypergradients: dL/dλ there, shape [T, N].
        width: of the hyperparameter's range; 1 where the space does not say.
        windows: values in each window that the last values were moved in, by the hypergradients before them; empty
            where windows are not chosen.
    """

    method: str
    seed: int
    name: str
    steps: FloatArray
    values: FloatArray
    hypergradients: FloatArray
    width: float
    windows: tuple[int, ...] = ()

    @property
    def importance(self) -> FloatArray:
        """Mean over outer steps of |hypergradient| × width, shape [N]."""
        return np.asarray(np.mean(np.abs(self.hypergradients), axis=0) * self.width)


@dataclass(frozen=True)
class Importances:
    """Shares of importance by hyperparameter value.

    Attributes:
        columns: shares by evaluator and value's name; each column sums to 1.
        rows_used: evaluations behind the black-box evaluators; 0 where there were too few.
        rows_known: evaluations that these were drawn from.
        source: whose evaluations these were, in words.
        budget: their budget in epochs.
    """

    columns: dict[str, dict[str, float]]
    rows_used: int
    rows_known: int
    source: str
    budget: float


def outer_steps(study: Study, result: RunResult) -> tuple[OuterSteps, ...]:
    """The outer steps of a run that reports hypergradients, one entry per hyperparameter; none for other runs.

    Of more than ``MOST_STEPS`` so many, evenly spaced, and the last ``LAST_STEPS``.
    """
    every = study.records_in_time(result)
    reported = np.flatnonzero(every.column("has_hypergradient"))
    shown = np.union1d(evenly(len(reported), MOST_STEPS), np.arange(max(0, len(reported) - LAST_STEPS), len(reported)))
    rows = [row for row in every.only(reported[shown]) if _has_hypergradient(row)]
    found = []
    for name in dict.fromkeys(name for row in rows for name in row.info["hypergradient"]):
        own = [row for row in rows if len(row.info["hypergradient"].get(name, ())) == len(row.hyperparameters[name])]
        size = len(own[-1].hyperparameters[name]) if own else 0
        own = [row for row in own if len(row.hyperparameters[name]) == size]
        if own:
            found.append(
                OuterSteps(
                    result.method,
                    result.seed,
                    name,
                    np.array([float(row.info.get("outer_step", i)) for i, row in enumerate(own)]),
                    np.array([row.hyperparameters[name] for row in own], dtype=float),
                    np.array([row.info["hypergradient"][name] for row in own], dtype=float),
                    range_width(study.experiment.space.get(name)),
                    tuple(own[-1].info.get("windows", {}).get(name, ())),
                )
            )
    return tuple(found)


def range_width(entry: Any) -> float:
    """Width of a hyperparameter's range as the experiment's space gives it; 1 without one."""
    given = entry.get("range") if isinstance(entry, Mapping) else None
    ends = np.asarray(given, dtype=float) if given is not None else np.array([0.0, 1.0])
    return float(ends.max() - ends.min()) if ends.ndim == 1 and ends.size == 2 else 1.0


def importances(study: Study, black_box: frozenset[str]) -> Importances:
    """Shares by hypergradients and, where Optuna is installed and there are enough evaluations, by its evaluators."""
    columns: dict[str, dict[str, float]] = {}
    for method in study.methods:
        shares = shared_out(hypergradient_importance(study, method))
        if shares:
            columns[f"hypergradients ({method})"] = shares
    rows, count, source, budget = _comparable_rows(study, black_box)
    if len(rows) < FEWEST_ROWS or importlib.util.find_spec("optuna") is None:
        return Importances(columns, 0, count, source, budget)
    columns |= _optuna_importances(study, rows)
    return Importances(columns, len(rows), count, source, budget)


def hypergradient_importance(study: Study, method: str) -> dict[str, float]:
    """Mean over a method's runs of mean |h| × range, by hyperparameter value; empty without hypergradients."""
    by_value: dict[str, list[float]] = defaultdict(list)
    for result in study.runs_of(method):
        for steps in outer_steps(study, result):
            for i, amount in enumerate(steps.importance.tolist()):
                by_value[value_name(steps.name, i, steps.values.shape[1])].append(amount)
    return {name: float(np.mean(amounts)) for name, amounts in by_value.items()}


def value_name(name: str, place: int, size: int) -> str:
    """``learning rate 3`` for the third of several values, the bare name of a single one."""
    spoken = name.replace("_", " ")
    return spoken if size == 1 else f"{spoken} {place + 1}"


def shared_out(amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts divided by their sum; empty where that is not positive."""
    total = sum(amounts.values())
    return {name: amount / total for name, amount in amounts.items()} if total > 0 and math.isfinite(total) else {}


def budget_correlations(study: Study, method: str) -> dict[tuple[float, float], tuple[int, float]]:
    """Spearman's correlation of validation values between budgets, over settings evaluated on both.

    Returns:
        By pair of budgets the number of settings and the correlation; pairs with fewer than five settings are absent.
    """
    scored = _scored_on_several(study, method)
    by_budget = {budget: own.set_index(["seed", "setting"])["score"] for budget, own in scored.groupby("budget")}
    found = {}
    for (small, first), (large, second) in itertools.combinations(sorted(by_budget.items()), 2):
        pairs = first.to_frame("small").join(second.rename("large"), how="inner")
        if len(pairs) >= 5 and np.ptp(pairs["small"]) > 0 and np.ptp(pairs["large"]) > 0:
            found[small, large] = len(pairs), float(scipy.stats.spearmanr(pairs["small"], pairs["large"]).statistic)
    return found


def _scored_on_several(study: Study, method: str) -> pd.DataFrame:
    """Seed, setting, budget and last score of the settings that were evaluated on several budgets."""
    parts = []
    for result in study.runs_of(method):
        rows = study.records_in_time(result)
        own = {"setting": rows.column("setting"), "budget": rows.column("budget"), "score": scores(rows, study.metric)}
        parts.append(pd.DataFrame(own).assign(seed=result.seed))
    every = pd.concat(parts)
    known = every[np.isfinite(every["score"])].drop_duplicates(["seed", "setting", "budget"], keep="last")
    return known[known.duplicated(["seed", "setting"], keep=False)]


def _has_hypergradient(record: Record) -> bool:
    found = record.info.get("hypergradient")
    return isinstance(found, Mapping) and all(np.isfinite(entries).all() for entries in found.values())


def _comparable_rows(study: Study, black_box: frozenset[str]) -> tuple[list[Record], int, str, float]:
    """Evaluations at the budget that most have: of random search where it has enough, else of all black-box methods.

    Returns:
        At most ``MOST_ROWS`` of them, how many there are, whose they are, and the budget.
    """
    random = _usable(study, [method for method in study.methods if method == "rs"])
    runs, source = random, "random search"
    if _most_common(random)[1] < FEWEST_ROWS:
        runs, source = _usable(study, [m for m in study.methods if m in black_box]), "all black-box methods"
    budget, count = _most_common(runs)
    if not count:
        return [], 0, source, math.nan
    kept = [rows.only(rows.column("budget") == budget) for rows in runs]
    places, drawn = thinned(count, MOST_ROWS, DRAW_SEED), list[Record]()
    for rows in kept:
        drawn += rows.only(places[(places >= 0) & (places < len(rows))])
        places = places - len(rows)
    return drawn, count, source, budget


def _usable(study: Study, methods: Iterable[str]) -> list[Rows]:
    every = [study.records_in_time(result) for method in methods for result in study.runs_of(method)]
    return [rows.only(np.isfinite(scores(rows, study.metric)) & rows.column("has_setting")) for rows in every]


def _most_common(runs: Iterable[Rows]) -> tuple[float, int]:
    """The budget that most rows have, and how many have it."""
    counts = Counter(budget for rows in runs for budget in rows.column("budget").tolist())
    return counts.most_common(1)[0] if counts else (math.nan, 0)


def _optuna_importances(study: Study, rows: Sequence[Record]) -> dict[str, dict[str, float]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    flat = [_flat(row) for row in rows]
    names = [name for name in flat[0] if all(name in values for values in flat)]
    moving = [name for name in names if len({values[name] for values in flat}) > 1]
    if not moving:
        return {}
    spans = {name: (min(v[name] for v in flat), max(v[name] for v in flat)) for name in moving}
    distributions = {name: optuna.distributions.FloatDistribution(*span) for name, span in spans.items()}
    made = optuna.create_study(direction="minimize")
    made.add_trials(
        [
            optuna.trial.create_trial(
                params={name: values[name] for name in moving},
                distributions=distributions,
                value=score(row, study.metric),
            )
            for row, values in zip(rows, flat, strict=True)
        ]
    )
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluators = {
            "PED-ANOVA": optuna.importance.PedAnovaImportanceEvaluator(),
            "fANOVA": optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0),
        }
        for label, evaluator in evaluators.items():
            shares = shared_out(optuna.importance.get_param_importances(made, evaluator=evaluator))
            if shares:
                found[label] = shares
    return found


def _flat(row: Record) -> dict[str, float]:
    return {
        value_name(name, i, len(values)): value
        for name, values in row.hyperparameters.items()
        for i, value in enumerate(values)
    }
