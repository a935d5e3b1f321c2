"""Every trainable, scheduler and searcher of the package passes the public checks: a row of a table each."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import raytune_hyperlearn
from raytune_hyperlearn import baselines
from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.baselines import BOHB, BayesianOptimization, Hyperband, RandomSearch
from raytune_hyperlearn.baselines.peers import (
    DEHB,
    SMAC,
    OptunaSearcher,
    RandomDraws,
    TuneBOHB,
    cma_es,
    gaussian_process,
    tpe,
)
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.testing import Check, SchedulerCase, SearcherCase, TrainableCase, private_names_of_ray
from raytune_hyperlearn.tune import (
    ArbiterScheduler,
    ArbiterTrainable,
    BatchAdaptiveScheduler,
    BatchAdaptiveTrainable,
    DecayedTrainable,
    FDSScheduler,
    FDSTrainable,
    HypergradientDescentTrainable,
    OneRunTrainable,
    PopulationTrainable,
    RetrainingTrainable,
    SGDTrainable,
)
from tests.baselines import spaces, test_peers
from tests.tune import test_arbiter, test_batch_adaptive, test_population
from tests.tune.small import SPACE, VALUES, dropout_problem, small_problem

SMALL = {"problem": small_problem, "space": SPACE, "seed": 5, "epochs": 2}
DROPOUT = {**SMALL, "problem": dropout_problem, "replicates": 2}
ONE_RATE = SearchSpace(LearningRate(values=1), Momentum(), WeightDecay())
ONE_OF_EACH = {"learning_rate_0": 0.4, "momentum_0": 0.9, "weight_decay_0": 1e-3}
ARBITER = test_arbiter.CONFIG
STARTS = {"start": {"learning_rate": 0.1}, "hyper_rates": {"learning_rate": 1e-2}}
PRODIGY = {"optimizer": "prodigy", "options": {"learning_rate": 1.0, "weight_decay": 0.1}}

TRAINABLES = [
    TrainableCase(SGDTrainable, {**DROPOUT, "hyperparameters": VALUES, "epochs_per_step": 0.5}),
    TrainableCase(DecayedTrainable, {**SMALL, "space": ONE_RATE, "hyperparameters": ONE_OF_EACH, "decay": "cosine"}),
    TrainableCase(FDSTrainable, {**SMALL, "outer_steps": 4}),
    TrainableCase(HypergradientDescentTrainable, {**DROPOUT, **STARTS, "epochs": 4}),
    TrainableCase(BatchAdaptiveTrainable, {**test_batch_adaptive.CONFIG, "replicates": 2}, steps=3),
    TrainableCase(ArbiterTrainable, {**ARBITER, "milestones": [[1, 8], [3, 32]], "replicates": 2}, steps=5),
    TrainableCase(PopulationTrainable, test_population.config(test_population.FIRST)),
    TrainableCase(RetrainingTrainable, {**SMALL, "hyperparameters": VALUES, "retrainings": 2}),
    TrainableCase(OneRunTrainable, {**SMALL, "space": SearchSpace(), **PRODIGY}),
]
VARIANTS = [
    *(
        TrainableCase(
            BatchAdaptiveTrainable,
            {**test_batch_adaptive.CONFIG, "rule": rule, "replicates": 2},
            steps=3,
            name=f"BatchAdaptiveTrainable by {name}",
        )
        for name, rule in test_batch_adaptive.RULES.items()
        if name != "ba"
    ),
    *(
        TrainableCase(ArbiterTrainable, {**ARBITER, **options}, steps=5, name=f"ArbiterTrainable with {name}")
        for name, options in {
            "SGD-HD": {"optimizer": "sgd-hd", "hyper_rate": 1e-3},
            "Adam-HD": {"optimizer": "adam-hd", "hyperparameters": {"learning_rate": 0.01}},
            "a random walk": {"chosen_by": "random-walk"},
            "a replay": {"chosen_by": "replay"},
        }.items()
    ),
]
"""Of which only a checkpoint's continuation is of interest."""

SCHEDULERS = [
    SchedulerCase(FDSScheduler, FDSTrainable, {**SMALL, "outer_steps": 4}),
    SchedulerCase(ArbiterScheduler, ArbiterTrainable, {**ARBITER, "updated_by": "scheduler"}),
    SchedulerCase(
        partial(BatchAdaptiveScheduler, max_batch_size=300, min_batch_size=4, minimum_loss=0.25),
        test_batch_adaptive.Regression,
        {"learning_rate": 0.3, "batch_size": 4},
        steps=6,
    ),
]


