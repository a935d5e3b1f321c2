"""What [BA] figures 1 to 3 and table 1 share: six batch-size rules, each with momentum and without.

BA, Mini-32, 64, 128, 256 and Manual (32, doubled at each quarter of the training), all at one learning rate, each with
the same seeds. What is claimed of them is judged in ``twelve_verdicts``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.algorithms.ruled_sgd import BatchSizeRule
from raytune_hyperlearn.baselines.batch_sizes import Constant, Manual
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, MethodStyle
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import seconds
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import (
    Seeds,
    Training,
    Trajectories,
    Trajectory,
    train_all,
)
from raytune_hyperlearn.reproductions.batch_adaptive.trajectory_figures import (
    band_note,
    draw_over_seeds,
    draw_sizes,
    loss_panel,
    size_panels,
)
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import percent, seeds_text, spread_text
from raytune_hyperlearn.reproductions.parts import part_of
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Verdict

RULES = ("BA", "Mini-32", "Mini-64", "Mini-128", "Mini-256", "Manual")
GROUPS = ("Momentum", "SGD")
M0 = 32


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        train: Examples, 0 for all; a part of them is kept for validation.
        test: Examples, 0 for all.
        epochs: Of instances, for every method.
        seeds: Each of split, initialization, data order and dropout; methods share them.
        learning_rate: η.
        momentum: ρ of the six methods that have one.
        max_batch_size: B_max of BA; the paper bounds it by the training set alone.
    """

    train: int
    test: int
    epochs: int
    seeds: tuple[int, ...]
    learning_rate: float = 0.02
    momentum: float = 0.9
    max_batch_size: int = 512


def trainings(settings: Settings) -> list[Training]:
    """All twelve."""
    made = []
    for group in GROUPS:
        style = METHOD_STYLES["ba-momentum" if group == "Momentum" else "ba-sgd"]
        rules: list[tuple[str, MethodStyle, Callable[[], BatchSizeRule]]] = [
            ("BA", style, partial(GaussianWalkRule, M0)),
            *((f"Mini-{k}", METHOD_STYLES[f"mini-{k}"], partial(Constant, k)) for k in (32, 64, 128, 256)),
            ("Manual", METHOD_STYLES["manual"], partial(Manual, M0, settings.epochs / 4, 256)),
        ]
        made += [
            Training(
                name=f"{name}-{group}",
                style=replace(drawn, label=f"{name}-{group}", short=name),
                rule=rule,
                learning_rate=settings.learning_rate,
                momentum=settings.momentum if group == "Momentum" else 0.0,
                max_batch_size=settings.max_batch_size,
            )
            for name, drawn, rule in rules
        ]
    return made


def train(
    problem: str, settings: Settings, output: Path, console: Console, names: Collection[str] | None = None
) -> dict[str, Seeds]:
    """All twelve, or those of these names, with every seed, on a part of the problem of that name."""
    part = partial(part_of, problem, settings.train, settings.test)
    chosen = [training for training in trainings(settings) if names is None or training.name in names]
    return train_all(part, chosen, settings.epochs, settings.seeds, output, console)


def by_method(momentum: Sequence[float], plain: Sequence[float]) -> dict[str, float]:
    """Numbers in the order of :data:`RULES`, with momentum and without, by the methods' names."""
    numbers = {"Momentum": momentum, "SGD": plain}
    return {f"{rule}-{group}": value for group in GROUPS for rule, value in zip(RULES, numbers[group], strict=True)}


def group_of(trajectories: Trajectories, group: str) -> dict[str, Seeds]:
    """The six with momentum, or those without."""
    return {name: trajectories[name] for name in (f"{rule}-{group}" for rule in RULES)}


def twelve_findings(
    problem: str,
    settings: Settings,
    trajectories: Trajectories,
    verdicts: tuple[Verdict, ...],
    paper_accuracies: Mapping[str, float],
) -> Findings:
    """The verdicts with figures, table and numbers."""
    return Findings(
        settings={"problem": problem, **asdict(settings)},
        verdicts=verdicts,
        figures=figures(trajectories),
        tables=(table(trajectories, paper_accuracies),),
        numbers=numbers(trajectories),
    )


