"""Ray's environment: a token of its own for a local Ray, and nobody joins without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
JOIN = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print("joined")
"""
PREPARE = """
import os, sys
from raytune_hyperlearn.comparison.running.cluster import prepare_environment
assert "ray" not in sys.modules
prepare_environment(None if sys.argv[1] == "local" else sys.argv[1])
print(os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN"))
"""


def call(program: str, argument: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process whose environment says nothing of authentication but what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-c", program, argument],
        env={**inherited, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "environment", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}]
)
def test_nobody_joins_a_local_ray_without_its_token(ray_session: str, environment: dict[str, str]) -> None:
    outcome = call(JOIN, ray_session, **environment)
    assert outcome.returncode != 0
    assert "joined" not in outcome.stdout
    assert "Auth" in outcome.stderr or "ConnectionError" in outcome.stderr


def test_who_has_the_token_joins(ray_session: str) -> None:
    own = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    assert call(JOIN, ray_session, **own).stdout == "joined\n"


def test_every_local_ray_gets_a_random_token() -> None:
    said = [call(PREPARE, "local").stdout.split() for _ in range(2)]
    assert [mode for mode, _ in said] == ["token", "token"]
    assert all(len(token) == 64 and int(token, 16) for _, token in said)
    assert said[0][1] != said[1][1]


def test_a_cluster_and_an_own_setting_are_left_alone() -> None:
    assert call(PREPARE, "10.0.0.1:6379").stdout == "None None\n"
    assert call(PREPARE, "local", RAY_AUTH_MODE="disabled").stdout == "disabled None\n"
