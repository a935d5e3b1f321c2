"""[BA] figures 2 and 3b and table 1: the same twelve methods with a recurrent network on relation classification.

The paper's financial documents are not public. The task here is of the same kind and size: a two-layer bidirectional
LSTM tells the relation between two WordNet nouns from their glosses, 3,855 training pairs.
"""

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
    clock_verdict,
    loss_verdict,
    manual_verdict,
    pair_verdict,
    sizes_sentence,
)
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import (
    judge_values,
    per_seed,
    percent,
    spread_text,
)
from raytune_hyperlearn.reproductions.reproduction import Findings, Scale, Verdict

PROBLEM = "wordnet-relations"
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(train=200, test=200, epochs=3, seeds=(0, 1)),
    "small": Settings(train=600, test=200, epochs=60, seeds=(0, 1, 2)),
    "medium": Settings(train=0, test=0, epochs=30, seeds=(0, 1, 2)),
    "paper": Settings(train=0, test=0, epochs=300, seeds=(0, 1, 2, 3, 4)),
}
PAPER_ACCURACIES = by_method(
    momentum=(0.8846, 0.8902, 0.8712, 0.8533, 0.7937, 0.8631),
    plain=(0.7557, 0.7513, 0.5801, 0.3121, 0.2811, 0.5002),
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
    momentum = group_of(trajectories, "Momentum")
    return (
        loss_verdict("BA-Momentum ends with the lowest loss of the six with momentum.", momentum, "BA-Momentum", 0),
        pair_verdict("BA-SGD's curve is like Mini-32-SGD's and ends below it.", trajectories, "BA-SGD", "Mini-32-SGD"),
        manual_verdict(trajectories),
        constancy_verdict(trajectories),
        accuracy_verdict(
            "BA's best test accuracy is at most 0.56 points below the best with momentum, and the best without.",
            trajectories,
            {"Momentum": 0.0056, "SGD": 0.0},
        ),
        clock_verdict(trajectories),
    )


def constancy_verdict(trajectories: Trajectories) -> Verdict:
    """BA-Momentum's batch size hardly leaves 32."""
    adaptive = {name: trajectories[name] for name in ("BA-Momentum", "BA-SGD")}
    seeds = per_seed(adaptive, lambda trajectory: float((trajectory.sizes <= M0).mean()))
    shares = spread_text([values["BA-Momentum"] for values in seeds], percent)
    return judge_values(lambda values: values["BA-Momentum"] >= 0.9, seeds).verdict(
        "BA-Momentum's batch size stays nearly constant at 32.",
        f"{shares} of its updates took 32. {sizes_sentence(adaptive)}",
    )
