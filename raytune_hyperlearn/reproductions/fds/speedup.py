"""What hypergradients are worth whose cost does not grow with their number: FDS against black-box search on one clock.

Three problems of growing dimension: schedules of nine values for LeNet, a schedule of learning rates for each layer
of a network with BatchNorm, and a weight for every training example. FDS takes its hypergradients by reverse mode.
Random search, Hyperband and BOHB (HpBandSter's) search the same space for the same validation loss on the same
training, with the same shorter trainings to begin with. The clock is processor seconds of one core, measured in the
process that trains; all runs take turns.

Every network counts, however long it was trained. What each run chose is trained again with fresh seeds, off the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from raytune_hyperlearn.algorithms.adam_descent import adam_step
from raytune_hyperlearn.algorithms.sign_descent import OuterState, outer_step
from raytune_hyperlearn.algorithms.values import Numbers, Ranges
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.hyperparameters import LearningRate, Space
from raytune_hyperlearn.problems import Purpose, derived_seed, load
from raytune_hyperlearn.problems.models import MLP
from raytune_hyperlearn.reproductions.fds.cleaning_peers import BettyCleaning, BettySearch, BOATCleaning, installed
from raytune_hyperlearn.reproductions.fds.hyper_cleaning import HyperCleaning
from raytune_hyperlearn.reproductions.fds.races import (
    BLACK_BOX,
    FDS,
    HypergradientSearch,
    Method,
    OuterRule,
    Row,
    Run,
    Task,
    black_box,
    confirm,
    incumbent,
    race,
    read_rows,
)
from raytune_hyperlearn.reproductions.fds.sgd_tasks import SGDTask
from raytune_hyperlearn.reproductions.fds.speedup_results import (
    Raced,
    draw_races,
    final_table,
    level_table,
    race_panels,
    verdicts,
)
from raytune_hyperlearn.reproductions.parts import cifar_images
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale

METHODS = (FDS, *BLACK_BOX)
SMALLEST = 1 / 9
"""Share of the full training on the lowest rung, and in FDS's first outer steps."""
LADDER = (SMALLEST, SMALLEST, 1 / 3, 1.0)
TOLERANCE = 1.4
PEERS: Mapping[str, type[HyperCleaning]] = {"boat": BOATCleaning, "betty": BettyCleaning}


@dataclass(frozen=True)
class Contest:
    """One problem that all methods are raced on.

    Attributes:
        name: Of its folder.
        title: What is trained.
        task: Makes it; data that are missing are an error.
        fds_seconds: On the clock of FDS and of the peers.
        black_box_seconds: On every black-box method's.
        seeds: Runs per method.
        rule: FDS's outer rule.
        confirmations: Fresh seeds that every choice is trained again with.
        peers: Other libraries that are raced beside where they are installed, each with its task.
    """

    name: str
    title: str
    task: Callable[[], Task]
    fds_seconds: float
    black_box_seconds: float
    seeds: int = 3
    rule: Literal["sign", "adam"] = "sign"
    confirmations: int = 3
    peers: Mapping[str, Callable[[], Task]] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """FDS, the black-box methods, and the peers that can be imported here."""
        return (*METHODS, *(peer for peer in self.peers if peer in installed()))


def _digits_task(values: int, groups: Literal["layers"] | None = None) -> Task:
    return SGDTask(load("digits"), 3, LearningRate(values, groups=groups))


def _digits_cleaning(kind: type[HyperCleaning] = HyperCleaning) -> Task:
    known = load("digits")
    return kind(partial(MLP, 64, ()), 400, 30, 0.3, known=known.train, test=known.test)


def _fashion_mnist() -> Task:
    return SGDTask(load("fashion-mnist"), 1, LearningRate(7))


def _mnist_images() -> Task:
    return SGDTask(load("mnist-5k"), 3, LearningRate(7))


def _cifar_in_layers(epochs: float) -> Task:
    return SGDTask(cifar_images(), epochs, LearningRate(8, groups="layers"))


def _cleaning(hidden: tuple[int, ...], steps: int, kind: type[HyperCleaning] = HyperCleaning) -> Task:
    return kind(partial(MLP, 784, hidden), 5_000, steps, 0.05)


def cleaning_contest(
    name: str, title: str, task: Callable[..., Task], fds_seconds: float, others: float, **settings: Any
) -> Contest:
    """Hyper-cleaning, with the other libraries beside."""
    peers = {peer: partial(task, kind=kind) for peer, kind in PEERS.items()}
    return Contest(name, title, task, fds_seconds, others, rule="adam", peers=peers, **settings)


