"""Members of a group of FDS trials and their combined results."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from raytune_hyperlearn.tune.fds_members import Member, check_shards, combine, digest

INF, NAN = math.inf, math.nan


def result(replica: int, shard: int, entries: list[float], loss: float = 1.0, weights: str = "a") -> dict[str, Any]:
    return {
        "member": {"replica": replica, "shard": shard},
        "hypergradient": {"learning_rate": entries},
        "validation_loss": loss,
        "weights_digest": weights,
        "outer_step": 3,
        "epochs": 2,
    }


def combined(*results: dict[str, Any], averaging: Any = "mean") -> tuple[list[float], float]:
    found = combine(results, averaging)
    return found["hypergradient"]["learning_rate"], found["validation_loss"]


def test_shards_add_up() -> None:
    assert combined(result(0, 0, [1.5, 0.0]), result(0, 1, [0.0, -2.0])) == ([1.5, -2.0], 1.0)


def test_replicas_are_averaged() -> None:
    entries, loss = combined(result(0, 0, [3.0, -1.0], loss=0.5), result(1, 0, [1.0, -2.0], loss=1.0))
    assert (entries, loss) == ([2.0, -1.5], 0.75)


def test_replicas_of_shards_are_averaged_after_shards_have_been_added() -> None:
    shards = [result(0, 0, [4.0, 0.0]), result(0, 1, [0.0, 1.0]), result(1, 0, [2.0, 0.0]), result(1, 1, [0.0, -3.0])]
    assert combined(*shards)[0] == [3.0, -1.0]


def test_a_majority_of_signs_outvotes_a_large_entry() -> None:
    replicas = [result(0, 0, [100.0]), result(1, 0, [-1.0]), result(2, 0, [-2.0])]
    assert combined(*replicas)[0][0] > 0
    assert combined(*replicas, averaging="sign_majority")[0] == [pytest.approx(-1 / 3)]


def test_a_member_that_diverged_makes_the_loss_infinite() -> None:
    entries, loss = combined(result(0, 0, [NAN], loss=INF), result(1, 0, [1.0], loss=0.5))
    assert math.isnan(entries[0])
    assert loss == INF
    assert combined(result(0, 0, [1.0, 0.0], loss=0.5), result(0, 1, [0.0, INF], loss=INF))[1] == INF
    majority = combined(result(0, 0, [NAN]), result(1, 0, [2.0]), averaging="sign_majority")
    assert majority[0] == [0.5]


def test_shards_at_different_weights_are_refused_and_replicas_are_not() -> None:
    check_shards([result(0, 0, [], weights="a"), result(1, 0, [], weights="b")])
    check_shards([result(0, 0, []), result(0, 1, [])])
    with pytest.raises(RuntimeError, match="shards 0 and 1 of replica 2 ended outer step 3 at different weights"):
        check_shards([result(1, 0, [], weights="b"), result(2, 0, []), result(2, 1, [], weights="b")])


def test_a_digest_tells_one_bit() -> None:
    weights, statistics = torch.arange(3.0), torch.zeros(0)
    other = weights.clone()
    other[1] = torch.nextafter(other[1], other[2])
    assert digest(weights, statistics) == digest(weights.clone(), statistics)
    assert digest(weights, statistics) != digest(other, statistics)
    assert digest(weights.bfloat16()) != digest(other.bfloat16() + 1)


def test_a_group_has_every_member_once() -> None:
    group = Member.group(ensemble=2, shards=3)
    assert len(group) == 6
    assert {(entry["replica"], entry["shard"]) for entry in group} == {(i, j) for i in range(2) for j in range(3)}
    assert Member.from_config(None).alone
    assert not Member.from_config(group[0]).alone
