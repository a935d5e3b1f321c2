"""Seeds of all random numbers: one named purpose for every stream, so that no two streams share their numbers.

A run's seed gives the seeds of its trainings; a training's seed gives those of its initialization, its data order and
so on::

    run       derived_seed(seed, Purpose.OUTER_STEP, index)        → a training
    training  derived_seed(seed, Purpose.ORDER, epoch)             → a stream of random numbers
"""

from __future__ import annotations

import hashlib
from enum import IntEnum, unique


@unique
class Purpose(IntEnum):
    """What random numbers are drawn for. Add new purposes at the end: a changed number changes every result."""

    SPLIT = 0
    """The partition into training and validation examples."""
    INITIALIZATION = 1
    """A network's first weights."""
    ORDER = 2
    """The order of the training examples. Index: the epoch, where each has its own stream."""
    AUGMENTATION = 3
    """Augmented inputs. Index: the inner step."""
    DROPOUT = 4
    """Random numbers inside of forward passes. Index: the inner step at which training begins or goes on."""
    AGENT = 5
    """Arbiter's agent: its network and its draws; a random walk in its place."""
    EVALUATION = 6
    """One evaluation of a black-box method. Index: a digest of what is evaluated."""
    TRIAL = 7
    """The one training of a method that learns while it trains."""
    REPLICATE = 8
    """One of several networks that are trained for one evaluation. Index: which."""
    OUTER_STEP = 9
    """The training that FDS differentiates. Indices: outer step, replica of an ensemble."""
    REPLAY = 10
    """FDS's training with the same values at the full budget. Indices: outer step, replicate, replica."""
    RETRAINING = 11
    """Training again what a method has found. Index: which time."""
    REPLAYED_SCHEDULE = 12
    """The new network on which the control "replay" repeats Arbiter's schedule."""
    HELD_BATCHES = 13
    """Batches on which an experiment measures. Index: which measurement, where there are several."""
    ENSEMBLE = 14
    """A training of an ensemble at fixed values, in the reproductions. Index: which."""
    LABELS = 15
    """Training labels that are drawn anew to be wrong."""


def derived_seed(seed: int, purpose: Purpose, *indices: int) -> int:
    """The seed of one stream: another one for every seed, purpose and index.

    It is a hash of 63 bits, so two streams coincide with a chance of 10⁻¹⁹. (torch's generator on a CPU takes the
    lower 32 bits alone: there the chance is 2·10⁻¹⁰.)

    Args:
        seed: Of a run or of a training, at least 0.
        purpose: What the numbers are drawn for.
        indices: Which stream of this purpose: whole numbers of at least 0.

    Returns:
        A seed in [0, 2⁶³).

    Raises:
        ValueError: If ``seed`` or an index is negative.
    """
    for name, number in (("seed", seed), *(("index", index) for index in indices)):
        if number < 0:
            raise ValueError(f"{name} is {number}; it must be a whole number of at least 0")
    # Decimal numbers with separators: no two tuples are written alike.
    written = ":".join(map(str, (int(seed), int(purpose), *map(int, indices))))
    return _hashed(written)


def content_index(content: str) -> int:
    """An index of what a text says: the same for equal texts, in [0, 2⁶³)."""
    return _hashed(content)


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
