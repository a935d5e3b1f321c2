"""What [BA] figures 1 to 3 and table 1 share: six batch-size rules, each with momentum and without.

BA, Mini-32, 64, 128, 256 and Manual (32, doubled at each quarter of the training), all at one learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from raytune_hyperlearn.algorithms.batch_adaptive import GaussianWalkRule
from raytune_hyperlearn.algorithms.batch_size_rule import BatchSizeRule
from raytune_hyperlearn.baselines.batch_sizes import Constant, Manual
from raytune_hyperlearn.comparison.styles import METHOD_STYLES, MethodStyle
from raytune_hyperlearn.comparison.tables import Table
from raytune_hyperlearn.comparison.training_figures import draw_training
from raytune_hyperlearn.comparison.wording import number, seconds
from raytune_hyperlearn.reproductions.course_figures import draw_sizes, loss_panel, size_panels
from raytune_hyperlearn.reproductions.courses import Course, Training
from raytune_hyperlearn.reproductions.reproduction import Drawn, Verdict

RULES = ("BA", "Mini-32", "Mini-64", "Mini-128", "Mini-256", "Manual")
GROUPS = ("Momentum", "SGD")
LEVEL = 1.02
"""Losses within this factor of each other are called level."""
M0 = 32


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        train: Examples, 0 for all; a part of them is kept for validation.
        test: Examples, 0 for all.
        epochs: Of instances, for every method.
        learning_rate: η.
        momentum: ρ of the six methods that have one.
        max_batch_size: B_max of BA; the paper bounds it by the training set alone.
        seed: Of split, initialisation, data order and dropout.
    """

    train: int
    test: int
    epochs: int
    learning_rate: float = 0.02
    momentum: float = 0.9
    max_batch_size: int = 512
    seed: int = 0


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


def group_of(courses: Mapping[str, Course], group: str) -> list[Course]:
    """The six courses with momentum, or those without."""
    return [courses[f"{rule}-{group}"] for rule in RULES]


def ranking(courses: Sequence[Course]) -> list[Course]:
    """By final training loss, the lowest first; diverged ones last."""
    return sorted(courses, key=lambda course: course.final_loss if math.isfinite(course.final_loss) else math.inf)


def places_before(course: Course, courses: Sequence[Course]) -> int:
    """How many end clearly (by more than the factor :data:`LEVEL`) below it."""
    return sum(other.final_loss * LEVEL < course.final_loss for other in courses)


def loss_verdict(claim: str, courses: Sequence[Course], name: str, at_most_before: int) -> Verdict:
    """Whether the course of that name ends with at most so many below it; level ones may leave it open."""
    own = next(course for course in courses if course.training.name == name)
    others = [course for course in courses if course is not own]
    before = places_before(own, others)
    level = len(others) - before - sum(own.final_loss * LEVEL < other.final_loss for other in others)
    order = ", ".join(f"{c.training.name} {number(c.final_loss)}" for c in ranking(courses))
    holds = None if before <= at_most_before < before + level else before <= at_most_before
    note = f" Losses within {100 * (LEVEL - 1):.0f} % of each other are level." if level else ""
    return Verdict(claim, f"Final training losses: {order}.{note}", holds)


