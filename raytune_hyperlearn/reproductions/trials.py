"""Runs one trainable under many configs side by side on Ray Tune and keeps what every step reported.

Each result is a line of a file, written as it is observed; a run that was stopped goes on where Tune was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from raytune_hyperlearn.comparison.json_lines import LineWriter, read_lines, replace_lines
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.comparison.running.cluster import local_ray
from raytune_hyperlearn.comparison.running.kept_tuner import kept_tuner

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
        with local_ray(), Bar(console) as bar:
            recorder = Recorder(file, list(configs), kept)
            recorder.show(bar, folder.name, len(configs) * steps)
            results = _tuner(trainable, shared, configs, folder.resolve(), recorder, checkpoint_every).fit()
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} of {len(configs)} trials failed: {results.errors[0]}")
    return read_rows(file)


def read_rows(file: Path) -> dict[str, list[Row]]:
    """Rows by trial and in order; none where there is no file. A torn last line is left out."""
    trials: dict[str, list[Row]] = {}
    for _, row in read_lines(file) if file.exists() else ():
        trials.setdefault(row["name"], []).append(row)
    return trials


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
    return kept_tuner(
        resourced,
        space,
        storage,
        "tune",
        tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
        recorder,
        max_failures=2,
        checkpoint_frequency=checkpoint_every,
        checkpoints_to_keep=5,
    )


class Recorder(tune.Callback):
    """Appends a line per result, and moves a progress bar.

    A trial that is started again makes steps again that it had reported: its rows from the first of them on give way.

    Args:
        file: Of JSON lines.
        names: Of the trials, by the config's ``_index``.
        kept: Entries of a result.
    """

    def __init__(self, file: Path, names: Sequence[str], kept: Sequence[str]) -> None:
        self.file, self.names, self.kept = file.resolve(), list(names), list(kept)
        self._bar: Bar | None = None
        self._last: dict[str, int] | None = None  # steps by trial; None until the file has been read

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
        self._remove_from(row["name"], row["step"])
        with LineWriter(self.file) as writer:
            writer.append_row(row)
        if self._bar is not None:
            self._bar.advance(self._task)

    def _remove_from(self, name: str, step: int) -> None:
        """Take out a trial's rows of this step and later ones, if there are any."""
        if self._last is None:
            self._last = {known: rows[-1]["step"] for known, rows in read_rows(self.file).items()}
        if step <= self._last.get(name, 0):
            rows = [row for _, row in read_lines(self.file)]
            replace_lines(self.file, [row for row in rows if row["name"] != name or row["step"] < step])
        self._last[name] = step

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None, "_last": None}


def _finished(file: Path, names: Mapping[str, Any]) -> bool:
    """Whether every trial's last row says that it is done."""
    rows = read_rows(file)
    return all(name in rows and rows[name][-1]["done"] for name in names)


def _of_index(values: Sequence[Any], spec: Any) -> Any:
    """The value of the trial that the config's ``_index`` names."""
    return values[spec.config["_index"]]
