"""Freed memory that the process keeps: what it has after a large block is freed, and that a user's setting wins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from raytune_hyperlearn.derivatives import freed_memory

MEBIBYTES = 300
PROGRAM = f"""
import resource
import sys
import torch
from raytune_hyperlearn.derivatives.freed_memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

took_effect = "keep" in sys.argv and keep_freed_memory()
before = resident()
block = torch.ones({MEBIBYTES}, 2**18)
del block
print(took_effect, round(resident() - before))
"""


def ran(*arguments: str, **environment: str) -> tuple[str, int]:
    """Whether it took effect, and mebibytes by which the process is larger after a block was freed."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    found = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    took_effect, grown = found.stdout.split()
    return took_effect, int(grown)


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="only glibc is told what to keep")
def test_a_freed_block_stays_in_the_process_unless_the_environment_says_otherwise() -> None:
    assert ran()[1] < 50
    took_effect, grown = ran("keep")
    assert took_effect == "True"
    assert grown > 0.9 * MEBIBYTES
    assert ran("keep", MALLOC_TRIM_THRESHOLD_="131072") == ("False", pytest.approx(0, abs=50))


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.sys, "platform", "darwin")
    assert not freed_memory.keep_freed_memory()
