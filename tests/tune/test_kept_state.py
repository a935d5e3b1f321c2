"""Tune's state is kept whole, and a run goes on from it whatever a killed driver left in its folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest
from ray import tune

from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, KeepState, can_restore, kept_state, restore_tuner
from raytune_hyperlearn.tune.kept_state import (
    KEPT_FILE,
    PREVIOUS_FILE,
    TUNER_FILE,
    leave_kept,
    names_in,
    remove_run,
    restore_kept_files,
    run_path,
)
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


def state_files(run: Path) -> list[str]:
    with ZipFile(run / KEPT_FILE) as kept:
        return kept.namelist()


def test_every_file_that_a_restore_reads_is_kept(run: Path) -> None:
    in_folder = {path.name for path in run.iterdir() if path.suffix in (".pkl", ".json")}
    assert {"tuner.pkl"} < set(state_files(run)) == in_folder
    assert can_restore(run)
    assert (run / PREVIOUS_FILE).exists()


@pytest.mark.parametrize("harm", ["halved", "noise", "emptied", "lost"])
def test_each_torn_file_is_put_back(run: Path, tmp_path: Path, harm: str) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    for name in state_files(run):
        whole = (run / name).read_bytes()
        spoil(run / name, harm)
        restore_kept_files(run)
        assert (run / name).read_bytes() == whole


def spoil(path: Path, harm: str) -> None:
    content = path.read_bytes()
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes({"halved": content[: len(content) // 2], "noise": b"\x8f" * 999, "emptied": b""}[harm])


@pytest.mark.parametrize("harm", ["halved", "noise", "emptied", "lost"])
def test_the_copy_before_is_used_if_the_newest_is_spoiled(
    run: Path, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    spoil(run / KEPT_FILE, harm)
    assert can_restore(run)
    restore_kept_files(run)
    with ZipFile(run / PREVIOUS_FILE) as kept:
        for name in kept.namelist():
            assert (run / name).read_bytes() == kept.read(name)
    if harm in ("halved", "noise"):
        assert f"{run / KEPT_FILE} is damaged; the state before it is used" in caplog.text

    spoil(run / PREVIOUS_FILE, "halved")
    assert not can_restore(run)
    with pytest.raises(ValueError, match=r"its kept state is damaged: .*kept_state.previous.zip$"):
        restore_tuner(run, FDSTrainable)


@pytest.mark.parametrize(
    "name", ["../../../stolen.pkl", "/stolen.pkl", "a/b.json", "..\\stolen.pkl", ".hidden.pkl", "x.sh", "kept.json\n"]
)
def test_a_state_with_a_file_of_another_name_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    run = Path(shutil.copytree(run, inner / "run"))
    (run / PREVIOUS_FILE).unlink()
    with ZipFile(run / KEPT_FILE, "a") as kept:
        kept.writestr(name, b"stolen")
    assert not can_restore(run)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="its kept state is damaged"):
        restore_tuner(run, FDSTrainable)
    assert set(tmp_path.rglob("*")) == before


def test_a_state_that_is_too_large_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_state, "MOST_BYTES", 1000)
    assert not can_restore(run)


def test_a_moved_folder_continues_where_it_lies(run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "elsewhere" / "copy"))
    hidden = run.rename(run.with_name("hidden"))
    before = {path.name: path.stat().st_mtime_ns for path in hidden.rglob("*")}
    try:
        (result,) = restore_tuner(copied, FDSTrainable).fit()
        assert result.path.startswith(str(copied))
        assert result.checkpoint is not None
        assert result.checkpoint.path.startswith(str(copied))
        assert not run.exists()
        assert {path.name: path.stat().st_mtime_ns for path in hidden.rglob("*")} == before
    finally:
        hidden.rename(run)


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
    restore_kept_files(run)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    restore_kept_files(run)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_is_found_in_a_storage_and_removed_with_all_it_holds(tmp_path: Path) -> None:
    assert run_path("s3://runs/a/?scheme=http", "fds-1") == "s3://runs/a/fds-1?scheme=http"
    assert run_path(tmp_path, "fds-1") == str(tmp_path / "fds-1")
    storage = (tmp_path / "storage").as_uri()
    assert names_in(storage) == []
    (tmp_path / "storage" / "fds-1" / "trial").mkdir(parents=True)
    assert names_in(storage) == ["fds-1"]
    remove_run(run_path(storage, "fds-1"))
    remove_run(run_path(storage, "fds-1"))
    assert names_in(storage) == []


def test_only_what_a_run_goes_on_from_is_left(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(run, path)
    (path / "trial_without_checkpoint").mkdir()
    leave_kept(path)
    held = [file for file in path.rglob("*") if file.is_file()]
    assert {file.name for file in held if file.parent == path} == {KEPT_FILE, PREVIOUS_FILE}
    in_trials = {file.parent.name for file in held if file.parent != path}
    assert in_trials == {f"checkpoint_{step:06}" for step in range(3)}
    assert not (path / "trial_without_checkpoint").exists()
    restore_kept_files(path)
    assert (path / TUNER_FILE).read_bytes() == (run / TUNER_FILE).read_bytes()
    for name in (KEPT_FILE, PREVIOUS_FILE):
        (path / name).write_bytes(b"")
    leave_kept(path)
    assert not path.exists()


def test_a_folder_without_a_kept_state_is_refused(tmp_path: Path) -> None:
    assert not any(can_restore(path) for path in (tmp_path, tmp_path / "nothing"))
    with pytest.raises(ValueError, match="it must be the folder of a run with KeepState among its callbacks"):
        restore_tuner(tmp_path, FDSTrainable)
    (tmp_path / f"{KEPT_FILE}.unfinished").touch()
    assert not can_restore(tmp_path)
