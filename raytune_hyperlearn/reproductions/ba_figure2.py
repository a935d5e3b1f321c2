"""[BA] figures 2 and 3b and table 1: the same twelve methods with a recurrent network on relation classification.

The paper's financial documents are not public. The task here is of the same kind and size: a two-layer bidirectional
LSTM tells the relation between two WordNet nouns from their glosses, 3,855 training pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from raytune_hyperlearn.comparison.wording import number
from raytune_hyperlearn.reproductions.courses import Course, follow
from raytune_hyperlearn.reproductions.parts import part_of
from raytune_hyperlearn.reproductions.reproduction import Findings, Reproduction, Scale, Verdict
from raytune_hyperlearn.reproductions.twelve_methods import (
    LEVEL,
    M0,
    RULES,
    Settings,
    accuracy_verdict,
    clock_verdict,
    figures,
    group_of,
    loss_verdict,
    numbers,
    sizes_sentence,
    table,
    trainings,
)

PROBLEM = "wordnet-relations"
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(train=200, test=200, epochs=3),
    "small": Settings(train=600, test=200, epochs=12),
    "paper": Settings(train=0, test=0, epochs=300),
}
PAPER_ACCURACIES = {
    **dict(zip([f"{rule}-Momentum" for rule in RULES], (0.8846, 0.8902, 0.8712, 0.8533, 0.7937, 0.8631), strict=True)),
    **dict(zip([f"{rule}-SGD" for rule in RULES], (0.7557, 0.7513, 0.5801, 0.3121, 0.2811, 0.5002), strict=True)),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains all twelve, compares, draws."""
    settings = SETTINGS[scale]
    problem = partial(part_of, PROBLEM, settings.train, settings.test)
    courses = follow(problem, trainings(settings), settings.epochs, settings.seed, output, console)
    return findings(courses, settings)


def findings(courses: Mapping[str, Course], settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    momentum = group_of(courses, "Momentum")
    return Findings(
        settings={"problem": PROBLEM, **asdict(settings)},
        verdicts=(
            loss_verdict("BA-Momentum ends with the lowest loss of the six with momentum.", momentum, "BA-Momentum", 0),
            plain_verdict(courses["BA-SGD"], courses["Mini-32-SGD"]),
            constancy_verdict(courses),
            accuracy_verdict(
                "BA's best test accuracy is at most 0.56 points below the best with momentum, and the best without.",
                courses,
                {"Momentum": 0.0056, "SGD": 0.0},
            ),
            clock_verdict(courses),
        ),
        figures=figures(courses),
        tables=(table(courses, PAPER_ACCURACIES),),
        numbers=numbers(courses),
    )


def plain_verdict(adaptive: Course, constant: Course) -> Verdict:
    """BA-SGD against Mini-32-SGD; level losses tell nothing."""
    level = max(adaptive.final_loss, constant.final_loss) <= LEVEL * min(adaptive.final_loss, constant.final_loss)
    return Verdict(
        "BA-SGD's curve is like Mini-32-SGD's and ends below it.",
        f"Final training losses: BA-SGD {number(adaptive.final_loss)}, Mini-32-SGD {number(constant.final_loss)}"
        f"{', level' if level else ''}.",
        None if level else adaptive.final_loss < constant.final_loss,
    )


def constancy_verdict(courses: Mapping[str, Course]) -> Verdict:
    """BA-Momentum's batch size hardly leaves 32."""
    share = float((courses["BA-Momentum"].sizes <= M0).mean())
    return Verdict(
        "BA-Momentum's batch size stays nearly constant at 32.",
        f"{100 * share:.0f} % of its updates took 32. {sizes_sentence(courses)}",
        share >= 0.9,
    )


REPRODUCTION = Reproduction(
    description="The same twelve methods with a bidirectional LSTM on relation classification.",
    source="Batch adaptive training, section 4.2, figures 2 and 3b, table 1; its data replaced by WordNet's glosses.",
    claim="after 300 epochs BA-Momentum has the lowest loss of the methods with momentum; BA-SGD is like Mini-32-SGD "
    "and ends lower; BA-Momentum's batch size stays near 32; best test accuracies 88.46 % and 75.57 %.",
    run=run,
)
