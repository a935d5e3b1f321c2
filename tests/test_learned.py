from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from raytune_hyperlearn.algorithms.sgd import sgd_optimizer, sgd_step
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, OptimizerSpace, Schedule, SearchSpace
from raytune_hyperlearn.learned import Learned

STEPS = 12
VALUES = {"learning_rate": [0.3, 0.1, 0.05], "momentum": [0.0, 0.9], "weight_decay": [1e-3]}
SPACE = SearchSpace(LearningRate(values=3), Momentum(values=2))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 4, generator=generator, dtype=torch.float64), torch.randint(3, (16,), generator=generator)


def per_example(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def train_on(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: object, steps: range) -> None:
    for step in steps:
        inputs, targets = batch(step)
        optimizer.zero_grad()
        per_example(model(inputs), targets).mean().backward()
        optimizer.step()
        scheduler.step()  # type: ignore[attr-defined]


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def searched() -> torch.Tensor:
    """Weights after training as the search trains."""
    model = network()
    optimizer = sgd_optimizer(model)
    for step in range(STEPS):
        sgd_step(model, optimizer, per_example, batch(step), SPACE.at_step(VALUES, step, STEPS))
    return weights(model)


def test_a_plain_loop_with_the_scheduler_trains_as_the_search_did() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=7.0, momentum=0.5)
    scheduler = Learned(VALUES, SPACE).to_torch(optimizer, STEPS)
    train_on(model, optimizer, scheduler, range(STEPS))
    torch.testing.assert_close(weights(model), searched(), rtol=0, atol=0)


def test_the_scheduler_continues_from_its_state() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = Learned(VALUES, SPACE).to_torch(optimizer, STEPS)
    train_on(model, optimizer, scheduler, range(7))
    states = pickle.loads(pickle.dumps((model.state_dict(), optimizer.state_dict(), scheduler.state_dict())))

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = Learned(VALUES, SPACE).to_torch(optimizer, STEPS)
    for part, state in zip((model, optimizer, scheduler), states, strict=True):
        part.load_state_dict(state)
    train_on(model, optimizer, scheduler, range(7, STEPS))
    torch.testing.assert_close(weights(model), searched(), rtol=0, atol=0)


def test_after_the_last_step_the_last_values_stay() -> None:
    optimizer = torch.optim.SGD(network().parameters(), lr=1.0)
    scheduler = Learned(VALUES, SPACE).to_torch(optimizer, 3)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.3, 0.1, 0.05, 0.05, 0.05, 0.05]
    assert scheduler.get_last_lr() == [0.05]


def test_another_horizon_keeps_relative_times() -> None:
    learned = Learned(VALUES, SPACE)
    short = [learned.at(step, 6)["learning_rate"] for step in range(6)]
    long = [learned.at(step, 60)["learning_rate"] for step in range(0, 60, 10)]
    assert short == long == [0.3, 0.3, 0.1, 0.1, 0.05, 0.05]


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    space = SearchSpace(LearningRate(shape="cosine", scale="log", range=(1e-3, 1.0)), Momentum(values=2), 1e-3)
    values = {"learning_rate": [0.5, 0.01, 0.1], "momentum": [0.2, 0.9], "weight_decay": [1e-3]}
    Learned(values, space, {"method": "fds"}).save(tmp_path / "best.json")
    again = Learned.load(tmp_path / "best.json")
    assert again.found == {"method": "fds"}
    assert [again.at(t, 20) for t in range(21)] == [Learned(values, space).at(t, 20) for t in range(21)]


def test_schedules_of_any_length_and_batch_sizes_are_kept(tmp_path: Path) -> None:
    values = {"learning_rate": [0.1] * 16, "momentum": [0.9], "weight_decay": [0.0]}
    Learned(values, SPACE, batch_sizes=(4.4, 8.0)).save(tmp_path / "best.json")
    learned = Learned.load(tmp_path / "best.json")
    sampler = learned.to_batch_sampler(16, epochs=2)
    assert [{len(rows) for rows in sampler} for _ in range(2)] == [{4}, {8}]
    assert learned.to_yaml().endswith("momentum: [0.9]\nweight_decay: [0]\nbatch_size: [4.4, 8]\n")


def test_adam_takes_its_betas() -> None:
    space = OptimizerSpace({"learning_rate": Schedule(values=2), "beta1": Schedule(init=0.8), "epsilon": 1e-6})
    values = {"learning_rate": [0.01, 0.001], "beta1": [0.7], "epsilon": [1e-6]}
    optimizer = torch.optim.AdamW(network().parameters())
    Learned(values, space).to_torch(optimizer, 10)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.7, 0.999), 1e-6)


def test_schedules_of_layers_reach_their_layers(tmp_path: Path) -> None:
    model = network()
    space = SearchSpace(LearningRate(values=2, groups="layers"), Momentum(), 0.0).for_model(
        [name for name, _ in model.named_parameters()]
    )
    values = {
        "learning_rate@0": [0.1, 0.2],
        "learning_rate@2": [0.3, 0.4],
        "momentum": [0.9],
        "weight_decay": [0.0],
    }
    Learned(values, space).save(tmp_path / "best.json")
    learned = Learned.load(tmp_path / "best.json")
    optimizer = torch.optim.SGD(learned.parameter_groups(model), lr=1.0)
    scheduler = learned.to_torch(optimizer, 2)
    first = [group["lr"] for group in optimizer.param_groups]
    optimizer.step()
    scheduler.step()
    assert first == [0.1, 0.3]
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.4]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    with pytest.raises(ValueError, match=r"it must be over learned.parameter_groups\(model\)"):
        learned.to_torch(torch.optim.SGD(model.parameters(), lr=1.0), 2)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^optimizer is Adam; it must have an entry for 'momentum'"):
        Learned(VALUES, SPACE).to_torch(torch.optim.Adam(network().parameters()), 3)
    with pytest.raises(ValueError, match=r"^learning_rate is \[nan\]; it must be a list of finite numbers$"):
        Learned({"learning_rate": [float("nan")]}, SPACE)
    with pytest.raises(ValueError, match=r"^batch_sizes is empty; it must hold what a method"):
        Learned(VALUES, SPACE).to_batch_sampler(10, 1)
    with pytest.raises(ValueError, match=r"^steps is 0; it must be at least 1$"):
        Learned(VALUES, SPACE).at(0, 0)
    for content in ("{", "[]", "{}", '{"space": {"named": 3}, "hyperparameters": {}, "found": {}}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"^path is '.*bad.json'; it must be a file that Learned.save wrote"):
            Learned.load(tmp_path / "bad.json")
