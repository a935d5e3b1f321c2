"""HpBandSter's own `Master.run`, without threads: the reference for the order of evaluations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import ConfigSpace
import hpbandster.core.master
import hpbandster.optimizers
import numpy as np
import pytest
from hpbandster.core.dispatcher import Job

Submission = tuple[tuple[int, int, int], dict[str, Any], float]
Objective = Callable[[Mapping[str, Any], float], float | None]


def run_master(
    optimizer: str,
    space: ConfigSpace.ConfigurationSpace,
    objective: Objective,
    *,
    min_budget: float,
    max_budget: float,
    eta: float,
    seed: int,
    iterations: int,
    workers: int,
) -> list[Submission]:
    """Every (config_id, configuration, budget) that `Master.run` submits, jobs ending in the order of submission."""
    submitted: list[Submission] = []
    waiting: list[Job] = []

    class Dispatcher:
        def __init__(self, new_result_callback: Callable[[Job], None], **_: object) -> None:
            self.finish = new_result_callback

        def run(self) -> None:
            pass

        def number_of_workers(self) -> int:
            return workers

        def submit_job(self, config_id: tuple[int, int, int], **arguments: Any) -> None:
            submitted.append((config_id, dict(arguments["config"]), float(arguments["budget"])))
            waiting.append(Job(config_id, **arguments))

    class Condition:
        """Where the master would wait for a worker's thread, the oldest job ends."""

        def __init__(self, finish: Callable[[Job], None]) -> None:
            self.finish = finish

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

        def acquire(self) -> None:
            pass

        def release(self) -> None:
            pass

        def notify(self) -> None:
            pass

        def notify_all(self) -> None:
            pass

        def wait(self) -> None:
            job = waiting.pop(0)
            loss = objective(job.kwargs["config"], job.kwargs["budget"])
            if loss is None:
                job.exception = "crashed"
            else:
                job.result = {"loss": loss, "info": {}}
            self.finish(job)

    space_seed, global_seed = np.random.SeedSequence(seed).generate_state(2)
    own_space = copy.deepcopy(space)
    own_space.seed(int(space_seed))
    callers_state = np.random.get_state()
    try:
        np.random.seed(int(global_seed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hpbandster.core.master, "Dispatcher", Dispatcher)
            master = getattr(hpbandster.optimizers, optimizer)(
                configspace=own_space, run_id="0", eta=eta, min_budget=min_budget, max_budget=max_budget
            )
        master.thread_cond = Condition(master.job_callback)
        master.adjust_queue_size(workers)
        master.run(n_iterations=iterations)
    finally:
        np.random.set_state(callers_state)
    return submitted
