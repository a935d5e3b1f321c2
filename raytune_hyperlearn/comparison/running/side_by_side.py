"""Runs of a comparison at the same time, each with a driver of its own.

A run's clock stops for nothing, so another run's searcher must not hold it up, and HpBandSter draws from numpy's global
generator: each run therefore has a process. It is a Ray task that asks for no processors and stays on this machine,
where the folder is; it ends with this process, as its trials end with it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.tune import Callback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.records import Run
from raytune_hyperlearn.comparison.running.cluster import QUIET
from raytune_hyperlearn.comparison.running.folder import Folder

Announce = Callable[[str, int], None]


def side_by_side(
    experiment: Experiment,
    missing: Sequence[tuple[str, int]],
    folder: Folder,
    announce: Announce,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Run]:
    """The summaries of runs in the order in which they end, ``experiment.concurrent`` of them at a time.

    If the caller stops or a run fails, the others are killed; what they have observed is in the folder, and each
    continues from there.

    Args:
        experiment: Whose runs these are.
        missing: Their methods and seeds, in the order in which they begin.
        folder: The comparison's folder, where their rows are added.
        announce: Told of each run before it starts.
        callbacks: Of Ray Tune; every run has copies of its own.

    Raises:
        ValueError: In one line, if a callback cannot be sent to another process.
    """
    _require_copies(callbacks)
    waiting = deque(missing)
    under_way: list[Any] = []
    try:
        while waiting or under_way:
            while waiting and len(under_way) < experiment.concurrent:
                method, seed = waiting.popleft()
                announce(method, seed)
                under_way.append(_start(experiment, method, seed, folder.path.resolve(), callbacks))
            (ended,), under_way = ray.wait(under_way, num_returns=1)
            yield _result(ended)
    finally:
        for left in under_way:
            ray.cancel(left, force=True)


def _start(experiment: Experiment, method: str, seed: int, folder: Path, callbacks: Sequence[Callback]) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(_run).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
    environment = {name: os.environ[name] for name in QUIET if name in os.environ}
    return task.remote(environment, os.getcwd(), experiment, method, seed, folder, list(callbacks))


def _run(
    environment: dict[str, str],
    directory: str,
    experiment: Experiment,
    method: str,
    seed: int,
    folder: Path,
    callbacks: list[Callback],
) -> Run:
    """One run, in its own process: that may run on a Ray which was started with another environment elsewhere."""
    os.environ.update(environment)
    os.chdir(directory)
    from raytune_hyperlearn.comparison.running.run import run_method

    return run_method(experiment, method, seed, Folder(folder), callbacks)


def _result(ended: Any) -> Run:
    """The run's summary, or its own exception."""
    try:
        run: Run = ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return run


def _require_copies(callbacks: Sequence[Callback]) -> None:
    for callback in callbacks:
        try:
            cloudpickle.dumps(callback)
        except Exception as error:  # whatever a class of somebody else's raises on being pickled
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"callbacks hold a {type(callback).__name__}, which cannot be copied into the process of a run; "
                f"concurrent must be 1 with it ({reason})"
            ) from error
