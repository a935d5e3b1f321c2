"""A named check, and what several kinds of them need: refusals in one line, another process, generators left alone."""

from __future__ import annotations

import inspect
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import cloudpickle

from raytune_hyperlearn.testing.private_names import private_names_of_ray


@dataclass(frozen=True)
class Check:
    """One promise about one case; calling it raises an AssertionError if it is broken.

    Attributes:
        case: Name of the case.
        promise: What holds.
        run: Finds out.
    """

    case: str
    promise: str
    run: Callable[[], None]

    @property
    def __name__(self) -> str:
        """How pytest calls it."""
        return f"{self.case}-{self.promise}"

    def __call__(self) -> None:
        """Find out."""
        self.run()


def checks_named(case: str, promises: Mapping[str, Callable[[], None]]) -> list[Check]:
    """One check for each promise."""
    return [Check(case, promise, run) for promise, run in promises.items()]


def refusal(call: Callable[[], object]) -> str:
    """What is wrong with how a call refuses bad input; empty if it raises a ValueError of one line."""
    try:
        call()
    except ValueError as error:
        return f"is refused in several lines, {str(error)!r}" if "\n" in str(error) else ""
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return "is accepted"


def require_none(found: list[str]) -> None:
    """Fail with all that was found.

    Raises:
        AssertionError: If something was.
    """
    if found:
        raise AssertionError("\n".join(found))


def require_same(found: object, expected: object, what: str) -> None:
    """Fail unless two values are the same to the last bit; NaN equals NaN.

    Raises:
        AssertionError: With both.
    """
    if repr(found) != repr(expected):
        raise AssertionError(f"{what}:\n  {found!r}\nis not\n  {expected!r}")


@contextmanager
def undisturbed_generators(*, by_caller: int = 0) -> Iterator[None]:
    """Fail if what is done meanwhile moves the global random numbers of Python, NumPy or torch.

    Args:
        by_caller: Seed that is set before, so that what is drawn from them would differ.

    Raises:
        AssertionError: If one was moved.
    """
    random.seed(by_caller), np.random.seed(by_caller), torch.manual_seed(by_caller)
    before = _generators()
    yield
    moved = [name for name, state in _generators().items() if state != before[name]]
    if moved:
        raise AssertionError(f"the global random numbers of {' and '.join(moved)} were moved")


def _generators() -> dict[str, Any]:
    numpy = np.random.get_state(legacy=False)["state"]
    return {
        "random": random.getstate(),
        "numpy.random": (numpy["key"].tolist(), numpy["pos"]),
        "torch": torch.get_rng_state().tolist(),
    }


def in_another_process(function: Callable[[], Any]) -> Any:
    """A function's value, computed by a process that has nothing of this one's memory."""
    pickled = cloudpickle.dumps(function)
    return _other_process().submit(_call, pickled, sys.path).result()


def _call(pickled: bytes, path: list[str]) -> Any:
    sys.path[:] = path  # tests add to it after the process has been started
    return cloudpickle.loads(pickled)()


@lru_cache(maxsize=1)
def _other_process() -> ProcessPoolExecutor:
    """Started once: its imports take seconds."""
    return ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))


def require_public_names(kind: type) -> None:
    """Fail if the file that defines a class uses private names of Ray.

    Raises:
        AssertionError: With file and line of each.
    """
    file = inspect.getsourcefile(kind)
    require_none(private_names_of_ray(Path(file)) if file else [])
