"""Tune's state is kept whole, and a run goes on from it whatever a killed driver left in its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ray import tune

from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, KeepState, can_restore, restore_tuner
from raytune_hyperlearn.tune.kept_state import KEPT_FILE, put_back
from tests.tune.groups import CONFIG
from tests.tune.kept import kept_trials


@pytest.fixture(scope="module")
def run(ray_session: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three outer steps that has ended."""
    storage = tmp_path_factory.mktemp("kept")
    tune.Tuner(
        FDSTrainable,
        param_space=CONFIG,
        tune_config=tune.TuneConfig(scheduler=FDSScheduler()),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(storage),
            verbose=0,
            callbacks=[KeepState()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()
    return storage / "run"


def test_the_last_state_is_kept(run: Path) -> None:
    assert all(can_restore(path) for path in (run, str(run), run.as_uri()))
    assert [path.read_text() for path in run.glob("experiment_state-*.json")] == [kept_trials(run)]
    assert not list(run.glob("*.unfinished"))


@pytest.mark.parametrize("harm", ["torn", "lost", "newer"])
def test_a_run_is_restored_from_the_kept_state(run: Path, tmp_path: Path, harm: str) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    (state,) = run.glob("experiment_state-*.json")
    if harm == "torn":
        state.write_text(state.read_text()[:1000])
    elif harm == "lost":
        state.unlink()
    else:
        (run / "experiment_state-2999-01-01_00-00-00.json").write_text('{"trial_data": [')
    results = restore_tuner(run, FDSTrainable).fit()
    assert len(results) == 1
    assert not results.errors
    assert (results[0].metrics or {})["outer_step"] == CONFIG["outer_steps"] - 1


def test_putting_back_twice_changes_nothing(run: Path) -> None:
    put_back(run)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    put_back(run)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_folder_without_a_kept_state_is_refused(tmp_path: Path) -> None:
    assert not any(can_restore(path) for path in (tmp_path, tmp_path / "nothing"))
    with pytest.raises(ValueError, match="it must be the folder of a run with KeepState among its callbacks"):
        restore_tuner(tmp_path, FDSTrainable)
    (tmp_path / f"{KEPT_FILE}.unfinished").touch()
    assert not can_restore(tmp_path)
