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
    """All tests that use Ray share one process where there are several, and so one Ray; those of a GPU need one."""
    for item in items:
        if item.get_closest_marker("gpu"):
            import torch

            item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """A local Ray with two CPUs; the value is its address, for tests that connect a process of their own."""
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield context.address_info["gcs_address"]
    ray.shutdown()
