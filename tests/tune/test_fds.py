"""FDS on Ray Tune: scheduler and trainable agree, survive restores, and refuse bad config."""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune
from ray.tune.experiment import Trial

from raytune_hyperlearn.algorithms.objectives import label_smoothing
from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.sign_descent import OuterState
from raytune_hyperlearn.algorithms.update_maps import AdamW
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from raytune_hyperlearn.hyperparameters import (
    LearningRate,
    Momentum,
    OptimizerSpace,
    Schedule,
    SearchSpace,
    WeightDecay,
)
from raytune_hyperlearn.problems import Purpose, batches, derived_seed
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.tune import FDSOptions, FDSScheduler, FDSTrainable, SGDTrainable, fds
from raytune_hyperlearn.tune.fds_updates import Measured, outer_update
from tests.tune.small import SPACE, small_problem

CONFIG: dict[str, Any] = {
    "problem": small_problem,
    "space": SPACE,
    "seed": 5,
    "epochs": 2,
    "outer_steps": 4,
    "differentiation": "forward",  # two trials that measured for themselves might not choose alike
}


@pytest.fixture
def trainable(tmp_path: Path) -> FDSTrainable:
    return FDSTrainable(dict(CONFIG))


def run(tmp_path: Path, scheduler: FDSScheduler | None, **config: Any) -> tune.ResultGrid:
    return tune.Tuner(
        FDSTrainable,
        param_space={**CONFIG, **config},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    "options",
    [
        {"horizons": [1.0, 2.0], "growth": 1.5, "coarse_steps": 2, "tolerance": 1.01},
        {"horizons": {"first": 1.0, "factor": 1.5}, "coarse_steps": 2, "outer_optimizer": "surrogate"},
        {"coarse_steps": 1, "outer_optimizer": "adam", "tolerance": 1.4},
    ],
)
def test_scheduler_and_trainable_give_the_same_schedule(tmp_path: Path, options: dict[str, Any]) -> None:
    alone = run(tmp_path / "alone", None, **options)
    scheduled = run(tmp_path / "scheduled", FDSScheduler(), **options)
    assert alone.num_errors == scheduled.num_errors == 0
    assert alone[0].metrics is not None
    assert scheduled[0].metrics is not None
    assert alone[0].metrics["training_iteration"] == 4
    for key in ("outer_state", "hypergradient", "validation_loss"):
        assert alone[0].metrics[key] == scheduled[0].metrics[key]
    assert alone[0].metrics["hyperparameters"]["learning_rate"] != [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("ray_session")
def test_tune_run_takes_trainable_and_scheduler(tmp_path: Path) -> None:
    analysis = tune.run(FDSTrainable, config=CONFIG, scheduler=FDSScheduler(), storage_path=str(tmp_path), verbose=0)
    (trial,) = analysis.trials
    assert trial.status == "TERMINATED"
    assert trial.last_result["outer_step"] == 3
    assert trial.config["outer_state"]["index"] == 3


def test_reported_loss_is_that_of_training_with_the_reported_values(trainable: FDSTrainable) -> None:
    trainable.step()
    second = trainable.step()
    seed = derived_seed(5, Purpose.OUTER_STEP, 1, 0)
    problem = small_problem()
    split = problem.split(5)
    model = initialize(problem.model, seed)
    horizon = problem.horizon(2)
    train(model, problem.loss, batches(split.train, 20, horizon, seed), second["hyperparameters"], horizon)
    model.eval()
    with torch.no_grad():
        loss = problem.loss(model(split.validation.inputs), split.validation.targets).mean().item()
    assert second["validation_loss"] == pytest.approx(loss, rel=1e-4)


def test_replay_scores_at_the_full_budget() -> None:
    trainable = FDSTrainable({**CONFIG, "horizons": [0.5]})
    first, second = trainable.step(), trainable.step()
    assert first["epochs"] == 0.5  # all learning rates are zero: there is nothing to train
    assert second["epochs"] == 2
    assert second["inner_epochs"] == 0.5
    assert second["inner_validation_loss"] != second["validation_loss"]


def test_a_restored_trial_computes_products_as_it_would_have_without(tmp_path: Path) -> None:
    """Recorded operations begin in its second outer step, whether or not it is restored in between."""
    config = {**CONFIG, "hessian": {"record_after": 10}}
    whole = FDSTrainable(config)
    expected = [whole.step() for _ in range(3)]
    assert whole.products is not None
    parts: list[dict[str, Any]] = []
    for _ in range(3):
        part = FDSTrainable(config)
        if parts:
            part.load_checkpoint(str(tmp_path))
        parts.append(part.step())
        part.save_checkpoint(str(tmp_path))
    assert part.products is not None
    assert part.products.choices() == whole.products.choices()
    assert part.products.recorded == whole.products.recorded
    assert whole.products.recorded
    for found, result in zip(parts, expected, strict=True):
        for key in ("outer_state", "hypergradient", "validation_loss"):
            assert found[key] == result[key], key


def test_a_way_that_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**CONFIG, "hessian": {"way": "auto"}}
    first = FDSTrainable(config)
    way = first.step()["hessian_way"]
    first.save_checkpoint(str(tmp_path))
    monkeypatch.setattr(HessianProducts, "_fastest", lambda self, *arguments: pytest.fail("measured again"))
    second = FDSTrainable(config)
    second.load_checkpoint(str(tmp_path))
    assert second.step()["hessian_way"] == way


