"""Races of FDS against black-box search on one clock: processor seconds of the process that trains.

A *task* says what is searched and how long; every method proposes values and how much of the full training they get,
and is told what came of it. All runs of a task take turns in one process, the one with the fewest seconds next, so
that whatever slows the machine slows all methods alike. Each evaluation is a line of the run's file, and the method's
state lies beside it: a race that was stopped goes on after the last evaluation.

On the clock: proposing, training, differentiating and scoring on the validation examples. Off it: scoring on the test
examples, which only happens when a network is the best so far, and writing files.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from raytune_hyperlearn.algorithms.sign_descent import OuterState
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.baselines.ask_tell import AskTellOptimizer
from raytune_hyperlearn.comparison.json_lines import LineWriter, read_lines, replace_lines
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.hyperparameters import Space
from raytune_hyperlearn.problems import Purpose, derived_seed

FDS, BLACK_BOX = "fds", ("rs", "hb", "bohb")
ETA = 3.0
Scores = dict[str, float]
"""Name → number; what a task says about a network beyond its validation loss."""


@dataclass(frozen=True)
class Trained:
    """A network that was trained for somebody.

    Attributes:
        validation_loss: Of the trained network; not finite where training diverged.
        scores: Scores it on examples that nothing is chosen by.
        hypergradient: One entry per learned value where it was asked for, else empty.
        moved: The values at the end, where training itself moved them; else empty.
    """

    validation_loss: float
    scores: Callable[[], Scores]
    hypergradient: Numbers = field(default_factory=dict)
    moved: Numbers = field(default_factory=dict)


class Task(Protocol):
    """What is raced on."""

    @property
    def space(self) -> Space:
        """What all methods search."""

    def train(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """Train with the values.

        Args:
            values: Schedules.
            share: Of the full training's steps, in (0, 1].
            split: Seed of the training and validation examples, the same within a run.
            seed: Of the initialization and data order.
        """

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """Train likewise, and take the hypergradient."""


@dataclass(frozen=True)
class Proposal:
    """What a method wants to know.

    Attributes:
        values: Schedules.
        share: Of the full training, in (0, 1].
        differentiated: Whether it wants the hypergradient as well.
        model_based: Whether a model of earlier evaluations chose the values.
    """

    values: Numbers
    share: float
    differentiated: bool
    model_based: bool


class Method(Protocol):
    """Proposes and is told; it can be pickled between the two."""

    def ask(self) -> Proposal:
        """What to try next."""

    def tell(self, trained: Trained) -> None:
        """What came of it."""


OuterRule = Callable[[OuterState, Numbers, float, bool, float], OuterState]
"""The outer state after one step from: the state before, the hypergradient, the validation loss, whether that may be
held against others, and the factor on the move."""


class HypergradientSearch:
    """FDS: from the space's start, by an outer rule.

    Args:
        space: What to learn.
        rule: Makes an outer step.
        shares: Of the full training in each outer step; the last serves all later ones. Losses of shorter trainings
            are not compared.
    """

    def __init__(self, space: Space, rule: OuterRule, shares: Sequence[float]) -> None:
        self.state = OuterState.start(space.initial(), space.step_sizes())
        self.rule, self.shares = rule, tuple(shares)

    def ask(self) -> Proposal:
        """The outer state's values."""
        return Proposal(dict(self.state.values), self._share, differentiated=True, model_based=False)

    def tell(self, trained: Trained) -> None:
        """One outer step."""
        comparable = self._share == max(self.shares)
        scale = self.shares[0] / self._share_of(self.state.index + 1)
        self.state = self.rule(self.state, trained.hypergradient, trained.validation_loss, comparable, scale)

    @property
    def _share(self) -> float:
        return self._share_of(self.state.index)

    def _share_of(self, outer_step: int) -> float:
        return self.shares[min(outer_step, len(self.shares) - 1)]


class BlackBoxSearch:
    """An optimizer of HpBandSter.

    Args:
        optimizer: "RandomSearch", "HyperBand" or "BOHB".
        space: What to search.
        smallest: Share of the full training on the lowest rung.
        seed: Of all its draws.
    """

    def __init__(self, optimizer: str, space: Space, smallest: float, seed: int) -> None:
        self.space = space
        self._optimizer = AskTellOptimizer(
            optimizer,
            space.configuration_space(),
            min_budget=smallest,
            max_budget=1.0,
            eta=ETA,
            seed=seed,
            iterations=None,
        )
        self._asked: Any = None  # HpBandSter's identity of a configuration

    def ask(self) -> Proposal:
        """HpBandSter's next evaluation; there always is one, as none runs meanwhile."""
        evaluation = self._optimizer.ask()
        assert evaluation is not None
        self._asked = evaluation.config_id
        values = self.space.from_flat(evaluation.hyperparameters)
        return Proposal(values, evaluation.budget, differentiated=False, model_based=bool(evaluation.model_based_pick))

    def tell(self, trained: Trained) -> None:
        """Its loss."""
        assert self._asked is not None
        self._optimizer.tell(self._asked, trained.validation_loss)


OPTIMISERS: Mapping[str, str] = {"rs": "RandomSearch", "hb": "HyperBand", "bohb": "BOHB"}


def black_box(method: str, space: Space, smallest: float, seed: int) -> BlackBoxSearch:
    """Random search at the full length, or Hyperband or BOHB from the smallest share."""
    return BlackBoxSearch(OPTIMISERS[method], space, 1.0 if method == "rs" else smallest, seed)


