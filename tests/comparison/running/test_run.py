"""Whole runs on Ray: what they leave in their folder, and that a stopped driver loses nothing and is gone on with."""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.tune import Callback

from raytune_hyperlearn import cli
from raytune_hyperlearn.comparison.analysis.results import load_study
from raytune_hyperlearn.comparison.environment import read_environment
from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment
from raytune_hyperlearn.comparison.records import (
    Confirmation,
    Record,
    RecordWriter,
    read_records,
    read_runs,
    remove_records,
)
from raytune_hyperlearn.comparison.running import cluster
from raytune_hyperlearn.comparison.running import run as running
from raytune_hyperlearn.comparison.running.cluster import start_ray
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.folder import Folder, FolderInUseError, check_folder, prepare_folder
from raytune_hyperlearn.comparison.running.method import MethodSetup
from raytune_hyperlearn.comparison.running.methods import setup_method
from raytune_hyperlearn.comparison.running.run import require_empty_storage, run_experiment
from raytune_hyperlearn.comparison.running.side_by_side import side_by_side
from raytune_hyperlearn.hyperparameters import SearchSpace
from raytune_hyperlearn.tune import SGDTrainable
from raytune_hyperlearn.tune.kept_state import KEPT_FILE, PREVIOUS_FILE
from tests.comparison.synthetic import make_experiment, make_record, write_folder
from tests.tune.kept import keeps_a_checkpoint, kept_trials

ROOT = Path(__file__).parents[3]
LIMIT = 2.5


def tiny_experiment(**changes: Any) -> Experiment:
    """Digits with trainings of a few steps."""
    settings = {
        "methods": ["fds", "rs", "hb"],
        "seeds": [1],
        "time_limit": LIMIT,
        "epochs": 1.0,
        "min_epochs": 1 / 9,
        "replicates": 1,
        "reference": None,
    }
    return experiment_from_settings({**settings, **changes})


@dataclass(frozen=True)
class Finished:
    """A whole experiment that has been run."""

    experiment: Experiment
    folder: Folder
    announced: list[tuple[str, int]]

    def rows(self, method: str) -> list[Record]:
        return [record for record in read_records(self.folder.records) if record.method == method]