SETTINGS: Mapping[Scale, tuple[Contest, ...]] = {
    "smoke": (
        Contest("schedules", "digits", partial(_digits_task, 3), 3, 3, seeds=1, confirmations=1),
        Contest("layers", "digits, by layer", partial(_digits_task, 4, "layers"), 3, 3, seeds=1, confirmations=1),
        cleaning_contest("cleaning", "hyper-cleaning, digits", _digits_cleaning, 2, 3, seeds=1, confirmations=1),
    ),
    "small": (
        Contest("fashion-mnist", "Fashion-MNIST, LeNet", _fashion_mnist, 115, 45),
        Contest("cifar10", "CIFAR-10, rates by layer", partial(_cifar_in_layers, 1), 20, 15),
        cleaning_contest("cleaning", "hyper-cleaning, linear", partial(_cleaning, (), 200), 30, 45),
    ),
    "medium": (
        Contest("mnist", "MNIST, 4,000 images, LeNet", _mnist_images, 15, 210),
        Contest("cifar10", "CIFAR-10, rates by layer", partial(_cifar_in_layers, 1), 20, 460),
        cleaning_contest("cleaning", "hyper-cleaning, linear", partial(_cleaning, (), 500), 60, 80),
    ),
    "paper": (
        Contest("fashion-mnist", "Fashion-MNIST, LeNet", _fashion_mnist, 300, 1_500),
        Contest("cifar10", "CIFAR-10, rates by layer", partial(_cifar_in_layers, 3), 600, 3_000),
        cleaning_contest("cleaning", "hyper-cleaning, linear", partial(_cleaning, (), 500), 600, 1_500),
        cleaning_contest("cleaning-mlp", "hyper-cleaning, 784-300-10", partial(_cleaning, (300,), 500), 3_600, 7_200),
    ),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Races on every problem what the folder does not hold yet, trains the choices again, judges, draws."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        contests = SETTINGS[scale]
        tasks = {contest.name: contest.task() for contest in contests}
        with Bar(console) as bar:
            race_all(contests, tasks, output, bar)
            return findings([raced(contest, tasks[contest.name], output / contest.name, bar) for contest in contests])
    finally:
        torch.set_num_threads(threads)


def race_all(contests: tuple[Contest, ...], tasks: Mapping[str, Task], output: Path, bar: Bar) -> None:
    """Everybody's turns, on all problems."""
    runs, limits = {}, {}
    for contest in contests:
        folder = output / contest.name
        folder.mkdir(parents=True, exist_ok=True)
        for method in contest.methods:
            task = contest.peers[method]() if method in contest.peers else tasks[contest.name]
            for seed in range(contest.seeds):
                name = f"{method}-{seed}"
                begin = partial(begun, contest.rule, method, task.space, seed)
                runs[f"{contest.name}/{name}"] = Run(task, begin, seed, folder / f"{name}.jsonl")
                seconds = contest.black_box_seconds if method in BLACK_BOX else contest.fds_seconds
                limits[f"{contest.name}/{name}"] = seconds
    race(runs, limits, bar, "processor seconds")


def begun(rule: Literal["sign", "adam"], method: str, space: Space, seed: int) -> Method:
    """A method before its first evaluation."""
    if method in BLACK_BOX:
        return black_box(method, space, SMALLEST, seed)
    if method == "betty":
        return BettySearch(space.initial())
    return HypergradientSearch(space, outer_rule(rule, space), LADDER)


def outer_rule(rule: Literal["sign", "adam"], space: Space) -> OuterRule:
    """FDS's outer rule within the space's ranges; it can be pickled."""
    return partial({"sign": sign_rule, "adam": adam_rule}[rule], space.ranges(), TOLERANCE)


def sign_rule(
    ranges: Ranges,
    tolerance: float,
    state: OuterState,
    hypergradient: Numbers,
    loss: float,
    comparable: bool,
    scale: float,
) -> OuterState:
    """The paper's outer step, which is made again where the loss jumps above ``tolerance`` times the best."""
    return outer_step(state, hypergradient, loss, ranges, tolerance=tolerance, comparable=comparable, scale=scale)


def adam_rule(
    ranges: Ranges,
    tolerance: float,
    state: OuterState,
    hypergradient: Numbers,
    loss: float,
    comparable: bool,
    scale: float,
) -> OuterState:
    """Adam's, likewise; its moments shorten the moves by themselves."""
    del scale
    return adam_step(state, hypergradient, loss, ranges, tolerance, comparable)


def raced(contest: Contest, task: Task, folder: Path, bar: Bar) -> Raced:
    """A contest's evaluations, and its choices trained again with seeds that no run used, the same for all methods."""
    rows = read_contest(contest, folder)
    confirmed: dict[str, dict[int, list[dict[str, Any]]]] = {method: {} for method in rows}
    choices = [(method, seed) for method, runs in rows.items() for seed in runs]
    for method, seed in bar.track(choices, description=f"{contest.name}, choices trained again"):
        confirmed[method][seed] = trained_again(contest, task, method, seed, folder)
    return Raced(contest.name, contest.title, task.space.dimensions, rows, confirmed)


def trained_again(contest: Contest, task: Task, method: str, seed: int, folder: Path) -> list[dict[str, Any]]:
    """What a run chose, trained with fresh seeds."""
    chosen = incumbent(read_rows(folder / f"{method}-{seed}.jsonl"))
    seeds = [derived_seed(seed, Purpose.RETRAINING, index) for index in range(contest.confirmations)]
    return confirm(task, chosen, seed, seeds, folder / f"{method}-{seed}-again.jsonl")


def read_contest(contest: Contest, folder: Path) -> dict[str, dict[int, list[Row]]]:
    """All evaluations of a contest."""
    return {
        method: {seed: read_rows(folder / f"{method}-{seed}.jsonl") for seed in range(contest.seeds)}
        for method in contest.methods
    }


def findings(contests: list[Raced]) -> Findings:
    """Verdicts, figure and tables."""
    return Findings(
        settings={
            "shares of the full training": LADDER,
            "tolerance": TOLERANCE,
            **{contest.title: {"K": contest.dimensions, "methods": list(contest.rows)} for contest in contests},
        },
        verdicts=tuple(verdict for contest in contests for verdict in verdicts(contest)),
        figures=(
            Drawn(
                "races",
                "Validation loss against processor seconds",
                draw_races(race_panels(contests)),
                "The lowest validation loss so far of every run; a thin line is a seed. The clock is processor seconds "
                "of one core.",
            ),
        ),
        tables=(level_table(contests, "rival"), level_table(contests, "beyond"), final_table(contests)),
        numbers={
            contest.name: {
                method: {
                    str(seed): [(row.seconds, row.validation_loss, row.scores) for row in run]
                    for seed, run in runs.items()
                }
                for method, runs in contest.rows.items()
            }
            for contest in contests
        },
    )