@dataclass(frozen=True)
class Row:
    """One evaluation.

    Attributes:
        index: Of the evaluation within its run.
        seconds: On the clock when it was over.
        searching: Of these seconds, the method's own since its beginning.
        share: Of the full training.
        model_based: Whether a model chose the values.
        validation_loss: None where training diverged.
        values: Schedules, where the network is the best so far; else empty.
        scores: Likewise.
    """

    index: int
    seconds: float
    searching: float
    share: float
    model_based: bool
    validation_loss: float | None
    values: Numbers = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)


class Run:
    """One method with one seed; takes up what its file holds.

    Args:
        task: What is raced on.
        begin: Makes the method where the file is new.
        seed: Of the run.
        file: Of lines; the state lies beside it.
    """

    def __init__(self, task: Task, begin: Callable[[], Method], seed: int, file: Path) -> None:
        self.task, self.seed, self.file = task, seed, file
        self.method, self.rows = self._held() or (begin(), [])
        replace_lines(self.file, map(asdict, self.rows))  # without an evaluation whose state was not written any more

    @property
    def seconds(self) -> float:
        """On the clock so far."""
        return self.rows[-1].seconds if self.rows else 0.0

    def advance(self) -> None:
        """One evaluation more."""
        begun = time.process_time()
        proposal = self.method.ask()
        asked = time.process_time()
        trained = self._evaluated(proposal)
        evaluated = time.process_time()
        self.method.tell(trained)
        told = time.process_time()
        before = self.rows[-1].searching if self.rows else 0.0
        self._keep(proposal, trained, self.seconds + told - begun, before + (asked - begun) + (told - evaluated))

    def _evaluated(self, proposal: Proposal) -> Trained:
        evaluate = self.task.differentiate if proposal.differentiated else self.task.train
        return evaluate(
            proposal.values, proposal.share, self.seed, derived_seed(self.seed, Purpose.EVALUATION, len(self.rows))
        )

    def _keep(self, proposal: Proposal, trained: Trained, seconds: float, searching: float) -> None:
        loss = trained.validation_loss if math.isfinite(trained.validation_loss) else None
        is_best = loss is not None and loss < best_loss(self.rows)
        row = Row(
            len(self.rows),
            seconds,
            searching,
            proposal.share,
            proposal.model_based,
            loss,
            (trained.moved or proposal.values) if is_best else {},
            trained.scores() if is_best else {},
        )
        self.rows.append(row)
        with LineWriter(self.file) as lines:
            lines.append_row(asdict(row))
        self._keep_state()

    def _keep_state(self) -> None:
        unfinished = self._state_file.with_suffix(".unfinished")
        unfinished.write_bytes(pickle.dumps((len(self.rows), self.method)))
        unfinished.replace(self._state_file)

    def _held(self) -> tuple[Method, list[Row]] | None:
        """The method and the rows that it has been told; None where nothing is held."""
        if not self._state_file.exists():
            return None
        count, method = pickle.loads(self._state_file.read_bytes())
        return method, read_rows(self.file)[:count]

    @property
    def _state_file(self) -> Path:
        return self.file.with_suffix(".pickle")


def read_rows(file: Path) -> list[Row]:
    """A run's evaluations in order."""
    return [Row(**row) for _, row in read_lines(file)]


def best_loss(rows: Sequence[Row]) -> float:
    """The lowest validation loss; infinite without any."""
    return min((row.validation_loss for row in rows if row.validation_loss is not None), default=math.inf)


def incumbent(rows: Sequence[Row]) -> Row:
    """The last row that was the best so far.

    Raises:
        ValueError: If every training diverged.
    """
    best = [row for row in rows if row.values]
    if not best:
        raise ValueError(f"rows are {len(rows)}; at least one must have a finite validation loss")
    return best[-1]


def race(runs: Mapping[str, Run], limits: Mapping[str, float], bar: Bar, name: str) -> None:
    """Let all runs take turns, the one with the smallest part of its seconds next, until each has had all of them.

    Args:
        runs: By name.
        limits: Seconds on the clock by the run's name; the evaluation during which they end is finished.
        bar: Shows progress.
        name: What the bar counts.
    """
    task = bar.add_task(name, total=sum(limits.values()))
    while waiting := [run for run in runs if runs[run].seconds < limits[run]]:
        bar.update(task, completed=sum(min(runs[run].seconds, limits[run]) for run in runs))
        runs[min(waiting, key=lambda run: runs[run].seconds / limits[run])].advance()
    bar.update(task, completed=sum(limits.values()))


def confirm(task: Task, chosen: Row, split: int, seeds: Sequence[int], file: Path) -> list[dict[str, Any]]:
    """Validation loss and scores of the chosen values, trained again with every seed; kept in the file."""
    with LineWriter(file) as lines:
        kept: list[dict[str, Any]] = [entry for _, entry in read_lines(file) if entry["index"] == chosen.index]
        for seed in seeds[len(kept) :]:
            trained = task.train(chosen.values, chosen.share, split, seed)
            loss = trained.validation_loss if math.isfinite(trained.validation_loss) else None
            entry = {"index": chosen.index, "seed": seed, "validation_loss": loss, "scores": trained.scores()}
            lines.append_row(entry)
            kept.append(entry)
    return kept
