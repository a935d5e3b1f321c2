"""Runs one trainable under many configs side by side on Ray Tune and keeps what every step reported.

Each result is a line of a file, written as it is observed; a run that was stopped goes on where Tune was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console
from rich.progress import Progress as Bar

from raytune_hyperlearn.comparison.running.cluster import prepare_environment
from raytune_hyperlearn.tune.kept_state import KeepState, can_restore, restore_tuner

Row = dict[str, Any]


def run_trials(
    trainable: type[tune.Trainable],
    shared: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    kept: Sequence[str],
    steps: int,
    folder: Path,
    console: Console,
    checkpoint_every: int = 0,
) -> dict[str, list[Row]]:
    """Runs what is not in the folder yet, as many at a time as there are cores; the rows of each trial, in order.

    Args:
        trainable: Ends each trial by itself.
        shared: The part of the config that all trials share.
        configs: The rest by trial name; an entry that a trial lacks is None for it.
        kept: Entries of a result that a row keeps beside ``step`` and ``done``.
        steps: Of each trial at most, for the progress bar.
        folder: Holds ``trials.jsonl`` and Tune's state.
        console: Shows progress.
        checkpoint_every: Steps between checkpoints; 0 where trials are so short that a stopped one may begin anew.

    Raises:
        RuntimeError: If a trial ended in an error.
    """
    file = folder / "trials.jsonl"
    if not _finished(file, configs):
        folder.mkdir(parents=True, exist_ok=True)
        with local_ray(), Bar(console=console) as bar:
            recorder = _Recorder(file, list(configs), kept)
            recorder.show(bar, folder.name, len(configs) * steps)
            results = _tuner(trainable, shared, configs, folder.resolve(), recorder, checkpoint_every).fit()
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} of {len(configs)} trials failed: {results.errors[0]}")
    return read_rows(file)


def read_rows(file: Path) -> dict[str, list[Row]]:
    """Rows by trial and in order; a step that was made again after a restart counts once."""
    if not file.exists():
        return {}
    rows = {(row["name"], row["step"]): row for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    trials: dict[str, list[Row]] = {}
    for name, step in sorted(rows):
        trials.setdefault(name, []).append(rows[name, step])
    return trials


@contextmanager
def local_ray() -> Iterator[None]:
    """A quiet local Ray for the body; one that is running already is used and left running."""
    if ray.is_initialized():
        yield
        return
    prepare_environment(None)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def _tuner(
    trainable: type[tune.Trainable],
    shared: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    storage: Path,
    recorder: tune.Callback,
    checkpoint_every: int,
) -> tune.Tuner:
    cores, gpus = (ray.cluster_resources().get(name, 0.0) for name in ("CPU", "GPU"))
    workers = min(len(configs), max(1, int(cores)))
    resourced = tune.with_resources(trainable, {"cpu": 1, "gpu": min(1.0, gpus / workers)})
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    chosen = {key: [config.get(key) for config in configs.values()] for key in keys}
    space = {
        **shared,
        "_index": tune.grid_search(list(range(len(configs)))),
        **{key: tune.sample_from(partial(_of_index, values)) for key, values in chosen.items()},
    }
    if can_restore(storage / "tune"):
        return restore_tuner(storage / "tune", resourced, resume_unfinished=True, param_space=space)
    return tune.Tuner(
        resourced,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            callbacks=[recorder, KeepState()],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            # Several are kept: Tune's snapshot, up to ten seconds old, may name one that is not the last.
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=checkpoint_every, num_to_keep=5, checkpoint_at_end=False
            ),
        ),
    )


class _Recorder(tune.Callback):
    """Appends a line per result, and moves a progress bar.

    Args:
        file: Of JSON lines.
        names: Of the trials, by the config's ``_index``.
        kept: Entries of a result.
    """

    def __init__(self, file: Path, names: Sequence[str], kept: Sequence[str]) -> None:
        self.file, self.names, self.kept = file.resolve(), list(names), list(kept)
        self._bar: Bar | None = None

    def show(self, bar: Bar, what: str, total: int) -> None:
        """Moves this bar from now on; a restored run has another recorder, without one."""
        self._bar, self._task = bar, bar.add_task(what, total=total)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Row, **info: Any) -> None:
        """Write one row."""
        row = {
            "name": self.names[trial.config["_index"]],
            "step": result["training_iteration"],
            "done": bool(result.get("done", False)),
            **{key: result[key] for key in self.kept},
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._bar is not None:
            self._bar.advance(self._task)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None}


def _finished(file: Path, names: Mapping[str, Any]) -> bool:
    """Whether every trial's last row says that it is done."""
    rows = read_rows(file)
    return all(name in rows and rows[name][-1]["done"] for name in names)


def _of_index(values: Sequence[Any], spec: Any) -> Any:
    """The value of the trial that the config's ``_index`` names."""
    return values[spec.config["_index"]]
