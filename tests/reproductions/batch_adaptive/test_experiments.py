"""Verdicts of batch adaptive training's reproductions, on trajectories made to satisfy or break each claim."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from raytune_hyperlearn.reproductions.batch_adaptive import figure1 as ba_figure1
from raytune_hyperlearn.reproductions.batch_adaptive import figure2 as ba_figure2
from raytune_hyperlearn.reproductions.batch_adaptive import figure4 as ba_figure4
from raytune_hyperlearn.reproductions.batch_adaptive import figure5 as ba_figure5
from raytune_hyperlearn.reproductions.batch_adaptive.figure4 import CONTROLS
from raytune_hyperlearn.reproductions.batch_adaptive.learning_rate_pairs import Pairs
from raytune_hyperlearn.reproductions.batch_adaptive.learning_rate_pairs import Settings as RateSettings
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Seeds, Trajectories, Trajectory
from raytune_hyperlearn.reproductions.batch_adaptive.twelve_methods import GROUPS, RULES, Settings, trainings
from raytune_hyperlearn.reproductions.batch_adaptive.twelve_verdicts import seconds_to
from raytune_hyperlearn.reproductions.reproduction import Findings, Verdict
from tests.reproductions.batch_adaptive.test_trajectories import make_trajectory

SMALL, GROWING = [[32] * 8] * 4, [[32] * 8, [32] * 8, [32, 64] * 4, [64, 128] * 4]
SETTINGS = Settings(0, 0, 4, seeds=(0, 1, 2))


def one_seed(losses: dict[str, float], sizes: dict[str, list[list[int]]] | None = None) -> dict[str, Trajectory]:
    """Trajectories of four epochs that end at the losses named, others at 0.5; accuracy is 1 − loss / 4."""
    trajectories = {}
    for name in (f"{rule}-{group}" for group in GROUPS for rule in RULES):
        falling = [2.0, 1.0, 0.7, losses.get(name, 0.5)]
        chosen = (sizes or {}).get(name, SMALL)
        trajectories[name] = make_trajectory(name, falling, chosen, test_accuracy=[1 - loss / 4 for loss in falling])
    return trajectories


def over(*seeds: dict[str, Trajectory]) -> Trajectories:
    """The trajectories of each seed put together by method."""
    return {name: tuple(seed[name] for seed in seeds) for name in seeds[0]}


AS_PUBLISHED = one_seed(
    {"BA-Momentum": 0.1, "Mini-32-SGD": 0.2, "BA-SGD": 0.21},
    {"BA-Momentum": [[32] * 8] * 3 + [[32, 32, 32, 64] * 2], "BA-SGD": GROWING},
)
BROKEN = one_seed({"Mini-64-Momentum": 0.1, "BA-Momentum": 0.6, "Manual-SGD": 0.1, "Mini-32-SGD": 0.1})


def verdict(findings: Findings, words: str) -> Verdict:
    """The one verdict whose claim has these words."""
    (found,) = (one for one in findings.verdicts if words in one.claim)
    return found


def outcomes(findings: Findings, *words: str) -> list[bool | None]:
    return [verdict(findings, one).holds for one in words]


FIGURE1 = ("BA-Momentum ends with the lowest", "lowest loss but one", "below Manual", "stay near 32 early")


def test_there_are_twelve_trainings() -> None:
    made = trainings(Settings(0, 0, 100, seeds=(0,)))
    assert [training.name for training in made] == list(AS_PUBLISHED)
    assert {training.momentum for training in made if training.name.endswith("SGD")} == {0.0}
    manual = next(training for training in made if training.name == "Manual-SGD").rule()
    assert manual.double_every == 25  # type: ignore[attr-defined]


def test_figure1_as_published() -> None:
    found = ba_figure1.findings(over(AS_PUBLISHED, AS_PUBLISHED, AS_PUBLISHED), SETTINGS)
    assert outcomes(found, *FIGURE1) == [True] * 4
    assert verdict(found, "test accuracy").holds is False, "BA-SGD is not the most accurate of these"
    assert verdict(found, "no times").holds is False, "its loss is reached in the same second"
    assert [row[0] for row in found.tables[0].rows] == list(AS_PUBLISHED)
    assert [drawn.name for drawn in found.figures] == ["loss-by-epoch", "loss-by-second", "batch-sizes"]


def test_figure1_broken() -> None:
    found = ba_figure1.findings(over(BROKEN, BROKEN, BROKEN), SETTINGS)
    assert outcomes(found, *FIGURE1) == [False] * 4


def test_figure1_says_when_seeds_disagree() -> None:
    mostly = ba_figure1.findings(over(AS_PUBLISHED, BROKEN, AS_PUBLISHED), SETTINGS)
    assert outcomes(mostly, *FIGURE1) == [True] * 4
    for words in FIGURE1:
        assert "holds in 2 of 3. The seeds disagree." in verdict(mostly, words).found
    assert "BA-Momentum's place, seed by seed: 1, 6, 1." in verdict(mostly, FIGURE1[0]).found
    half = ba_figure1.findings(over(AS_PUBLISHED, BROKEN), SETTINGS)
    assert outcomes(half, FIGURE1[0]) == [None], "one of two is not most"
    assert next(row for row in mostly.tables[0].rows if row[0] == "BA-Momentum")[1] == "0.1 [0.1, 0.6]"


@pytest.mark.parametrize(
    ("early", "late", "holds"),
    [
        ((32, 32), (40, 60), True),
        ((41, 32), (50, 60), False),
        ((32, 32), (32, 60), False),
        ((32, 32), (60, 50), False),
    ],
)
def test_batch_sizes_grow(early: tuple[int, int], late: tuple[int, int], holds: bool) -> None:
    names = ("BA-Momentum", "BA-SGD")
    assert ba_figure1.grow((dict(zip(names, early, strict=True)), dict(zip(names, late, strict=True)))) is holds


def test_numbers_hold_every_seed() -> None:
    seeds = [
        {name: make_trajectory(name, [loss], [[32]], seed=seed) for name in AS_PUBLISHED}
        for seed, loss in ((3, 0.1), (8, 0.2))
    ]
    numbers = ba_figure1.findings(over(*seeds), SETTINGS).numbers
    assert {seed: numbers["BA-SGD"][seed]["training_loss"] for seed in numbers["BA-SGD"]} == {"3": [0.1], "8": [0.2]}


def test_level_losses_leave_it_open() -> None:
    level = one_seed({"Mini-64-Momentum": 0.1, "BA-Momentum": 0.101, "Mini-32-SGD": 0.1, "BA-SGD": 0.101})
    found = ba_figure1.findings(over(level), SETTINGS)
    assert outcomes(found, *FIGURE1[:2]) == [None, True], "second at worst, without momentum"
    third = one_seed({"Mini-32-SGD": 0.1, "Mini-64-SGD": 0.2, "BA-SGD": 0.201})
    assert outcomes(ba_figure1.findings(over(third), SETTINGS), FIGURE1[1]) == [None]
    assert outcomes(ba_figure1.findings(over(one_seed({})), SETTINGS), "below Manual") == [None]


def test_fluctuations_are_compared_with_most_constant_sizes() -> None:
    def trajectory(name: str, restless: bool) -> Trajectory:
        return make_trajectory(name, [4, 3, 2, 1, 2, 1] if restless else [4, 3, 2, 1, 0.9, 0.8], [[32]] * 6)

    for restless, holds in (({"Mini-32", "Mini-64", "Mini-128"}, True), ({"Mini-32", "Mini-64"}, False)):
        one = {name: trajectory(name, name.removesuffix("-Momentum") in restless) for name in AS_PUBLISHED}
        assert outcomes(ba_figure1.findings(over(one), SETTINGS), "fluctuates less") == [holds]


def test_time_is_to_the_loss_of_the_same_seed() -> None:
    fast = {name: make_trajectory(name, [2, 1, 0.5], [[32]] * 3) for name in AS_PUBLISHED}
    fast["BA-Momentum"] = make_trajectory("BA-Momentum", [2, 0.4, 0.3], [[32]] * 3)
    never = {**fast, "BA-Momentum": make_trajectory("BA-Momentum", [2, 1, 0.9], [[32]] * 3)}
    found = verdict(ba_figure1.findings(over(fast, fast, never), SETTINGS), "no times")
    assert found.holds is True
    assert "BA-Momentum 2 s, 2 s, never; Mini-32-Momentum 3 s, 3 s, 3 s" in found.found
    assert verdict(ba_figure1.findings(over(never), SETTINGS), "no times").holds is False
    assert seconds_to(never["BA-Momentum"], 0.5) == math.inf


FIGURE2 = ("BA-Momentum ends with the lowest", "like Mini-32-SGD's", "nearly constant at 32")


def test_figure2() -> None:
    lower = one_seed({"BA-Momentum": 0.1, "BA-SGD": 0.3})
    assert outcomes(ba_figure2.findings(over(lower, lower), SETTINGS), *FIGURE2) == [True] * 3
    assert outcomes(ba_figure2.findings(over(one_seed({})), SETTINGS), FIGURE2[1]) == [None]
    large = one_seed({"BA-SGD": 0.9}, {"BA-Momentum": GROWING})
    assert outcomes(ba_figure2.findings(over(large), SETTINGS), *FIGURE2[1:]) == [False, False]
    mixed = ba_figure2.findings(over(lower, lower, large), SETTINGS)
    assert outcomes(mixed, *FIGURE2[1:]) == [True, True]
    assert "The seeds disagree." in verdict(mixed, FIGURE2[2]).found


def pair(adaptive: list[float], constant: list[float], sizes: list[int]) -> tuple[Trajectory, Trajectory]:
    return (
        make_trajectory("BA-Momentum", adaptive, [[size] * 4 for size in sizes]),
        make_trajectory("Mini-32-Momentum", constant, [[32] * 4 for _ in constant]),
    )


def pairs_over(*seeds: dict[float, tuple[Trajectory, Trajectory]]) -> Pairs:
    """The pairs of each seed put together by learning rate."""
    joined: dict[float, tuple[Seeds, Seeds]] = {}
    for rate in seeds[0]:
        joined[rate] = (tuple(seed[rate][0] for seed in seeds), tuple(seed[rate][1] for seed in seeds))
    return joined


FIGURE4 = {
    0.005: pair([2, 1.5, 1, 0.5, 0.4], [2, 1.5, 1, 0.5, 0.4], [32] * 5),
    0.01: pair([2, 1.5, 1, 0.5, 0.3], [2, 0.5, 0.2, 0.25, 0.3], [32, 32, 32, 32, 64]),
    0.02: pair([2, 1.5, 1, 0.5, 0.2], [2, 1.5, 1, 0.5, 0.45], [32, 32, 32, 64, 64]),
    0.05: pair([2, 1.5, 1, 0.9, 0.8], [2, 1.5, 1, 0.9, 0.9], [64] * 5),
}


def test_figure4() -> None:
    settings = RateSettings(0, 0, 5, tuple(FIGURE4), seeds=(0, 1, 2))

    def findings(*seeds: dict[float, tuple[Trajectory, Trajectory]]) -> Findings:
        controls = {
            name: (make_trajectory(name, [2, 1.5, 1, 0.9, 0.85], [[64]] * 5),) * len(seeds) for name in CONTROLS
        }
        return ba_figure4.findings(pairs_over(*seeds), controls, settings)

    def holds(*seeds: dict[float, tuple[Trajectory, Trajectory]]) -> list[bool | None]:
        return [one.holds for one in findings(*seeds).verdicts]

    assert holds(FIGURE4, FIGURE4, FIGURE4) == [True] * 7 + [False]
    same = dict.fromkeys(FIGURE4, FIGURE4[0.005])
    assert holds(same) == [False, False, False, False, False, None, True, True]
    upside_down = dict(zip(FIGURE4, reversed(list(FIGURE4.values())), strict=True))
    assert holds(upside_down) == [False, False, False, False, False, True, True, True]
    assert holds(FIGURE4, upside_down, FIGURE4) == [True] * 7 + [False]
    mixed = findings(FIGURE4, upside_down, FIGURE4)
    assert "0.4 [0.4, 0.8] at 0.005" in mixed.verdicts[0].found
    assert "holds in 2 of 3. The seeds disagree." in mixed.verdicts[0].found
    assert "BA-Momentum 0.2 at 0.02, Mini-32-Momentum 0.3 at 0.01" in mixed.verdicts[5].found
    assert "ends lower in 1, 1, 2, 2 of 3 seeds" in mixed.verdicts[5].found
    assert holds(FIGURE4, upside_down)[0] is None


def test_figure4_controls_may_end_lower() -> None:
    trajectories = {
        name: (make_trajectory(name, [loss], [[64]]),)
        for name, loss in zip(("BA-Momentum", *CONTROLS), (0.3, 0.2, 0.4), strict=True)
    }
    assert [one.holds for one in ba_figure4.controls_verdicts(trajectories)] == [False, False]
    assert {"Mini-64-Momentum", "Manual-Momentum"} == set(CONTROLS) < set(AS_PUBLISHED)


def boom_pair(lowest: int, boom: int) -> tuple[Trajectory, Trajectory]:
    """Twenty epochs: Mini-32 is lowest from one on, BA ends lower, and its batches grow from another on."""
    epochs = np.arange(1, 21)
    constant = np.where(epochs < lowest, 2.0 - epochs / 40, 0.1)
    adaptive = np.where(epochs < lowest, 2.0 - epochs / 40, 0.05)
    return pair(adaptive.tolist(), constant.tolist(), np.where(epochs < boom, 32, 96).tolist())


BOOMS = {0.005: boom_pair(16, 17), 0.01: boom_pair(12, 12), 0.02: boom_pair(8, 7), 0.05: boom_pair(6, 15)}
CALM = {rate: boom_pair(16, 99) for rate in BOOMS}
RATE_SETTINGS = RateSettings(0, 0, 20, tuple(BOOMS), seeds=(0, 1, 2))


def figure5(*seeds: dict[float, tuple[Trajectory, Trajectory]]) -> Findings:
    return ba_figure5.findings(pairs_over(*seeds), RATE_SETTINGS)


def test_figure5_finds_booms_and_their_order() -> None:
    found = figure5(BOOMS, BOOMS)
    assert [one.holds for one in found.verdicts] == [True] * 5, "the paper's three rates alone stand in the first four"
    begins = [(row[1], row[2]) for row in found.tables[0].rows]
    assert begins == [("2 of 2", "17"), ("2 of 2", "12"), ("2 of 2", "7"), ("2 of 2", "15")]
    assert [one.holds for one in figure5(CALM).verdicts] == [False, None, True, None, False]
    early = {rate: boom_pair(16, 5) for rate in BOOMS}
    assert figure5(early).verdicts[1].holds is False
    rates = (0.02, 0.01, 0.005, 0.05)
    assert figure5(dict(zip(rates, BOOMS.values(), strict=True))).verdicts[3].holds is False


def test_figure5_counts_seeds() -> None:
    mostly = figure5(BOOMS, CALM, BOOMS)
    assert [one.holds for one in mostly.verdicts] == [True] * 5
    assert "a boom in 2 of 3 seeds, from epoch 17" in mostly.verdicts[0].found
    assert mostly.tables[0].rows[0][1:3] == ("2 of 3", "17")
    seldom = figure5(CALM, CALM, BOOMS)
    assert [one.holds for one in seldom.verdicts] == [False, None, True, None, False]
    assert "The seeds disagree." in seldom.verdicts[0].found


def test_figure5_compares_the_end_with_mini_32_at_its_lowest() -> None:
    constant = [2.0] * 10 + [0.1] + [1.0] * 9
    found = figure5({rate: pair([2.0] * 19 + [0.5], constant, [96] * 20) for rate in BOOMS})
    assert [found.verdicts[index].holds for index in (0, 2, 4)] == [True, False, False], "below its end, not its lowest"
    assert "So in 0 of 3 pairs" in found.verdicts[2].found


def test_one_large_batch_is_no_boom() -> None:
    spiked = make_trajectory("BA-Momentum", [1.0] * 20, [[32] * 40] * 9 + [[32] * 39 + [475]] + [[32] * 40] * 10)
    assert not ba_figure5.boom_of(spiked, spiked).is_one


@pytest.mark.parametrize("module", [ba_figure1, ba_figure2, ba_figure4, ba_figure5])
def test_scales_grow(module: object) -> None:
    settings = module.SETTINGS  # type: ignore[attr-defined]
    assert list(settings) == ["smoke", "small", "medium", "paper"]
    assert settings["smoke"].epochs < settings["small"].epochs < settings["paper"].epochs
    assert settings["medium"].train == settings["paper"].train == 0
    counts = [len(set(settings[scale].seeds)) for scale in settings]
    assert counts[0] == 2
    assert counts[1] >= 3
    assert counts[2] >= 3
    assert counts[3] == 5
    assert Path(str(module.__file__)).stem.replace("_", "-") in str(module.__name__).replace("_", "-")  # type: ignore[attr-defined]
