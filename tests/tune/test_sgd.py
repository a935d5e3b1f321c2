"""Training with given hyperparameters: PyTorch's own SGD, in parts, in replicates, after a restore."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from torch import Tensor

from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.problems import Problem, Purpose, batches, derived_seed
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune import SGDTrainable
from tests.tune.small import SPACE, VALUES, dropout_problem, scores_of, small_problem

CONFIG: dict[str, Any] = {"problem": small_problem, "space": SPACE, "seed": 5, "epochs": 2, "hyperparameters": VALUES}
FLAT = {
    "learning_rate_0": 0.3,
    "learning_rate_1": 0.2,
    "learning_rate_2": 0.05,
    "momentum_0": 0.8,
    "weight_decay_0": 1e-3,
}
# 160 training examples in batches of 20 for 2 epochs: 16 steps, step t uses learning rate ⌊3 t / 16⌋.
RATES = [0.3] * 6 + [0.2] * 5 + [0.05] * 5


def torch_sgd_scores(problem: Problem, split_seed: int, seed: int, rates: list[float]) -> dict[str, float]:
    """Scores of a training loop written with torch.optim.SGD alone."""
    split = problem.split(split_seed)
    model = initialize(problem.model, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.8, weight_decay=1e-3)
    model.train()
    for rate, (inputs, targets) in zip(rates, batches(split.train, 20, len(rates), seed), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    model.eval()
    scores = {}
    with torch.no_grad():
        for name, part in (("validation", split.validation), ("test", problem.test)):
            outputs = model(part.inputs).double()
            scores[f"{name}_loss"] = torch.nn.functional.cross_entropy(outputs, part.targets).item()
            scores[f"{name}_accuracy"] = (outputs.argmax(1) == part.targets).double().mean().item()
    return scores


def test_training_is_that_of_torch_sgd() -> None:
    result = SGDTrainable({**CONFIG, "trial_seed": 77}).step()
    expected = torch_sgd_scores(small_problem(), 5, derived_seed(77, Purpose.REPLICATE, 0), RATES)
    assert scores_of(result) == pytest.approx(expected, rel=1e-6)
    assert result["done"]
    assert result["status"] == "completed"
    assert result["epochs"] == 2
    assert result["instances"] == 16 * 20
    assert result["hyperparameters"] == VALUES


def test_a_gradient_clamp_bounds_every_element() -> None:
    bound = 1e-3
    trainable = SGDTrainable({**CONFIG, "gradient_clamp": bound, "epochs": 0.125})  # one step
    before = [p.clone() for p in trainable.models[0].parameters()]
    trainable.step()
    moved = [(p - q).abs().max().item() for p, q in zip(before, trainable.models[0].parameters(), strict=True)]
    # The first step moves by the learning rate times the clamped gradient and the decay of the weight.
    largest = max(p.abs().max().item() for p in before)
    assert max(moved) <= 0.3 * (bound + 1e-3 * largest) * (1 + 1e-4)
    assert max(moved) >= 0.3 * bound * (1 - 1e-4) - 0.3 * 1e-3 * largest


def test_a_gradient_norm_bounds_the_whole_gradient() -> None:
    bound, without_decay = 1e-3, {**VALUES, "weight_decay": [0.0]}
    config = {**CONFIG, "hyperparameters": without_decay, "gradient_norm": bound, "epochs": 0.125}  # one step
    trainable = SGDTrainable(config)
    before = torch.cat([p.detach().flatten() for p in trainable.models[0].parameters()])
    trainable.step()
    moved = torch.cat([p.detach().flatten() for p in trainable.models[0].parameters()]) - before
    assert moved.norm().item() == pytest.approx(0.3 * bound, rel=2e-3)  # the bound's ε is a thousandth of it


def test_training_in_parts_reports_on_the_way_and_ends_the_same() -> None:
    whole = SGDTrainable(dict(CONFIG)).step()
    parts = SGDTrainable({**CONFIG, "epochs_per_step": 0.75})  # 6, 6 and the remaining 4 steps
    results = [parts.step() for _ in range(3)]
    assert [result["epochs"] for result in results] == [0.75, 1.5, 2]
    assert [result["instances"] for result in results] == [120, 120, 80]
    assert [result["done"] for result in results] == [False, False, True]
    assert scores_of(results[-1]) == scores_of(whole)
    assert scores_of(results[0]) != scores_of(whole)


@pytest.mark.parametrize(
    ("epochs", "per_step", "steps"),
    [
        (2, 2 / 9, [2, 4, 5, 7, 9, 11, 12, 14, 16]),  # 16 steps in nine: no rounding error adds up
        (2, 0.75, [6, 12, 16]),
        (2, 0.9, [7, 16]),  # a rest of two steps has no report of its own
        (0.5, 0.05, [1, 2, 3, 4]),
    ],
)
def test_reports_fall_on_the_multiples(epochs: float, per_step: float, steps: list[int]) -> None:
    trial = SGDTrainable({**CONFIG, "epochs": epochs, "epochs_per_step": per_step})
    reported = [trial.train() for _ in steps]
    assert [round(result["epochs"] * 8) for result in reported] == steps
    assert [result["done"] for result in reported] == [False] * (len(steps) - 1) + [True]


def test_hyperparameters_of_the_config_win_over_those_of_a_checkpoint(tmp_path: Path) -> None:
    first = SGDTrainable({**CONFIG, "epochs_per_step": 1, "trial_seed": 3})
    first.step()
    first.save_checkpoint(str(tmp_path))
    still = {"learning_rate": [0.0, 0.0, 0.0], "momentum": [0.8], "weight_decay": [1e-3]}
    changed = SGDTrainable({**CONFIG, "epochs_per_step": 1, "trial_seed": 3, "hyperparameters": still})
    changed.load_checkpoint(str(tmp_path))
    before = [p.clone() for p in changed.models[0].parameters()]
    changed.step()
    assert all(torch.equal(p, q) for p, q in zip(before, changed.models[0].parameters(), strict=True))


def test_replicates_are_means_of_independent_trainings() -> None:
    result = SGDTrainable({**CONFIG, "trial_seed": 9, "replicates": 3}).step()
    every = [
        torch_sgd_scores(small_problem(), 5, derived_seed(9, Purpose.REPLICATE, index), RATES) for index in range(3)
    ]
    assert len({scores["validation_loss"] for scores in every}) == 3
    means = {name: sum(scores[name] for scores in every) / 3 for name in every[0]}
    assert scores_of(result) == pytest.approx(means, rel=1e-6)
    assert result["instances"] == 3 * 16 * 20
    assert result["epochs"] == 2


def test_an_evaluation_repeats_exactly_and_another_is_drawn_anew() -> None:
    first, again = SGDTrainable(dict(CONFIG)), SGDTrainable(dict(CONFIG))
    other = SGDTrainable({**CONFIG, "hyperparameters": {**VALUES, "momentum": [0.7]}})
    longer = SGDTrainable({**CONFIG, "epochs": 3})
    assert scores_of(first.step()) == scores_of(again.step())
    assert len({trainable.seeds[0] for trainable in (first, other, longer)}) == 3


def test_reset_starts_another_trial_as_if_it_were_the_first() -> None:
    problem = small_problem()
    actor = SGDTrainable({**CONFIG, "problem": problem, "batch_size": 10})
    assert actor.step()["instances"] == 32 * 10
    # A trial's config comes out of a pickle: its problem is equal in all but identity.
    second = {**CONFIG, "problem": replace(problem, name="copy"), "seed": 6}
    assert actor.reset_config(second)
    assert scores_of(actor.step()) == scores_of(SGDTrainable(second).step())
    assert actor.problem.batch_size == 20
    assert actor.reset_config({**second, "batch_size": 40, "replicates": 2})
    assert actor.step()["instances"] == 2 * 8 * 40


def test_reset_keeps_data_that_are_loaded() -> None:
    built = 0

    def counted() -> Problem:
        nonlocal built
        built += 1
        return small_problem()

    actor = SGDTrainable({**CONFIG, "problem": counted})
    actor.reset_config({**CONFIG, "problem": counted, "seed": 8})
    assert built == 1
    actor.reset_config({**CONFIG, "problem": dropout_problem})
    assert actor.problem.name == "dropout"


def test_hyperparameters_may_be_nested_flat_or_at_the_top() -> None:
    base = {key: value for key, value in CONFIG.items() if key != "hyperparameters"}
    nested = SGDTrainable(dict(CONFIG)).step()
    flat = SGDTrainable({**base, "hyperparameters": FLAT}).step()
    top = SGDTrainable({**base, **FLAT}).step()
    assert scores_of(nested) == scores_of(flat) == scores_of(top)
    assert flat["hyperparameters"] == top["hyperparameters"] == VALUES


def test_fixed_hyperparameters_are_filled_in() -> None:
    space = SearchSpace(LearningRate(values=1), 0.9, 5e-4)
    config = {**CONFIG, "space": space, "hyperparameters": {"learning_rate_0": 0.1}}
    assert SGDTrainable(config).step()["hyperparameters"] == {
        "learning_rate": [0.1],
        "momentum": [0.9],
        "weight_decay": [5e-4],
    }


def test_divergence_is_a_result_with_the_worst_values() -> None:
    space = SearchSpace(LearningRate(values=1, range=(0, 1e30)), Momentum(), WeightDecay(range=(0, 1)))
    config = {
        **CONFIG,
        "space": space,
        "epochs_per_step": 0.5,
        "hyperparameters": {"learning_rate_0": 1e30, "momentum_0": 0.9, "weight_decay_0": 1.0},
    }
    result = SGDTrainable(config).step()
    assert result["status"] == "diverged"
    assert result["validation_loss"] == result["test_loss"] == math.inf
    assert result["validation_accuracy"] == result["test_accuracy"] == 0
    assert result["done"]  # there is nothing to train on
    assert result["hyperparameters"]["learning_rate"] == [1e30]


def test_one_diverged_replicate_makes_the_mean_diverge(monkeypatch: pytest.MonkeyPatch) -> None:
    trainable = SGDTrainable({**CONFIG, "replicates": 2})
    with torch.no_grad():
        next(trainable.models[1].parameters()).fill_(math.nan)
    assert trainable.step()["status"] == "diverged"


def exhausted(outputs: Tensor, targets: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("no memory left, as asked")


def test_exhausted_memory_is_a_result_not_a_crash() -> None:
    result = SGDTrainable({**CONFIG, "problem": replace(small_problem(), loss=exhausted)}).step()
    assert result["status"] == "out_of_memory"
    assert result["done"]
    assert result["validation_loss"] == math.inf
    assert result["epochs"] == 2
    assert result["training_seconds"] >= 0
    assert result["test_seconds"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyperparameters": {**VALUES, "learning_rate": [0.1]}}, "learning_rate has 1 values; the space has 3"),
        ({"hyperparameters": {**VALUES, "momentum": [1.5]}}, r"momentum is 1.5; it must lie in \[0, 1\]"),
        ({"hyperparameters": {**VALUES, "momentum": 0.9}}, "momentum is 0.9"),
        ({"hyperparameters": {"lr": 0.1}}, "hyperparameters lack 'learning_rate_0'"),
        ({"hyperparameters": {}}, "hyperparameters lack 'learning_rate_0'"),
        ({"hyperparameters": None}, "hyperparameters lack 'learning_rate_0'"),
        ({"epochs_per_step": 0}, "epochs_per_step is 0"),
        ({"batch_size": 1000}, "batch_size is 1000"),
    ],
)
def test_bad_config_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        SGDTrainable({**CONFIG, **changes})
    assert "\n" not in str(refused.value)


class SeesGPUs(SGDTrainable):
    """A worker that believes the machine has GPUs, whatever Ray assigned."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.cuda.is_available = lambda: True
        super().setup(config)

    def step(self) -> dict[str, Any]:
        return {**super().step(), "device": str(self.device)}


@pytest.mark.usefixtures("ray_session")
def test_trials_in_one_reused_worker_on_the_device_that_ray_assigned(tmp_path: Path) -> None:
    momenta = [0.2, 0.5, 0.8]
    config = {**CONFIG, "problem": small_problem(), "epochs_per_step": 1}
    results = tune.Tuner(
        SeesGPUs,
        param_space={
            **config,
            "hyperparameters": tune.grid_search([{**VALUES, "momentum": [momentum]} for momentum in momenta]),
        },
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()

    assert results.num_errors == 0
    assert {result.metrics["device"] for result in results if result.metrics} == {"cpu"}
    assert len({result.metrics["pid"] for result in results if result.metrics}) == 1
    for result, momentum in zip(results, momenta, strict=True):
        alone = SGDTrainable({**CONFIG, "hyperparameters": {**VALUES, "momentum": [momentum]}}).step()
        assert result.metrics is not None
        assert scores_of(result.metrics) == scores_of(alone)
        assert result.metrics["training_iteration"] == 2