def test_both_directions_move_alike_and_say_which_it_was() -> None:
    forward, reverse = (FDSTrainable({**CONFIG, "differentiation": way}).train() for way in ("forward", "reverse"))
    assert (forward["differentiation"], reverse["differentiation"]) == ("forward", "reverse")
    for name, entries in forward["hypergradient"].items():
        assert reverse["hypergradient"][name] == pytest.approx(entries, rel=1e-3, abs=1e-5)


def test_a_direction_that_was_chosen_is_chosen_again(tmp_path: Path) -> None:
    first = FDSTrainable({**CONFIG, "differentiation": "auto"})
    result = first.train()
    assert "plain trainings forward" in result["differentiation_why"]
    first.save_checkpoint(str(tmp_path))
    again = FDSTrainable({**CONFIG, "differentiation": "auto"})
    again.load_checkpoint(str(tmp_path))
    assert again.hypergradients.costs == first.hypergradients.costs != {}
    assert again.train()["hypergradient"] == first.train()["hypergradient"]


def test_config_of_a_scheduler_wins_over_an_older_checkpoint(tmp_path: Path) -> None:
    old = FDSTrainable(dict(CONFIG))
    old.save_checkpoint(str(tmp_path))
    newer = OuterState(3, {**SPACE.initial(), "learning_rate": [0.1, 0.2, 0.3]}, SPACE.step_sizes(), SPACE.step_sizes())
    restarted = FDSTrainable({**CONFIG, "outer_state": newer.to_mapping(), "updated_by": "scheduler"})
    restarted.load_checkpoint(str(tmp_path))
    assert restarted.outer == newer


def test_divergence_is_a_result_not_a_crash() -> None:
    space = SearchSpace(LearningRate(values=2, init=1e37, range=(0, 1e38)), 0.0, 0.0)
    result = FDSTrainable({**CONFIG, "space": space}).step()
    assert result["status"] == "diverged"
    assert result["validation_loss"] == math.inf
    assert result["validation_accuracy"] == 0


def test_a_diverged_outer_step_is_retried_half_way_back_and_recorded() -> None:
    """The first outer step is good; a second that overflows goes half way back with halved steps, and is said to."""
    trainable = FDSTrainable(dict(CONFIG))
    first = trainable.step()
    after = trainable.outer
    leap = {**after.values, "learning_rate": [1e37] * 3}
    trainable.apply_update({"outer_state": replace(after, values=leap).to_mapping()})
    second = trainable.step()
    assert (second["status"], second["validation_loss"], second["outer_step"]) == ("diverged", math.inf, 1)
    third = trainable.outer
    assert third.values["learning_rate"] == [5e36] * 3  # half way back to zero, where the first outer step was
    assert third.step_sizes["learning_rate"] == [size / 2 for size in after.step_sizes["learning_rate"]]
    assert second["best"] == {
        "outer_step": 0,
        "validation_loss": first["validation_loss"],
        "hyperparameters": first["hyperparameters"],
    }


def test_the_best_outer_step_is_reported_beside_the_last() -> None:
    trainable = FDSTrainable(dict(CONFIG))
    results = [trainable.step() for _ in range(4)]
    for index, result in enumerate(results):
        best = min(results[: index + 1], key=lambda r: r["validation_loss"])
        assert result["best"] == {
            "outer_step": best["outer_step"],
            "validation_loss": best["validation_loss"],
            "hyperparameters": best["hyperparameters"],
        }
    assert results[-1]["best"]["outer_step"] > 0


