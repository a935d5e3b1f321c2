"""Seconds of calls that take turns: what every benchmark that compares measures with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Call = Callable[[], object]


def synchronize(device: torch.device) -> None:
    """Wait for the device's queue."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)


def clock(device: torch.device) -> float:
    """Seconds: the process's own on one CPU thread (a core shared with others does not count), else on the wall."""
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def seconds(call: Call, device: torch.device) -> float:
    """Seconds that a call takes, the device's queue included."""
    synchronize(device)
    start = clock(device)
    call()
    synchronize(device)
    return clock(device) - start


def alternating(calls: Mapping[str, Call], repeats: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Each call's median ``seconds`` and the median of its ``ratio`` to the first call of the same round.

    Calls take turns, round by round, so that a change of the machine's speed meets all; a first round does not count.
    """
    for call in calls.values():
        call()
    rounds = [{name: seconds(call, device) for name, call in calls.items()} for _ in range(repeats)]
    first = next(iter(calls))
    return {
        name: {
            "seconds": statistics.median(one[name] for one in rounds),
            "ratio": statistics.median(one[name] / one[first] for one in rounds),
        }
        for name in calls
    }
