"""A claim holds where the medians and most seeds say so, and the sentence tells when they do not."""

from __future__ import annotations

import math

import pytest

from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import (
    Judgement,
    below,
    judge,
    judge_values,
    medians_of,
    per_seed,
    seeds_text,
    spread_text,
)
from tests.reproductions.batch_adaptive.test_trajectories import make_trajectory


@pytest.mark.parametrize(
    ("medians", "seeds", "holds"),
    [
        (True, [True, True, False], True),
        (True, [True, False, False], None),
        (True, [True, False], None),
        (True, [True, None, None], None),
        (False, [False, False, True], False),
        (False, [False, True, True], None),
        (False, [False, None, None], None),
        (None, [True, True, True], None),
        (None, [None, None, None], None),
    ],
)
def test_medians_and_most_seeds_must_agree(medians: bool | None, seeds: list[bool | None], holds: bool | None) -> None:
    assert Judgement(medians, tuple(seeds)).holds is holds


def test_the_sentence_tells_when_seeds_disagree() -> None:
    told = Judgement(True, (True, True, False, None)).sentence
    assert told == "By the medians it holds; seed by seed it holds in 2 of 4 and is open in 1. The seeds disagree."
    assert "disagree" not in Judgement(False, (False, False)).sentence
    assert "disagree" not in Judgement(True, (True, None)).sentence
    verdict = Judgement(False, (True, False)).verdict("It rises.", "From 1 to 2.")
    assert verdict.holds is None
    assert verdict.found.startswith("From 1 to 2. By the medians it does not hold; ")


def test_medians_are_not_the_verdict_of_most_seeds() -> None:
    seeds = [{"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}, {"a": 9.0, "b": 8.0}, {"a": 5.0, "b": 0.0}, {"a": 5.0, "b": 0}]
    judgement = judge_values(lambda values: values["a"] < values["b"], seeds)
    assert medians_of(seeds) == {"a": 5.0, "b": 2.0}
    assert (judgement.of_medians, judgement.of_seeds) == (False, (True, True, False, False, False))
    assert judge(lambda number: number > 2, [1, 2, 3], 2).of_seeds == (False, False, True)


def test_below_leaves_level_losses_open() -> None:
    assert [below(*losses) for losses in ((1.0, 1.03), (1.03, 1.0), (1.0, 1.01), (1.01, 1.0))] == [
        True,
        False,
        None,
        None,
    ]
    assert below(1.0, math.inf) is True
    assert below(math.inf, math.inf) is None


def test_values_are_kept_together_by_seed() -> None:
    trajectories = {
        "first": tuple(make_trajectory("BA", [loss], [[32]], seed=seed) for seed, loss in ((0, 0.1), (1, 0.2))),
        "second": tuple(make_trajectory("Mini", [loss], [[32]], seed=seed) for seed, loss in ((0, 0.3), (1, 0.4))),
    }
    assert per_seed(trajectories, lambda trajectory: trajectory.final_loss) == [
        {"first": 0.1, "second": 0.3},
        {"first": 0.2, "second": 0.4},
    ]


def test_texts() -> None:
    assert spread_text([3.0, 1.0, 2.0]) == "2 [1, 3]"
    assert spread_text([2.0, 2.0]) == "2"
    assert spread_text([1.0, math.inf, 2.0], "{:.1f}".format) == "2.0 [1.0, inf]"
    assert seeds_text(3) == "Medians [least, largest] over 3 seeds."
    assert seeds_text(1) == "One seed."
