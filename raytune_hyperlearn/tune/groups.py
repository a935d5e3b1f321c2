"""Trials that move together: a group reports for the same round, its results are combined, all take the same update.

Each member of a group is a trial. It reports its round and begins the next step, which first waits for the update of
the next round; the scheduler posts that once all members have reported. The update is in the trials' configs as well,
from which a worker that was started again takes it; what a member has reported is Tune's to keep (its last result).
So neither a dead worker nor a dead driver costs more than the round under way.

Members keep their workers while they wait. (Pausing them would cost a new worker process each in every round: Tune
keeps the worker of a paused trial only if another trial is waiting for one.) A group that does not fit into the
cluster all at once could therefore never finish a round; it is refused.
"""

from __future__ import annotations

import logging
import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytune_hyperlearn.results import unflattened
from raytune_hyperlearn.tune.scheduler import CONTINUE, STOP, HyperLearningScheduler

MEMBER = "member"
"""Config key: which member of its group a trial is."""
MAILBOX = "mailbox"
"""Config key: name of the actor that a member gets its updates from."""

WORD_EVERY = 30.0
"""Seconds of waiting for workers after which a group says so, and again."""
LOGGER = logging.getLogger(__name__)

Update = dict[str, Any]


def next_update(mailbox: str, index: int) -> Update | None:
    """Wait in a worker for the update of round ``index`` or a later one; None when no round will follow."""
    update: Update | None = ray.get(ray.get_actor(mailbox).take.remote(index))
    return update


def start_mailbox(name: str) -> Any:
    """An actor that holds the newest update; it needs no core and lives on the driver's node."""

    class Mailbox:
        """Local, so that it is sent by value and its process imports nothing of this package, torch least of all."""

        def __init__(self) -> None:
            import asyncio

            self.index, self.update = -1, None
            self.closed = False
            self.news = asyncio.Condition()

        async def put(self, index: int, update: Any) -> None:
            async with self.news:
                if index > self.index:
                    self.index, self.update = index, update
                self.news.notify_all()

        async def close(self) -> None:
            async with self.news:
                self.closed = True
                self.news.notify_all()

        async def take(self, index: int) -> Any:
            async with self.news:
                await self.news.wait_for(lambda: self.closed or self.index >= index)
                return self.update if self.index >= index else None

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, max_concurrency=1000)(Mailbox)
    return actor.options(name=name, get_if_exists=True, scheduling_strategy=here).remote()


