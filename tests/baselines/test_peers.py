"""Every peer's adapter against its own library, driven directly with the same seed: the same configurations."""

from __future__ import annotations

import copy
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from ConfigSpace import ConfigurationSpace, Float

from raytune_hyperlearn.algorithms.coordinates import Axis
from raytune_hyperlearn.baselines.global_generators import GlobalGenerators
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

RANGES = {"a": (0.0, 1.0), "b": (-2.0, 2.0), "c": (0.0, 0.1)}
AXES = {name: Axis(*ends) for name, ends in RANGES.items()}
SAMPLERS = {"tpe": tpe, "gp": gaussian_process, "cma-es": cma_es}
LONG_ENOUGH = {"tpe": 20, "gp": 14, "cma-es": 20}
"""Evaluations after which each sampler has used its model."""


def space() -> ConfigurationSpace:
    made = ConfigurationSpace()
    made.add(*[Float(name, ends) for name, ends in RANGES.items()])
    return made


def loss(values: Any, budget: float = 1.0) -> float:
    return float((values["a"] - 0.3) ** 2 + abs(values["b"]) + 10 * values["c"] + 1 / budget)


def drive(searcher: Any, evaluations: int, first: int = 0) -> list[dict[str, Any]]:
    """What the searcher suggests, one trial at a time."""
    suggestions = []
    for index in range(first, first + evaluations):
        suggestion = searcher.suggest(f"t{index}")
        value = loss(suggestion["hyperparameters"], suggestion.get("epochs", 1.0))
        searcher.on_trial_complete(f"t{index}", {"validation_loss": value, "epochs": 9.0, "training_iteration": 1})
        suggestions.append(suggestion)
    return suggestions


def smac(**options: Any) -> SMAC:
    return SMAC(space(), min_budget=1, max_budget=9, seed=5, expected_evaluations=12, **options)


def dehb(**options: Any) -> DEHB:
    return DEHB(space(), min_budget=1, max_budget=9, seed=5, **options)


def sampled(name: str, seed: int = 5) -> OptunaSearcher:
    return OptunaSearcher(SAMPLERS[name](seed), AXES, seed=seed, full_budget=9.0)


