"""What Ray Tune's own loggers write of a comparison: plain metrics, and each value of a schedule by itself."""

from __future__ import annotations

import json
import pickle
import struct
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, LoggerCallback, TBXLoggerCallback
from ray.tune.utils.callback import _create_default_callbacks

from raytune_hyperlearn import SearchSpace, compare
from raytune_hyperlearn.hyperparameters import LearningRate
from raytune_hyperlearn.tune import Scalars
from raytune_hyperlearn.tune.scalars import scalars

STATE = ("outer_state", "best", "scores")


def test_state_is_left_out_and_schedules_come_value_by_value() -> None:
    result = {
        "validation_loss": 0.5,
        "status": "completed",
        "hyperparameters": {"learning_rate": [0.1, 0.2]},
        "hypergradient": {"momentum": [3.0]},
        "outer_state": {"values": {"momentum": [0.9]}},
        "columns": [1, 2],
        "best": None,
        "config": {"seed": 0},
    }
    assert scalars(result) == {
        "validation_loss": 0.5,
        "status": "completed",
        "hyperparameters": {"learning_rate": {"0": 0.1, "1": 0.2}},
        "hypergradient": {"momentum": {"0": 3.0}},
        "config": {"seed": 0},
    }


def test_everything_else_reaches_the_callback_as_it_is() -> None:
    seen: list[tuple[str, Any]] = []

    class Own(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            seen.append(("complete", trial))

        def get_state(self) -> dict[str, int]:
            return {"seen": len(seen)}

    wrapped = Scalars(Own())
    wrapped.on_trial_complete(iteration=1, trials=[], trial="a")
    assert seen == [("complete", "a")]
    assert wrapped.get_state() == {"seen": 1}
    with pytest.raises(ValueError, match=r"callback is 3; it must be a ray\.tune\.Callback"):
        Scalars(3)  # type: ignore[arg-type]


def test_tune_adds_no_second_logger_beside_a_wrapped_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")
    own = [Scalars(logger()) for logger in (TBXLoggerCallback, JsonLoggerCallback, CSVLoggerCallback)]
    loggers = [each for each in _create_default_callbacks(list(own)) if isinstance(each, LoggerCallback)]
    assert loggers == own
    copied = pickle.loads(pickle.dumps(own[1]))
    assert type(copied) is Scalars
    assert isinstance(copied.callback, JsonLoggerCallback)


class Kept(tune.Callback):
    """Copies the files of Tune's loggers of a trial, which the harness removes with its finished run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        method = Path(trial.storage.experiment_fs_path).name
        for file in Path(trial.storage.trial_driver_staging_path).iterdir():
            if file.name.startswith("events.out"):
                (self.folder / f"{method}.events").write_bytes(file.read_bytes())
            elif file.name in ("result.json", "progress.csv"):
                (self.folder / f"{method}.{file.name}").write_bytes(file.read_bytes())


def tags(file: Path) -> set[str]:
    """Names of the scalars in a file of TensorBoard's: records of length, checksum, event, checksum.

    A record that is not whole yet ends the reading, as in TensorBoard.
    """
    from tensorboardX.proto.event_pb2 import Event

    data, found, at = file.read_bytes(), set(), 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if at + 16 + length > len(data):
            break
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found |= {value.tag for value in event.summary.value if value.HasField("simple_value")}
        at += 16 + length
    return found


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_the_real_loggers_write_the_metrics_of_every_method(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    space = SearchSpace(LearningRate(values=2), 0.9, 0.0)
    compare(
        "digits",
        ["rs", "fds"],
        seeds=1,
        space=space,
        time_limit=3.0,
        epochs=0.2,
        replicates=1,
        confirmations=0,
        reference=None,
        method_options={"fds": {"outer_steps": 2}, "rs": {}},
        callbacks=[TBXLoggerCallback(), JsonLoggerCallback(), CSVLoggerCallback(), Kept(tmp_path)],
        output=tmp_path / "out",
    )
    values = {"hyperparameters/learning_rate/0", "hyperparameters/learning_rate/1", "hyperparameters/momentum/0"}
    for method in ("rs-0", "fds-0"):
        written = {tag.removeprefix("ray/tune/") for tag in tags(tmp_path / f"{method}.events")}
        assert written >= {"validation_loss", "test_accuracy", "epochs", *values}
        assert not [tag for tag in written if tag.split("/")[0] in STATE]
        header = (tmp_path / f"{method}.progress.csv").read_text().splitlines()[0].split(",")
        assert values <= set(header)
        row = json.loads((tmp_path / f"{method}.result.json").read_text().splitlines()[0])
        assert set(row["hyperparameters"]["learning_rate"]) == {"0", "1"}
        assert not set(STATE) & set(row)


class Trial:
    """What a logger asks of Tune's trial."""

    def __init__(self, local_path: str) -> None:
        self.local_path, self.trial_id, self.config = local_path, "a", {"seed": 0, "epochs": 2.0}


def test_mlflow_is_shown_every_value_of_a_schedule_as_a_metric_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # it reads the environment

    where = f"sqlite:///{tmp_path / 'runs.db'}"
    logger = Scalars(deepcopy(MLflowLoggerCallback(tracking_uri=where, experiment_name="digits")))
    trial = Trial(str(tmp_path))
    result = {
        "training_iteration": 1,
        "validation_loss": 0.5,
        "hyperparameters": {"learning_rate": [0.1, 0.2]},
        "outer_state": {"values": {"momentum": [0.9]}},
        "config": trial.config,
    }
    logger.setup()
    logger.on_trial_start(iteration=0, trials=[], trial=trial)
    logger.on_trial_result(0, [], trial, result)
    logger.on_trial_complete(iteration=1, trials=[], trial=trial)
    client = mlflow.MlflowClient(where)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.data.metrics["validation_loss"] == 0.5
    shown = {name: value for name, value in run.data.metrics.items() if name.startswith("hyperparameters")}
    assert shown == {"hyperparameters/learning_rate/0": 0.1, "hyperparameters/learning_rate/1": 0.2}
    assert not [name for name in run.data.metrics if name.split("/")[0] in STATE]
    assert run.data.params == {"seed": "0", "epochs": "2.0"}