def test_no_value_leaves_its_range_although_the_hypergradient_pushes_it() -> None:
    space = SearchSpace(LearningRate(values=2, init=0.01, step=0.19, range=(0.005, 0.2)), Momentum(), WeightDecay())
    trainable = FDSTrainable({**CONFIG, "space": space, "outer_steps": 6})
    rates = set()
    for _ in range(6):
        values = trainable.step()["hyperparameters"]
        rates |= set(values["learning_rate"])
        for name, (low, high) in space.ranges().items():
            assert all(low <= value <= high for value in values[name])
    assert 0.2 in rates  # a whole first step ends there, and is cut where rounding takes it beyond


@pytest.mark.parametrize(
    ("horizons", "expected"),
    [([0.5, 1.0], [0.5, 1.0, 1.0]), ({"first": 0.5, "factor": 2}, [0.5, 1.0, 2.0]), (None, [2.0, 2.0, 2.0])],
)
def test_budgets_of_outer_steps_are_a_list_or_grow_by_a_rule(horizons: Any, expected: list[float]) -> None:
    trainable = FDSTrainable({**CONFIG, "horizons": horizons, "replay": False})
    assert [trainable.step()["inner_epochs"] for _ in range(3)] == expected
    assert trainable.options.inner_epochs(10_000, 2.0) == expected[-1]


