"""Verdicts of Arbiter's reproductions, on trajectories made to satisfy or break each claim, and tiny runs of them."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from raytune_hyperlearn.problems import load
from raytune_hyperlearn.reproductions.arbiter import figure3 as arbiter_figure3
from raytune_hyperlearn.reproductions.arbiter import figure4 as arbiter_figure4
from raytune_hyperlearn.reproductions.arbiter import figure5 as arbiter_figure5
from raytune_hyperlearn.reproductions.arbiter import trainings as arbiter_trainings
from raytune_hyperlearn.reproductions.arbiter.panels import padded
from raytune_hyperlearn.reproductions.arbiter.trainings import (
    ARBITER,
    HELPING,
    METHODS,
    WITHOUT,
    family,
    train_all,
    training_problem,
)
from raytune_hyperlearn.reproductions.parts import evenly_spaced
from raytune_hyperlearn.reproductions.registry import find
from raytune_hyperlearn.reproductions.reproduction import Findings, Reproduction
from raytune_hyperlearn.reproductions.writing import reproduce
from tests.reproductions.arbiter.trajectories import TINY, every_method, make_trajectory, run_here

FIGURES = {"arbiter-figure3": arbiter_figure3, "arbiter-figure4": arbiter_figure4, "arbiter-figure5": arbiter_figure5}


def holds(findings: Findings, claim: str) -> bool | None:
    """The outcome of the only claim that begins so."""
    (found,) = (verdict.holds for verdict in findings.verdicts if verdict.claim.startswith(claim))
    return found


# --- figure 3 ----------------------------------------------------------------------------------------------

THREE = replace(arbiter_figure3.SETTINGS["small"], variants=("Φ at zero", "window"))


def of_figure3(late: Any, losses: dict[str, float]) -> Findings:
    """Trajectories whose late batch size is what ``late`` says of start and method."""
    final = {method: {"validation_loss": losses.get(method, losses[""])} for method in METHODS}
    trajectories: dict[str, Any] = {}
    for start in [*THREE.main("digits"), *THREE.changed()]:
        sizes = {method: [start.batch_size, *[late(start, method)] * 5] for method in METHODS}
        trajectories[start.group] = every_method(start.group, sizes, final)
    return arbiter_figure3.findings(THREE, trajectories)


def by_dynamics(start: Any, method: str) -> float:
    learned = method == ARBITER
    return start.batch_size * (1.5 if start.grows else 0.5) if learned else start.batch_size * 1.2


def to_the_middle(start: Any, method: str) -> float:
    return float(start.middle)


def test_figure3_as_published() -> None:
    found = of_figure3(by_dynamics, {ARBITER: 0.1, "": 0.2})
    assert holds(found, "Beyond the paper: no control") is True
    assert holds(found, "The batch size grows from the stochastic start") is True
    assert holds(found, "Beyond the paper: it is the step size that decides") is True
    assert holds(found, "Beyond the paper: to go there, Arbiter needs a response") is None, "half go there without"
    assert holds(found, "Beyond the paper: with the variant “window”") is True
    assert holds(found, "Arbiter's schedules give a lower validation loss") is True


def test_figure3_drawn_to_the_middle() -> None:
    found = of_figure3(to_the_middle, {ARBITER: 0.2, "arbiter-replay": 0.2, WITHOUT: 0.3, "": 0.1})
    assert holds(found, "The batch size grows from the stochastic start") is True, "the middle lies there"
    assert holds(found, "Beyond the paper: it is the step size that decides") is False
    assert holds(found, "Beyond the paper: to go there, Arbiter needs a response") is False
    assert holds(found, "Beyond the paper: to go there, Arbiter needs validation data") is False
    assert holds(found, "Beyond the paper: with the variant “Φ at zero”") is False, "half go there, all to the middle"
    assert holds(found, "Arbiter's schedules give a lower validation loss") is True
    assert holds(found, "Beyond the paper: no control") is False


def test_figure3_tables_say_where_it_went() -> None:
    found = of_figure3(to_the_middle, {"": 0.1})
    where = {row[0]: row[1:] for row in found.tables[0].rows}
    assert where["η = 0.1, B₀ = 32"] == ("8 to 150", "79", "79", "grows", "8 of 8", "8 of 8")
    assert where["η = 0.1, B₀ = 32, B ≤ 40"][-3:] == ("grows", "0 of 8", "8 of 8")
    assert len(where) == 2 + 2 + 2 + 2 * 4
    assert [row[1:] for row in found.tables[1].rows] == [("0", "0", "0")] * 2


def test_the_starts_of_figure3_lie_on_both_sides_of_the_middle() -> None:
    for settings in arbiter_figure3.SETTINGS.values():
        stochastic, calm = settings.main(settings.problems[0])
        assert stochastic.batch_size < stochastic.middle < calm.batch_size
        crossed_and_moved = settings.changed()[:4]
        assert all(start.tells_apart for start in crossed_and_moved)
        assert not stochastic.tells_apart
        assert not calm.tells_apart


# --- figure 4 ----------------------------------------------------------------------------------------------

FOUR = arbiter_figure4.SETTINGS["small"]


def of_figure4(sizes: list[float], accuracies: dict[str, float]) -> Findings:
    """Trajectories that have the heuristic's batch size at each milestone and one of ``sizes`` until the next."""
    own: list[float] = []
    for period, (_, dictated), size in zip(FOUR.periods, FOUR.heuristic, sizes, strict=True):
        own += [dictated, *[size] * (period.stop - period.start - 1)]
    final = {method: {"test_accuracy": accuracies.get(method, accuracies[""])} for method in METHODS}
    main = every_method(FOUR.group, {"": own}, final)
    varied = {name: {ARBITER: every_method(name, {"": own}, final)[ARBITER]} for name in FOUR.variants}
    return arbiter_figure4.findings(FOUR, {FOUR.group: main, **varied})


