"""Batch adaptive training on Ray Tune: the trainable's epochs, rules and restores; the scheduler's choices."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune
from torch import nn

from raytune_hyperlearn.algorithms.batch_adaptive import BatchAdaptiveSGD, GaussianWalkRule, Walk, best_batch_size
from raytune_hyperlearn.algorithms.sampler import EpochSampler
from raytune_hyperlearn.baselines.batch_sizes import CABS, Constant, GradientNoiseScale, Manual
from raytune_hyperlearn.problems import Examples, Problem, Purpose, derived_seed
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune.batch_adaptive import BatchAdaptiveScheduler, BatchAdaptiveTrainable


def small_model() -> nn.Module:
    """A network that trains in milliseconds, with dropout, whose masks a restored run must draw again."""
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def small_problem() -> Problem:
    """Three classes with a few wrong labels, so that gradients are noisy."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(340, 4, generator=generator)
    targets = (inputs @ torch.randn(4, 3, generator=generator)).argmax(dim=1)
    targets[::7] = 0
    return Problem(
        name="small",
        model=small_model,
        train=Examples(inputs[:300], targets[:300]),
        test=Examples(inputs[300:], targets[300:]),
        batch_size=20,
        epochs=3,
    )


CONFIG: dict[str, Any] = {
    "problem": small_problem,
    "seed": 5,
    "rule": partial(GaussianWalkRule, increment=8),
    "learning_rate": 0.1,
    "momentum": 0.9,
    "max_batch_size": 128,
}
RULES = {
    "ba": partial(GaussianWalkRule, increment=8),
    "mini": partial(Constant, 16),
    "manual": partial(Manual, start=8, double_every=1, max_batch_size=64),
    "cabs": partial(CABS, start=8, min_batch_size=4),
    "gradient noise scale": partial(GradientNoiseScale, start=8, min_batch_size=4),
}


def steps(trainable: BatchAdaptiveTrainable, count: int) -> list[dict[str, Any]]:
    return [trainable.step() for _ in range(count)]


def test_trains_as_the_plain_optimizer_does() -> None:
    """Same network, order and masks as a plain script with BatchAdaptiveSGD."""
    found = steps(BatchAdaptiveTrainable(dict(CONFIG)), 3)
    problem, seed = small_problem(), derived_seed(derived_seed(5, Purpose.TRIAL), Purpose.REPLICATE, 0)
    model, train = initialize(problem.model, seed), problem.split(5).train
    sampler = EpochSampler(train.inputs, train.targets, derived_seed(seed, Purpose.ORDER))
    optimizer = BatchAdaptiveSGD(
        model,
        problem.loss,
        sampler,
        lr=0.1,
        momentum=0.9,
        m0=8,
        max_batch_size=128,
        seed=derived_seed(seed, Purpose.DROPOUT),
    )
    sizes = []
    while sampler.epochs < 3:
        sizes.append(optimizer.step().batch_size)
    assert [size for result in found for size in result["batch_sizes"]] == sizes
    assert len(set(sizes)) > 2
    model.eval()
    with torch.no_grad():
        loss = problem.loss(model(train.inputs), train.targets).mean().item()
    assert found[-1]["training_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_scans_one_epoch_per_step(name: str) -> None:
    trainable = BatchAdaptiveTrainable({**CONFIG, "rule": RULES[name], "epochs": 2.5, "learning_rate": 0.02})
    results = steps(trainable, 3)
    scanned = 0
    for result, epochs, done in zip(results, (1, 2, 2.5), (False, False, True), strict=True):
        scanned += result["instances"]
        assert sum(result["batch_sizes"]) == result["instances"]
        assert epochs * 240 <= scanned < epochs * 240 + max(result["batch_sizes"])
        assert result["mean_batch_size"] == result["instances"] / result["updates"]
        assert (result["epochs"], result["done"], result["status"]) == (epochs, done, "completed")
    assert results[-1]["training_loss"] < results[0]["training_loss"]
    assert results[-1]["hyperparameters"]["batch_size"] == [result["mean_batch_size"] for result in results]


def image_model() -> nn.Module:
    """Two convolutions."""
    convolutions = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU()
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(12, 3)).double()


