"""Shared by all tests: one local Ray for the whole session, quiet and on two CPUs."""

from __future__ import annotations

import os
import secrets

# Before anything imports ray, torch or numpy: they read these when they are loaded.
os.environ.update(
    OMP_NUM_THREADS="1",
    RAY_AIR_NEW_OUTPUT="0",
    RAY_worker_niceness="0",
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN=secrets.token_hex(32),
    RAY_CHDIR_TO_TRIAL_DIR="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
)

from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes, all that use Ray share one process, and so one Ray."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """A local Ray with two CPUs; the value is its address, for tests that connect a process of their own."""
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield context.address_info["gcs_address"]
    ray.shutdown()
