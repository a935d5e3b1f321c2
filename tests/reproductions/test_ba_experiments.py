"""Verdicts of batch adaptive training's reproductions, on courses made to satisfy or break each claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raytune_hyperlearn.reproductions import ba_figure1, ba_figure2, ba_figure4, ba_figure5
from raytune_hyperlearn.reproductions.courses import Course
from raytune_hyperlearn.reproductions.step_sizes import Settings as RateSettings
from raytune_hyperlearn.reproductions.twelve_methods import GROUPS, RULES, Settings, trainings
from tests.reproductions.test_courses import make_course

SMALL, GROWING = [[32] * 8] * 4, [[32] * 8, [32] * 8, [32, 64] * 4, [64, 128] * 4]


def twelve(losses: dict[str, float], sizes: dict[str, list[list[int]]] | None = None) -> dict[str, Course]:
    """Courses of four epochs that end at the losses named, others at 0.5; accuracy is 1 − loss."""
    courses = {}
    for name in (f"{rule}-{group}" for group in GROUPS for rule in RULES):
        final = losses.get(name, 0.5)
        falling = [2.0, 1.0, 0.7, final]
        chosen = (sizes or {}).get(name, SMALL)
        courses[name] = make_course(name, falling, chosen, test_accuracy=[1 - loss / 4 for loss in falling])
    return courses


AS_PUBLISHED = twelve(
    {"BA-Momentum": 0.1, "Mini-32-SGD": 0.2, "BA-SGD": 0.21},
    {"BA-Momentum": [[32] * 8] * 3 + [[32, 32, 32, 64] * 2], "BA-SGD": GROWING},
)


def holds(findings: object) -> list[bool | None]:
    return [verdict.holds for verdict in findings.verdicts]  # type: ignore[attr-defined]


def test_there_are_twelve_trainings() -> None:
    made = trainings(Settings(0, 0, 100))
    assert [training.name for training in made] == list(AS_PUBLISHED)
    assert {training.momentum for training in made if training.name.endswith("SGD")} == {0.0}
    manual = next(training for training in made if training.name == "Manual-SGD").rule()
    assert manual.double_every == 25  # type: ignore[attr-defined]


def test_figure1_as_published() -> None:
    found = ba_figure1.findings(AS_PUBLISHED, Settings(0, 0, 4))
    assert holds(found)[:3] == [True, True, True]
    assert holds(found)[3] is False, "BA-SGD is not the most accurate of these"
    assert found.verdicts[4].holds is False, "its loss is reached in the same second"
    assert [row[0] for row in found.tables[0].rows] == list(AS_PUBLISHED)
    assert [drawn.name for drawn in found.figures] == ["loss-by-epoch", "loss-by-second", "batch-sizes"]


def test_figure1_broken() -> None:
    found = ba_figure1.findings(
        twelve({"Mini-64-Momentum": 0.1, "BA-Momentum": 0.3, "Manual-SGD": 0.1, "Mini-32-SGD": 0.1}), Settings(0, 0, 4)
    )
    assert holds(found)[:3] == [False, False, False]


def test_level_losses_leave_it_open() -> None:
    level = twelve({"Mini-64-Momentum": 0.1, "BA-Momentum": 0.101, "Mini-32-SGD": 0.1, "BA-SGD": 0.101})
    assert holds(ba_figure1.findings(level, Settings(0, 0, 4)))[:2] == [None, True], "second at worst, without momentum"
    third = {"Mini-32-SGD": 0.1, "Mini-64-SGD": 0.2, "BA-SGD": 0.201}
    assert ba_figure1.findings(twelve(third), Settings(0, 0, 4)).verdicts[1].holds is None


def test_figure2() -> None:
    lower = ba_figure2.findings(twelve({"BA-Momentum": 0.1, "BA-SGD": 0.3}), Settings(0, 0, 4))
    assert holds(lower)[:3] == [True, True, True]
    assert ba_figure2.findings(twelve({}), Settings(0, 0, 4)).verdicts[1].holds is None
    large = ba_figure2.findings(twelve({"BA-SGD": 0.9}, {"BA-Momentum": GROWING}), Settings(0, 0, 4))
    assert holds(large)[1:3] == [False, False]


def pair(adaptive: list[float], constant: list[float], sizes: list[int]) -> tuple[Course, Course]:
    return (
        make_course("BA-Momentum", adaptive, [[size] * 4 for size in sizes]),
        make_course("Mini-32-Momentum", constant, [[32] * 4 for _ in constant]),
    )


def test_figure4() -> None:
    published = {
        0.005: pair([1, 0.5, 0.4], [1, 0.5, 0.4], [32, 32, 32]),
        0.01: pair([1, 0.5, 0.3], [1, 0.5, 0.3], [32, 32, 64]),
        0.02: pair([1, 0.5, 0.2], [1, 0.5, 0.45], [32, 64, 64]),
        0.05: pair([1, 0.9, 0.8], [1, 0.9, 0.9], [64, 64, 64]),
    }
    settings = RateSettings(0, 0, 3, tuple(published))
    assert holds(ba_figure4.findings(published, settings)) == [True, True, True, True]
    same = dict.fromkeys(published, published[0.005])
    assert holds(ba_figure4.findings(same, settings)) == [
        True,
        False,
        False,
        True,
    ]
    upside_down = dict(zip(published, reversed(list(published.values())), strict=True))
    assert holds(ba_figure4.findings(upside_down, settings)) == [False, False, False, False]


def test_figure5_finds_booms_and_their_order() -> None:
    def course(lowest: int, boom: int) -> tuple[Course, Course]:
        epochs = np.arange(1, 21)
        constant = np.where(epochs < lowest, 2.0 - epochs / 40, 0.1)
        adaptive = np.where(epochs < lowest, 2.0 - epochs / 40, 0.05)
        sizes = np.where(epochs < boom, 32, 96)
        return pair(adaptive.tolist(), constant.tolist(), sizes.tolist())

    settings = RateSettings(0, 0, 20, (0.005, 0.01, 0.02))
    published = {0.005: course(16, 17), 0.01: course(12, 12), 0.02: course(8, 7)}
    found = ba_figure5.findings(published, settings)
    assert holds(found) == [True, True, True, True]
    assert [row[1] for row in found.tables[0].rows] == ["17", "12", "7"]
    calm = {rate: course(16, 99) for rate in published}
    assert holds(ba_figure5.findings(calm, settings)) == [False, None, True, None]
    spiked = make_course("BA-Momentum", [1.0] * 20, [[32] * 40] * 9 + [[32] * 39 + [475]] + [[32] * 40] * 10)
    assert ba_figure5.boom_of(spiked, spiked).begins is None, "one large batch is no period of them"
    early = {rate: course(16, 5) for rate in published}
    assert holds(ba_figure5.findings(early, settings))[1] is False


@pytest.mark.parametrize("module", [ba_figure1, ba_figure2, ba_figure4, ba_figure5])
def test_scales_grow(module: object) -> None:
    settings = module.SETTINGS  # type: ignore[attr-defined]
    assert list(settings) == ["smoke", "small", "paper"]
    assert settings["smoke"].epochs < settings["small"].epochs < settings["paper"].epochs
    assert settings["paper"].train == 0
    assert Path(str(module.__file__)).stem.replace("_", "-") in str(module.__name__).replace("_", "-")  # type: ignore[attr-defined]
