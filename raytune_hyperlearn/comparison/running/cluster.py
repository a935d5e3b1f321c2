"""The Ray that an experiment runs on: a cluster that is up, or a local one of its own."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raytune_hyperlearn.comparison.experiment import Experiment
from raytune_hyperlearn.comparison.running.stopping import keeping_sigterm

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
}
"""Environment of the driver and its workers; what is already set is left as it is."""


def prepare_environment(address: str | None) -> None:
    """Set what Ray reads when it is imported; call it before anything imports Ray.

    A local Ray listens on every network interface, so it gets a random token without which nobody joins it. A cluster
    that is joined keeps its own way of authentication, and so does whoever has set ``RAY_AUTH_MODE``.

    Args:
        address: Ray cluster to join, or None for a local Ray.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Ray reads the mode once, on import: later it would not fit what Ray has read.
    if address is None and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def start_ray(experiment: Experiment, verbose: bool = False) -> None:
    """Join the cluster at the experiment's address, or start a local Ray with the cores of all workers.

    Args:
        experiment: What is to run.
        verbose: Show what Ray and its workers print; else Ray is quiet.

    Raises:
        ValueError: If there is no cluster at the address, or the cluster or this machine is too small.
    """
    if experiment.address is not None:
        require_listener(experiment.address)
    prepare_environment(experiment.address)
    import ray  # after its environment is set, and only where a run begins: its import takes seconds

    if experiment.address is None:
        own = os.cpu_count() or 1
        if experiment.cpus_per_trial > own:
            raise ValueError(f"cpus_per_trial is {experiment.cpus_per_trial}; this machine has {own} processors")
        with _threads(experiment.cpus_per_trial):
            _init_local(verbose, num_cpus=max(experiment.cores, own))
    else:
        try:
            with _threads(experiment.cpus_per_trial):
                environment = {"env_vars": {name: os.environ[name] for name in QUIET}}
                _init(verbose, address=experiment.address, runtime_env=environment)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"address is {experiment.address!r}; no Ray cluster answers there ({reason})") from error
    try:
        require_room(experiment)
    except ValueError:
        ray.shutdown()
        raise


def require_room(experiment: Experiment) -> None:
    """Refuse a running Ray on which trials would wait for ever, or fewer would run than asked for.

    Raises:
        ValueError: In one line.
    """
    import ray

    largest = largest_node()
    if experiment.cpus_per_trial > largest:
        raise ValueError(f"cpus_per_trial is {experiment.cpus_per_trial}; Ray's largest node has {largest} processors")
    resources, trials = ray.cluster_resources(), experiment.workers * experiment.concurrent
    gpus, needed = resources.get("GPU", 0.0), experiment.gpus_per_trial * trials
    if needed > gpus:
        raise ValueError(f"gpus_per_trial needs {needed:g} GPUs for {trials} workers; Ray has {gpus:g}")
    cores = int(resources.get("CPU", 0.0))
    if experiment.concurrent > 1 and experiment.cores > cores:
        raise ValueError(
            f"concurrent is {experiment.concurrent}; so many runs need {experiment.cores} processors, Ray has {cores}"
        )


def largest_node() -> int:
    """Processors of the node of the running Ray that has most of them."""
    import ray

    return int(max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=1))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have workers that are started now compute with so many threads; 1 leaves what the environment says."""
    before = os.environ["OMP_NUM_THREADS"]
    if count > 1:
        os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        os.environ["OMP_NUM_THREADS"] = before


@contextmanager
def local_ray() -> Iterator[None]:
    """A quiet local Ray for the body; one that is running already is used and left running."""
    if is_running():
        yield
        return
    prepare_environment(None)
    _init_local()
    try:
        yield
    finally:
        stop_ray()


def _init_local(verbose: bool = False, **options: Any) -> None:
    # "local" starts one of its own, where no address would join whatever Ray happens to run on the machine.
    _init(verbose, address="local", include_dashboard=False, **options)


def _init(verbose: bool, **options: Any) -> None:
    import ray

    level = "INFO" if verbose else "ERROR"
    logging.getLogger("ray").setLevel(level)
    with keeping_sigterm():
        ray.init(log_to_driver=verbose, logging_level=level, **options)


def require_listener(address: str) -> None:
    """Refuse at once an address at which nothing listens; Ray itself would go on trying for minutes.

    Raises:
        ValueError: In one line.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        allowed = "it must be auto, HOST:PORT or ray://HOST:PORT of a Ray cluster that is up"
        raise ValueError(f"address is {address!r}; {allowed} ({error})") from error


def is_running() -> bool:
    """Whether this process has started or joined a Ray already."""
    if "ray" not in sys.modules:
        return False
    import ray

    return bool(ray.is_initialized())


def stop_ray() -> None:
    """Leave the cluster, or stop the local Ray."""
    import ray

    ray.shutdown()