def test_figure4_as_published() -> None:
    found = of_figure4([12, 40, 70, 140], {ARBITER: 0.9, "": 0.8})
    assert holds(found, "Beyond the paper: no control") is True
    assert holds(found, "Arbiter chooses smaller batches than the heuristic at first") is True
    assert holds(found, "Beyond the paper: where it goes is not simply towards the middle") is None, "2 of 4 go there"
    assert holds(found, "Arbiter's schedule gives a higher test accuracy") is True
    assert holds(found, "Beyond the paper: with a changed agent") is True
    assert found.tables[0].rows[0] == ("Arbiter", "12", "40", "70", "140")


def test_figure4_drawn_to_the_middle() -> None:
    found = of_figure4([79, 79, 79, 79], {ARBITER: 0.8, "": 0.9})
    assert holds(found, "Arbiter chooses smaller batches than the heuristic at first") is False
    assert holds(found, "Beyond the paper: where it goes is not simply towards the middle") is False
    assert holds(found, "Beyond the paper: to go where it goes, Arbiter needs a response") is False
    assert holds(found, "Arbiter's schedule gives a higher test accuracy") is False
    assert holds(found, "Beyond the paper: with a changed agent") is False


def test_periods_end_at_the_milestones() -> None:
    assert FOUR.periods == [slice(0, 2), slice(2, 4), slice(4, 8), slice(8, 16)]
    paper = arbiter_figure4.SETTINGS["paper"]
    assert paper.group == "64 → 128 → 256 → 512"
    assert paper.periods[-1] == slice(100, 200)


# --- figure 5 ----------------------------------------------------------------------------------------------

FIVE = arbiter_figure5.SETTINGS["small"]


def of_figure5(rates: dict[str, list[float]], accuracies: dict[str, float]) -> Findings:
    final = {method: {"validation_accuracy": accuracies.get(method, accuracies[""])} for method in METHODS}
    sizes = {WITHOUT: [32, 32], "": [32, 64]}
    trajectories: dict[str, Any] = {
        group: every_method(group, sizes, final, rates) for group in arbiter_figure5.OPTIMIZERS.values()
    }
    for group, main in FIVE.changed().items():
        trajectories[group] = {ARBITER: trajectories[main][ARBITER]}
    return arbiter_figure5.findings(FIVE, trajectories)


def test_figure5_as_published() -> None:
    rates = {ARBITER: [0.1, 0.08, 0.07, 0.06], "arbiter-constant-mean": [0.1, 0.08, 0.08, 0.08]}
    found = of_figure5({**rates, "": [0.1, 0.08, 0.01, 0.001]}, {ARBITER: 0.9, "": 0.8})
    rate, end, error = (one.holds for one in found.verdicts if one.claim.startswith("Beyond the paper: no control"))
    assert rate is False, "a constant batch keeps more"
    assert end is False
    assert error is True
    assert holds(found, "At the end of training") is True
    assert holds(found, "Without Arbiter the learning rate decays") is True
    assert holds(found, "Arbiter enlarges the batch") is True
    assert holds(found, "Once Arbiter chooses") is True
    assert holds(found, "Fluctuations of the batch size speed up the decay") is True
    assert holds(found, "With both optimizers Arbiter gives a lower") is True
    assert holds(found, "Beyond the paper: with a changed agent, the learning rate") is True


