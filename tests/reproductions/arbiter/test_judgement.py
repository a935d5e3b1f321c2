"""Whether Arbiter is called better than a control exactly where the numbers, paired by seed, say so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from raytune_hyperlearn.reproductions.arbiter.directions import Direction, Start, draw_directions, sign_test
from raytune_hyperlearn.reproductions.arbiter.judgement import (
    Judged,
    all_hold,
    judge,
    judge_variants,
    of_final,
    table,
    variants_verdict,
    verdicts,
)
from raytune_hyperlearn.reproductions.arbiter.trainings import ARBITER, CONTROLS, WITHOUT
from tests.reproductions.arbiter.trajectories import every_method, make_trajectory

LOSS = of_final("validation_loss")
LOW, SAME, HIGH = ({"validation_loss": value} for value in (0.2, 0.3, 0.5))


def losses(by_method: dict[str, dict[str, float]], seeds: int = 8) -> dict[str, object]:
    return {"start": every_method("start", {"": [32.0]}, by_method, seeds=seeds)}


def outcomes(judged: list[Judged]) -> dict[str, bool | None]:
    return {one.control: one.better for one in judged}


def test_a_lower_loss_in_every_seed_is_better_and_a_higher_one_is_worse() -> None:
    judged = judge(losses({ARBITER: SAME, WITHOUT: HIGH, "": LOW}), LOSS)  # type: ignore[arg-type]
    assert outcomes(judged) == {control: control == WITHOUT for control in CONTROLS}
    (against,) = (one for one in judged if one.control == WITHOUT)
    np.testing.assert_allclose(against.differences, -0.2)
    assert against.sentence.startswith("start: better in 8 of 8 seeds, median difference −0.2")


def test_the_p_value_is_wilcoxons_with_holms_correction_over_the_controls() -> None:
    # The smallest of six p-values is multiplied by six; eight of eight seeds give 2 / 2⁸.
    judged = judge(losses({ARBITER: LOW, "": HIGH}), LOSS)  # type: ignore[arg-type]
    assert [one.p_value for one in judged] == pytest.approx([6 * 2 / 2**8] * 6)


def test_equal_losses_cannot_be_told_apart() -> None:
    judged = judge(losses({"": SAME}), LOSS)  # type: ignore[arg-type]
    assert set(outcomes(judged).values()) == {None}
    assert "the same in 8" in judged[0].sentence


def test_few_seeds_have_no_power_and_say_so() -> None:
    judged = judge(losses({ARBITER: LOW, "": HIGH}, seeds=4), LOSS)  # type: ignore[arg-type]
    assert set(outcomes(judged).values()) == {None}
    found = verdicts(judged, "claim", "no control")
    assert all("it takes at least 5 seeds" in verdict.found and verdict.holds is None for verdict in found)
    assert table(judged, "title", "note").rows[0][-2:] == ("too few seeds", "inconclusive")


def test_two_diverged_trainings_are_equal_and_one_is_worse() -> None:
    fine, lost = (make_trajectory("g", "m", 0, [32.0], {"validation_loss": value}) for value in (0.3, math.inf))
    assert LOSS(lost, lost) == 0.0
    assert LOSS(lost, fine) == math.inf
    assert LOSS(fine, lost) == -math.inf


def test_accuracies_are_better_where_they_are_large() -> None:
    low, high = (make_trajectory("g", "m", 0, [32.0], {"test_accuracy": value}) for value in (0.8, 0.9))
    assert of_final("test_accuracy", -1.0)(high, low) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([True, True], True),
        ([True, False], False),
        ([True, None], None),
        ([None, False], False),
        ([None, None], None),
    ],
)
def test_all_hold(found: list[bool | None], expected: bool | None) -> None:
    assert all_hold(found) is expected


def test_a_verdict_needs_every_start() -> None:
    good, bad = losses({ARBITER: LOW, "": HIGH}), losses({ARBITER: HIGH, "": LOW})
    alone = verdicts(judge(good, LOSS), "It falls", "no control falls")  # type: ignore[arg-type]
    assert [verdict.holds for verdict in alone] == [True, True]
    both = {"first": good["start"], "second": bad["start"]}
    paper, beyond = verdicts(judge(both, LOSS), "It falls", "no control falls")  # type: ignore[arg-type]
    assert (paper.holds, beyond.holds) == (False, False)
    assert paper.claim == "It falls."
    assert beyond.claim.startswith("Beyond the paper: no control falls, so ")
    assert paper.found.count("of 8 seeds") == 2


def test_every_control_is_named_with_its_outcome() -> None:
    judged = judge(losses({ARBITER: SAME, WITHOUT: LOW, "arbiter-noise": SAME, "arbiter-frozen": HIGH, "": LOW}), LOSS)  # type: ignore[arg-type]
    paper, beyond = verdicts(judged, "The loss is lower", "no control has a lower one")
    assert (paper.holds, beyond.holds) == (False, False)
    assert beyond.found == (
        "Arbiter is better than “frozen response”; indistinguishable from “noise for the agent”; worse than “constant "
        "mean of its schedule”, “its schedule on a new start” and “random walk of its steps”."
    )
    assert [row[-1] for row in table(judged, "title", "note").rows] == [
        "worse",
        "better",
        "inconclusive",
        *["worse"] * 3,
    ]


def test_variants_are_judged_against_the_training_without_arbiter_of_their_start() -> None:
    main = every_method("start", {"": [32.0]}, {ARBITER: HIGH, "": SAME})
    better = {ARBITER: every_method("window", {"": [32.0]}, {"": LOW})[ARBITER]}
    worse = {ARBITER: every_method("noise", {"": [32.0]}, {"": HIGH})[ARBITER]}
    trajectories = {"start": main, "window": better, "noise": worse}
    judged = judge_variants(trajectories, {"window": "start", "noise": "start"}, LOSS)
    assert [(one.group, one.better) for one in judged] == [("window", True), ("noise", False)]
    assert [one.p_value for one in judged] == pytest.approx([2 * 2 / 2**8] * 2)
    assert variants_verdict(judged, "it falls").holds is True
    assert variants_verdict(judged[1:], "it falls").holds is False


@pytest.mark.parametrize(
    ("successes", "count", "expected"), [(8, 8, True), (0, 8, False), (4, 8, None), (5, 5, None), (24, 32, True)]
)
def test_sign_test(successes: int, count: int, expected: bool | None) -> None:
    assert sign_test(successes, count) is expected
    tail = sum(math.comb(count, k) for k in range(max(successes, count - successes), count + 1)) / 2**count
    assert min(1.0, 2 * tail) == pytest.approx(scipy.stats.binomtest(successes, count).pvalue)


def test_directions() -> None:
    seeds = every_method("start", {"": [32, 32, 32, 32, 60, 70]}, seeds=3)[ARBITER]
    one = Direction.of(Start("", 0.1, 32, (8, 150), grows=True), seeds)
    assert one.late.tolist() == [65.0] * 3, "the mean of the last third"
    assert (one.as_expected, one.to_the_middle, one.count) == (3, 3, 3)
    assert not one.start.tells_apart
    other = Direction.of(Start("", 0.01, 32, (8, 150), grows=False), seeds)
    assert (other.as_expected, other.to_the_middle) == (0, 3)
    assert other.start.tells_apart
    moved = Start("", 0.1, 32, (8, 40), grows=True, moved=True)
    assert moved.tells_apart
    assert moved.group == "η = 0.1, B₀ = 32, B ≤ 40"
    names = [label.get_text() for label in draw_directions([one, other]).axes[0].get_yticklabels()]
    assert names == ["η = 0.1, B₀ = 32 — should grow", "η = 0.01, B₀ = 32 — should shrink"]
