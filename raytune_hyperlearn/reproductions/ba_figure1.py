"""[BA] figures 1 and 3a and table 1: twelve methods on Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from raytune_hyperlearn.reproductions.courses import Course, follow
from raytune_hyperlearn.reproductions.parts import part_of
from raytune_hyperlearn.reproductions.reproduction import Findings, Reproduction, Scale, Verdict
from raytune_hyperlearn.reproductions.twelve_methods import (
    M0,
    RULES,
    Settings,
    accuracy_verdict,
    clock_verdict,
    figures,
    group_of,
    loss_verdict,
    numbers,
    size_quarters,
    sizes_sentence,
    table,
    trainings,
)

PROBLEM = "fashion-mnist-cnn3"
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(train=300, test=200, epochs=4),
    "small": Settings(train=300, test=400, epochs=50),
    "paper": Settings(train=0, test=0, epochs=100),
}
PAPER_ACCURACIES = {
    **dict(zip([f"{rule}-Momentum" for rule in RULES], (0.9133, 0.9093, 0.9117, 0.9164, 0.9076, 0.9135), strict=True)),
    **dict(zip([f"{rule}-SGD" for rule in RULES], (0.9101, 0.9087, 0.9064, 0.9037, 0.9016, 0.9084), strict=True)),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains all twelve, compares, draws."""
    settings = SETTINGS[scale]
    problem = partial(part_of, PROBLEM, settings.train, settings.test)
    courses = follow(problem, trainings(settings), settings.epochs, settings.seed, output, console)
    return findings(courses, settings)


def findings(courses: Mapping[str, Course], settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    momentum, plain = group_of(courses, "Momentum"), group_of(courses, "SGD")
    return Findings(
        settings={"problem": PROBLEM, **asdict(settings)},
        verdicts=(
            loss_verdict("BA-Momentum ends with the lowest loss of the six with momentum.", momentum, "BA-Momentum", 0),
            loss_verdict(
                "Of the six without, BA-SGD ends with the lowest loss but one, Mini-32-SGD's.", plain, "BA-SGD", 1
            ),
            growth_verdict(courses),
            accuracy_verdict(
                "BA's best test accuracy is at most 0.31 points below the best with momentum, and the best without.",
                courses,
                {"Momentum": 0.0031, "SGD": 0.0},
            ),
            clock_verdict(courses),
        ),
        figures=figures(courses),
        tables=(table(courses, PAPER_ACCURACIES),),
        numbers=numbers(courses),
    )


def growth_verdict(courses: Mapping[str, Course]) -> Verdict:
    """Small batches early, larger ones later, and larger for SGD than for momentum."""
    (early, late), (early_plain, late_plain) = (size_quarters(courses[f"BA-{group}"]) for group in ("Momentum", "SGD"))
    holds = max(early, early_plain) < 1.25 * M0 and late > early and late_plain > early_plain and late_plain > late
    return Verdict(
        "BA's batch sizes stay near 32 early and grow later, those of BA-SGD more than those of BA-Momentum.",
        sizes_sentence(courses),
        holds,
    )


REPRODUCTION = Reproduction(
    description="Training loss of BA, Mini-32 to 256 and Manual, with momentum and without, on Fashion-MNIST.",
    source="Batch adaptive training, section 4.2, figures 1 and 3a, table 1.",
    claim="after 100 epochs BA-Momentum has the lowest loss of the methods with momentum, BA-SGD the lowest but one of "
    "those without; batch sizes stay near 32 early and grow later; best test accuracies 91.33 % and 91.01 %.",
    run=run,
)
