"""The machine's description."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from raytune_hyperlearn.comparison.environment import describe_environment, read_environment, write_environment


def test_describes_this_machine_and_comes_back(tmp_path: Path) -> None:
    environment = describe_environment()
    assert environment["python"] == platform.python_version()
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0] or (
        environment["versions"]["torch"] == torch.__version__
    )
    assert environment["cores"] >= 1
    assert environment["processor"]
    write_environment(environment, tmp_path / "environment.json")
    assert read_environment(tmp_path / "environment.json") == environment
    assert read_environment(tmp_path / "absent.json") == {}