def test_figure5_broken() -> None:
    found = of_figure5({ARBITER: [0.1, 0.08, 0.01, 0.01], "": [0.1, 0.09, 0.08, 0.08]}, {ARBITER: 0.8, "": 0.9})
    assert holds(found, "Without Arbiter the learning rate decays") is False
    assert holds(found, "Once Arbiter chooses") is False
    assert holds(found, "With both optimizers Arbiter gives a lower") is False
    assert holds(found, "Beyond the paper: with a changed agent, validation error") is False


def test_rates_are_compared_after_equally_many_updates_from_the_first_decision_on() -> None:
    arbiter = make_trajectory("g", ARBITER, 0, [32, 32], rates=[0.1, 0.08, 0.06, 0.04])
    control = make_trajectory("g", WITHOUT, 0, [32, 32], rates=[0.1, 0.04, 0.02, 0.01, 0.001, 0.0])
    assert arbiter_figure5.less_kept(arbiter, control) == pytest.approx(0.01 / 0.04 - 0.04 / 0.08)
    assert arbiter_figure5.less_left(arbiter, control) == pytest.approx(0.0 - 0.04 / 0.08)
    diverged = make_trajectory("g", WITHOUT, 0, [32, 32], rates=[0.1, 0.04, 0.03, math.nan, 0.0, 0.0])
    assert arbiter_figure5.finite_rates(diverged).tolist() == [0.1, 0.04, 0.03]
    assert arbiter_figure5.less_kept(arbiter, diverged) == pytest.approx(0.03 / 0.04 - 0.06 / 0.08)
    assert arbiter_figure5.kept(np.array([0.1, -0.1, 0.2]), 1, 2) == 0.0


# --- data, configs and tiny runs ---------------------------------------------------------------------------


def test_a_share_of_the_training_labels_is_wrong_and_no_test_label() -> None:
    right, wrong = load("digits"), training_problem("digits", 0, 0, 0.2)
    changed = (wrong.train.targets != right.train.targets).double().mean().item()
    assert changed == pytest.approx(0.2 * 0.9, abs=0.03), "a tenth of those drawn anew are right by chance"
    assert torch.equal(wrong.test.targets, right.test.targets)
    assert torch.equal(wrong.train.inputs, right.train.inputs)
    assert torch.equal(wrong.train.targets, training_problem("digits", 0, 0, 0.2).train.targets)
    part = training_problem("digits", 100, 10, 0.0)
    assert (len(part.train), len(part.test)) == (100, 10)
    assert torch.equal(part.train.targets, evenly_spaced(right.train, 100).targets)


def test_configs_of_arbiter_a_control_and_a_variant() -> None:
    made = {one.method: one.config(TINY) for one in family(TINY, "start", 0.1, 32, agent=HELPING["window"])}
    assert made[ARBITER]["arbiter"] == {
        "min_batch_size": 8,
        "max_batch_size": 40,
        "agent_lr": 1e-3,
        "mixing_lr": 2e-3,
        "warm_up_lr": 1e-3,
        "decision": "window",
    }
    assert made["arbiter-frozen"]["arbiter"]["response"] == "frozen"
    assert made["arbiter-noise"]["arbiter"]["agent_input"] == "noise"
    assert made[WITHOUT]["chosen_by"] == "heuristic"
    assert made[ARBITER]["hyperparameters"] == {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}


def test_shorter_series_are_padded() -> None:
    rows = padded([np.array([1.0, math.inf]), np.array([1.0, 2.0, 3.0])])
    assert repr(rows.tolist()) == "[[1.0, nan, nan], [1.0, 2.0, 3.0]]"