class GroupScheduler(HyperLearningScheduler):
    """Moves one group of trials from round to round; a group of one is an ordinary trial.

    Subclasses implement what is abstract here, and :meth:`update`, which gets the combined result.

    Args:
        members: What distinguishes the members; each is one trial's config entry ``member``.
    """

    def __init__(self, members: Sequence[Mapping[str, int]]) -> None:
        super().__init__()
        self._expected = [dict(member) for member in members]
        self._name = f"hyperlearn-{uuid.uuid4().hex}"
        self._mailbox: Any = None
        self._ended = False
        self._silent_since = time.monotonic()

    def members(self) -> dict[str, Any]:
        """The config entry ``member``: a grid search over the group, so that Tune makes one trial of each."""
        entry: dict[str, Any] = tune.grid_search([dict(member) for member in self._expected])
        return entry

    @abstractmethod
    def next_round(self, config: Mapping[str, Any]) -> int:
        """The round that a trial with this config computes.

        Args:
            config: A member's config.

        Returns:
            Index from 0.
        """

    @abstractmethod
    def reported_round(self, result: Mapping[str, Any]) -> int | None:
        """The round that a result is of, or None.

        Args:
            result: One member's result.

        Returns:
            Index from 0.
        """

    @abstractmethod
    def held_update(self, config: Mapping[str, Any]) -> Update:
        """The update that this config holds; empty before the first.

        Args:
            config: A member's config.
        """

    @abstractmethod
    def compare(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Raise if results of the same round contradict each other.

        Args:
            results: Of one round, in the order of the members.
        """

    @abstractmethod
    def combine(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """One result from those of all members, in the order of the members.

        Args:
            results: Of one round, one per member.
        """

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self._expected)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Give the trial its mailbox and the newest update; adding it again changes nothing.

        Raises:
            ValueError: If it is no member of the group, or the group does not fit into the cluster.
        """
        group = tune_controller.get_trials()
        self._check_member(trial, group)
        if self.size == 1:
            return
        if self._mailbox is None:
            self._mailbox = start_mailbox(self._name)
        if trial.config.get(MAILBOX) != self._name:
            trial.set_config({**trial.config, MAILBOX: self._name})
        newest = max(group, key=lambda member: self.next_round(member.config))
        # Tune's snapshot of one trial may be older than another's: what the group has decided is in the newest.
        self._move([t for t in group if self.next_round(t.config) < self.next_round(newest.config)], newest.config)
        if any(member.is_finished() for member in group):
            self._close()
        elif len(group) == self.size and all(self._last_round(member) is None for member in group):
            self._check_room(trial)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """As Tune's first in, first out; Tune asks many times per second, so this is where a long wait is noticed."""
        if self.size > 1:
            self._say_what_is_awaited(tune_controller.get_trials())
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Combine the group's results once all members have reported, and move all of them.

        Raises:
            ValueError: If members are missing.
        """
        if self.size == 1:
            decision: str = super().on_trial_result(tune_controller, trial, result)
            return decision
        group = tune_controller.get_trials()
        if len(group) < self.size:
            raise ValueError(
                f"the group has {len(group)} of its {self.size} trials; "
                "its config needs member=scheduler.members() and max_concurrent_trials must leave room for all"
            )
        now = self.next_round(trial.config)
        if self._ended or any(member.is_finished() for member in group):
            return STOP
        reported = unflattened(result)
        if self.reported_round(reported) != now:
            return CONTINUE  # a worker that was started again has repeated a round that is over
        results = self._of_round(now, group, trial, reported)
        self.compare(results)
        if len(results) < self.size:
            return CONTINUE
        update = self.update(trial, self.combine(results))
        if update is None:
            self._end(tune_controller, trial)
            return STOP
        self._move(group, update)
        return CONTINUE

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """End the group: it cannot go on without one of its members.

        Raises:
            RuntimeError: If its last result contradicts another member's.
        """
        super().on_trial_complete(tune_controller, trial, result)
        if self.size > 1:
            group, now = tune_controller.get_trials(), self.next_round(trial.config)
            self._end(tune_controller, trial)
            self.compare(self._of_round(now, group, trial, unflattened(result)))

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """End the group if the trial will not be started again."""
        super().on_trial_error(tune_controller, trial)
        if self.size > 1 and not trial.should_recover():
            self._end(tune_controller, trial)

    def _say_what_is_awaited(self, group: Sequence[Trial]) -> None:
        """Say every ``WORD_EVERY`` seconds which members have no worker, and what the cluster has."""
        without = [trial.trial_id for trial in group if trial.status == Trial.PENDING]
        now = time.monotonic()
        if not without:
            self._silent_since = now
        elif now - self._silent_since >= WORD_EVERY:
            self._silent_since = now
            needs, has = group[0].placement_group_factory.required_resources, ray.cluster_resources()
            there = ", ".join(f"{has.get(name, 0.0):g} {name}" for name in needs)
            each = ", ".join(f"{amount:g} {name}" for name, amount in needs.items())
            LOGGER.warning(
                "the group waits for workers of %d of its %d trials (%s), which need %s each; the cluster has %s",
                *(len(without), self.size, ", ".join(without), each, there),
            )

    def _of_round(
        self, index: int, group: Sequence[Trial], trial: Trial, result: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The results of a round so far, in the order of the members."""
        last = [(t.config[MEMBER], result if t is trial else t.last_result) for t in group]
        last.sort(key=lambda pair: self._expected.index(pair[0]))
        return [found for _, found in last if self.reported_round(found) == index]

    def _last_round(self, trial: Trial) -> int | None:
        return self.reported_round(trial.last_result)

    def _move(self, trials: Sequence[Trial], config: Mapping[str, Any]) -> None:
        """Give trials the update that ``config`` holds, through their configs and through the mailbox."""
        update = self.held_update(config)
        if update:
            for trial in trials:
                trial.set_config({**trial.config, **update})
            ray.get(self._mailbox.put.remote(self.next_round(config), update))

    def _end(self, tune_controller: TuneController, trial: Trial) -> None:
        """Stop the members that wait; those at work are stopped when they report."""
        if self._ended:
            return
        self._ended = True
        self._close()
        for member in tune_controller.get_trials():
            waits = self._last_round(member) == self.next_round(member.config)
            if member is not trial and waits and not member.is_finished():
                tune_controller.stop_trial(member)

    def _close(self) -> None:
        if self._mailbox is not None:
            ray.get(self._mailbox.close.remote())

    def _check_member(self, trial: Trial, group: Sequence[Trial]) -> None:
        given = trial.config.get(MEMBER)
        if self.size == 1 and given is None:
            return
        if given not in self._expected:
            raise ValueError(
                f"member is {given!r}; the scheduler moves a group of {self.size}: "
                "pass member=scheduler.members() in the config"
            )
        if sum(other.config.get(MEMBER) == given for other in group) > 1:
            raise ValueError(f"member {given} is there twice; one run holds one group, so num_samples must be 1")

    def _check_room(self, trial: Trial) -> None:
        """Refuse a group whose first members would wait for ever for the last.

        Raises:
            ValueError: In one line.
        """
        there = ray.cluster_resources()
        for name, amount in trial.placement_group_factory.required_resources.items():
            if amount * self.size > there.get(name, 0.0) + 1e-9:
                raise ValueError(
                    f"a group of {self.size} trials needs {amount * self.size:g} {name} at once; "
                    f"the cluster has {there.get(name, 0.0):g}"
                )

    def __getstate__(self) -> dict[str, Any]:
        """Without the mailbox's handle; a restored scheduler starts another."""
        return {**super().__getstate__(), "_mailbox": None, "_ended": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Clocks of two processes have nothing to do with each other."""
        self.__dict__.update(state)
        self._silent_since = time.monotonic()
