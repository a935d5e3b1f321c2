"""Adapters against the truth: on tables of finished trainings, does each get where its own library gets alone?

Every method runs twice per seed on the same table: through its adapter on the simulated clock, and by its own library,
driven directly. "same" counts the seeds for which both evaluated the same configurations on the same budgets in the
same order, so that the anytime curves are one. "regret" is the final regret of the adapter's runs, and of the library's
runs with as many other seeds: where the two differ by more than noise, p is small (Mann–Whitney). "searcher" is what
the adapter's library spent computing per evaluation. From the root of the repository:

    python -m benchmarks.peers_on_tables --table vehicle --seeds 50 --evaluations 60 --methods rs,hb,bohb,tpe,dehb
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table as Rows
from scipy.stats import mannwhitneyu

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.baselines import BOHB, Hyperband, RandomSearch
from raytune_hyperlearn.baselines.peers import DEHB, SMAC, OptunaSearcher, cma_es, gaussian_process, tpe
from raytune_hyperlearn.baselines.simulation import simulate
from raytune_hyperlearn.baselines.tables import DATA_SETS, Table, load_table
from tests.baselines.master_run import run_master

SMALLEST, FULL, ETA = 1.0, 4.0, 2
Evaluated = tuple[dict[str, float], float]
"""A configuration and a budget."""
Alone = Callable[[Table, int, int], list[Evaluated]]
"""(table, seed, evaluations) → what the library evaluates."""


@dataclass(frozen=True)
class Comparison:
    """One row; regrets are medians over seeds."""

    method: str
    seeds: int
    evaluations: int
    same: int
    regret: float
    regret_alone: float
    p: float
    searcher_seconds: float


def hpbandster_alone(optimizer: str) -> Alone:
    """HpBandSter's own `Master.run`."""

    def run(table: Table, seed: int, evaluations: int) -> list[Evaluated]:
        smallest = FULL if optimizer == "RandomSearch" else SMALLEST
        submitted = run_master(
            optimizer,
            table.configuration_space(),
            lambda config, budget: table.evaluate(config, budget)[0],
            min_budget=smallest,
            max_budget=FULL,
            eta=ETA,
            seed=seed,
            iterations=evaluations if optimizer == "RandomSearch" else evaluations // 3 + 1,  # more than enough
            workers=1,
        )
        return [(config, budget) for _, config, budget in submitted][:evaluations]

    return run


def optuna_alone(sampler: Callable[[int], Any]) -> Alone:
    """A study, asked and told."""

    def run(table: Table, seed: int, evaluations: int) -> list[Evaluated]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=sampler(seed))
        evaluated = []
        for _ in range(evaluations):
            axes = table.axes().items()
            trial = study.ask({name: optuna.distributions.FloatDistribution(a.low, a.high) for name, a in axes})
            study.tell(trial, table.evaluate(trial.params, FULL)[0])
            evaluated.append((dict(trial.params), FULL))
        return evaluated

    return run


def dehb_alone(table: Table, seed: int, evaluations: int) -> list[Evaluated]:
    """DEHB, asked and told."""
    from dehb import DEHB as Library  # noqa: N811

    space = table.configuration_space()
    space.seed(seed)
    budgets = {"min_fidelity": SMALLEST, "max_fidelity": FULL, "eta": ETA}
    with tempfile.TemporaryDirectory() as folder:
        library = Library(cs=space, f=None, seed=seed, n_workers=1, output_path=folder, save_freq="end", **budgets)
        evaluated = []
        for _ in range(evaluations):
            job = library.ask()
            library.tell(job, {"fitness": table.evaluate(job["config"], job["fidelity"])[0], "cost": 0.0})
            evaluated.append((dict(job["config"]), float(job["fidelity"])))
        return evaluated


