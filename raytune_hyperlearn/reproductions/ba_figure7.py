"""[BA] figure 7: does it matter that the covariance of the gradients is replaced by its diagonal?

BA-Momentum trains with the exact σ² = fᵀΣf and with the paper's Σ_i f_i² Var(g_·i), from the same start, on Connect-4
(the paper's test) and on Fashion-MNIST. On the way, fresh draws of m0 instances are put to both: what batch size would
each want there?

The rebound explains when they differ. The noise's price 2τ(φ(a) − aQ(a)), τ = ησ/√m, a = |ν|/τ, is nothing once the
loss ν left after a noiseless step is some τ away from S*. With m0 instances the distance is a₀ = |ν|√m0/(ησ): where
it is above about 3 by the larger σ, both want no more than m0; where the noiseless decrease is not positive
(μ < 0), both want all they can get, whatever σ is. Only near the rebound does σ decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress as Bar

from raytune_hyperlearn.comparison.tables import Table
from raytune_hyperlearn.comparison.wording import number
from raytune_hyperlearn.reproductions.covariance_figures import draw_choices, draw_courses
from raytune_hyperlearn.reproductions.covariances import (
    COVARIANCES,
    M0,
    NEAR,
    Outcome,
    Probe,
    Regime,
    Settings,
    compare,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Reproduction, Scale, Verdict

ALIKE = 1.1
"""Losses, or mean batch sizes, within this factor are called the same."""
CONNECT4, FASHION = "connect-4", "fashion-mnist-cnn3"
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(
        (Regime(CONNECT4, 3_000, 8), Regime(CONNECT4, 300, 60), Regime(FASHION, 200, 25)),
        probes=60,
    ),
    "small": Settings(
        (
            Regime(CONNECT4, 20_000, 14),
            Regime(CONNECT4, 1_000, 100),
            Regime(FASHION, 4_000, 4),
            Regime(FASHION, 500, 40),
            Regime(FASHION, 500, 40, momentum=0.0, learning_rate=0.1),
        ),
        probes=200,
    ),
    "paper": Settings(
        (
            Regime(CONNECT4, 0, 14),
            Regime(CONNECT4, 1_000, 300),
            Regime(FASHION, 0, 100),
            Regime(FASHION, 0, 100, momentum=0.0),
            Regime(FASHION, 0, 100, learning_rate=0.05),
        ),
        probes=1_000,
    ),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains, probes, compares, draws."""
    settings = SETTINGS[scale]
    total = 2 * sum(regime.epochs for regime in settings.regimes)
    with Bar(console=console) as bar:
        task = bar.add_task("epochs trained", total=total)
        outcomes = [compare(regime, settings, lambda: bar.advance(task)) for regime in settings.regimes]
    return findings(outcomes, settings)


def findings(outcomes: Sequence[Outcome], settings: Settings) -> Findings:
    """Verdicts, figures and tables."""
    return Findings(
        settings={
            "regimes": [outcome.regime.title + f", {outcome.regime.epochs} epochs" for outcome in outcomes],
            "m0": M0,
            **{key: value for key, value in asdict(settings).items() if key != "regimes"},
        },
        verdicts=verdicts(outcomes),
        figures=(
            Drawn(
                "courses",
                "Training with the exact covariance and with its diagonal",
                draw_courses(outcomes),
                "Left, the batch size of every update (a running mean where there are many); right, the loss on "
                "the training part after every epoch. One row per regime; the first is the paper's.",
            ),
            Drawn(
                "choices",
                "What both would want for the same draw",
                draw_choices(outcomes),
                "Draws of 32 instances during training: the batch size that maximises the utility, by the exact "
                "covariance (circles) and by the diagonal (crosses), against the distance of the expected loss from "
                "the rebound in deviations of a batch of 32. Draws with negative drift, where both want the largest, "
                "are left out.",
            ),
        ),
        tables=(choices_table(outcomes), courses_table(outcomes)),
        numbers={"regimes": [_numbers(outcome) for outcome in outcomes]},
    )


