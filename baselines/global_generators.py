"""A private state for libraries that draw from the global generators of Python and NumPy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class GlobalGenerators:
    """States of ``random`` and ``numpy.random`` that are swapped in around the calls of one object.

    What that object draws then depends on its seed alone, and it changes nobody else's draws. Can be pickled.

    Args:
        seed: Non-negative integer; the words of ``numpy.random.SeedSequence(seed).generate_state(2)`` seed the two.
    """

    def __init__(self, seed: int) -> None:
        for_python, for_numpy = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
        self._python: tuple[Any, ...] = random.Random(for_python).getstate()
        self._numpy: Any = np.random.RandomState(for_numpy).get_state()

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Draw from the private states inside, from the caller's again outside."""
        callers = random.getstate(), np.random.get_state()
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        try:
            yield
        finally:
            self._python, self._numpy = random.getstate(), np.random.get_state()
            random.setstate(callers[0])
            np.random.set_state(callers[1])