def image_problem() -> Problem:
    """Images of noise whose brightest corner is their class, in double precision."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(120, 2, 6, 6, generator=generator, dtype=torch.float64)
    targets = inputs[:, 0, [0, 0, 5], [0, 5, 0]].argmax(dim=1)
    train, test = Examples(inputs[:100], targets[:100]), Examples(inputs[100:], targets[100:])
    return Problem(name="images", model=image_model, train=train, test=test, batch_size=20, epochs=3)


def test_channels_last_train_alike(tmp_path: Path) -> None:
    config = {**CONFIG, "problem": image_problem, "learning_rate": 0.02}
    plain = steps(BatchAdaptiveTrainable(config), 3)
    trainable = BatchAdaptiveTrainable({**config, "channels_last": True})
    found = steps(trainable, 2)
    trainable.save_checkpoint(str(tmp_path))
    restored = BatchAdaptiveTrainable({**config, "channels_last": True})
    restored.load_checkpoint(str(tmp_path))
    found += steps(restored, 1)
    weight = restored.models[0].get_submodule("2").get_parameter("weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert [result["batch_sizes"] for result in found] == [result["batch_sizes"] for result in plain]
    assert found[-1]["training_loss"] < found[0]["training_loss"]
    for result, expected in zip(found, plain, strict=True):
        assert result["training_loss"] == pytest.approx(expected["training_loss"], rel=1e-9)


def test_config_wins_over_the_checkpoint(tmp_path: Path) -> None:
    old = BatchAdaptiveTrainable(dict(CONFIG))
    old.step()
    old.save_checkpoint(str(tmp_path))
    changed = BatchAdaptiveTrainable({**CONFIG, "learning_rate": 0.01, "momentum": 0.5})
    changed.load_checkpoint(str(tmp_path))
    assert changed.optimizers[0].param_groups[0]["lr"] == 0.01
    assert changed.optimizers[0].param_groups[0]["momentum"] == 0.5
    assert changed.step()["hyperparameters"]["learning_rate"] == [0.01]


def test_replicates_are_averaged_and_differ() -> None:
    result = BatchAdaptiveTrainable({**CONFIG, "replicates": 2}).step()
    single = BatchAdaptiveTrainable(dict(CONFIG)).step()
    assert result["batch_sizes"] == single["batch_sizes"]
    assert result["training_loss"] != single["training_loss"]
    assert result["instances"] >= 480


def test_divergence_is_a_result_not_a_crash() -> None:
    result = BatchAdaptiveTrainable({**CONFIG, "learning_rate": 1e38}).step()
    assert (result["status"], result["done"]) == ("diverged", True)
    assert result["validation_loss"] == result["training_loss"] == math.inf


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rule", "ba", "rule is 'ba'"),
        ("rule", partial(Constant, 0), "batch_size is 0"),
        ("learning_rate", -1.0, "learning_rate is -1.0"),
        ("momentum", 1.0, "momentum is 1.0"),
        ("max_batch_size", 0, "max_batch_size is 0"),
        ("channels_last", "yes", "channels_last is 'yes'; it must be true or false"),
        ("gradient_clamp", 3.0, "gradient_clamp is 3.0"),
    ],
)
def test_bad_config_is_refused_in_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        BatchAdaptiveTrainable({**CONFIG, key: value})
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("ray_session")
def test_runs_under_tune(tmp_path: Path) -> None:
    results = tune.Tuner(
        BatchAdaptiveTrainable,
        param_space={**CONFIG, "rule": tune.grid_search([RULES["ba"], RULES["mini"]])},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert results.num_errors == 0
    for result, rule in zip(results, ("ba", "mini"), strict=True):
        alone = steps(BatchAdaptiveTrainable({**CONFIG, "rule": RULES[rule]}), 3)[-1]
        assert result.metrics is not None
        assert result.metrics["batch_sizes"] == alone["batch_sizes"]
        assert result.metrics["validation_loss"] == alone["validation_loss"]


class Regression(tune.Trainable):
    """A user's own trainable: least squares in one unknown, one update per step; reports s, μ and σ.

    With ``dies_at`` its process ends before that step, once. With ``room`` it runs out of memory above that size.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.weight = 0.0
        self.batch_size = config["batch_size"]

    def step(self) -> dict[str, Any]:
        marker = self.config.get("marker")
        if marker and self.iteration == self.config["dies_at"] and not Path(marker).exists():
            Path(marker).touch()
            os._exit(1)
        if self.batch_size > self.config.get("room", math.inf):
            return {"status": "out_of_memory", "used": self.batch_size}
        x = torch.randn(self.batch_size, generator=self.generator, dtype=torch.float64)
        errors = self.weight * x - (3 * x + torch.randn(self.batch_size, generator=self.generator))
        gradients = errors * x
        mean = gradients.mean().item()
        self.weight -= self.config["learning_rate"] * mean
        return {
            "loss": errors.square().mean().item() / 2,
            "drift": mean**2,
            "deviation": abs(mean) * gradients.std().item(),
            "used": self.batch_size,
        }

    def apply_update(self, update: dict[str, Any]) -> None:
        self.batch_size = update["batch_size"]
        self.config = {**self.config, **update}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        torch.save({"weight": self.weight, "generator": self.generator.get_state()}, f"{checkpoint_dir}/state.pt")

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        state = torch.load(f"{checkpoint_dir}/state.pt")
        self.weight = state["weight"]
        self.generator.set_state(state["generator"])


