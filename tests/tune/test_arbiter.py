"""Arbiter on Ray Tune: scheduler and trainable agree, survive restores, leave the training alone, refuse bad config."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune
from ray.tune.schedulers import TrialScheduler
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.arbiter import Arbiter
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.problems import Examples, Problem, Purpose, derived_seed
from raytune_hyperlearn.tune import ArbiterScheduler, ArbiterTrainable, SGDTrainable
from raytune_hyperlearn.tune.memory import Memory, largest_batch_size, saved_bytes_per_instance

EPOCHS = 5


def small_model() -> nn.Module:
    """Everything that could leak: BatchNorm's statistics and dropout's random numbers."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def model_without_linear_layer() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 3, 1), nn.Flatten())


def wrong_network() -> nn.Module:
    return nn.Linear(4, 7)


def scaled(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """An augmentation that would show if its random numbers shifted."""
    return inputs * (1 + 0.1 * torch.rand(len(inputs), 1, generator=generator))


def small_problem() -> Problem:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(340, 4, generator=generator)
    targets = (inputs @ torch.randn(4, 3, generator=generator)).argmax(dim=1)
    return Problem(
        name="small",
        model=small_model,
        train=Examples(inputs[:300], targets[:300]),
        test=Examples(inputs[300:], targets[300:]),
        batch_size=20,
        epochs=EPOCHS,
        augmentation=scaled,
    )


def problem_without_linear_layer() -> Problem:
    problem = small_problem()
    return Problem("convolution", model_without_linear_layer, problem.train, problem.test, batch_size=20)


SMALL_AGENT = {"min_batch_size": 4, "max_batch_size": 40, "warm_up_lr": 1e-2, "agent_lr": 1e-3}
CONFIG: dict[str, Any] = {"problem": small_problem, "seed": 5, "epochs": EPOCHS, "arbiter": SMALL_AGENT}


def course(trainable: ArbiterTrainable, steps: int = EPOCHS) -> list[dict[str, Any]]:
    """Results but for their times."""
    results = [trainable.step() for _ in range(steps)]
    return [{key: value for key, value in one.items() if not key.endswith("_seconds")} for one in results]


def same(first: Any, second: Any) -> bool:
    """Equality that takes NaN for equal to NaN."""
    return repr(first) == repr(second)


def schedule(trainable: ArbiterTrainable) -> list[int]:
    return [result["batch_sizes"][0] for result in course(trainable, int(trainable.epochs))]


# --- on Ray ------------------------------------------------------------------------------------------------


def run(tmp_path: Path, scheduler: TrialScheduler | None, **config: Any) -> Any:
    analysis = tune.run(
        ArbiterTrainable, config={**CONFIG, **config}, scheduler=scheduler, storage_path=str(tmp_path), verbose=0
    )
    (trial,) = analysis.trials
    assert trial.status == "TERMINATED"
    return trial


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_scheduler_and_trainable_give_the_same_schedule(tmp_path: Path) -> None:
    options = {"milestones": [[3, 32]], "replicates": 2}
    alone = run(tmp_path / "alone", None, **options)
    scheduled = run(tmp_path / "scheduled", ArbiterScheduler(memory_limit=1e12), **options)
    first, second = alone.last_result, scheduled.last_result
    assert first["training_iteration"] == EPOCHS
    assert scheduled.config["updated_by"] == "scheduler"
    assert scheduled.config["decided"]["epoch"] == EPOCHS - 1
    for key in ("hyperparameters", "next_batch_sizes", "validation_loss", "outer_loss"):
        assert first[key] == second[key]
    assert len(set(first["hyperparameters"]["batch_size"])) > 2


@pytest.mark.usefixtures("ray_session")
def test_a_batch_beyond_the_memory_limit_is_cut_down(tmp_path: Path) -> None:
    free = ArbiterTrainable({**CONFIG, "batch_size": 30})
    first = free.step()
    per_instance = (first["memory_peak"] - first["memory_fixed"]) / 30
    limit = first["memory_fixed"] + 12.5 * per_instance
    trial = run(tmp_path, ArbiterScheduler(memory_limit=limit), batch_size=30)
    assert trial.last_result["hyperparameters"]["batch_size"][0] == 30
    assert trial.last_result["hyperparameters"]["batch_size"][1:] == [12.0] * (EPOCHS - 1)


class Reporting(ArbiterTrainable):
    """Says what resources it has."""

    def step(self) -> dict[str, Any]:
        return super().step() | {"cpus": self.trial_resources.required_resources["CPU"]}


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_resources_grow_with_the_batch_and_the_schedule_stays(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    class Watch(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            seen.append((result["batch_sizes"][0], result["cpus"]))

    # The milestone needs the second core; what only three cores would serve is never granted.
    config = {**CONFIG, "epochs": 4, "milestones": [[2, 30]]}
    analysis = tune.run(
        Reporting,
        config=config,
        scheduler=ArbiterScheduler(resources={24: {"cpu": 1}, 36: {"cpu": 2}, 99: {"cpu": 3}}),
        callbacks=[Watch()],
        storage_path=str(tmp_path),
        verbose=0,
    )
    assert analysis.trials[0].status == "TERMINATED"
    assert seen[0][1] == 1
    assert seen[2] == (30, 2)
    assert all(cpus == (1 if size <= 24 else 2) for size, cpus in seen[1:])
    assert [size for size, _ in seen] == [min(size, 36) for size in schedule(ArbiterTrainable(config))]


@pytest.mark.usefixtures("ray_session")
def test_resources_cannot_change_in_reused_actors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reuse_actors"):
        tune.run(
            ArbiterTrainable,
            config=CONFIG,
            scheduler=ArbiterScheduler(resources={40: {"cpu": 1}}),
            storage_path=str(tmp_path),
            reuse_actors=True,
            verbose=0,
        )


def test_a_decision_travels_in_the_config() -> None:
    trial = SimpleNamespace(config=CONFIG)
    result = {"epochs": 3.0, "batch_sizes": [20, 20], "next_batch_sizes": [12, 38]}
    result |= {"memory_fixed": 1000, "memory_peak": 3000}
    assert ArbiterScheduler().update(trial, result) == {"decided": {"epoch": 3, "batch_sizes": [12, 38]}}
    limited = ArbiterScheduler(memory_limit=3550).update(trial, result)
    assert limited == {"decided": {"epoch": 3, "batch_sizes": [12, 25]}}


# --- alone -------------------------------------------------------------------------------------------------

PLAIN = {"learning_rate": [0.2, 0.1, 0.05], "momentum": [0.9], "weight_decay": [5e-4]}


@pytest.mark.parametrize("chosen_by", ["heuristic", "arbiter"])
def test_at_a_constant_batch_size_training_is_bit_identical_to_plain_training(chosen_by: str) -> None:
    # An Arbiter that never decides observes and learns all the while.
    agent = {**SMALL_AGENT, "learn_every": 100}
    config = {**CONFIG, "hyperparameters": PLAIN, "chosen_by": chosen_by, "arbiter": agent, "gradient_clamp": 0.05}
    found = course(ArbiterTrainable(config))
    plain = SGDTrainable(
        {
            "problem": small_problem,
            "space": SearchSpace(LearningRate(values=3), Momentum(), WeightDecay()),
            "seed": 5,
            "epochs": EPOCHS,
            "hyperparameters": PLAIN,
            "epochs_per_step": 1,
            "trial_seed": derived_seed(5, Purpose.TRIAL),
            "gradient_clamp": 0.05,
        }
    )
    for result in found:
        expected = plain.step()
        assert result["batch_sizes"] == [20]
        assert result["validation_loss"] == expected["validation_loss"]
        assert result["test_loss"] == expected["test_loss"]
    assert found[-1]["done"]
    assert math.isfinite(found[-1]["outer_loss"]) is (chosen_by == "arbiter")


def test_config_of_a_scheduler_wins_over_the_checkpoint(tmp_path: Path) -> None:
    old = ArbiterTrainable({**CONFIG, "updated_by": "scheduler"})
    course(old, 2)
    old.save_checkpoint(str(tmp_path))
    for epoch, expected in ((2, 7), (1, old.trainings[0].next_batch_size)):
        decided = {"epoch": epoch, "batch_sizes": [7]}
        restarted = ArbiterTrainable({**CONFIG, "updated_by": "scheduler", "decided": decided})
        restarted.load_checkpoint(str(tmp_path))
        assert restarted.step()["batch_sizes"] == [expected]


def test_milestones_dictate_and_warm_up_and_the_agent_searches_between() -> None:
    results = course(ArbiterTrainable({**CONFIG, "batch_size": 34, "milestones": [[2, 9], [4, 36]]}))
    sizes = [result["batch_sizes"][0] for result in results]
    warmed = [result["warm_up_steps"] > 0 for result in results]
    assert (sizes[0], sizes[2], sizes[4]) == (34, 9, 36)
    assert results[1]["next_batch_sizes"] == [9]
    assert sizes[1] != 34 or sizes[3] != 9
    assert warmed == [True, False, True, False, True]


def test_the_heuristic_alone_follows_its_milestones() -> None:
    config = {**CONFIG, "milestones": [[2, 9], [4, 230]], "chosen_by": "heuristic"}
    assert schedule(ArbiterTrainable(config)) == [20, 20, 9, 9, 230]


def test_hypergradient_descent_learns_the_learning_rate_inside() -> None:
    start = {"learning_rate": 0.01, "momentum": 0.0, "weight_decay": 0.0}
    for optimizer in ("sgd-hd", "adam-hd"):
        config = {**CONFIG, "optimizer": optimizer, "hyperparameters": start, "hyper_rate": 1e-3}
        first, second = course(ArbiterTrainable(config), 2)
        assert len(first["learning_rates"][0]) == 240 // 20
        assert len(set(first["learning_rates"][0])) > 5
        assert second["hyperparameters"]["learning_rate"][1] != second["hyperparameters"]["learning_rate"][0]


def test_a_learning_rate_that_would_turn_negative_can_be_held_at_zero() -> None:
    start = {"learning_rate": 0.01, "momentum": 0.9}
    config = {**CONFIG, "optimizer": "sgd-hd", "hyperparameters": start, "hyper_rate": 1.0}
    free = [rate for result in course(ArbiterTrainable(config), 2) for rate in result["learning_rates"][0]]
    config["non_negative"] = True
    held = [rate for result in course(ArbiterTrainable(config), 2) for rate in result["learning_rates"][0]]
    assert min(free) < 0
    assert min(held) == 0


# --- data --------------------------------------------------------------------------------------------------


def test_test_data_choose_nothing() -> None:
    problem = small_problem()
    other = replace(problem, test=Examples(-problem.test.inputs, problem.test.targets))
    found, changed = (course(ArbiterTrainable({**CONFIG, "problem": lambda p=p: p})) for p in (problem, other))
    for first, second in zip(found, changed, strict=True):
        assert first["test_loss"] != second["test_loss"]
        for key in ("batch_sizes", "next_batch_sizes", "validation_loss", "training_loss", "outer_loss", "mixture"):
            assert same(first[key], second[key]), key


def test_agent_and_outer_loss_see_validation_examples_as_they_are_and_training_sees_none() -> None:
    augmented: list[Tensor] = []
    seen: list[Tensor] = []

    def noted(inputs: Tensor, generator: torch.Generator) -> Tensor:
        augmented.append(inputs)
        return inputs + 1000

    training = ArbiterTrainable(
        {**CONFIG, "problem": lambda: replace(small_problem(), augmentation=noted), "arbiter": SMALL_AGENT}
    ).trainings[0]
    assert isinstance(training.agent, Arbiter)
    training.agent.agent.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    training.model.register_forward_pre_hook(lambda model, args: None if model.training else seen.append(args[0]))
    training.train_epoch()
    train, validation = training.split.train.inputs, training.split.validation.inputs

    def inside(rows: Tensor, of: Tensor) -> bool:
        return bool((rows[:, None] == of[None]).all(dim=2).any(dim=1).all())

    assert len(augmented) == 240 // 20
    assert all(inside(rows, train) for rows in augmented)
    assert len(seen) > 2 * len(augmented), "a warm-up, and an agent's and a network's pass for every update"
    assert all(inside(rows, validation) for rows in seen)


# --- controls ----------------------------------------------------------------------------------------------


def test_controls_take_the_schedule_that_arbiter_learns_from_the_same_seed() -> None:
    learned = schedule(ArbiterTrainable(dict(CONFIG)))
    assert len(set(learned)) > 2
    mean = round(sum(learned) / EPOCHS)
    assert schedule(ArbiterTrainable({**CONFIG, "chosen_by": "mean"})) == [mean] * EPOCHS
    assert schedule(ArbiterTrainable({**CONFIG, "chosen_by": "replay"})) == learned
    walk = schedule(ArbiterTrainable({**CONFIG, "chosen_by": "random-walk"}))
    steps = [[abs(b - a) for a, b in itertools.pairwise(sizes)] for sizes in (walk, learned)]
    assert steps[0] == steps[1]
    assert walk != learned


def test_a_replay_has_a_new_initialization_and_the_other_controls_arbiters_own() -> None:
    given = {"recorded": [[20] * EPOCHS]}
    constant = ArbiterTrainable({**CONFIG, "chosen_by": "mean", **given}).step()["validation_loss"]
    replayed = ArbiterTrainable({**CONFIG, "chosen_by": "replay", **given}).step()["validation_loss"]
    assert ArbiterTrainable(dict(CONFIG)).step()["validation_loss"] == constant
    assert replayed != constant


def test_a_given_record_is_used_as_it_is() -> None:
    recorded = [20, 10, 30, 12, 40]
    config = {**CONFIG, "chosen_by": "replay", "recorded": [recorded]}
    trainable = ArbiterTrainable(config)
    assert schedule(trainable) == recorded
    assert not isinstance(trainable.trainings[0].agent, Arbiter)


# --- divergence, memory ------------------------------------------------------------------------------------


def test_divergence_is_a_result_not_a_crash() -> None:
    result = ArbiterTrainable({**CONFIG, "hyperparameters": {"learning_rate": 1e30}}).step()
    assert result["status"] == "diverged"
    assert result["validation_loss"] == result["training_loss"] == math.inf
    assert result["done"]


def test_a_small_validation_set_is_said_to_be_drawn_with_replacement() -> None:
    large = {**SMALL_AGENT, "max_batch_size": 200}
    with pytest.warns(UserWarning, match="60 validation examples are fewer than max_batch_size = 200"):
        assert ArbiterTrainable({**CONFIG, "arbiter": large}).step()["with_replacement"]
    assert not ArbiterTrainable(dict(CONFIG)).step()["with_replacement"]


@pytest.mark.parametrize(
    "variant",
    [
        {"agent_input": "gradients"},
        {"agent_input": "noise"},
        {"decision": "window"},
        {"response_scale": 0.0},
        {"response": "frozen"},
        {"outer_batch_size": 8, "agent_batch_size": 8},
    ],
)
def test_every_variant_of_the_agent_trains(variant: dict[str, Any]) -> None:
    results = course(ArbiterTrainable({**CONFIG, "arbiter": {**SMALL_AGENT, **variant}}), 3)
    assert len({result["batch_sizes"][0] for result in results}) > 1
    assert all(math.isfinite(result["outer_loss"]) for result in results)
    assert all(result["memory_peak"] > result["memory_fixed"] > 0 for result in results)


def test_bytes_kept_for_the_backward_pass_of_one_example() -> None:
    # A linear layer keeps its input, ReLU its output; the second layer's input is that same output.
    network = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 2))
    assert saved_bytes_per_instance(network, torch.randn(5, 10)) == 4 * (10 + 6)


def test_the_largest_batch_within_a_limit() -> None:
    memory = Memory(fixed=1000, peak=3000)
    assert largest_batch_size(3000, 20, memory) == 20
    assert largest_batch_size(5099, 20, memory) == 40
    with pytest.raises(ValueError, match=r"^memory_limit is 1099 bytes; a batch of one example needs 1100$"):
        largest_batch_size(1099, 20, memory)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arbiter": {"min_batch_size": 40, "max_batch_size": 40}},
            "max_batch_size must be an integer of at least 41, got 40",
        ),
        ({"batch_size": 41}, r"batch_size is 41; it must lie in \[4, 40\]"),
        ({"batch_size": 3}, r"batch_size is 3; it must lie in \[4, 40\]"),
        ({"arbiter": {"max_batch_size": 241}}, "max_batch_size is 241; small has 240 training examples"),
        ({"batch_size": 241}, "batch_size is 241; small allows 1 to 240"),
        ({"chosen_by": "heuristic", "milestones": [[1, 241]]}, r"a milestone's batch size is 241; .* \[1, 240\]"),
        ({"milestones": [[1, 64]]}, r"a milestone's batch size is 64; it must lie in \[4, 40\]"),
        ({"milestones": [[0, 8]]}, r"milestones are at epochs \[0\]"),
        ({"milestones": [[3, 8], [2, 9]]}, r"milestones are at epochs \[3, 2\]"),
        ({"problem": problem_without_linear_layer}, "layer must be named for Sequential"),
        ({"layer": "nose"}, "layer must be one of .*, got 'nose'"),
        ({"network": wrong_network}, r"agent must be a module .* \(1, 4\), got \(1, 7\)"),
        ({"chosen_by": "dice"}, "chosen_by is 'dice'; it must be 'arbiter', 'heuristic'"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be 'sgd', 'sgd-hd' or 'adam-hd'"),
        ({"hyper_rate": -1.0}, "hyper_rate is -1.0"),
        ({"hyperparameters": {"learning_rate": math.nan}}, r"learning_rate is \[nan\]"),
        ({"hyperparameters": {"speed": 1.0}}, "name in hyperparameters is 'speed'"),
        ({"arbiter": {"speed": 1.0}}, "option of arbiter is 'speed'"),
        ({"epochs": 2.5}, "epochs is 2.5; ArbiterTrainable needs a whole number"),
        ({"recorded": [[20]]}, "recorded is given for chosen_by 'arbiter'"),
        ({"chosen_by": "replay", "recorded": [[20, 999]]}, r"recorded is \[20, 999\]; .* \[1, 240\]"),
        ({"chosen_by": "replay", "recorded": [[20], [20]]}, "recorded holds 2 schedules; replicates is 1"),
    ],
)
def test_bad_config_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        ArbiterTrainable({**CONFIG, **changes})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_limit": 0}, "memory_limit is 0"),
        ({"resources": {}}, r"resources is for batch sizes \[\]"),
        ({"resources": {0: {"cpu": 1}}}, r"resources is for batch sizes \[0\]"),
        ({"resources": {64: {"cpu": -1}}}, "resources of batch size 64 is"),
    ],
)
def test_a_scheduler_refuses_what_it_cannot_grant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        ArbiterScheduler(**arguments)
    assert "\n" not in str(refused.value)
