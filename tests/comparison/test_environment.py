"""The machine's description."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", r"entry is \[\]; it must be a mapping of date, system"),
        ('{"date": 3}', "date is 3; it must be text; also system is missing"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_another_file_is_refused_in_one_line_that_names_it(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_environment(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
