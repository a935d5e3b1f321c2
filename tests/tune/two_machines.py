"""A driver on a cluster whose two nodes see none of its files, and an S3 server that all of them reach.

python -m tests.tune.two_machines FOLDER

FOLDER is the driver's own; in a mount namespace of its own, each node has an empty file system there. What was found
goes to FOLDER/found.json.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from moto.server import ThreadedMotoServer
from pyarrow import fs
from ray import tune
from ray.cluster_utils import Cluster

from raytune_hyperlearn.comparison.head_to_head import compare
from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, KeepState, can_restore, restore_tuner
from raytune_hyperlearn.tune.kept_state import names_in

ISOLATED = ("unshare", "--map-root-user", "--mount")
NODES, STEPS = 2, 3
BUCKET = "runs"
MINE = """
import os

import torch
from torch import nn

from raytune_hyperlearn.problems import Examples, Problem


def model():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def problem():
    if "NODE_OF_TEST" in os.environ and os.listdir({folder!r}):
        raise RuntimeError("this node sees the driver's files")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(240, 4, generator=generator)
    targets = (inputs @ torch.randn(4, 3, generator=generator)).argmax(dim=1)
    train, test = Examples(inputs[:200], targets[:200]), Examples(inputs[200:], targets[200:])
    return Problem(name="mine", model=model, train=train, test=test, batch_size=20, epochs=2)
"""


@contextmanager
def nodes(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Two nodes with a processor each, which see an empty file system in place of a folder.

    What Ray downloads for them goes to places of their own, too: on one machine, nodes would share it.
    """
    downloads = Path(cluster.head_node.get_session_dir_path()) / "runtime_resources"
    downloads.mkdir(exist_ok=True)
    hidden = " && ".join(f"mount -t tmpfs none {place}" for place in (folder, downloads))
    start = f"{sys.executable} -m ray.scripts.scripts start --address={cluster.address} --num-cpus=1 --block"
    ports = "--min-worker-port=0 --max-worker-port=0 --object-store-memory=80000000"
    command = [*ISOLATED, "sh", "-c", f"{hidden} && exec {start} {ports}"]
    environment = {**os.environ, "NODE_OF_TEST": "1"}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for count in range(1, NODES + 1):  # one after the other: two at a time may choose the same ports
            node = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append(node)
            while sum(one["Alive"] for one in ray.nodes()) < 1 + count:
                if node.poll() is not None:
                    raise RuntimeError(f"a node ended with status {node.poll()}")
                time.sleep(0.2)
        yield
    finally:
        for node in started:
            node.terminate()
        for node in started:
            node.wait(timeout=60)


@contextmanager
def object_store() -> Iterator[str]:
    """The URI of a new bucket of an S3 server in this process; what reads and writes it is told by the environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    known = {
        "ENDPOINT_URL": f"http://{host}:{port}",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "REGION": "us-east-1",
    }
    os.environ.update({f"AWS_{name}": value for name, value in known.items()}, AWS_EC2_METADATA_DISABLED="true")
    try:
        system, bucket = fs.FileSystem.from_uri(f"s3://{BUCKET}?allow_bucket_creation=true")
        system.create_dir(bucket)
        yield f"s3://{BUCKET}"
    finally:
        server.stop()


def ensemble(problem: object, storage: str) -> tune.ResultGrid:
    """Two members, which run at the same time and so on both nodes."""
    scheduler = FDSScheduler(ensemble=2)
    return tune.Tuner(
        FDSTrainable,
        param_space={"problem": problem, "seed": 5, "epochs": 2, "outer_steps": STEPS, "member": scheduler.members()},
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(
            name="run",
            storage_path=storage,
            verbose=0,
            callbacks=[KeepState()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()


def main(folder: Path) -> None:
    """Own code by ``runtime_env``, own code by value, checkpoints and state in the object store."""
    code = folder / "code"
    code.mkdir()
    (code / "mine.py").write_text(MINE.format(folder=str(folder)), encoding="utf-8")
    sys.path.insert(0, str(code))
    import mine

    with object_store() as storage:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        ray.init(
            address=cluster.address,
            runtime_env={"working_dir": str(code)},
            log_to_driver=False,
            logging_level="ERROR",
        )
        with nodes(cluster, folder):
            results = ensemble(mine.problem, storage)
            settings = {"epochs": 0.5, "time_limit": 10.0, "workers": 2, "confirmations": 0, "reference": None}
            settings |= {"method_options": {"fds": {"outer_steps": 2}}, "storage": f"{storage}/compared"}
            study = compare(f"{code}/mine.py:problem", ["fds", "rs"], 1, output=folder / "compared", **settings)
        restorable = can_restore(f"{storage}/run")
        restored = restore_tuner(f"{storage}/run", FDSTrainable).get_results()
        found = {
            "errors": [str(error) for error in results.errors],
            "steps": [(result.metrics or {})["outer_step"] for result in results],
            "members": sorted((result.metrics or {})["member"]["replica"] for result in results),
            "checkpoints": sorted(str(result.checkpoint.path) for result in results if result.checkpoint),
            "can_restore": restorable,
            "restored": [(result.metrics or {})["outer_step"] for result in restored],
            "compared": {method: study.runs[method, 0].records.statuses() for method in ("fds", "rs")},
            "left": names_in(f"{storage}/compared"),
        }
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
