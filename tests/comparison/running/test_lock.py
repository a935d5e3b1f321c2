"""One driver at a time writes to a folder, and a dead driver's lock is in nobody's way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.comparison import head_to_head
from raytune_hyperlearn.comparison.running import cluster
from raytune_hyperlearn.comparison.running.lock import LOCK_FILE, FolderLockedError, leftovers, locked
from raytune_hyperlearn.comparison.running.trust import require_own

ROOT = Path(__file__).parents[3]
HOLDS = "import sys, time; from pathlib import Path; from raytune_hyperlearn.comparison.running.lock import locked\n"


def holder_of(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder's lock."""
    program = HOLDS + "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    arguments = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_arguments: object, **_options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "start_ray", started)
    monkeypatch.setattr(head_to_head, "check_settings", started)


@pytest.mark.usefixtures("no_ray")
def test_a_second_driver_is_refused_before_anything_else_starts(tmp_path: Path) -> None:
    process = holder_of(tmp_path / "a" / "run")
    try:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FolderLockedError) as refused:
            head_to_head.compare("digits", ["rs"], output=tmp_path / "a" / "run", resume=True)
        said = str(refused.value)
        assert f"output is {tmp_path / 'a' / 'run'}; process {process.pid} on {socket.gethostname()}" in said
        assert "\n" not in said
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        end(process)


def test_the_lock_of_a_killed_driver_is_taken_over(tmp_path: Path) -> None:
    process = holder_of(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_driver_has_left_running_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = holder_of(tmp_path)
    end(dead)
    waits = [sys.executable, "-c", "input()"]
    names = [f"--session-name=session_2026-11-27_19-41-38_144745_{pid}" for pid in (dead.pid, f"{dead.pid}0")]
    copied = shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    own, strange = (subprocess.Popen([*waits, name], stdin=subprocess.PIPE) for name in names)
    try:
        with locked(tmp_path):
            pass
    finally:
        for process in (own, strange):
            end(process)
    (copied / LOCK_FILE).write_text(
        json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": 0, "file": 0})
    )
    with locked(copied):  # by a process that lives
        pass
    assert caplog.messages == [f"{tmp_path}: process {dead.pid} was killed; its Ray is still ending: {own.pid}"]


def test_a_session_of_ray_bears_its_drivers_number(ray_session: str) -> None:
    commands = {process.name() for process in leftovers(os.getpid())}
    assert {"raylet", "gcs_server"} <= commands, ray_session


def test_a_pid_that_is_used_again_does_not_hold_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        says = json.loads((tmp_path / LOCK_FILE).read_text())
        (tmp_path / LOCK_FILE).write_text(json.dumps({**says, "started": says["started"] - 3600}))
        with locked(tmp_path):  # of a process of long ago that had this process's number
            pass


def test_the_lock_of_another_machine_is_respected(tmp_path: Path) -> None:
    with locked(tmp_path):
        says = json.loads((tmp_path / LOCK_FILE).read_text())
        (tmp_path / LOCK_FILE).write_text(json.dumps({**says, "host": "elsewhere", "started": 0.0}))
        with (
            pytest.raises(FolderLockedError, match=f"on elsewhere.*remove {tmp_path / LOCK_FILE}"),
            locked(tmp_path),
        ):
            pass


def test_a_copied_folder_is_not_locked(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        copied = Path(shutil.copytree(tmp_path / "run", tmp_path / "copy"))
        with locked(copied):
            pass
        with pytest.raises(FolderLockedError), locked(tmp_path / "run"):
            pass


@pytest.mark.parametrize("content", ["", "noise", "[" * 100_000, '{"pid": "x"}'])
def test_a_damaged_lock_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_it_is_released_on_every_exit_and_leaves_no_folder_behind(tmp_path: Path) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), locked(tmp_path / "a" / "b"):
            raise error
        assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "kept").touch()
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "kept"]
    with pytest.raises(ValueError, match="must be a folder"), locked(tmp_path / "a" / "kept"):
        pass


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    end(holder_of(tmp_path))
    program = HOLDS + (
        "try:\n    with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
        "except ValueError: print('refused', flush=True)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started: list[subprocess.Popen[str]] = [subprocess.Popen(arguments, cwd=ROOT, **pipes) for _ in range(3)]
    said = [process.stdout.readline() for process in started if process.stdout is not None]
    for process in started:
        process.communicate()
    assert sorted(said) == ["held\n", "refused\n", "refused\n"]


def test_only_own_files_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    (folder / "tune").mkdir(parents=True, mode=0o755)
    planted = folder / "tune" / "tuner.pkl"
    planted.touch(0o644)
    for path in (folder, planted.parent, planted):
        path.chmod(path.stat().st_mode & ~0o022)
    require_own(folder)
    with pytest.raises(ValueError, match=r"who may write to its storage, s3://runs, is not known: .* add --trust$"):
        require_own(folder, "s3://runs")
    planted.chmod(0o646)
    with pytest.raises(ValueError, match=r"tuner.pkl is writable by others: .* add --trust$"):
        require_own(folder)
    planted.chmod(0o644)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(ValueError, match="belongs to somebody else"):
        require_own(folder)
