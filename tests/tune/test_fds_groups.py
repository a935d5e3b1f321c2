"""Ensembles and column shards: their parts are the whole, on Ray as in one process, whatever dies meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from raytune_hyperlearn.tune import FDSScheduler, FDSTrainable, fds
from raytune_hyperlearn.tune.fds_members import Member
from tests.tune.groups import CONFIG, SPACE, Astray, Mortal, expected, member


def run(
    tmp_path: Path, scheduler: FDSScheduler, trainable: type[FDSTrainable] = FDSTrainable, **changes: Any
) -> tune.ResultGrid:
    config = {**CONFIG, "member": scheduler.members(), **changes}
    options = {name: config.pop(name) for name in ("num_samples", "max_concurrent_trials") if name in config}
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": config.pop("cpu", 0.5)}),
        param_space=config,
        tune_config=tune.TuneConfig(scheduler=scheduler, **options),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=3),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()


# ------------------------------------------------------------------------------------- members in one process


@pytest.mark.parametrize("shards", [2, 5])
def test_a_sharded_hypergradient_equals_the_unsharded_one(shards: int) -> None:
    whole = member(Member(), differentiation="forward").outer_step()  # as shards do; reverse mode rounds otherwise
    parts = [member(Member(shard=index, shards=shards)).outer_step() for index in range(shards)]
    for name, entries in whole["hypergradient"].items():
        for index, entry in enumerate(entries):
            given = [part["hypergradient"][name][index] for part in parts]
            assert sum(value != 0 for value in given) == 1
            assert sum(given) == pytest.approx(entry, rel=1e-9)
    assert len({part["weights_digest"] for part in parts}) == 1
    assert {part["validation_loss"] for part in parts} == {whole["validation_loss"]}


def test_shards_also_divide_a_coarse_schedule_and_agree_on_a_way() -> None:
    for options in ({"coarse_steps": 2}, {"hessian": {"way": "auto"}}, {"horizons": [1.0], "replay_from": 0}):
        whole = member(Member(), **options).outer_step()
        parts = [member(Member(shard=index, shards=4), **options).outer_step() for index in range(4)]
        for name, entries in whole["hypergradient"].items():
            sums = [sum(part["hypergradient"][name][i] for part in parts) for i in range(len(entries))]
            assert sums == pytest.approx(entries, rel=1e-9)
        assert len({part["validation_loss"] for part in parts}) == 1
        assert parts[0]["validation_loss"] == pytest.approx(whole["validation_loss"], rel=1e-9)


def test_replicas_differ_in_what_they_draw_and_the_first_draws_what_a_trial_alone_draws() -> None:
    alone = FDSTrainable(dict(CONFIG)).step()
    replicas = [member(Member(replica=index, ensemble=3)).outer_step() for index in range(3)]
    assert replicas[0]["hypergradient"] == alone["hypergradient"]
    assert len({replica["validation_loss"] for replica in replicas}) == 3
    assert len({replica["weights_digest"] for replica in replicas}) == 3


def test_too_many_shards_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^shards is 6; the space has 5 learned values$"):
        member(Member(shard=0, shards=6))


def test_a_member_waits_for_the_next_update_and_waiting_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def arrives(mailbox: str, index: int) -> dict[str, Any]:
        asked.append((mailbox, index))
        time.sleep(0.5)
        return {"outer_state": one.outer.to_mapping() | {"index": index}}

    monkeypatch.setattr(fds, "next_update", arrives)
    one = member(Member(ensemble=2), mailbox="box")
    assert one.step()["waiting_seconds"] == 0
    begun = time.perf_counter()
    second = one.step()
    wall = time.perf_counter() - begun
    assert asked == [("box", 1)]
    assert second["outer_step"] == 1
    assert second["waiting_seconds"] >= 0.5
    assert 0 < second["training_seconds"] <= wall - 0.5


def test_a_member_whose_group_has_ended_reports_its_last_result_and_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fds, "next_update", lambda mailbox, index: None)
    one = member(Member(ensemble=2), mailbox="box")
    first = one.step()
    last = one.step()
    assert last["done"]
    assert last["hypergradient"] == first["hypergradient"]


# ------------------------------------------------------------------------------------------------- on Ray


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_group_makes_the_same_outer_steps_although_members_die(tmp_path: Path) -> None:
    dies = {"computing": [1, 0, 1], "waiting": [0, 1, 0]}
    results = run(tmp_path, FDSScheduler(ensemble=2, shards=2), Mortal, marker=str(tmp_path), dies=dies)
    assert results.num_errors == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"computing", "waiting"}
    last = expected(2, 2, 3)[-1]
    by_member = {(m["member"]["replica"], m["member"]["shard"]): m for m in (r.metrics for r in results) if m}
    for result in last:
        found = by_member[result["member"]["replica"], result["member"]["shard"]]
        for key in ("outer_state", "outer_step", "hypergradient", "validation_loss", "weights_digest", "best"):
            assert found[key] == result[key], key
    assert last[0]["outer_state"]["values"]["learning_rate"] != SPACE.initial()["learning_rate"]
    unsharded = expected(2, 1, 3)[-1]
    for name, entries in unsharded[0]["outer_state"]["values"].items():
        assert last[0]["outer_state"]["values"][name] == pytest.approx(entries, rel=1e-9)


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_shards_that_do_not_replay_the_same_training_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="of replica 0 ended outer step 1 at different weights") as stopped:
        run(tmp_path, FDSScheduler(shards=2), Astray)
    assert "all shards need the same hardware and software" in str(stopped.value)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"member": None}, "member is None; the scheduler moves a group of 2"),
        ({"member": {"replica": 0, "ensemble": 3, "shard": 0, "shards": 1}}, "the scheduler moves a group of 2"),
        ({"num_samples": 2}, "is there twice; one run holds one group"),
        ({"cpu": 1.5}, "a group of 2 trials needs 3 CPU at once; the cluster has 2"),
    ],
)
def test_a_group_that_cannot_run_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        run(tmp_path, FDSScheduler(ensemble=2), **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ensemble": 0}, "ensemble is 0; it must be a whole number of at least 1"),
        ({"shards": 1.5}, "shards is 1.5; it must be a whole number of at least 1"),
        ({"averaging": "median"}, "averaging is 'median'; it must be one of mean, sign_majority"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        FDSScheduler(**arguments)
    assert "\n" not in str(refused.value)