def figures(trajectories: Trajectories) -> tuple[Drawn, ...]:
    """Loss by epoch and by second for both groups, and BA's batch sizes."""
    titles = {"Momentum": "With momentum", "SGD": "Without momentum"}
    groups = {title: list(group_of(trajectories, group).values()) for group, title in titles.items()}
    return (
        Drawn(
            "loss-by-epoch",
            "Training loss by epoch",
            draw_over_seeds([loss_panel(title, own, "epochs") for title, own in groups.items()]),
            f"Loss on the whole training part after each epoch of instances scanned, without dropout. "
            f"{band_note(len(trajectories['BA-SGD']))}",
        ),
        Drawn(
            "loss-by-second",
            "Training loss by second",
            draw_over_seeds([loss_panel(title, own, "seconds") for title, own in groups.items()]),
            "The same against the seconds (medians over seeds) that each training took on its own core or share of a "
            "GPU, test scoring left out. The paper does not show this.",
        ),
        Drawn(
            "batch-sizes",
            "Batch size of every update",
            draw_sizes(size_panels([trajectories["BA-Momentum"], trajectories["BA-SGD"]])),
            "What batch adaptive training chose, one line per seed; where there are many updates, the band spans the "
            "least and the largest of neighboring ones and the line is their mean. The paper's figure 3.",
        ),
    )


def table(trajectories: Trajectories, paper: Mapping[str, float]) -> Table:
    """One row per method, with the paper's best test accuracy (fraction) beside."""
    columns = (
        "method",
        "final training loss",
        "best test accuracy",
        "test accuracy chosen by validation",
        "paper: best test accuracy",
        "training",
        "mean batch size",
        "largest",
        "updates",
    )
    rows = tuple(
        _row(name, trajectories[name], paper[name]) for group in GROUPS for name in group_of(trajectories, group)
    )
    note = (
        f"{seeds_text(len(trajectories['BA-SGD']))} Methods with the same seed start from the same network and split."
    )
    return Table("The twelve methods", columns, rows, note)


def _row(name: str, trajectories: Seeds, paper: float) -> tuple[str, ...]:
    return (
        name,
        spread_text([trajectory.final_loss for trajectory in trajectories]),
        spread_text([best_accuracy(trajectory) for trajectory in trajectories], percent),
        spread_text([chosen_accuracy(trajectory) for trajectory in trajectories], percent),
        f"{100 * paper:.2f} %",
        spread_text([float(trajectory.seconds[-1]) for trajectory in trajectories], seconds),
        spread_text([float(trajectory.sizes.mean()) for trajectory in trajectories], "{:.1f}".format),
        spread_text([float(trajectory.sizes.max()) for trajectory in trajectories], "{:.0f}".format),
        spread_text([len(trajectory.sizes) for trajectory in trajectories], "{:,.0f}".format),
    )


def best_accuracy(trajectory: Trajectory) -> float:
    """Of its best epoch, which the test accuracy itself chooses, as in the paper's table 1."""
    return float(trajectory.scores["test_accuracy"].max())


def chosen_accuracy(trajectory: Trajectory) -> float:
    """Test accuracy of the epoch with the least validation loss."""
    return float(trajectory.scores["test_accuracy"][trajectory.scores["validation_loss"].argmin()])


def numbers(trajectories: Trajectories) -> dict[str, object]:
    """Every trajectory as plain data, by method and seed; batch sizes as means per epoch."""
    return {
        name: {str(trajectory.seed): _numbers(trajectory) for trajectory in own} for name, own in trajectories.items()
    }


def _numbers(trajectory: Trajectory) -> dict[str, object]:
    return {
        "seconds": trajectory.seconds.tolist(),
        **{score: values.tolist() for score, values in trajectory.scores.items()},
        "mean_batch_sizes": trajectory.mean_sizes.tolist(),
        "updates": len(trajectory.sizes),
    }
