"""Which faults strike in which round: every kind once before chance decides, so that a short soak meets them all."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

MOST_MORE = 2
"""Faults at random beside the one whose turn it is, once every kind has struck."""


def faults_of_round(
    kinds: Sequence[str], survived: Sequence[str], number: int, tasks: int, draw: random.Random
) -> list[str]:
    """The faults of a round, in their order.

    In the first rounds, one for each task, these are the kinds that have not struck yet, evenly spread; one that found
    nothing to hit comes again. Afterwards each task meets every kind in turn, with others at random.

    Args:
        kinds: All that can strike.
        survived: Those that have struck and were survived.
        number: Of the round, from 0.
        tasks: How many there are.
        draw: Decides where chance does.
    """
    pending = [kind for kind in kinds if kind not in survived]
    due = pending[: math.ceil(len(pending) / max(tasks - number, 1))]
    if number < tasks:
        return due
    turn = kinds[(number // tasks + number) % len(kinds)]
    faults = [*due, turn, *draw.choices(kinds, k=draw.randrange(MOST_MORE + 1))]
    draw.shuffle(faults)
    return faults