def result(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a searcher's trial."""
    return {"validation_loss": loss(config), "epochs": config.get("epochs", 9.0), "training_iteration": 1}


def loss(config: Mapping[str, Any]) -> float:
    """A bowl."""
    values = config["hyperparameters"]
    if "a" in values:
        return test_peers.loss(values, config.get("epochs", 1.0))
    return spaces.loss(values, config["epochs"])


BRACKETS = {"min_budget": 1, "max_budget": 9, "seed": 11}
SEARCHERS = [
    SearcherCase(lambda: RandomSearch(spaces.mixed_space(), max_budget=3, seed=1), result),
    SearcherCase(lambda: BayesianOptimization(spaces.mixed_space(), max_budget=2, seed=1), result, trials=16),
    SearcherCase(lambda: Hyperband(spaces.mixed_space(), **BRACKETS), result),
    SearcherCase(lambda: BOHB(spaces.mixed_space(), **BRACKETS), result, trials=16),
    SearcherCase(lambda: SMAC(test_peers.space(), **BRACKETS, expected_evaluations=12), result, trials=13),
    SearcherCase(lambda: DEHB(test_peers.space(), **BRACKETS), result, trials=30),
    *(
        SearcherCase(
            lambda make=make: OptunaSearcher(make(5), test_peers.AXES, seed=5, full_budget=9.0), result, trials, name
        )
        for name, make, trials in (("TPE", tpe, 14), ("GP", gaussian_process, 11), ("CMA-ES", cma_es, 14))
    ),
    SearcherCase(lambda: RandomDraws({"a": Axis(0, 1), "b": Axis(-2, 2), "c": Axis(0, 1)}, budget=1.0, seed=5), result),
    SearcherCase(lambda: TuneBOHB(test_peers.space(), seed=5), result),
]


CHECKS = [check for case in (*TRAINABLES, *SCHEDULERS, *SEARCHERS) for check in case.checks()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", [*CHECKS, *(case.checks()[0] for case in VARIANTS)])
def test_it_does_as_promised(check: Check) -> None:
    check()


def test_the_example_of_the_documentation_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"
    for title, code in re.findall(r'^```python title="(.+?)"\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL):
        (tmp_path / title).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    checks = importlib.import_module("test_mine").CASE.checks()
    assert len(checks) == 8
    for check in checks:
        check()


class TestWhatIsFound:
    """Checks that cannot fail would hold nothing."""

    def broken(self, trainable: type[SGDTrainable], promise: str) -> None:
        config = {**SMALL, "hyperparameters": VALUES, "epochs_per_step": 0.5}
        (check,) = [c for c in TrainableCase(trainable, config).checks() if c.promise == promise]
        with pytest.raises(AssertionError):
            check()

    def test_a_checkpoint_that_forgets(self) -> None:
        class Forgets(SGDTrainable):
            def load_checkpoint(self, checkpoint_dir: str) -> None:
                super().load_checkpoint(checkpoint_dir)
                self.done_steps = 0

        self.broken(Forgets, "a checkpoint continues bit for bit")

    def test_an_actor_that_remembers(self) -> None:
        class Remembers(SGDTrainable):
            def reset_config(self, new_config: dict[str, Any]) -> bool:
                return True

        self.broken(Remembers, "a reused actor is as good as a new one")

    def test_a_key_that_is_not_checked(self) -> None:
        class Takes(SGDTrainable):
            allowed = SGDTrainable.allowed | {"no_such_key"}

        self.broken(Takes, "unknown keys are refused")
        self.broken(Takes, "ill-typed values are refused")

    def test_random_numbers_of_others(self) -> None:
        class Draws(SGDTrainable):
            def step(self) -> dict[str, Any]:
                return super().step() | {"drawn": random.random()}

        self.broken(Draws, "another process gives the same")

    def test_a_private_name(self, tmp_path: Path) -> None:
        file = tmp_path / "uses.py"
        file.write_text("import ray._private.worker\nfrom ray import tune\ntune.x._y = 1\n")
        found = private_names_of_ray(file)
        assert [line.rpartition(": ")[2] for line in found] == [
            "ray._private.worker is private to Ray",
            "_y is private to Ray",
        ]


def test_no_file_of_the_package_uses_a_private_name_of_ray() -> None:
    folders = [Path(package.__file__).parent for package in (raytune_hyperlearn, baselines) if package.__file__]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    assert len(files) > 100
    assert [line for file in files for line in private_names_of_ray(file)] == []
