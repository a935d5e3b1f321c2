"""[BA] figures 1 and 3a and table 1: twelve methods on Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Trajectories
from raytune_hyperlearn.reproductions.batch_adaptive.twelve_methods import (
    M0,
    Settings,
    by_method,
    group_of,
    train,
    twelve_findings,
)
from raytune_hyperlearn.reproductions.batch_adaptive.twelve_verdicts import (
    accuracy_verdict,
    calm_verdict,
    clock_verdict,
    loss_verdict,
    manual_verdict,
    sizes_verdict,
)
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import Values
from raytune_hyperlearn.reproductions.reproduction import Findings, Scale, Verdict

PROBLEM = "fashion-mnist-cnn3"
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(train=200, test=200, epochs=4, seeds=(0, 1)),
    "small": Settings(train=300, test=200, epochs=50, seeds=(0, 1, 2, 3, 4)),
    "medium": Settings(train=0, test=0, epochs=15, seeds=(0, 1, 2)),
    "paper": Settings(train=0, test=0, epochs=100, seeds=(0, 1, 2, 3, 4)),
}
PAPER_ACCURACIES = by_method(
    momentum=(0.9133, 0.9093, 0.9117, 0.9164, 0.9076, 0.9135),
    plain=(0.9101, 0.9087, 0.9064, 0.9037, 0.9016, 0.9084),
)


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains all twelve, compares, draws."""
    settings = SETTINGS[scale]
    return findings(train(PROBLEM, settings, output, console), settings)


def findings(trajectories: Trajectories, settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    return twelve_findings(PROBLEM, settings, trajectories, verdicts(trajectories), PAPER_ACCURACIES)


def verdicts(trajectories: Trajectories) -> tuple[Verdict, ...]:
    """What section 4.2 and appendix D say of this problem."""
    momentum, plain = group_of(trajectories, "Momentum"), group_of(trajectories, "SGD")
    return (
        loss_verdict("BA-Momentum ends with the lowest loss of the six with momentum.", momentum, "BA-Momentum", 0),
        loss_verdict(
            "Of the six without, BA-SGD ends with the lowest loss but one, Mini-32-SGD's.", plain, "BA-SGD", 1
        ),
        manual_verdict(trajectories),
        calm_verdict(trajectories),
        sizes_verdict(
            "BA's batch sizes stay near 32 early and grow later, those of BA-SGD more than those of BA-Momentum.",
            trajectories,
            grow,
        ),
        accuracy_verdict(
            "BA's best test accuracy is at most 0.31 points below the best with momentum, and the best without.",
            trajectories,
            {"Momentum": 0.0031, "SGD": 0.0},
        ),
        clock_verdict(trajectories),
    )


def grow(sizes: tuple[Values, Values]) -> bool:
    """Small batches early, larger ones later, and larger for SGD than for momentum."""
    early, late = sizes
    near = max(early.values()) < 1.25 * M0
    return near and all(late[name] > early[name] for name in late) and late["BA-SGD"] > late["BA-Momentum"]