class History(tune.Callback):
    """Keeps every result; a restored callback is another object, so it writes into a list of the test's."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.rows.append(dict(result))


def regress(tmp_path: Path, scheduler: BatchAdaptiveScheduler, iterations: int, **config: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    results = tune.Tuner(
        Regression,
        param_space={"learning_rate": 0.3, **config},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            stop={"training_iteration": iterations},
            verbose=0,
            callbacks=[History(rows)],
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()
    assert results.num_errors == 0
    return rows


@pytest.mark.usefixtures("ray_session")
def test_a_users_trainable_gets_the_batch_size_that_its_numbers_ask_for(tmp_path: Path) -> None:
    rows = regress(tmp_path, BatchAdaptiveScheduler(max_batch_size=300, min_batch_size=4, minimum_loss=0.25), 12)
    expected = [4]
    for row in rows[:-1]:
        walk = Walk(row["loss"], row["drift"], row["deviation"], 0.3, 0.25)
        expected.append(max(4, best_batch_size(walk, 300)))
    assert [row["used"] for row in rows] == expected
    assert len(set(expected)) >= 3


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_lost_worker_goes_on_at_the_size_decided(tmp_path: Path) -> None:
    scheduler = BatchAdaptiveScheduler(max_batch_size=300, min_batch_size=4)
    undisturbed = Regression({"learning_rate": 0.3, "batch_size": 4})
    expected = []
    for _ in range(7):
        expected.append(undisturbed.train())
        undisturbed.apply_update(scheduler.update(trial(undisturbed.config), expected[-1]) or {})
    marker = str(tmp_path / "died")
    rows = regress(tmp_path, scheduler, 7, marker=marker, dies_at=4)
    assert Path(marker).exists()
    assert [(row["used"], row["loss"]) for row in rows] == [(row["used"], row["loss"]) for row in expected]


@pytest.mark.usefixtures("ray_session")
def test_exhausted_memory_halves_the_size_for_good(tmp_path: Path) -> None:
    rows = regress(tmp_path, BatchAdaptiveScheduler(max_batch_size=300, min_batch_size=4), 14, room=40, batch_size=300)
    used = [row["used"] for row in rows]
    assert used[:4] == [300, 150, 75, 37]
    assert max(used[4:]) <= 37
    assert all(row.get("status") != "out_of_memory" for row in rows[3:])


def trial(config: dict[str, Any], gpus: float = 0) -> Any:
    factory = tune.PlacementGroupFactory([{"CPU": 1, "GPU": gpus}])
    return SimpleNamespace(config=config, placement_group_factory=factory)


NOISY = {"loss": 1.0, "drift": -1.0, "deviation": 5.0}
"""No batch size is expected to lower this loss, so the largest allowed is taken."""


def chosen(scheduler: BatchAdaptiveScheduler, config: dict[str, Any], result: dict[str, Any], gpus: float = 0) -> int:
    update = scheduler.update(trial({"learning_rate": 0.1, "batch_size": 32, **config}, gpus), result)
    assert update is not None
    return int(update["batch_size"])


def test_limits_of_devices_and_memory() -> None:
    assert chosen(BatchAdaptiveScheduler(max_batch_size=4096), {}, NOISY) == 4096
    per_device = BatchAdaptiveScheduler(max_batch_size=4096, instances_per_device=100)
    assert chosen(per_device, {}, NOISY) == 100
    assert chosen(per_device, {}, NOISY, gpus=0.5) == 100
    assert chosen(per_device, {}, NOISY, gpus=4) == 400
    bounded = BatchAdaptiveScheduler(max_batch_size=4096, memory_limit=1000)
    assert chosen(bounded, {}, NOISY) == 4096
    assert chosen(bounded, {}, {**NOISY, "memory_fixed": 200, "memory_peak": 520}) == 80
    assert chosen(BatchAdaptiveScheduler(), {"batch_size_limit": 20}, NOISY) == 20
    assert chosen(BatchAdaptiveScheduler(), {}, {**NOISY, "loss": math.nan}) == 32


def test_the_results_learning_rate_wins_over_the_configs() -> None:
    steady = {"loss": 1.0, "drift": 1.0, "deviation": 3.0}
    scheduler = BatchAdaptiveScheduler(max_batch_size=4096, min_batch_size=1)
    sizes = [
        chosen(scheduler, {}, {**steady, **given}) for given in ({}, {"learning_rate": 0.1}, {"learning_rate": 0.9})
    ]
    assert sizes[0] == sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("config", "result", "message"),
    [
        ({}, {"loss": 1.0, "drift": 1.0}, "deviation is None; the result must"),
        ({"learning_rate": "fast"}, NOISY, "learning_rate is 'fast'; the config or the result must"),
        ({}, {**NOISY, "drift": 1.0, "deviation": -1.0}, "deviation is -1.0"),
    ],
)
def test_missing_or_wrong_numbers_are_named(config: dict[str, Any], result: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(BatchAdaptiveScheduler(), config, result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_batch_size": 0}, "min_batch_size is 0"),
        ({"max_batch_size": 8}, "max_batch_size is 8"),
        ({"minimum_loss": math.inf}, "minimum_loss is inf"),
        ({"instances_per_device": 5}, "instances_per_device is 5"),
        ({"memory_limit": 0}, "memory_limit is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchAdaptiveScheduler(**arguments)


def test_a_trainable_that_cannot_change_is_refused() -> None:
    stiff = SimpleNamespace(config={}, get_trainable_cls=lambda: tune.Trainable, trainable_name="stiff")
    with pytest.raises(ValueError, match=r"trainable is Trainable; .* apply_update"):
        BatchAdaptiveScheduler().on_trial_add(None, stiff)
