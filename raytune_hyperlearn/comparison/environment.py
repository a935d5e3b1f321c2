"""The machine and the versions a comparison ran on, for the report."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from raytune_hyperlearn.checked import Items, Whole, read, record
from raytune_hyperlearn.comparison.plain_data import to_mapping

PACKAGES = (
    "raytune-hyperlearn",
    "torch",
    "torchvision",
    "ray",
    "numpy",
    "scipy",
    "scikit-learn",
    "hpbandster",
    "ConfigSpace",
    "optuna",
    "cmaes",
    "smac",
    "dehb",
    "schedulefree",
    "prodigyopt",
)


@record
class Environment:
    """The machine and the versions, as they are written beside a comparison's records.

    Attributes:
        date: when it was described, ISO 8601.
        system: operating system and its version.
        python: version.
        processor: model name.
        cores: cores that the process may use.
        gpus: a name for each.
        torch_threads: threads of torch within an operation.
        OMP_NUM_THREADS: the environment variable, or "not set".
        versions: version of each package that matters, by name.
    """

    date: str
    system: str
    python: str
    processor: str
    cores: Whole
    gpus: Items[str]
    torch_threads: Whole
    OMP_NUM_THREADS: str
    versions: dict[str, str]


def describe_environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Date, processor, cores, GPUs, threads and package versions of this machine, as plain data.

    Args:
        packages: Packages that matter besides those that always do.

    Returns:
        The entries of :class:`Environment`.
    """
    import torch  # here, because reading results back must not wait for it

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": _cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "torch_threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "versions": _versions(dict.fromkeys((*PACKAGES, *packages))),
    }


def write_environment(environment: dict[str, Any], path: Path) -> None:
    """Writes the description as JSON."""
    path.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def read_environment(path: Path) -> dict[str, Any]:
    """Reads what :func:`write_environment` wrote; empty where there is no such file.

    Raises:
        ValueError: if the file does not hold the entries of :class:`Environment`; one line that names it.
    """
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return to_mapping(read(Environment, data, str(path), "entry"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions(packages: Iterable[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