def size_quarters(course: Course) -> tuple[float, float]:
    """Mean batch size in the first and in the last quarter of the updates."""
    sizes = course.sizes
    quarter = max(1, len(sizes) // 4)
    return float(sizes[:quarter].mean()), float(sizes[-quarter:].mean())


def sizes_sentence(courses: Mapping[str, Course]) -> str:
    """How BA's batch sizes change."""
    parts = []
    for group in GROUPS:
        early, late = size_quarters(courses[f"BA-{group}"])
        largest = courses[f"BA-{group}"].sizes.max()
        parts.append(
            f"BA-{group}: mean {number(early)} in the first quarter of the updates, {number(late)} in the last, "
            f"largest {largest:.0f}"
        )
    return "; ".join(parts) + "."


def accuracy_verdict(claim: str, courses: Mapping[str, Course], margins: Mapping[str, float]) -> Verdict:
    """Whether BA's best test accuracy is at most so far (by group) below the best of its group, as in table 1."""
    sentences, holds = [], True
    for group, margin in margins.items():
        own = group_of(courses, group)
        best = {course.training.name: float(course.scores["test_accuracy"].max()) for course in own}
        leader = max(best, key=lambda name: best[name])
        gap = best[leader] - best[f"BA-{group}"]
        holds &= gap <= margin + 1e-9
        sentences.append(
            f"BA-{group} {100 * best[f'BA-{group}']:.2f} %, best of its group {leader} {100 * best[leader]:.2f} %"
        )
    note = "As in the paper, each method's best epoch is taken by test accuracy itself."
    return Verdict(claim, f"{'; '.join(sentences)}. {note}", holds)


def clock_verdict(courses: Mapping[str, Course]) -> Verdict:
    """Seconds until the loss that Mini-32 with momentum ends with."""
    adaptive, constant = courses["BA-Momentum"], courses["Mini-32-Momentum"]
    target = constant.final_loss
    first, second = adaptive.first_below(target), constant.first_below(target)
    claim = "Beyond the paper, which shows no times: BA-Momentum reaches Mini-32-Momentum's final loss sooner."
    if first is None or second is None:
        found = (
            f"It does not reach {number(target)} within {len(adaptive.epochs)} epochs "
            f"({seconds(float(adaptive.seconds[-1]))}); Mini-32-Momentum needs {seconds(float(constant.seconds[-1]))}."
        )
        return Verdict(claim, found, False)
    mine, other = float(adaptive.seconds[first]), float(constant.seconds[second])
    found = f"Loss {number(target)} after {seconds(mine)} of training; Mini-32-Momentum after {seconds(other)}."
    return Verdict(claim, found, mine < other)


def figures(courses: Mapping[str, Course]) -> tuple[Drawn, ...]:
    """Loss by epoch and by second for both groups, and BA's batch sizes."""
    groups = {group: group_of(courses, group) for group in GROUPS}
    names = {"Momentum": "With momentum", "SGD": "Without momentum"}
    by_epoch = [loss_panel(names[group], own, "epochs") for group, own in groups.items()]
    by_second = [loss_panel(names[group], own, "seconds") for group, own in groups.items()]
    return (
        Drawn(
            "loss-by-epoch",
            "Training loss by epoch",
            draw_training(by_epoch),
            "Loss on the whole training part after each epoch of instances scanned, without dropout.",
        ),
        Drawn(
            "loss-by-second",
            "Training loss by second",
            draw_training(by_second),
            "The same against the seconds that each training took on its own core or share of a GPU, test scoring left "
            "out. The paper does not show this.",
        ),
        Drawn(
            "batch-sizes",
            "Batch size of every update",
            draw_sizes(size_panels([courses["BA-Momentum"], courses["BA-SGD"]])),
            "What batch adaptive training chose; where there are many updates, the band spans the least and the "
            "largest of neighbouring ones and the line is their mean. The paper's figure 3.",
        ),
    )


def table(courses: Mapping[str, Course], paper: Mapping[str, float]) -> Table:
    """One row per method, with the paper's best test accuracy (fraction) beside."""
    rows = []
    for group in GROUPS:
        for course in group_of(courses, group):
            accuracy = course.scores["test_accuracy"]
            chosen = int(course.scores["validation_loss"].argmin())
            rows.append(
                (
                    course.training.name,
                    number(course.final_loss),
                    f"{100 * accuracy.max():.2f} %",
                    f"{100 * accuracy[chosen]:.2f} %",
                    f"{100 * paper[course.training.name]:.2f} %",
                    seconds(float(course.seconds[-1])),
                    f"{course.sizes.mean():.1f}",
                    f"{course.sizes.max():.0f}",
                    f"{len(course.sizes):,}",
                )
            )
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
    return Table("The twelve methods", columns, tuple(rows), "One seed, as in the paper; differences may be luck.")


def numbers(courses: Mapping[str, Course]) -> dict[str, object]:
    """Every course as plain data; batch sizes as means per epoch."""
    return {
        name: {
            "seconds": course.seconds.tolist(),
            **{score: values.tolist() for score, values in course.scores.items()},
            "mean_batch_sizes": course.mean_sizes.tolist(),
            "updates": len(course.sizes),
        }
        for name, course in courses.items()
    }