def verdicts(outcomes: Sequence[Outcome]) -> tuple[Verdict, ...]:
    """The paper's two conclusions on Connect-4, and what lies beyond them."""
    first = outcomes[0]
    means = [float(first.sizes[covariance].mean()) for covariance in COVARIANCES]
    ends = [float(first.losses[covariance][-1]) for covariance in COVARIANCES]
    others = {o.regime.title: [float(o.sizes[c].mean()) for c in COVARIANCES] for o in outcomes}
    apart = [title for title, (exact, diagonal) in others.items() if not _alike(exact, diagonal)]
    ratios = [float(np.median([_ratio(probe) for probe in o.probes])) for o in outcomes]
    probes = [probe for outcome in outcomes for probe in outcome.probes]
    near = [probe for probe in probes if probe.kind == "near"]
    elsewhere = [probe for probe in probes if probe.kind != "near"]
    differ_near, differ_elsewhere = _share(near), _share(elsewhere)
    return (
        Verdict(
            "On Connect-4 the batch sizes of the two are almost the same.",
            f"{first.regime.title}: mean batch size {means[0]:.1f} with the exact covariance, {means[1]:.1f} with the "
            "diagonal.",
            _alike(*means),
        ),
        Verdict(
            "They perform equally well on the training loss.",
            f"{first.regime.title}: final loss {number(ends[0])} exact, {number(ends[1])} diagonal.",
            _alike(*ends),
        ),
        Verdict(
            "So the diagonal is a good stand-in for the covariance.",
            f"Its variance is smaller than the exact one by a median factor of {', '.join(map(number, ratios))} in the "
            f"regimes in the order of the table. Mean batch sizes differ by more than {100 * (ALIKE - 1):.0f} % in "
            f"{len(apart)} of {len(outcomes)} regimes{': ' if apart else ''}{'; '.join(apart)}.",
            not apart and all(1 / ALIKE <= ratio <= ALIKE for ratio in ratios),
        ),
        Verdict(
            "Beyond the paper: the two choose differently only near the rebound, within about three deviations of S*.",
            f"Near it ({len(near)} draws) they choose differently in {100 * differ_near:.0f} % of the draws, elsewhere "
            f"({len(elsewhere)}) in {100 * differ_elsewhere:.1f} %."
            if near
            else f"No draw was near it; elsewhere ({len(elsewhere)}) they differ in {100 * differ_elsewhere:.1f} %.",
            differ_near > 5 * max(differ_elsewhere, 0.01) if near else None,
        ),
    )


def choices_table(outcomes: Sequence[Outcome]) -> Table:
    """Where draws lay, and where the two covariances disagreed about them."""
    rows = []
    for outcome in outcomes:
        cells = [outcome.regime.title, str(len(outcome.probes))]
        cells.append(number(float(np.median([_ratio(probe) for probe in outcome.probes]))))
        for kind in ("uphill", "far", "near"):
            own = [probe for probe in outcome.probes if probe.kind == kind]
            told = f"{100 * _share(own):.0f} % differ" if own else "–"
            cells.append(f"{len(own)}: {told}" if own else "0")
        rows.append(tuple(cells))
    columns = ("regime", "draws", "exact ÷ diagonal variance, median", "μ ≤ 0", "far from the rebound", "near it")
    return Table(
        "The same draws put to both",
        columns,
        tuple(rows),
        "Differ: another number of enlargements by 32. Far from the rebound and near it: more or less than "
        f"{NEAR:g} deviations of a batch of 32.",
    )


def courses_table(outcomes: Sequence[Outcome]) -> Table:
    """Batch sizes and final losses of the two trainings."""
    rows = tuple(
        (
            outcome.regime.title,
            *(f"{outcome.sizes[c].mean():.1f} ({100 * np.mean(outcome.sizes[c] > M0):.0f} %)" for c in COVARIANCES),
            *(number(float(outcome.losses[c][-1])) for c in COVARIANCES),
        )
        for outcome in outcomes
    )
    columns = ("regime", "mean batch size, exact", "diagonal", "final training loss, exact", "diagonal")
    return Table("Two trainings each", columns, rows, f"In brackets, the share of updates with more than {M0}.")


def _alike(first: float, second: float) -> bool:
    return max(first, second) <= ALIKE * min(first, second)


def _ratio(probe: Probe) -> float:
    return (probe.exact / probe.diagonal) ** 2 if probe.diagonal > 0 else math.nan


def _share(probes: Sequence[Probe]) -> float:
    return float(np.mean([probe.differs for probe in probes])) if probes else math.nan


def _numbers(outcome: Outcome) -> dict[str, object]:
    return {
        "regime": asdict(outcome.regime),
        "losses": {c: outcome.losses[c].tolist() for c in COVARIANCES},
        "mean_batch_size": {c: float(outcome.sizes[c].mean()) for c in COVARIANCES},
        "updates": {c: len(outcome.sizes[c]) for c in COVARIANCES},
        "probes": [asdict(probe) for probe in outcome.probes],
    }


REPRODUCTION = Reproduction(
    description="The exact covariance of the gradients against its diagonal, on Connect-4 and on Fashion-MNIST.",
    source="Batch adaptive training, appendix C, figure 7; the Fashion-MNIST part is beyond the paper.",
    claim="after 14 epochs on Connect-4, batch sizes and training losses with the exact covariance and with its "
    "diagonal are almost the same, so the diagonal does not degrade the method.",
    run=run,
)
