"""A soak of one round per task meets every kind of fault, whatever finds nothing to hit at first."""

from __future__ import annotations

import random

import pytest

from tests.soak.plan import faults_of_round

KINDS, TASKS = list("abcdefgh"), 6


@pytest.mark.parametrize("missed", ["", "a", "g", "ce"])
def test_every_kind_strikes_in_the_first_rounds(missed: str) -> None:
    survived: list[str] = []
    waiting = set(missed)
    counts = []
    for number in range(TASKS):
        faults = faults_of_round(KINDS, survived, number, TASKS, random.Random(0))
        counts.append(len(faults))
        survived += [kind for kind in faults if kind not in waiting]
        waiting -= set(faults)  # what found nothing to hit does so the next time
    assert set(survived) == set(KINDS)
    assert max(counts) <= 2


def test_afterwards_every_task_meets_every_kind_in_turn_with_others_at_random() -> None:
    rounds = range(TASKS, TASKS + TASKS * len(KINDS))
    drawn = [faults_of_round(KINDS, KINDS, number, TASKS, random.Random(number)) for number in rounds]
    assert {1, 2, 3} == {len(faults) for faults in drawn}
    for task in range(TASKS):
        assert {kind for faults in drawn[task::TASKS] for kind in faults} == set(KINDS)


def test_what_has_not_struck_is_still_due_later() -> None:
    assert "h" in faults_of_round(KINDS, list("abcdefg"), 40, TASKS, random.Random(0))