def test_controls_train_at_what_arbiter_learned_from_their_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arbiter_trainings, "_run", run_here)
    methods = (ARBITER, "arbiter-constant-mean", "arbiter-replay", "arbiter-random-walk")
    with monkeypatch.context() as patched:
        patched.setattr(arbiter_trainings, "local_ray", nullcontext)
        trajectories = train_all(TINY, family(TINY, "start", 0.1, 12, methods), tmp_path, Console(quiet=True))["start"]
    schedules = [trajectories[ARBITER][seed].sizes for seed in range(2)]
    assert schedules[0].tolist() != schedules[1].tolist()
    for seed, learned in enumerate(schedules):
        assert len(set(learned)) > 2
        assert trajectories["arbiter-constant-mean"][seed].sizes.tolist() == [round(learned.mean())] * 4
        assert trajectories["arbiter-replay"][seed].sizes.tolist() == learned.tolist()
        walk = trajectories["arbiter-random-walk"][seed].sizes
        assert np.abs(np.diff(walk)).tolist() == np.abs(np.diff(learned)).tolist()
    trajectory = trajectories[ARBITER][0]
    assert len(trajectory.learning_rates) == trajectory.series["updates"].sum()


def tiny(module: ModuleType) -> Any:
    setting = replace(TINY, seeds=1, epochs=3)
    if module is arbiter_figure3:
        return replace(module.SETTINGS["smoke"], setting=setting, batch_sizes=(12, 32), moved=(20, 60))
    if module is arbiter_figure4:
        return replace(module.SETTINGS["smoke"], setting=replace(setting, epochs=4), heuristic=((0, 10), (2, 30)))
    return replace(module.SETTINGS["smoke"], setting=setting, batch_size=12)


def written(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The summary of a tiny run, whose page has been looked at."""
    module = FIGURES[name]
    reproduction: Reproduction = find(name)
    monkeypatch.setattr(module, "SETTINGS", {"smoke": tiny(module)})
    reproduce(name, reproduction, "smoke", folder, Console(quiet=True))
    assert "inconclusive" in (folder / "report.html").read_text(), "one seed tells nothing"
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_tiny_run_on_ray_is_what_the_trainings_do_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_ray = written("arbiter-figure4", tmp_path / "ray", monkeypatch)
    monkeypatch.setattr(arbiter_trainings, "_run", run_here)
    alone = written("arbiter-figure4", tmp_path / "alone", monkeypatch)
    for trajectory in (*on_ray["numbers"].values(), *alone["numbers"].values()):
        trajectory.pop("training_seconds")
    assert on_ray["numbers"].keys() == alone["numbers"].keys()
    for name, trajectory in alone["numbers"].items():
        for key, values in trajectory.items():
            found, expected = (np.array(one, dtype=float) for one in (on_ray["numbers"][name][key], values))
            np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=f"{name} {key}")
    sizes = alone["numbers"]["10 → 30 | arbiter | 0"]["mean_batch_size"]
    assert (sizes[0], sizes[2]) == (10, 30)
    assert alone["numbers"]["10 → 30 | arbiter-constant | 0"]["mean_batch_size"] == [10, 10, 30, 30]


@pytest.mark.long
@pytest.mark.parametrize("name", ["arbiter-figure3", "arbiter-figure5"])
def test_tiny_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbiter_trainings, "_run", run_here)
    monkeypatch.setattr(arbiter_trainings, "local_ray", nullcontext)
    summary = written(name, tmp_path / "out", monkeypatch)
    tested = [verdict for verdict in summary["verdicts"] if "no control" in verdict["claim"]]
    assert tested
    assert all(verdict["holds"] is None for verdict in tested)
    assert all(label in tested[0]["found"] for label in ("frozen response", "noise for the agent", "random walk"))
    assert summary["settings"]["methods"] == list(METHODS)
    if name == "arbiter-figure5":
        rates = summary["numbers"]["learning_rates_by_epoch"]
        assert rates["SGD-HD | arbiter | 0"] != rates["Adam-HD | arbiter | 0"]
        assert all(value != 0.1 for values in rates.values() for value in values), "every rate is learned"


@pytest.mark.parametrize("module", FIGURES.values())
def test_scales(module: ModuleType) -> None:
    settings = module.SETTINGS
    medium = ["medium"] if module is arbiter_figure3 else []
    assert list(settings) == ["smoke", "small", *medium, "paper"]
    assert settings["small"].setting.seeds >= 5
    paper = settings["paper"].setting
    assert (paper.epochs, paper.max_batch_size) == (200, 600)
    assert (paper.agent_lr, paper.mixing_lr, paper.warm_up_lr) == (1e-5, 1e-4, 1e-4), "the authors'"
    assert paper.train == paper.test == paper.wrong_labels == 0
