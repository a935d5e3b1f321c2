"""Libraries whose state cannot be pickled: what was asked and told is kept, and replayed to the same library anew.

Given its seed, such a library makes the same choices when the same calls come in the same order, so the replayed one
is the one that was lost. A restored run pays the library's computing a second time, and no evaluation.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from typing import Any

from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.global_generators import GlobalGenerators

_Event = tuple[int, float | None]
"""The number of an evaluation, and its loss; None when it was asked for."""


class ReplayedOptimizer(ABC):
    """An ask-and-tell optimizer that is pickled as its calls.

    Subclasses set what `build` needs before they call this constructor.

    Args:
        seed: Also seeds the global generators, as far as the library draws from them.

    Attributes:
        seconds: Time spent in the library so far, without replays.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.events: list[_Event] = []
        self._worst = -math.inf
        self.seconds = 0.0
        self._start()

    @abstractmethod
    def build(self) -> Any:
        """The library's own optimizer, as after its construction."""

    @abstractmethod
    def next_job(self, library: Any) -> Any:
        """What the library wants evaluated next."""

    @abstractmethod
    def evaluation(self, job: Any, number: int) -> Evaluation:
        """The job in this package's terms."""

    @abstractmethod
    def finish(self, library: Any, job: Any, loss: float) -> None:
        """Tell the library a job's loss, which is finite."""

    @abstractmethod
    def bad_loss(self, worst: float) -> float:
        """What the library is told of a configuration that crashed or diverged, a finite number.

        Args:
            worst: The largest finite loss so far; -inf before there is one.
        """

    def ask(self) -> Evaluation | None:
        """The next evaluation; the libraries always have one."""
        number = self._asked
        job = self._ask()
        self.events.append((number, None))
        return self.evaluation(job, number)

    def tell(self, key: int, loss: float) -> None:
        """Hand back a running evaluation's loss; NaN and ±inf mark a bad configuration."""
        told = loss if math.isfinite(loss) else self.bad_loss(self._worst)
        self._tell(key, told)
        self.events.append((key, told))
        self._worst = max(self._worst, told)

    def tell_crash(self, key: int, exception: str) -> None:
        """A crash is a bad configuration."""
        self.tell(key, math.inf)

    def _start(self) -> None:
        self._generators = GlobalGenerators(self._seed)
        self._asked = 0
        self._running: dict[int, Any] = {}
        with self._generators.swapped_in():
            self._library = self.build()

    def _ask(self) -> Any:
        begun = time.perf_counter()
        with self._generators.swapped_in():
            job = self.next_job(self._library)
        self._running[self._asked] = job
        self._asked += 1
        self.seconds += time.perf_counter() - begun
        return job

    def _tell(self, number: int, loss: float) -> None:
        begun = time.perf_counter()
        with self._generators.swapped_in():
            self.finish(self._library, self._running.pop(number), loss)
        self.seconds += time.perf_counter() - begun

    def __getstate__(self) -> dict[str, Any]:
        """The arguments and the calls."""
        dropped = ("_library", "_running", "_generators", "_asked")
        return {name: value for name, value in self.__dict__.items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the library anew and repeat the calls."""
        self.__dict__.update(state)
        self._start()
        for number, loss in self.events:
            if loss is None:
                self._ask()
            else:
                self._tell(number, loss)
        self.seconds = state["seconds"]
