"""[BA] figure 4: BA-Momentum bears larger learning rates than Mini-32-Momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from raytune_hyperlearn.comparison.training_figures import draw_training
from raytune_hyperlearn.comparison.wording import number
from raytune_hyperlearn.reproductions.course_figures import draw_sizes, loss_panel, size_panels
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Reproduction, Scale, Verdict
from raytune_hyperlearn.reproductions.step_sizes import (
    ADAPTIVE,
    CONSTANT,
    PROBLEM,
    Pairs,
    Settings,
    pairs_numbers,
    pairs_table,
    train_pairs,
)

RATES = (0.005, 0.01, 0.02, 0.05)
GOOD = slice(0, 3)
"""The learning rates that the paper calls reasonable: all but the largest."""
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(train=400, test=200, epochs=5, learning_rates=RATES),
    "small": Settings(train=500, test=200, epochs=40, learning_rates=RATES),
    "paper": Settings(train=0, test=0, epochs=100, learning_rates=RATES),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains both methods at every learning rate, compares, draws."""
    settings = SETTINGS[scale]
    return findings(train_pairs(settings, output, console), settings)


def findings(pairs: Pairs, settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    adaptive, constant = ([pair[index] for pair in pairs.values()] for index in (0, 1))
    panels = [loss_panel(ADAPTIVE, adaptive, "epochs"), loss_panel(CONSTANT, constant, "epochs")]
    return Findings(
        settings={"problem": PROBLEM, **asdict(settings)},
        verdicts=verdicts(pairs),
        figures=(
            Drawn(
                "loss-by-epoch",
                "Training loss by epoch at four learning rates",
                draw_training(panels),
                "Loss on the whole training part after each epoch of instances scanned; names are learning rates.",
            ),
            Drawn(
                "batch-sizes",
                "Batch size of every update of BA-Momentum",
                draw_sizes(size_panels(adaptive)),
                "Where there are many updates, the band spans the least and the largest of neighbouring ones and the "
                "line is their mean.",
            ),
        ),
        tables=(pairs_table(pairs),),
        numbers=pairs_numbers(pairs),
    )


def verdicts(pairs: Pairs) -> tuple[Verdict, ...]:
    """The paper's four observations."""
    rates = list(pairs)
    losses = {
        method: [pair[index].final_loss for pair in pairs.values()] for index, method in enumerate((ADAPTIVE, CONSTANT))
    }
    sizes = [float(pair[0].sizes.mean()) for pair in pairs.values()]
    good, largest = losses[ADAPTIVE][GOOD], losses[ADAPTIVE][-1]
    shown = {method: _series(rates, values) for method, values in losses.items()}
    two = [losses[CONSTANT][rates.index(rate)] for rate in (0.01, 0.02)]
    suffers = [values[-1] > 2 * min(values[GOOD]) for values in losses.values()]
    return (
        Verdict(
            "BA-Momentum's final loss falls as the learning rate rises from 0.005 to 0.01 and 0.02.",
            f"{ADAPTIVE}: {shown[ADAPTIVE]}.",
            good == sorted(good, reverse=True),
        ),
        Verdict(
            "Mini-32-Momentum's final loss rises when the learning rate rises from 0.01 to 0.02.",
            f"{CONSTANT}: {shown[CONSTANT]}.",
            two[1] > two[0],
        ),
        Verdict(
            "At 0.05 both suffer from a very high loss.",
            f"At 0.05 {ADAPTIVE} ends at {number(largest)} and {CONSTANT} at {number(losses[CONSTANT][-1])}; their "
            f"best at the others are {number(min(good))} and {number(min(losses[CONSTANT][GOOD]))}.",
            all(suffers),
        ),
        Verdict(
            "The larger the learning rate, the larger BA-Momentum's batches.",
            f"Mean batch sizes: {_series(rates, sizes)}.",
            sizes == sorted(sizes),
        ),
    )


def _series(rates: list[float], values: list[float]) -> str:
    return ", ".join(
        f"{number(value) if math.isfinite(value) else 'diverged'} at {rate:g}"
        for rate, value in zip(rates, values, strict=True)
    )


REPRODUCTION = Reproduction(
    description="BA-Momentum and Mini-32-Momentum at learning rates 0.005, 0.01, 0.02 and 0.05 on Fashion-MNIST.",
    source="Batch adaptive training, section 4.3, figure 4.",
    claim="from 0.005 to 0.02 BA-Momentum's final loss falls (1.13e−4, 1.69e−5, 5.77e−6) while Mini-32-Momentum's "
    "rises from 0.01 to 0.02; at 0.05 both are very high; batches grow with the learning rate.",
    run=run,
)
