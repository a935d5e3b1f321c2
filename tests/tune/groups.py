"""Groups of FDS trials: a small double-precision problem, members that die as asked, and what a group should do."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.problems import Problem
from raytune_hyperlearn.tune import FDSTrainable
from raytune_hyperlearn.tune.fds import FDSOptions
from raytune_hyperlearn.tune.fds_members import Member, combine
from raytune_hyperlearn.tune.fds_updates import Measured, outer_update
from tests.tune.small import small_model, small_problem

SPACE = SearchSpace(LearningRate(values=3, init=0.1), Momentum(init=0.2), WeightDecay(init=1e-4))


def precise_model() -> nn.Module:
    """The small network in double precision."""
    return small_model().double()


def precise_problem() -> Problem:
    """The small problem in double precision: sums in another order agree to many digits."""
    return replace(small_problem(), model=precise_model).to("cpu", torch.float64)


CONFIG: dict[str, Any] = {"problem": precise_problem, "space": SPACE, "seed": 5, "epochs": 2, "outer_steps": 3}


def member(member: Member, **config: Any) -> FDSTrainable:
    """A member of a group in this process; its caller makes the updates."""
    return FDSTrainable({**CONFIG, "updated_by": "scheduler", "member": asdict(member), **config})


def expected(ensemble: int, shards: int, steps: int) -> list[list[dict[str, Any]]]:
    """What every member of a group should report in every outer step, computed one after the other."""
    group = [member(Member(**entry)) for entry in Member.group(ensemble, shards)]
    rounds = []
    for _ in range(steps):
        results = [one.outer_step() for one in group]
        rounds.append(results)
        whole = combine(results, "mean")
        state = outer_update(Measured.from_mapping(whole), FDSOptions(outer_steps=steps), SPACE)
        for one in group:
            one.apply_update({"outer_state": state.to_mapping()})
    return rounds


class Mortal(FDSTrainable):
    """Kills its own process once, where its config asks: at the beginning of an outer step, or while it waits."""

    allowed = FDSTrainable.allowed | {"marker", "dies"}

    def outer_step(self) -> dict[str, Any]:
        """An outer step, or death."""
        self._maybe_die("computing")
        return super().outer_step()

    def step(self) -> dict[str, Any]:
        """Wait and compute, or die."""
        if self.outcome is not None:
            self._maybe_die("waiting")
        return super().step()

    def _maybe_die(self, doing: str) -> None:
        marker = Path(self.config["marker"]) / doing
        if self.config["dies"].get(doing) == [self.member.replica, self.member.shard, self.outer.index]:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


class Astray(FDSTrainable):
    """Its second shard trains to other weights, as on other hardware."""

    def outer_step(self) -> dict[str, Any]:
        """An outer step, of another seed in outer step 1."""
        if self.member.shard == 1 and self.outer.index == 1:
            self.settings = replace(self.settings, seed=6)
        return super().outer_step()