def smac_alone(table: Table, seed: int, evaluations: int) -> list[Evaluated]:
    """SMAC's multi-fidelity facade, asked and told."""
    from smac import MultiFidelityFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    space = table.configuration_space()
    space.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space,
            output_directory=Path(folder),
            deterministic=True,
            n_trials=evaluations,
            min_budget=SMALLEST,
            max_budget=FULL,
            seed=seed,
        )
        facade = MultiFidelityFacade(
            scenario,
            target_function=None,
            intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=ETA),
            overwrite=True,
            logging_level=False,
        )
        evaluated = []
        for _ in range(evaluations):
            job = facade.ask()
            facade.tell(job, TrialValue(cost=table.evaluate(job.config, job.budget)[0]), save=False)
            evaluated.append((dict(job.config), float(job.budget)))
        return evaluated


def _optuna(sampler: Callable[[int], Any]) -> Callable[[Table, int, int], Any]:
    return lambda table, seed, _: OptunaSearcher(sampler(seed), table.axes(), seed=seed)


def _bracketed(searcher: Any) -> Callable[[Table, int, int], Any]:
    budgets = {"min_budget": SMALLEST, "max_budget": FULL, "eta": ETA}
    return lambda table, seed, _: searcher(table.configuration_space(), seed=seed, **budgets)


METHODS: dict[str, tuple[Callable[[Table, int, int], Any], Alone]] = {
    "rs": (
        lambda table, seed, _: RandomSearch(table.configuration_space(), max_budget=FULL, seed=seed),
        hpbandster_alone("RandomSearch"),
    ),
    "hb": (_bracketed(Hyperband), hpbandster_alone("HyperBand")),
    "bohb": (_bracketed(BOHB), hpbandster_alone("BOHB")),
    "dehb": (_bracketed(DEHB), dehb_alone),
    "smac": (
        lambda table, seed, evaluations: SMAC(
            table.configuration_space(),
            min_budget=SMALLEST,
            max_budget=FULL,
            eta=ETA,
            seed=seed,
            expected_evaluations=evaluations,
        ),
        smac_alone,
    ),
    "tpe": (_optuna(tpe), optuna_alone(tpe)),
    "gp": (_optuna(gaussian_process), optuna_alone(gaussian_process)),
    "cma-es": (_optuna(cma_es), optuna_alone(cma_es)),
}


def compare(method: str, table: Table, seeds: int, evaluations: int) -> Comparison:
    """Both ways, seed by seed."""
    adapter, alone = METHODS[method]
    same, seconds = 0, 0.0
    regrets: tuple[list[float], list[float]] = ([], [])
    optimum = table.optimum()
    for seed in range(seeds):
        searcher = adapter(table, seed, evaluations)
        arguments: dict[str, Any] = {"full_budget": FULL, "time_limit": np.inf, "evaluations": evaluations}
        observed = simulate(searcher, table.evaluate, count_searcher=False, **arguments)
        seconds += searcher.optimizer_seconds
        ours = [(seen.hyperparameters, seen.budget) for seen in observed]
        same += ours == alone(table, seed, evaluations)
        regrets[0].append(_final(table, ours) - optimum)
        regrets[1].append(_final(table, alone(table, seeds + seed, evaluations)) - optimum)
    p = float(mannwhitneyu(*regrets).pvalue)
    mine, others = (float(np.median(values)) for values in regrets)
    return Comparison(method, seeds, evaluations, same, mine, others, p, seconds / (seeds * evaluations))


def _final(table: Table, evaluated: list[Evaluated]) -> float:
    """The best loss at the full budget."""
    return min((table.evaluate(*one)[0] for one in evaluated if one[1] == FULL), default=np.nan)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=DATA_SETS, default="vehicle")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--output", type=Path)
    given = parse_sizes(parser, sys.argv[1:], methods="rs", seeds=2, evaluations=4)
    warnings.simplefilter("ignore")
    table, console = load_table(given.table), Console()
    rows = []
    for method in given.methods.split(","):
        rows.append(compare(method, table, given.seeds, given.evaluations))
        console.print(rows[-1])
    shown = Rows("method", "seeds", "same", "regret", "regret alone", "p", "searcher ms")
    for row in rows:
        numbers = f"{row.regret:.4f}", f"{row.regret_alone:.4f}", f"{row.p:.2f}", f"{1e3 * row.searcher_seconds:.1f}"
        shown.add_row(row.method, str(row.seeds), str(row.same), *numbers)
    console.print(shown)
    if given.output is not None:
        given.output.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