@pytest.fixture(scope="module")
def finished(ray_session: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    experiment = tiny_experiment()
    folder = prepare_folder(experiment, tmp_path_factory.mktemp("runs") / "tiny", resume=False)
    announced: list[tuple[str, int]] = []
    run_experiment(experiment, folder, lambda method, seed: announced.append((method, seed)))
    return Finished(experiment, folder, announced)


@pytest.mark.long
class TestWhatARunLeaves:
    def test_every_method_has_rows_and_a_summary(self, finished: Finished) -> None:
        assert finished.announced == [("fds", 1), ("rs", 1), ("hb", 1)]
        runs = {run.method: run for run in read_runs(finished.folder.runs)}
        for method in ("fds", "rs", "hb"):
            rows, run = finished.rows(method), runs[method]
            assert len(rows) >= 3
            assert run.evaluations == len(rows)
            assert run.finished == "time_limit"
            assert run.failures == {}
            assert LIMIT <= run.wall_seconds < LIMIT + 30
            assert run.startup_seconds > 0
            assert (run.searcher_seconds > 0) == (method != "fds")
        assert runs["hb"].options == {"eta": 3}
        assert read_experiment(finished.folder.path / "experiment.yaml") == finished.experiment
        assert read_environment(finished.folder.path / "environment.json")["versions"]["ray"]

    def test_rows_hold_times_scores_and_hyperparameters_inside_the_space(self, finished: Finished) -> None:
        space = SearchSpace.from_mapping(finished.experiment.space)
        for method in ("fds", "rs", "hb"):
            rows = finished.rows(method)
            times = [row.time for row in rows]
            assert times == sorted(times)
            assert times[0] < LIMIT  # the start of Ray and of the worker are not on the clock
            assert [row.worker_seconds for row in rows] == sorted(row.worker_seconds for row in rows)
            for row in rows:
                assert (row.experiment, row.problem, row.seed, row.status) == ("digits", "digits", 1, "completed")
                assert row.validation_loss > 0
                assert 0 <= row.test_accuracy <= 1
                assert space.check(row.hyperparameters) == row.hyperparameters
                assert row.training_seconds > 0

    def test_budgets_are_those_of_the_method(self, finished: Finished) -> None:
        assert {row.budget for row in finished.rows("rs")} == {1.0}
        ninths = [row.budget * 9 for row in finished.rows("hb")]
        assert ninths[:9] == pytest.approx([1.0] * 9)
        assert {round(budget, 6) for budget in ninths} <= {1.0, 3.0, 9.0}
        assert len({row.trial for row in finished.rows("rs")}) == len(finished.rows("rs"))

    def test_fds_is_one_trial_that_learns_step_after_step(self, finished: Finished) -> None:
        rows = finished.rows("fds")
        assert len({row.trial for row in rows}) == 1
        assert [row.info["outer_step"] for row in rows] == list(range(len(rows)))
        assert rows[0].hyperparameters == SearchSpace.from_mapping(finished.experiment.space).initial()
        for before, after in itertools.pairwise(rows):
            assert before.hyperparameters != after.hyperparameters

    def test_of_tunes_own_files_only_kept_states_and_checkpoints_stay(self, finished: Finished) -> None:
        held = [path for path in (finished.folder.path / "tune").rglob("*") if path.is_file()]
        states = {KEPT_FILE, PREVIOUS_FILE}
        assert {path.parent.name for path in held if path.name in states} == {"fds-1", "rs-1", "hb-1"}
        others = {path for path in held if path.name not in states and not path.name.endswith(".ended.json")}
        assert others
        assert all(path.parent.name.startswith("checkpoint_") and "fds-1" in path.parts for path in others)

    def test_results_can_be_read(self, finished: Finished) -> None:
        study = load_study(finished.folder.path)
        assert study.missing == ()
        assert all(result.incumbent is not None for result in study.runs.values())


@pytest.mark.long
class TestGoingOn:
    def test_finished_runs_are_skipped(self, finished: Finished) -> None:
        before = finished.folder.records.read_bytes(), finished.folder.runs.read_bytes()
        folder = prepare_folder(finished.experiment, finished.folder.path, resume=True)
        assert folder.finished() == {("fds", 1), ("rs", 1), ("hb", 1)}
        announced: list[tuple[str, int]] = []
        run_experiment(finished.experiment, folder, lambda method, seed: announced.append((method, seed)))
        assert announced == []
        assert (folder.records.read_bytes(), folder.runs.read_bytes()) == before

    def test_a_run_whose_state_is_lost_is_begun_anew_without_its_old_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "records.jsonl"
        with RecordWriter(path) as writer:
            for method, seed in [("fds", 0), ("rs", 0), ("fds", 1), ("rs", 0)]:
                writer.append(make_record(method=method, seed=seed))
        assert remove_records(path, lambda row: (row.method, row.seed) == ("rs", 0)) == 2
        assert [(row.method, row.seed) for row in read_records(path)] == [("fds", 0), ("fds", 1)]
        assert list(tmp_path.iterdir()) == [path]

    def test_a_finished_run_whose_summary_is_torn_is_not_run_again(self, finished: Finished, tmp_path: Path) -> None:
        folder = Folder(Path(shutil.copytree(finished.folder.path, tmp_path / "torn")))
        records, runs = folder.records.read_bytes(), read_runs(folder.runs)
        folder.runs.write_bytes(folder.runs.read_bytes()[:-20])
        prepare_folder(finished.experiment, folder.path, resume=True)
        assert folder.finished() == {("fds", 1), ("rs", 1)}
        run_experiment(finished.experiment, folder, lambda method, seed: None)
        assert read_runs(folder.runs) == runs
        assert folder.records.read_bytes() == records

    @pytest.mark.parametrize(
        ("name", "harm", "message"),
        [
            ("records.jsonl", "noise", "records.jsonl line 2: not JSON"),
            ("runs.jsonl", "noise", "runs.jsonl line 2: not JSON"),
            ("confirmations.jsonl", "noise", "confirmations.jsonl line 2: not JSON"),
            ("records.jsonl", "deep", "records.jsonl line 2: not JSON"),
            ("records.jsonl", "emptied", "records.jsonl holds 0 results of method 'fds' with seed 0; it must hold"),
        ],
    )
    def test_damaged_rows_are_one_line_before_anything_starts(
        self, tmp_path: Path, name: str, harm: str, message: str
    ) -> None:
        experiment = make_experiment()
        folder = write_folder(tmp_path / "made", experiment)
        with RecordWriter(folder / "confirmations.jsonl") as writer:
            for seed in (0, 1):
                writer.append(Confirmation("fds", seed, [0.1], [0.9], [0.1], [0.9]))
        check_folder(experiment, folder, resume=True)
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        lines[1] = {"noise": b"\x8f\x00\n", "deep": b"[" * 100_000 + b"\n", "emptied": b""}[harm]
        (folder / name).write_bytes(b"" if harm == "emptied" else b"".join(lines))
        with pytest.raises(ValueError, match=r".") as refused:
            check_folder(experiment, folder, resume=True)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_torn_last_line_is_noted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = write_folder(tmp_path / "made", make_experiment())
        with (folder / "runs.jsonl").open("a") as file:
            file.write('{"method": "fd')
        check_folder(make_experiment(), folder, resume=True)
        assert caplog.messages == [f"{folder / 'runs.jsonl'}: its last line is torn and is left out"]

    def test_a_run_with_a_summary_is_finished(self, tmp_path: Path) -> None:
        folder = Folder(write_folder(tmp_path / "made", make_experiment(methods=("rs",), seeds=(0,))))
        assert folder.finished() == {("rs", 0)}


class Crashing(SGDTrainable):
    """Fails in its first step, with an exception of two lines."""

    def step(self) -> dict[str, Any]:
        """Fail."""
        raise ValueError("layer is 3; it must be one of 0, 1\nand more")


@pytest.mark.long
def test_a_comparison_in_which_everything_crashes_says_why_and_exits_with_one(
    ray_session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crashing(*arguments: Any) -> MethodSetup:
        return replace(setup_method(*arguments), trainable=Crashing)

    monkeypatch.setattr(running, "setup_method", crashing)
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)  # the session's own
    folder = tmp_path / "crashed"
    command = ["hyperlearn", "compare", "--methods", "rs", "--seeds", "1", "--time-limit", "1", "--output", str(folder)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    error = "ValueError: layer is 3; it must be one of 0, 1"
    records = read_records(folder / "records.jsonl")
    assert {(record.status, record.error) for record in records} == {("crashed", error)}
    shown = capsys.readouterr()
    assert "takes at least" not in shown.out  # one method alone is not tested
    assert f"hyperlearn: every evaluation crashed, the first with: {error}\n" in shown.err
    counted = f"{len(records)} of {len(records)} evaluation{'s' if len(records) > 1 else ''}"
    assert f"rs seed 0: {counted} crashed: {error}" in shown.out
    page = (folder / "report.html").read_text()
    cells = re.findall(rf"<td[^>]*>{re.escape(error)}</td>", page)
    assert len(cells) == 2  # among the crashes by run and among the failures with their settings
    assert f"Every evaluation of every method crashed, the first with: {error}" in page


def mortal(trainable: Any, marker: Path, steps: int, seconds_to_restart: float = 0.0) -> Any:
    """The trainable, whose worker dies once, after so many steps; made here so that it travels by value."""

    class Mortal(trainable):
        def setup(self, config: dict[str, Any]) -> None:
            if marker.exists():
                time.sleep(seconds_to_restart)
            super().setup(config)

        def step(self) -> dict[str, Any]:
            if self.iteration == steps and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            result: dict[str, Any] = super().step()
            return result

    return Mortal


@pytest.mark.long
def test_the_time_limit_holds_while_a_worker_restarts(
    ray_session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def setup(*arguments: Any) -> MethodSetup:
        made = setup_method(*arguments)
        return replace(made, trainable=mortal(made.trainable, tmp_path / "killed", 1, seconds_to_restart=90))

    monkeypatch.setattr(running, "setup_method", setup)
    experiment = tiny_experiment(methods=["fds"], time_limit=10.0)
    folder = prepare_folder(experiment, tmp_path / "run", resume=False)
    run_experiment(experiment, folder, lambda method, seed: None)
    assert [row.status for row in read_records(folder.records)] == ["completed", "crashed"]
    (run,) = read_runs(folder.runs)
    assert (run.failures, run.finished) == ({"crashed": 1}, "time_limit")
    assert 10 <= run.wall_seconds < 15


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "epochs", "options", "ending"),
    [("fds", 1.0, {"outer_steps": 4}, "outer_steps"), ("arbiter-constant", 4.0, {}, "ended")],
)
def test_a_worker_that_is_killed_is_counted_and_the_method_ends_as_it_would_have(
    ray_session: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    epochs: float,
    options: dict[str, Any],
    ending: str,
) -> None:
    def setup(*arguments: Any) -> MethodSetup:
        made = setup_method(*arguments)
        return replace(made, trainable=mortal(made.trainable, tmp_path / "killed", 2))

    monkeypatch.setattr(running, "setup_method", setup)
    changes = {"methods": [method], "method_options": {method: options}, "epochs": epochs, "time_limit": 300.0}
    experiment = tiny_experiment(**changes)
    folder = prepare_folder(experiment, tmp_path / "run", resume=False)
    run_experiment(experiment, folder, lambda method, seed: None)
    assert (tmp_path / "killed").exists()
    rows = read_records(folder.records)
    assert [row.status for row in rows] == ["completed", "completed", "crashed", "completed", "completed"]
    assert rows[2].error
    (run,) = read_runs(folder.runs)
    assert (run.failures, run.finished, run.redone) == ({"crashed": 1}, ending, 0)


class TestFolders:
    def contents(self, folder: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def test_a_new_folder_is_made_with_its_parents(self, tmp_path: Path) -> None:
        experiment = tiny_experiment()
        check_folder(experiment, tmp_path / "a" / "b", resume=False)
        assert list(tmp_path.iterdir()) == []
        folder = prepare_folder(experiment, tmp_path / "a" / "b", resume=False)
        assert read_experiment(folder.path / "experiment.yaml") == experiment
        assert folder.finished() == set()

    @pytest.mark.parametrize(
        ("changes", "resume", "message"),
        [
            ({"time_limit": 3.0}, False, "holds another experiment"),
            ({"time_limit": 3.0}, True, "holds another experiment"),
            ({}, False, "holds this experiment's records: continue with --resume"),
        ],
    )
    def test_a_folder_with_results_is_left_alone(
        self, tmp_path: Path, changes: dict[str, Any], resume: bool, message: str
    ) -> None:
        experiment = make_experiment()
        folder = write_folder(tmp_path / "made", experiment)
        before = self.contents(folder)
        asked = replace(experiment, **changes)
        with pytest.raises(FolderInUseError, match=message):
            prepare_folder(asked, folder, resume)
        assert self.contents(folder) == before

    def test_the_same_experiment_is_taken_up(self, tmp_path: Path) -> None:
        experiment = make_experiment()
        path = write_folder(tmp_path / "made", experiment)
        before = self.contents(path)
        folder = prepare_folder(experiment, path, resume=True)
        assert len(folder.finished()) == 18
        assert self.contents(path) == before

    def test_another_kind_of_folder_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "cat.jpg").touch()
        with pytest.raises(FolderInUseError, match="neither empty nor an experiment's folder"):
            prepare_folder(tiny_experiment(), tmp_path, resume=False)
        with pytest.raises(FolderInUseError, match="must be a folder"):
            prepare_folder(tiny_experiment(), tmp_path / "cat.jpg", resume=False)


@pytest.mark.long
def test_runs_at_the_same_time_are_whole_and_continue_after_an_interruption(ray_session: str, tmp_path: Path) -> None:
    options = {"fds": {"outer_steps": 3}}
    elsewhere = tmp_path / "elsewhere"
    settings: dict[str, Any] = {"concurrent": 2, "time_limit": 300.0, "storage": elsewhere.as_uri()}
    experiment = tiny_experiment(methods=["fds"], seeds=[1, 2], method_options=options, **settings)
    folder = prepare_folder(experiment, tmp_path / "two", resume=False)
    said: list[str] = []

    def interrupt(method: str, seed: int) -> None:
        if seed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, folder, interrupt)
    notes = tmp_path / "notes"
    notes.mkdir()
    run_experiment(
        experiment,
        folder,
        lambda _, seed: said.append(f"{seed} begins"),
        [Note(notes)],
        lambda *_: said.append("one ends"),
    )
    assert said == ["1 begins", "2 begins", "one ends", "one ends"]
    assert {(run.seed, run.evaluations, run.finished) for run in read_runs(folder.runs)} == {
        (1, 3, "outer_steps"),
        (2, 3, "outer_steps"),
    }
    rows = read_records(folder.records)
    assert sorted(row.seed for row in rows) == [1, 1, 1, 2, 2, 2]
    assert not any((folder.path / "tune").glob("fds-*/"))
    assert not any(elsewhere.iterdir())
    drivers = {note.name: note.read_text() for note in notes.iterdir()}
    assert set(drivers) == {"fds-1", "fds-2"}
    assert len({*drivers.values(), str(os.getpid())}) == 3, "each run has a process of its own"


