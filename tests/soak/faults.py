"""What is hit: the driver, its workers, the cluster's nodes, the disk, and files while no driver runs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

from raytune_hyperlearn.comparison.records import RECORDS_FILE
from raytune_hyperlearn.tune.kept_state import KEPT_FILE

NODES, CPUS_PER_NODE = 2, 2
NODE_SECONDS = 3.0
"""A removed node comes back after so many."""
DISK_SECONDS = 5.0
"""The disk stays full for so many unless the driver ends earlier."""


class Machines:
    """A cluster of a head and two nodes, each with workers of its own."""

    def __init__(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._nodes = [self._add() for _ in range(NODES)]

    @property
    def address(self) -> str:
        """Where drivers join."""
        return str(self._cluster.address)

    def lose_a_node(self, draw: random.Random) -> None:
        """Remove one of the nodes, with all its workers, and bring another after a while."""
        self._cluster.remove_node(self._nodes.pop(draw.randrange(NODES)), allow_graceful=False)
        time.sleep(NODE_SECONDS)
        self._nodes.append(self._add())

    def kill_a_worker(self, draw: random.Random) -> bool:
        """SIGKILL for a worker that holds a trial; False if there is none."""
        trials = [process for process in psutil.Process().children(recursive=True) if _holds_a_trial(process)]
        if not trials:
            return False
        draw.choice(trials).kill()
        return True

    def stop(self) -> None:
        """End the cluster."""
        self._cluster.shutdown()

    def _add(self) -> object:
        return self._cluster.add_node(num_cpus=CPUS_PER_NODE)


def _holds_a_trial(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return title.startswith("ray::") and "Trainable" in title


@dataclass
class Scene:
    """Where a fault strikes.

    Attributes:
        machines: The cluster.
        disk: A file system of its own, or None where none could be mounted.
        folder: The run's folder.
        driver: The process that runs it.
        draw: Of the soak's seed.
    """

    machines: Machines
    disk: Path | None
    folder: Path
    driver: subprocess.Popen[str]
    draw: random.Random

    def kill(self, number: signal.Signals = signal.SIGKILL) -> bool:
        """End the driver and wait for it; False if it has ended by itself."""
        self.driver.send_signal(number)
        return self.driver.wait(timeout=60) not in (0, 1)


def driver_killed(scene: Scene) -> bool:
    """SIGKILL for the driver."""
    return scene.kill()


def driver_stopped(scene: Scene) -> bool:
    """SIGTERM for the driver, as cluster managers send it."""
    return scene.kill(signal.SIGTERM)


def worker_killed(scene: Scene) -> bool:
    """SIGKILL for a worker."""
    return scene.machines.kill_a_worker(scene.draw)


def node_lost(scene: Scene) -> bool:
    """A node goes, and another comes."""
    scene.machines.lose_a_node(scene.draw)
    return True


def disk_full(scene: Scene) -> bool:
    """No space for a while; a driver that ends of it has the status 1."""
    if scene.disk is None:
        return False
    filler = scene.disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
    except OSError:
        pass
    until = time.monotonic() + DISK_SECONDS
    while scene.driver.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    filler.unlink()
    return True


def row_torn(scene: Scene) -> bool:
    """The driver is killed in the middle of writing a row."""
    rows = scene.folder / RECORDS_FILE
    if not scene.kill() or not rows.exists():
        return False
    lines = rows.read_bytes().splitlines()
    with rows.open("ab") as file:
        file.write(lines[-1][: len(lines[-1]) // 2] if lines else b'{"exper')
    return True


def state_torn(scene: Scene) -> bool:
    """The driver is killed and half of Tune's newest kept state is lost."""
    killed = scene.kill()
    states = list(scene.folder.rglob(KEPT_FILE))
    if not killed or not states:
        return False
    os.truncate(states[0], states[0].stat().st_size // 2)
    return True


def folder_moved(scene: Scene) -> bool:
    """The driver is killed and the run's folder is replaced by a copy of it."""
    if not scene.kill() or not scene.folder.exists():
        return False
    other = scene.folder.with_name(scene.folder.name + ".copy")
    shutil.copytree(scene.folder, other)
    shutil.rmtree(scene.folder)
    other.rename(scene.folder)
    return True


FAULTS: dict[str, Callable[[Scene], bool]] = {
    "driver killed (SIGKILL)": driver_killed,
    "worker killed": worker_killed,
    "node lost": node_lost,
    "driver stopped (SIGTERM)": driver_stopped,
    "kept state torn": state_torn,
    "disk full": disk_full,
    "row torn": row_torn,
    "folder copied": folder_moved,
}
"""Each says whether it struck: there may be nothing to hit."""
