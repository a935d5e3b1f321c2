"""What all trainables share: their settings, their device, their scores and the names of their results."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import ray
import torch
from torch import Tensor

from raytune_hyperlearn.hyperparameters import LearningRate, SearchSpace
from raytune_hyperlearn.problems import Examples, evaluate
from raytune_hyperlearn.problems.examples import validation_batches
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.results import SCORES
from raytune_hyperlearn.tune import HyperLearningTrainable, TrialSettings
from raytune_hyperlearn.tune.trainable import assigned_device, mean_scores
from tests.tune.small import SPACE, small_problem

CONFIG: dict[str, Any] = {"problem": small_problem, "space": SPACE}


class Scoring(HyperLearningTrainable):
    """Scores the untrained model, slowly on test examples, and fails as its config asks."""

    allowed: ClassVar[frozenset[str]] = frozenset({"fails"})

    def start(self, config: dict[str, Any]) -> None:
        self.model = self.new_model(self.settings.seed).eval()

    def step(self) -> dict[str, Any]:
        """One evaluation."""
        if self.config.get("fails"):
            raise torch.OutOfMemoryError("no memory left, as asked")

        def outputs(inputs: Tensor) -> Tensor:
            if len(inputs) == len(self.problem.test):
                time.sleep(0.2)
            result: Tensor = self.model(inputs)
            return result

        return self.result(self.score(outputs), {"learning_rate": [0.0]}, self.epochs, 7, extra="kept")


def test_settings_read_the_shared_keys_and_leave_the_others() -> None:
    space = {"learning_rate": {"values": 2, "range": [0, 2]}, "momentum": 0.9, "weight_decay": 0}
    settings = TrialSettings.from_config(
        {"problem": "digits", "space": space, "seed": 3, "epochs": 1.5, "batch_size": 32, "replicates": 2, "other": 1}
    )
    assert settings.space == SearchSpace(LearningRate(values=2, range=(0, 2)), 0.9, 0.0)
    assert (settings.seed, settings.epochs, settings.batch_size, settings.replicates) == (3, 1.5, 32, 2)
    assert settings.gradient_clamp is None
    assert TrialSettings.from_config({"problem": "digits"}).space == SearchSpace()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1; it must be"),
        ({"seed": 0.5}, "seed is 0.5; it must be"),
        ({"epochs": 0}, "epochs is 0; it must be a positive number or None"),
        ({"epochs": math.inf}, "epochs is inf; it must be"),
        ({"epochs": "many"}, "epochs is 'many'; it must be"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 1000}, "batch_size is 1000; small allows 1 to 160"),
        ({"batch_size": "big"}, "batch_size is 'big'; it must be"),
        ({"gradient_clamp": -1}, "gradient_clamp is -1; it must be a positive number or None"),
        ({"gradient_clamp": "tight"}, "gradient_clamp is 'tight'; it must be"),
        ({"replicates": 0}, "replicates is 0; it must be"),
        ({"replicates": 2.0}, "replicates is 2.0; it must be"),
        ({"space": {"learning_rate": {"range": [1, 0]}}}, "the lower bound must lie below"),
        ({"space": 3}, "space is 3; it must be a search space or a mapping"),
        ({"epochs": True}, "epochs is True; it must be a positive number or None"),
        ({"seed": -1, "replicates": "2"}, "seed is -1; .*; also replicates is '2'; it must be a whole number"),
        ({"epocs": 2}, r"config key is 'epocs'; it must be epochs \(the closest\), batch_size, .* seed or space"),
        ({"learning_rate_0": 0.1}, "config key is 'learning_rate_0'; it must be"),
        ({"problem": "cat pictures"}, "problem is 'cat pictures'; it must be one of digits"),
    ],
)
def test_bad_config_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        Scoring({**CONFIG, **changes})
    assert "\n" not in str(refused.value)


def test_keys_of_searchers_and_marks_of_the_caller_are_known() -> None:
    config = {**CONFIG, "config_id": "(0, 0, 1)", "model_based_pick": False, "_mark": 3}
    trainable = Scoring(config)
    with pytest.raises(ValueError, match="config key is 'sede'; it must be seed"):
        trainable.reset_config({**config, "sede": 3})


def test_a_config_without_a_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="problem is missing"):
        Scoring({})


def test_a_problem_may_be_a_name_a_record_or_a_function() -> None:
    named, record, built = (
        Scoring({**CONFIG, "problem": problem}) for problem in ("digits", small_problem(), small_problem)
    )
    assert named.problem.name == "digits"
    assert named.epochs == named.problem.epochs
    assert record.step()["validation_loss"] == built.step()["validation_loss"]
    assert Scoring({**CONFIG, "epochs": 0.5}).epochs == 0.5


def test_scores_are_those_of_the_whole_validation_and_test_sets() -> None:
    result = Scoring({**CONFIG, "seed": 4}).step()
    problem = small_problem()
    model = initialize(problem.model, 4).eval()
    with torch.no_grad():
        for name, part in (("validation", problem.split(4).validation), ("test", problem.test)):
            outputs = model(part.inputs).double()
            loss = torch.nn.functional.cross_entropy(outputs, part.targets).item()
            assert result[f"{name}_loss"] == pytest.approx(loss, rel=1e-6)
            assert result[f"{name}_accuracy"] == (outputs.argmax(1) == part.targets).double().mean().item()
    assert result["status"] == "completed"
    assert (result["epochs"], result["instances"], result["extra"]) == (2, 7, "kept")


def test_the_seconds_of_test_scoring_are_kept_apart_step_by_step() -> None:
    trainable = Scoring(dict(CONFIG))
    for _ in range(2):  # the second step does not count the first one's seconds again
        begun = time.perf_counter()
        result = trainable.step()
        whole = time.perf_counter() - begun
        assert 0.2 <= result["test_seconds"] <= whole
        assert 0 <= result["training_seconds"] <= whole - result["test_seconds"]


def test_exhausted_memory_is_a_result_with_the_worst_values() -> None:
    result = Scoring({**CONFIG, "fails": True, "epochs": 3}).step()
    assert result["status"] == "out_of_memory"
    assert result["done"]
    assert [result[name] for name in SCORES] == [math.inf, 0.0, math.inf, 0.0]
    assert (result["epochs"], result["hyperparameters"], result["instances"]) == (3, {}, 0)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_a_divergence(loss: float) -> None:
    scores = {"validation_loss": loss, "validation_accuracy": 0.4, "test_loss": 1.0, "test_accuracy": 0.4}
    result = Scoring(dict(CONFIG)).result(scores, {}, 1, 1)
    assert result["status"] == "diverged"
    assert [result[name] for name in SCORES] == [math.inf, 0.0, math.inf, 0.0]


def test_a_loss_far_beyond_the_untrained_networks_is_a_divergence() -> None:
    trainable = Scoring(CONFIG)
    untrained = trainable.step()["validation_loss"]
    assert trainable.untrained_loss() == pytest.approx(untrained)
    for factor, status in ((0.9, "completed"), (99, "completed"), (101, "diverged"), (1e9, "diverged")):
        scores = {**dict.fromkeys(SCORES, 0.5), "validation_loss": factor * untrained}
        result = trainable.result(scores, {}, 1.0, 7)
        assert result["status"] == status, factor
        assert (result["validation_loss"] == math.inf) == (status == "diverged")


def test_the_mean_of_scores_is_finite_only_if_all_are() -> None:
    assert mean_scores([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]) == {"a": 2.0, "b": 3.0}
    assert not math.isfinite(mean_scores([{"a": 1.0}, {"a": math.nan}])["a"])
    assert not math.isfinite(mean_scores([{"a": 1.0}, {"a": math.inf}])["a"])


def test_validation_batches_hold_every_example_once_in_order() -> None:
    examples = Examples(torch.arange(5.0), torch.arange(5))
    parts = validation_batches(examples, rows=2)
    assert [len(inputs) for inputs, _ in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([inputs for inputs, _ in parts]), examples.inputs)
    assert torch.equal(torch.cat([targets for _, targets in parts]), examples.targets)


def test_evaluation_in_parts_is_that_of_the_whole() -> None:
    problem = small_problem()
    model = initialize(problem.model, 0).eval()
    assert evaluate(model, problem, problem.train, batch_size=7) == pytest.approx(
        evaluate(model, problem, problem.train)
    )


def test_the_base_asks_for_a_start() -> None:
    with pytest.raises(NotImplementedError, match="HyperLearningTrainable must implement start"):
        HyperLearningTrainable(dict(CONFIG))


@pytest.mark.parametrize(
    ("visible", "actor", "assigned", "device"),
    [
        (False, "a1", [], "cpu"),
        (True, "a1", ["0"], "cuda:0"),
        (True, "a1", ["3"], "cuda:0"),  # Ray makes it the only visible one
        (True, "a1", [], "cpu"),  # Ray may leave the others visible
        (True, None, [], "cuda:0"),  # a driver: nothing is assigned to it
    ],
)
def test_the_device_is_the_one_that_ray_assigned(
    monkeypatch: pytest.MonkeyPatch, visible: bool, actor: str | None, assigned: list[str], device: str
) -> None:
    context = SimpleNamespace(get_actor_id=lambda: actor, get_accelerator_ids=lambda: {"GPU": assigned})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    assert str(assigned_device()) == device


def test_without_ray_the_device_is_the_machines_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert str(assigned_device()) == "cuda:0"


def test_a_batch_size_of_the_config_replaces_the_problems_own() -> None:
    assert Scoring({**CONFIG, "batch_size": 40}).problem.batch_size == 40