def test_moves_are_smaller_before_longer_trainings() -> None:
    """The first move leads to a training twice as long as the first, as does the second."""
    trainable = FDSTrainable({**CONFIG, "horizons": [0.5, 1.0], "replay": False, "updated_by": "trainable"})
    rates = [trainable.step()["hyperparameters"]["learning_rate"] for _ in range(3)]
    steps = trainable.settings.space.step_sizes()["learning_rate"]
    moves = [[abs(a - b) for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(rates)]
    assert moves[0] == pytest.approx([step / 2 for step in steps])
    assert all(
        any(move == pytest.approx(step / by) for by in (2, 4)) for move, step in zip(moves[1], steps, strict=True)
    )


# ---------------------------------------------------------------------------------------- other optimizers

ADAMW = OptimizerSpace(
    {
        "learning_rate": Schedule(values=2, init=0.01, step=0.01, range=(0.0, 0.3)),
        "beta1": Schedule(init=0.8, step=0.1, range=(0.0, 0.99)),
        "epsilon": 1e-4,
    }
)


def smoothed_adamw(model: FunctionalModel) -> AdamW:
    return AdamW(model, label_smoothing())


def loss_of_pytorchs_adamw(values: dict[str, list[float]], seed: int) -> float:
    """Validation loss of training for two epochs with torch's own optimizer."""
    problem = small_problem()
    split, horizon = problem.split(5), problem.horizon(2)
    model = initialize(problem.model, seed)
    optimizer = torch.optim.AdamW(model.parameters(), eps=1e-4)
    for step, (inputs, targets) in enumerate(batches(split.train, 20, horizon, seed)):
        for group in optimizer.param_groups:
            group["lr"] = values["learning_rate"][2 * step // horizon]
            group["betas"] = (values["beta1"][0], 0.999)
        optimizer.zero_grad()
        problem.loss(model(inputs), targets).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return problem.loss(model(split.validation.inputs), split.validation.targets).mean().item()


def test_adamw_trains_as_in_pytorch_with_the_reported_values() -> None:
    trainable = FDSTrainable({**CONFIG, "space": ADAMW, "optimizer": "adamw"})
    trainable.step()
    result = trainable.step()
    assert result["hyperparameters"]["beta1"] != [0.8]
    expected = loss_of_pytorchs_adamw(result["hyperparameters"], derived_seed(5, Purpose.OUTER_STEP, 1, 0))
    assert result["validation_loss"] == pytest.approx(expected, rel=1e-3)


def test_another_optimizers_values_are_replayed_by_it_at_the_full_budget() -> None:
    trainable = FDSTrainable({**CONFIG, "space": ADAMW, "optimizer": "adamw", "horizons": [1.0], "replicates": 2})
    trainable.step()
    result = trainable.step()
    losses = [
        loss_of_pytorchs_adamw(result["hyperparameters"], derived_seed(5, Purpose.REPLAY, 1, index, 0))
        for index in (0, 1)
    ]
    assert (result["inner_epochs"], result["epochs"]) == (1, 2)
    assert result["validation_loss"] == pytest.approx(sum(losses) / 2, rel=1e-3)


def test_an_own_update_map_learns_its_objectives_hyperparameters() -> None:
    space = OptimizerSpace({"learning_rate": 0.05, "label_smoothing": Schedule(init=0.4, step=0.1, range=(0.0, 1.0))})
    trainable = FDSTrainable({**CONFIG, "space": space, "optimizer": smoothed_adamw})
    first = trainable.step()
    assert first["hypergradient"]["label_smoothing"][0] > 0
    assert trainable.step()["hyperparameters"]["label_smoothing"] == [pytest.approx(0.3)]


def test_other_trainables_refuse_a_space_that_they_cannot_train_in() -> None:
    with pytest.raises(ValueError, match="space is of type OptimizerSpace; sgd needs a SearchSpace"):
        SGDTrainable({"problem": small_problem, "space": ADAMW})


class Held(Trial):
    """A trial that has a config and nothing else."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.trial_id, self.config = "held", config

    def set_config(self, config: dict[str, Any]) -> None:
        """Take it."""
        self.config = config


def test_a_search_says_why_it_ended() -> None:
    results, trainable = [], FDSTrainable({**CONFIG, "outer_steps": 2})
    for _ in range(2):
        results.append(trainable.step())
    assert [(result["ended"], result["done"]) for result in results] == [(None, False), ("outer_steps", True)]


@pytest.mark.parametrize("rule", ["sign", "adam", "surrogate"])
@pytest.mark.parametrize("updated_by", ["trainable", "scheduler"])
def test_the_outer_update_is_made_once(monkeypatch: pytest.MonkeyPatch, rule: str, updated_by: str) -> None:
    made = []
    update = fds.outer_update
    monkeypatch.setattr(fds, "outer_update", lambda *arguments: made.append(1) or update(*arguments))
    trainable = FDSTrainable({**CONFIG, "updated_by": updated_by, "outer_optimizer": rule})
    result = trainable.step()
    assert result["best"]["outer_step"] == 0
    if updated_by == "scheduler":
        assert not made
        again = {**result, "training_iteration": 1}
        assert FDSScheduler().update(Held({**CONFIG, "outer_optimizer": rule}), again) is not None
    assert made == [1]


def test_the_scheduler_reads_a_trials_config_once_and_again_after_a_restore() -> None:
    trainable = FDSTrainable({**CONFIG, "updated_by": "scheduler"})
    scheduler, trial = FDSScheduler(), Held(CONFIG)
    first = trainable.step()
    update = scheduler.update(trial, first)
    trial.set_config({**CONFIG, "growth": "unreadable"})
    assert scheduler.update(trial, first) == update
    with pytest.raises(ValueError, match="growth"):
        pickle.loads(pickle.dumps(scheduler)).update(trial, first)
    scheduler.on_trial_error(None, trial)
    with pytest.raises(ValueError, match="growth"):
        scheduler.update(trial, first)


def test_scheduler_stops_a_converged_search() -> None:
    resting = OuterState(
        3,
        {"learning_rate": [0.5] * 3, "momentum": [0.5], "weight_decay": [1e-3]},
        {"learning_rate": [1e-3] * 3, "momentum": [1e-3], "weight_decay": [1e-6]},
        {"learning_rate": [1.0] * 3, "momentum": [1.0], "weight_decay": [1.0]},
        best_loss=0.1,
    )
    slopes = {name: [1.0] * len(own) for name, own in resting.values.items()}
    found = Measured(resting, slopes, 0.2, 0.2, inner_steps=16, epochs=2, full_epochs=2).to_mapping()
    more = {**CONFIG, "outer_steps": 5}
    converged, last = Held(more), Held({**CONFIG, "stop_when_converged": False})
    assert FDSScheduler().update(converged, found) is None
    assert converged.config["ended"] == "converged"
    assert FDSScheduler().update(last, found) is None
    assert last.config["ended"] == "outer_steps"
    goes_on = FDSScheduler().update(Held({**more, "stop_when_converged": False}), found)
    assert goes_on is not None
    assert goes_on["outer_state"]["index"] == 4


@pytest.mark.parametrize(("index", "size"), [(0, 0.1), (1, 0.1), (2, 0.2)])
def test_step_sizes_grow_after_whole_trainings_only(index: int, size: float) -> None:
    space = SearchSpace(LearningRate(values=1), 0.9, 0.0)
    options = FDSOptions(horizons=(0.5, 1.0, 2.0), growth=2.0, scaled_moves=False)
    state = replace(OuterState.start(space.initial(), {"learning_rate": [0.1]}), index=index)
    state = replace(state, signs={"learning_rate": [-1.0]})
    # The loss is that of a replay over the whole training, whatever was differentiated.
    measured = Measured(state, {"learning_rate": [-3.0]}, 0.2, 0.2, inner_steps=16, epochs=2, full_epochs=2)
    assert outer_update(measured, options, space).step_sizes == {"learning_rate": [size]}


@pytest.mark.parametrize(("key", "value"), [("growth", 1.5), ("tolerance", 1.4)])
def test_the_surrogate_rule_takes_no_option_of_the_sign_rule(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key} is {value}; with outer_optimizer 'surrogate' it must be "):
        FDSTrainable({**CONFIG, "outer_optimizer": "surrogate", key: value})


@pytest.mark.parametrize(
    ("other", "message"),
    [({"outer_optimizer": "surrogate"}, "windows is 'auto'"), ({"coarse_steps": 2}, "coarse_steps is 2")],
)
def test_chosen_windows_need_entries_of_every_value(other: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FDSOptions.from_config({"windows": "auto", **other})


def test_adam_does_not_grow_step_sizes() -> None:
    with pytest.raises(ValueError, match=r"^growth is 1.5; with outer_optimizer 'adam' it must be 1.0"):
        FDSTrainable({**CONFIG, "outer_optimizer": "adam", "growth": 1.5})


def test_signs_of_a_group_do_not_serve_the_surrogate_rule() -> None:
    scheduler = FDSScheduler(ensemble=2, averaging="sign_majority")
    trial = SimpleNamespace(config={**CONFIG, "outer_optimizer": "surrogate"})
    with pytest.raises(ValueError, match=r"^averaging is 'sign_majority'; with outer_optimizer 'surrogate' it must be"):
        scheduler.on_trial_add(SimpleNamespace(), trial)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("growth", 0.5, "growth is 0.5"),
        ("tolerance", 1.0, "tolerance is 1.0; it must be a number greater than 1 or None"),
        ("outer_optimizer", "sgd", "outer_optimizer is 'sgd'; it must be 'sign', 'adam' or 'surrogate'"),
        ("horizons", {"first": 1, "factor": 0.5}, "factor is 0.5; it must be a number in"),
        ("optimizer", "lion", "optimizer is 'lion'; it must be 'sgd', 'adam', 'adamw' or a function of the model"),
        ("optimizer", "adamw", "space holds 'momentum'; the optimizer has learning_rate, beta1"),
        ("member", {"replica": 0}, "member is {'replica': 0}; it must be one of scheduler.members()"),
        ("member", {"replica": 2, "ensemble": 2, "shard": 0, "shards": 1}, "replica of the member is 2"),
        ("member", {"replica": 0, "ensemble": 2, "shard": 0, "shards": 1}, "it needs the FDSScheduler that made it"),
        ("horizons", [1, -1], "horizons is"),
        ("horizons", "1", "horizons is '1'; it must be a list of positive numbers of epochs"),
        ("horizons", {"frist": 1, "factor": 2}, "option of horizons is 'frist'; it must be first"),
        ("replay", "no", "replay is 'no'; it must be true or false"),
        ("outer_steps", 2.5, "outer_steps is 2.5; it must be a whole number of at least 1 or None"),
        ("growth", True, "growth is True; it must be a number of at least 1"),
        ("outer_setps", 10, r"config key is 'outer_setps'; it must be outer_steps \(the closest\), batch_size"),
        ("hessian", {"chunk": 2.5}, "hessian.chunk is 2.5; it must be a whole number or None"),
        ("hessian", {"ways": "auto"}, "option of hessian is 'ways'; it must be way"),
        ("outer_steps", 0, "outer_steps is 0"),
        ("product_clamp", -1.0, "product_clamp is -1.0; it must be a positive number or None"),
        ("hessian", {"way": "backwards"}, "way is 'backwards'"),
        ("hessian", {"fraction": 0.0}, "fraction is 0.0"),
        ("seed", -1, "seed is -1"),
        ("epochs", 0, "epochs is 0"),
        ("problem", "cat pictures", "problem is 'cat pictures'"),
        ("gradient_clamp", 0.0, "gradient_clamp is 0.0"),
    ],
)
def test_bad_config_is_refused_in_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        FDSTrainable({**CONFIG, key: value})
    assert "\n" not in str(refused.value)