@pytest.mark.long
def test_a_population_waits_until_the_runs_beside_each_other_have_ended(ray_session: str, tmp_path: Path) -> None:
    options = {"fds": {"outer_steps": 1}, "pbt": {"population": 2, "intervals": 2}}
    experiment = tiny_experiment(methods=["pbt", "fds"], seeds=[1, 2], concurrent=2, method_options=options)
    folder = prepare_folder(experiment, tmp_path / "alone", resume=False)
    said: list[str] = []
    run_experiment(experiment, folder, lambda method, _: said.append(method), (), lambda method, _: said.append(method))
    assert said == ["fds"] * 4 + ["pbt"] * 4
    assert {(run.method, run.seed) for run in read_runs(folder.runs)} == set(product(["fds", "pbt"], [1, 2]))


class Note(Callback):
    """Leaves the number of the process in which it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        (self.folder / trial.storage.experiment_dir_name).write_text(str(os.getpid()))


def test_a_storage_must_be_one_that_can_be_opened_and_is_empty(tmp_path: Path) -> None:
    require_empty_storage(tiny_experiment())
    require_empty_storage(tiny_experiment(storage=str(tmp_path / "new")))
    with pytest.raises(ValueError, match=r"^storage is gone://runs; it must be an address that pyarrow opens, .*\)$"):
        require_empty_storage(tiny_experiment(storage="gone://runs"))
    (tmp_path / "thesis.pdf").touch()
    with pytest.raises(ValueError, match=r"^storage is .*; it must be empty, it holds 'thesis.pdf'$"):
        require_empty_storage(tiny_experiment(storage=str(tmp_path)))


def test_a_callback_that_cannot_be_copied_is_refused_in_one_line(tmp_path: Path) -> None:
    held = Note(tmp_path)
    held.lock = threading.Lock()  # type: ignore[attr-defined]
    runs = side_by_side(tiny_experiment(concurrent=2), [("rs", 1)], Folder(tmp_path), lambda *_: None, [held])
    said = r"^callbacks hold a Note, which cannot be copied .* concurrent must be 1"
    with pytest.raises(ValueError, match=said) as refused:
        next(runs)
    assert "\n" not in str(refused.value)


class TestStartingRay:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
        """What Ray was asked to start."""
        calls: list[dict[str, Any]] = []
        stand_in = SimpleNamespace(
            init=lambda **options: calls.append({**options, "threads": os.environ["OMP_NUM_THREADS"]}),
            cluster_resources=lambda: {"CPU": 4.0, "GPU": 1.0},
            nodes=lambda: [{"Alive": alive, "Resources": {"CPU": cpus}} for alive, cpus in ((True, 4.0), (False, 9.0))],
            shutdown=lambda: calls.append({"shutdown": True}),
        )
        monkeypatch.setitem(sys.modules, "ray", stand_in)
        environment = dict(os.environ)
        yield calls
        os.environ.clear()
        os.environ.update(environment)

    def test_a_local_ray_has_a_core_for_each_worker(self, asked: list[dict[str, Any]]) -> None:
        start_ray(tiny_experiment(workers=100))
        (options,) = asked
        assert options["num_cpus"] == 100
        assert options["address"] == "local"  # never a stranger's cluster on the same machine

    def test_a_trial_has_as_many_threads_as_processors(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        start_ray(tiny_experiment(workers=2, cpus_per_trial=3))
        (options,) = asked
        assert (options["num_cpus"], options["threads"]) == (6, "3")
        assert os.environ["OMP_NUM_THREADS"] == "1"  # a later comparison in this process has its own
        setup = setup_method(tiny_experiment(), "rs", 0)
        trainable = running.resourced(setup, tiny_experiment(cpus_per_trial=3))
        assert trainable.default_resource_request({}).required_resources == {"CPU": 3}

    def test_more_processors_than_there_are_are_refused(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        with pytest.raises(ValueError, match=r"^cpus_per_trial is 9; this machine has 8 processors$"):
            start_ray(tiny_experiment(cpus_per_trial=9))
        assert asked == []
        with pytest.raises(ValueError, match=r"^cpus_per_trial is 5; Ray's largest node has 4 processors$"):
            start_ray(tiny_experiment(cpus_per_trial=5))
        assert asked[-1] == {"shutdown": True}

    def test_runs_at_a_time_need_room_for_all_their_trials(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        with pytest.raises(ValueError, match=r"^concurrent is 3; so many runs need 6 processors, Ray has 4$"):
            start_ray(tiny_experiment(workers=2, concurrent=3))
        assert [call.get("num_cpus") for call in asked] == [6, None]  # the stand-in has fewer than it was asked for

    def test_what_the_environment_says_already_is_kept(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
        start_ray(tiny_experiment())
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"

    def test_more_gpus_than_there_are_are_refused(self, asked: list[dict[str, Any]]) -> None:
        start_ray(tiny_experiment(workers=2, gpus_per_trial=0.5))
        with pytest.raises(ValueError, match=r"gpus_per_trial needs 1\.5 GPUs for 3 workers; Ray has 1"):
            start_ray(tiny_experiment(workers=3, gpus_per_trial=0.5))
        assert asked[-1] == {"shutdown": True}

    def test_a_trial_asks_for_its_part_of_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster, "largest_node", lambda: 8)
        setup = setup_method(tiny_experiment(), "rs", 0)
        for gpus in (0.5, 1.0):
            trainable = running.resourced(setup, tiny_experiment(gpus_per_trial=gpus))
            assert trainable.default_resource_request({}).required_resources == {"CPU": 1, "GPU": gpus}

    def test_an_address_at_which_nothing_listens_is_refused_at_once(self, asked: list[dict[str, Any]]) -> None:
        begun = time.monotonic()
        for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1", "[::1]:1", "a:b:c"):
            with pytest.raises(ValueError, match=r"address is '.*'; it must be auto, HOST:PORT") as refused:
                start_ray(tiny_experiment(address=address))
            assert "\n" not in str(refused.value)
        assert time.monotonic() - begun < 10
        assert asked == []


class Driver:
    """A `hyperlearn compare` in a process of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raytune_hyperlearn.cli", "compare", *map(str, arguments)],
            cwd=ROOT,
            # Tune writes its state whenever it has changed, so that little is lost.
            env={**os.environ, "TUNE_GLOBAL_CHECKPOINT_S": "0.2", "COLUMNS": "60"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not reached():
            if self.process.poll() is not None:
                raise AssertionError(f"the driver ended early: {self.process.communicate()}")
            assert time.monotonic() < deadline, "the driver did not get so far"
            time.sleep(0.02)

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output, errors


@pytest.fixture
def drivers() -> Iterator[Callable[..., Driver]]:
    """Starts drivers; none outlives the test."""
    started: list[Driver] = []

    def start(*arguments: str | Path) -> Driver:
        started.append(Driver(*arguments))
        return started[-1]

    yield start
    for driver in started:
        driver.process.kill()
        driver.process.communicate()


@pytest.mark.long
def test_a_driver_that_is_stopped_and_killed_is_continued_in_a_copy_of_its_folder(
    ray_session: str, tmp_path: Path, drivers: Callable[..., Driver]
) -> None:
    config, original, folder = tmp_path / "settings.yaml", tmp_path / "stopped", tmp_path / "elsewhere" / "copy"
    settings = {"methods": ["fds"], "seeds": [3], "epochs": 1.0, "replicates": 1, "reference": None}
    config.write_text(yaml.safe_dump({**settings, "time_limit": 10.0, "address": ray_session}))

    def rows(where: Path) -> list[Record]:
        return list(read_records(where / "records.jsonl")) if (where / "records.jsonl").exists() else []

    driver = drivers("--config", config, "--output", original)
    driver.wait_until(lambda: len(rows(original)) >= 4 and keeps_a_checkpoint(original / "tune" / "fds-3"))
    status, _, errors = driver.stop(signal.SIGTERM)
    stopped = rows(original)
    assert status == 128 + signal.SIGTERM
    assert errors.splitlines()[-1].endswith(f"continue with: hyperlearn compare --resume {original}")
    assert not (original / ".lock").exists()

    shutil.copytree(original, folder)
    before = contents(original)
    driver = drivers("--resume", folder)
    driver.wait_until(lambda: rows(folder)[-1].info["outer_step"] > stopped[-1].info["outer_step"])
    assert driver.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    killed = rows(folder)

    status, output, errors = drivers("--resume", folder).end()
    ended = rows(folder)
    assert status == 0, errors
    assert "[1/1] fds seed 3" in output
    assert (folder / "report.html").is_file()
    assert contents(original) == before

    # Every step once and in order; what the kept states held is there as it was written.
    assert [(row.trial, row.info["outer_step"]) for row in ended] == [(ended[0].trial, i) for i in range(len(ended))]
    assert ended[0] == stopped[0]
    assert [row.time for row in ended] == sorted(row.time for row in ended)
    assert len(ended) > len(killed) > len(stopped) - 1
    # What was made again has the same numbers.
    for row, again in [*zip(stopped, ended, strict=False), *zip(killed, ended, strict=False)]:
        assert row.hyperparameters == again.hyperparameters
        assert (row.validation_loss, row.info["hypergradient"]) == (again.validation_loss, again.info["hypergradient"])
    (run,) = read_runs(folder / "runs.jsonl")
    assert run.finished == "time_limit"
    assert run.evaluations == len(ended)
    assert run.wall_seconds >= 10


def learned(row: Record) -> tuple[Any, ...]:
    """What an outer step found, whenever it did."""
    return row.hyperparameters, row.validation_loss, row.test_loss


@pytest.mark.long
def test_a_run_whose_disk_was_full_goes_on_when_there_is_space(
    ray_session: str, tmp_path: Path, drivers: Callable[..., Driver]
) -> None:
    config, folder = tmp_path / "settings.yaml", tmp_path / "run"
    settings = {"methods": ["fds"], "seeds": [3], "epochs": 1.0, "replicates": 1, "reference": None, "confirmations": 0}
    options = {"time_limit": 600.0, "address": ray_session, "method_options": {"fds": {"outer_steps": 4}}}
    config.write_text(yaml.safe_dump({**settings, **options}))
    records = folder / "records.jsonl"

    def size() -> int:
        return records.stat().st_size if records.exists() else 0

    driver = drivers("--config", config, "--output", folder)
    driver.wait_until(lambda: size() > 0 and keeps_a_checkpoint(folder / "tune" / "fds-3"))
    # No file of the driver's may grow any more: each write fails as on a full disk, in the process itself.
    resource.prlimit(driver.process.pid, resource.RLIMIT_FSIZE, (size(), resource.RLIM_INFINITY))
    status, _, errors = driver.end()
    full = read_records(records)
    assert status == 1, errors
    said = f"; every record before is kept, continue with: hyperlearn compare --resume {folder}"
    assert any(line.endswith(said) for line in errors.splitlines()), errors
    assert "Traceback" not in errors
    assert not (folder / ".lock").exists()
    assert 1 <= len(full) <= 5

    status, _, errors = drivers("--resume", folder).end()
    assert status == 0, errors
    ended = read_records(records)
    assert [(row.trial, row.info["outer_step"]) for row in ended] == [(full[0].trial, i) for i in range(len(ended))]
    # A row whose state did not fit on the disk any more is made again: the same step, at another time.
    assert [learned(row) for row in ended[: len(full)]] == [learned(row) for row in full]
    (run,) = read_runs(folder / "runs.jsonl")
    assert (run.finished, run.evaluations) == ("outer_steps", len(ended))


@pytest.mark.long
def test_a_searcher_whose_driver_is_killed_records_each_evaluation_once(
    ray_session: str, tmp_path: Path, drivers: Callable[..., Driver]
) -> None:
    config, folder = tmp_path / "settings.yaml", tmp_path / "run"
    settings = {"methods": ["hb"], "seeds": [3], "epochs": 1.0, "min_epochs": 1 / 9, "reference": None}
    config.write_text(yaml.safe_dump({**settings, "confirmations": 0, "time_limit": 6.0, "address": ray_session}))
    records = folder / "records.jsonl"

    def rows() -> tuple[Record, ...]:
        return read_records(records) if records.exists() else ()

    driver = drivers("--config", config, "--output", folder)
    driver.wait_until(lambda: len(rows()) >= 8 and "TERMINATED" in kept_trials(folder / "tune" / "hb-3"))
    assert driver.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    killed = rows()
    status, _, errors = drivers("--resume", folder).end()
    assert status == 0, errors
    ended = rows()
    for keys in ([row.trial for row in ended], [(row.info["config_id"], row.budget) for row in ended]):
        assert len(set(keys)) == len(keys)
    assert len(ended) > len(killed)
    assert ended[0] == killed[0]
    assert [row.time for row in ended] == sorted(row.time for row in ended)
    (run,) = read_runs(folder / "runs.jsonl")
    assert run.evaluations == len(ended)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
