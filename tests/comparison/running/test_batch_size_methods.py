"""The comparison's methods that train at batch sizes of a rule: their configs, refusals, and a run on Ray Tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.baselines.batch_sizes import CABS, Constant, GradientNoiseScale, Manual
from raytune_hyperlearn.comparison.records import read_records
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES
from raytune_hyperlearn.comparison.running.folder import prepare_folder
from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method
from raytune_hyperlearn.comparison.running.run import run_experiment
from raytune_hyperlearn.tune import BatchAdaptiveTrainable
from tests.comparison.synthetic import make_experiment

RULES = {
    "ba-sgd": GaussianWalkRule,
    "ba-momentum": GaussianWalkRule,
    "mini-32": Constant,
    "mini-64": Constant,
    "mini-128": Constant,
    "mini-256": Constant,
    "manual": Manual,
    "cabs": CABS,
    "gns": GradientNoiseScale,
}


def experiment(**changes: Any) -> Any:
    settings = {"methods": tuple(RULES), "epochs": 8.0, "min_epochs": 1.0, "reference": None}
    return make_experiment(**{**settings, **changes})


@pytest.mark.parametrize("name", RULES)
def test_setup_of_every_method(name: str) -> None:
    setup = setup_method(experiment(), name, seed=0)
    assert setup.trainable is BatchAdaptiveTrainable
    assert isinstance(setup.config["rule"](), RULES[name])
    assert setup.config["momentum"] == (0.0 if name == "ba-sgd" else 0.9)
    assert setup.searcher is None
    assert METHOD_STYLES[name].short


def test_options_reach_the_rule() -> None:
    options = {"ba-sgd": {"m0": 8, "covariance": "newest", "max_batch_size": 64}, "manual": {"start": 16}}
    made = experiment(method_options=options)
    adaptive = setup_method(made, "ba-sgd", 0).config
    assert (adaptive["rule"]().increment, adaptive["rule"]().variance, adaptive["max_batch_size"]) == (8, "newest", 64)
    config = setup_method(made, "manual", 0).config
    doubled = config["rule"]()
    assert config["max_batch_size"] == doubled.max_batch_size
    assert (doubled.start, doubled.double_every, doubled.max_batch_size) == (16, 2.0, 256)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mini-32", {"learning_rate": 0.0}, "learning_rate is 0.0"),
        ("ba-sgd", {"covariance": "full"}, "covariance is 'full'"),
        ("ba-momentum", {"m0": 1}, "increment is 1"),
        ("cabs", {"decay": 1.0}, "decay is 1.0"),
        ("mini-64", {"batch_size": 3}, "option of mini-64 is 'batch_size'"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        setup_method(experiment(method_options={name: options}), name, 0)


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_run_records_every_epoch_with_its_training_loss(tmp_path: Path) -> None:
    small = experiment(methods=("ba-momentum", "manual"), seeds=(0,), epochs=2.0, workers=1, time_limit=60.0)
    folder = prepare_folder(small, tmp_path / "run", resume=False)
    run_experiment(small, folder, lambda method, seed: None)
    records = read_records(folder.records)
    assert [(record.method, record.budget) for record in records] == [
        ("ba-momentum", 1.0),
        ("ba-momentum", 2.0),
        ("manual", 1.0),
        ("manual", 2.0),
    ]
    for record in records:
        assert 0 < record.info["training_loss"] < 3
        assert record.info["largest_batch_size"] >= record.info["mean_batch_size"]
        assert len(record.hyperparameters["batch_size"]) == record.budget
    assert set(METHODS) >= set(RULES)
