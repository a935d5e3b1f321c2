from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from raytune_hyperlearn.baselines import BOHB, BayesianOptimization, Hyperband, RandomSearch
from raytune_hyperlearn.baselines.hpbandster_searcher import HpBandSterSearcher
from raytune_hyperlearn.tune import restore_tuner
from tests.baselines.spaces import loss, mixed_space
from tests.baselines.tiny_trainable import TinyTrainable, bohb_searcher
from tests.tune.kept import kept_trials

BRACKET_BUDGETS = Counter({1.0: 9, 3.0: 3 + 3, 9.0: 1 + 1 + 3})  # of three brackets, 1 to 9 epochs, η = 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("searcher", "budgets"),
    [
        (RandomSearch(mixed_space(), max_budget=3, seed=1, iterations=8), Counter({3.0: 8})),
        (BayesianOptimization(mixed_space(), max_budget=2, seed=1, iterations=20), Counter({2.0: 20})),
        (Hyperband(mixed_space(), min_budget=1, max_budget=9, seed=1, iterations=3), BRACKET_BUDGETS),
        (BOHB(mixed_space(), min_budget=1, max_budget=9, seed=1, iterations=3), BRACKET_BUDGETS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, HpBandSterSearcher) else "",
)
def test_tuner(ray_session: str, tmp_path: Path, searcher: HpBandSterSearcher, budgets: Counter[float]) -> None:
    results = tune.Tuner(
        TinyTrainable,
        param_space={"problem": "tiny"},
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True, max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()

    assert results.num_errors == 0
    configs = [result.config for result in results]
    assert Counter(config["epochs"] for config in configs) == budgets
    assert {config["problem"] for config in configs} == {"tiny"}
    assert len({(config["config_id"], config["epochs"]) for config in configs}) == len(configs)
    for result in results:
        assert result.metrics["epochs"] == result.config["epochs"]
        assert result.metrics["validation_loss"] == loss(result.config["hyperparameters"], result.config["epochs"])
    assert len({result.metrics["pid"] for result in results}) <= 2  # actors were reused
    assert searcher.optimizer_seconds > 0.0


@pytest.mark.long
def test_tune_run_with_crashing_trials(ray_session: str, tmp_path: Path) -> None:
    searcher = Hyperband(mixed_space(), min_budget=1, max_budget=9, seed=1, iterations=1)

    analysis = tune.run(
        TinyTrainable,
        config={"problem": "tiny", "crash_above": 0.85},
        search_alg=searcher,
        num_samples=-1,
        reuse_actors=True,
        max_concurrent_trials=2,
        storage_path=str(tmp_path),
        raise_on_failed_trial=False,
        verbose=0,
    )

    momentum = {trial: trial.config["hyperparameters"]["momentum"] for trial in analysis.trials}
    assert {trial.status for trial in momentum} == {"TERMINATED", "ERROR"}
    assert all((trial.status == "ERROR") == (value > 0.85) for trial, value in momentum.items())
    # A configuration that crashed was run once; the rungs are full nevertheless.
    runs = Counter(trial.config["config_id"] for trial in analysis.trials)
    assert all(runs[trial.config["config_id"]] == 1 for trial, value in momentum.items() if value > 0.85)
    assert Counter(trial.config["epochs"] for trial in analysis.trials) == Counter({1.0: 9, 3.0: 3, 9.0: 1})


@pytest.mark.long
def test_restored_tuner_continues_the_bracket(
    ray_session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver killed in the middle and restored makes exactly the evaluations of one that was not."""
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0.5")
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.baselines.tiny_trainable", ray_session, str(tmp_path)],
        cwd=Path(__file__).parents[2],
    )
    try:
        wait_for_snapshot(tmp_path / "killed", driver, completed=15)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()

    restored = restore_tuner(
        tmp_path / "killed", TinyTrainable, param_space={"problem": "tiny", "seconds_per_epoch": 0.0}
    )
    results = restored.fit()

    assert results.num_errors == 0
    expected = uninterrupted(bohb_searcher())
    assert any(suggestion["model_based_pick"] for suggestion in expected)
    assert sorted_by_id({"problem": "tiny", **suggestion} for suggestion in expected) == sorted_by_id(
        {key: value for key, value in result.config.items() if key != "seconds_per_epoch"} for result in results
    )


def wait_for_snapshot(experiment: Path, driver: subprocess.Popen[bytes], *, completed: int) -> None:
    """Return once Tune has written a state in which so many trials are done; the driver must still be at work."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended before it could be killed"
        done = kept_trials(experiment).count('\\"status\\": \\"TERMINATED\\"')
        if done >= completed:
            return
        time.sleep(0.05)
    raise TimeoutError(f"no snapshot with {completed} trials, the last had {done}")


def uninterrupted(searcher: HpBandSterSearcher) -> list[dict[str, Any]]:
    suggestions: list[dict[str, Any]] = []
    while isinstance(suggestion := searcher.suggest(f"trial_{len(suggestions)}"), dict):
        value = loss(suggestion["hyperparameters"], suggestion["epochs"])
        searcher.on_trial_complete(f"trial_{len(suggestions)}", result={"validation_loss": value})
        suggestions.append(suggestion)
    return suggestions


def sorted_by_id(configs: Any) -> list[dict[str, Any]]:
    return sorted(configs, key=lambda config: json.dumps([config["config_id"], config["epochs"]]))
