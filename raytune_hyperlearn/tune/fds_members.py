"""The members of a group of FDS trials, and what their results are together.

An ensemble of n replicas differs in initialization and data order, at the same values and on the same split. m column
shards of a replica replay the same training and differentiate every m-th column each, in the order in which the
columns' windows begin. A group has n × m members; member 0 of an ensemble draws what a trial on its own draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.sign_descent import sign
from raytune_hyperlearn.results import VALIDATION_LOSS
from raytune_hyperlearn.tune.groups import MEMBER

Averaging = Literal["mean", "sign_majority"]
AVERAGING: tuple[Averaging, ...] = ("mean", "sign_majority")


@dataclass(frozen=True)
class Member:
    """Place of a trial in its group.

    Attributes:
        replica: Which initialization and data order, in [0, ensemble).
        ensemble: Number n of replicas.
        shard: Which columns, in [0, shards).
        shards: Number m of shards per replica.
    """

    replica: int = 0
    ensemble: int = 1
    shard: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        for name, value, lowest in (("ensemble", self.ensemble, 1), ("shards", self.shards, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {lowest}")
        for name, value, end in (("replica", self.replica, self.ensemble), ("shard", self.shard, self.shards)):
            if value not in range(end):
                raise ValueError(f"{name} of the member is {value!r}; it must be a whole number in [0, {end})")

    @classmethod
    def from_config(cls, entry: Mapping[str, int] | None) -> Member:
        """The member of a config's entry; a group of one where there is none.

        Raises:
            ValueError: In one line, if the entry is not one of ``scheduler.members()``.
        """
        if entry is None:
            return cls()
        if not isinstance(entry, Mapping) or set(entry) != set(cls.__dataclass_fields__):
            raise ValueError(f"member is {entry!r}; it must be one of scheduler.members()")
        return cls(**entry)

    @classmethod
    def group(cls, ensemble: int, shards: int) -> list[dict[str, int]]:
        """The config entries of a whole group.

        Raises:
            ValueError: If a number is not a whole number of at least 1.
        """
        cls(ensemble=ensemble, shards=shards)
        return [asdict(cls(i, ensemble, j, shards)) for i in range(ensemble) for j in range(shards)]

    @property
    def alone(self) -> bool:
        """Whether the group has one member."""
        return self.ensemble * self.shards == 1

    @property
    def columns(self) -> slice:
        """The columns to differentiate."""
        return slice(self.shard, None, self.shards)


def digest(*tensors: Tensor) -> str:
    """A hash of tensors' bytes: equal where they are equal bit for bit."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def check_shards(results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse shards that did not replay the same training.

    Args:
        results: Of one outer step.

    Raises:
        RuntimeError: In one line, if two shards of a replica ended at different weights.
    """
    first: dict[int, tuple[int, str]] = {}
    for result in results:
        replica, shard, weights = *_place(result), result["weights_digest"]
        known, expected = first.setdefault(replica, (shard, weights))
        if weights != expected:
            raise RuntimeError(
                f"shards {known} and {shard} of replica {replica} ended outer step {result['outer_step']} at different "
                f"weights ({expected[:12]} and {weights[:12]}); all shards need the same hardware and software"
            )


def combine(results: Sequence[dict[str, Any]], averaging: Averaging) -> dict[str, Any]:
    """One result of a whole group: the first one's, with the group's hypergradient and validation loss.

    Shards' hypergradients add up: each entry comes from one shard, the others hold 0. Over replicas entries are
    averaged, or so are their signs (``"sign_majority"``; an entry that is not finite has none). The losses are
    means over replicas; a replica that diverged in any shard makes the validation loss infinite.

    Args:
        results: Of all members, for one outer step.
        averaging: How replicas are put together.
    """
    replicas: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        replicas.setdefault(_place(result)[0], []).append(result)
    losses = [max(shard[VALIDATION_LOSS] for shard in shards) for shards in replicas.values()]
    inner = [shards[0].get("inner_validation_loss", math.nan) for shards in replicas.values()]
    means = {VALIDATION_LOSS: sum(losses) / len(losses), "inner_validation_loss": sum(inner) / len(inner)}
    hypergradient = {}
    for name in results[0]["hypergradient"]:
        whole = [_sums([shard["hypergradient"][name] for shard in shards]) for shards in replicas.values()]
        if averaging == "sign_majority":
            whole = [[sign(entry) for entry in entries] for entries in whole]
        hypergradient[name] = [total / len(whole) for total in _sums(whole)]
    return {**results[0], **means, "hypergradient": hypergradient}


def _place(result: Mapping[str, Any]) -> tuple[int, int]:
    """Replica and shard of the member that reported."""
    return result[MEMBER]["replica"], result[MEMBER]["shard"]


def _sums(schedules: Sequence[Sequence[float]]) -> list[float]:
    """Entry by entry; math.fsum would refuse infinities of both signs."""
    return [
        sum(entries, 0.0) if all(map(math.isfinite, entries)) else math.nan for entries in zip(*schedules, strict=True)
    ]
