"""Memory that a step of training frees is kept by the process, for the next step.

glibc hands large blocks back to the system as soon as they are freed. Training asks for blocks of the same sizes in
every step, and the system clears each page before it gives it out again (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers of two parameters, from ``malloc.h``."""
LARGEST_BLOCK = 2**30
"""Bytes of the largest block that comes from the process's own memory."""
MOST_FREE = 2**31 - 1
"""Bytes at its end that the process keeps."""
SET_BY_USERS = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}


def keep_freed_memory() -> bool:
    """Let this process keep up to 2 GiB of the memory that it frees.

    Whoever has set one of the two in the environment keeps both.

    Returns:
        Whether it took effect: not with another C library than glibc.
    """
    if not sys.platform.startswith("linux") or SET_BY_USERS & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(TRIM_THRESHOLD, MOST_FREE))