def test_smac_gives_the_configurations_of_its_own_facade(tmp_path: Path) -> None:
    from smac import MultiFidelityFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    own = space()
    own.seed(5)
    facade = MultiFidelityFacade(
        Scenario(own, output_directory=tmp_path, deterministic=True, n_trials=12, min_budget=1, max_budget=9, seed=5),
        target_function=None,
        logging_level=False,
        overwrite=True,
    )
    expected = []
    for _ in range(16):
        job = facade.ask()
        expected.append(({name: float(job.config[name]) for name in RANGES}, job.budget))
        facade.tell(job, TrialValue(cost=loss(job.config, job.budget)), save=False)

    suggestions = drive(smac(), 16)
    assert [(s["hyperparameters"], s["epochs"]) for s in suggestions] == expected
    assert any(s["model_based_pick"] for s in suggestions)
    assert not suggestions[0]["model_based_pick"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dehb_gives_the_configurations_of_its_own_library(tmp_path: Path) -> None:
    from dehb import DEHB as Library  # noqa: N811

    own = space()
    own.seed(5)
    library = Library(
        cs=own, f=None, min_fidelity=1, max_fidelity=9, eta=3, seed=5, n_workers=1, output_path=str(tmp_path)
    )
    expected = []
    for _ in range(60):
        job = library.ask()
        expected.append(({name: float(job["config"][name]) for name in RANGES}, job["fidelity"], job["config_id"]))
        library.tell(job, {"fitness": loss(job["config"], job["fidelity"]), "cost": 0.0})

    suggestions = drive(dehb(), 60)
    assert [(s["hyperparameters"], s["epochs"], int(s["config_id"])) for s in suggestions] == expected
    assert len({s["config_id"] for s in suggestions if s["epochs"] == 9}) < 60  # some were promoted under their name


@pytest.mark.parametrize("name", SAMPLERS)
def test_optunas_samplers_give_the_configurations_of_a_study(name: str) -> None:
    study = optuna.create_study(sampler=SAMPLERS[name](5))
    distributions = {key: optuna.distributions.FloatDistribution(*e) for key, e in RANGES.items()}
    expected = []
    for _ in range(LONG_ENOUGH[name]):
        trial = study.ask(distributions)
        values = {key: trial.params[key] for key in RANGES}
        expected.append(values)
        study.tell(trial, loss(values))
    assert [s["hyperparameters"] for s in drive(sampled(name), LONG_ENOUGH[name])] == expected


def test_a_trial_that_a_scheduler_stops_is_pruned_as_in_optuna() -> None:
    study = optuna.create_study(sampler=tpe(5))
    distributions = {key: optuna.distributions.FloatDistribution(*e) for key, e in RANGES.items()}
    searcher = sampled("tpe")
    for index in range(20):
        trial, suggestion = study.ask(distributions), searcher.suggest(f"t{index}")
        assert suggestion is not None
        values = suggestion["hyperparameters"]
        assert values == {key: trial.params[key] for key in RANGES}
        first, last = loss(values, 1.0), loss(values, 9.0)
        searcher.on_trial_result(f"t{index}", {"validation_loss": first, "training_iteration": 1})
        trial.report(first, 1)
        if index % 2:
            second = {"validation_loss": last, "epochs": 3.0, "training_iteration": 3}
            trial.report(last, 3)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            second = {"validation_loss": last, "epochs": 9.0, "training_iteration": 9}
            study.tell(trial, last)
        searcher.on_trial_complete(f"t{index}", second)


ALL: dict[str, tuple[Callable[[], Any], int]] = {
    "smac": (smac, 13),
    "dehb": (dehb, 30),
    "tpe": (lambda: sampled("tpe"), 14),
    "gp": (lambda: sampled("gp"), 11),
    "cma-es": (lambda: sampled("cma-es"), 14),
    "random": (lambda: RandomDraws(AXES, budget=1.0, seed=5), 10),
    "tune-bohb": (lambda: TuneBOHB(space(), seed=5), 10),
}


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("name", ["smac", "dehb", "tpe", "gp", "cma-es"])
def test_nan_infinity_and_crashes_are_told_as_the_worst_loss_and_end_nothing(name: str, mode: str) -> None:
    options: dict[str, Any] = {"mode": mode}
    if name in SAMPLERS:
        searcher: Any = OptunaSearcher(SAMPLERS[name](5), AXES, seed=5, full_budget=9.0, **options)
    else:
        searcher = {"smac": smac, "dehb": dehb}[name](**options)
    sign = 1.0 if mode == "min" else -1.0
    fates = [math.nan, math.inf, -math.inf, None]
    for index in range(14 if name in ("smac", "gp") else 30):
        suggestion = searcher.suggest(f"t{index}")
        assert all(RANGES[key][0] <= value <= RANGES[key][1] for key, value in suggestion["hyperparameters"].items())
        fate = fates[index % 4] if index % 3 == 0 else sign * loss(suggestion["hyperparameters"])
        if fate is None:
            searcher.on_trial_complete(f"t{index}", error=True)
        else:
            result = {"validation_loss": fate, "epochs": 9.0, "training_iteration": 1}
            searcher.on_trial_complete(f"t{index}", result)
    if name in SAMPLERS:
        values = [trial.value for trial in searcher.study.trials]
        assert list(values[::3]) == [sign * math.inf] * len(values[::3])
    else:
        told = [value for _, value in searcher.ask_tell.events if value is not None]
        assert np.isfinite(told).all()
        assert all(told[index] >= max(told[:index]) for index in range(3, len(told), 3))


def test_populations_are_drawn_one_after_the_other() -> None:
    draws = RandomDraws(AXES, budget=9.0, seed=1, population=3, config_key=None)
    first = [draws.suggest(f"t{index}") for index in range(4)]
    assert first[3] is None
    assert first[0] is not None
    assert set(RANGES) <= set(first[0])
    for index in range(2):
        draws.on_trial_complete(f"t{index}", {"validation_loss": 1.0})
        assert draws.suggest("next") is None
    draws.on_trial_complete("t2", error=True)
    assert isinstance(draws.suggest("next"), dict)


def test_logarithmic_scales_are_drawn_log_uniformly_and_told_to_optuna() -> None:
    axes = {"a": Axis(1e-4, 1.0, "log")}
    draws = RandomDraws(axes, budget=1.0, seed=0)
    drawn = [draws.suggest(f"t{index}")["hyperparameters"]["a"] for index in range(400)]  # type: ignore[index, call-overload]
    assert np.mean(np.array(drawn) < 1e-2) == pytest.approx(0.5, abs=0.08)  # the middle of the logarithms
    searcher = OptunaSearcher(tpe(0), axes, seed=0)
    searcher.suggest("t")
    assert searcher.study.trials[0].distributions["a"].log


def test_private_generators_survive_pickling_and_are_two_streams() -> None:
    import pickle

    private = GlobalGenerators(3)
    with private.swapped_in():
        first = random.random(), np.random.rand()
    again = pickle.loads(pickle.dumps(private))
    with private.swapped_in():
        second = random.random(), np.random.rand()
    with again.swapped_in():
        assert (random.random(), np.random.rand()) == second
    assert first != second
    with GlobalGenerators(3).swapped_in():
        assert (random.random(), np.random.rand()) == first


@pytest.mark.parametrize("searcher", [SMAC, DEHB])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_budget": 9}, "min_budget is 9; .* below max_budget, 9"),
        ({"min_budget": 0}, "min_budget must be a finite number > 0"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"eta": 1}, "eta must be a finite number >= 2"),
        ({"mode": "up"}, "mode must be 'min' or 'max'"),
        ({"space": {}}, "space must be a ConfigSpace.ConfigurationSpace"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(searcher: Any, change: dict[str, Any], message: str) -> None:
    arguments = {"space": space(), "min_budget": 1, "max_budget": 9, "seed": 0, **change}
    with pytest.raises(ValueError, match=message) as refusal:
        searcher(arguments.pop("space"), **arguments)
    assert "\n" not in str(refusal.value)


def test_the_libraries_stay_silent(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger().level
    drive(copy.copy(dehb()), 10)
    drive(smac(), 3)
    drive(sampled("tpe"), 3)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().level == level
