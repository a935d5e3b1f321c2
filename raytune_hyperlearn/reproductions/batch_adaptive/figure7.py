"""[BA] figure 7: does it matter that the covariance of the gradients is replaced by its diagonal?

Batch adaptive training runs with the exact σ² = fᵀΣf and with the paper's Σ_i f_i² Var(g_·i), from the same start, on
Connect-4 (the paper's test) and on Fashion-MNIST. On the way, fresh draws of m0 instances are put to both: what batch
size would each want there? A third training takes σ² from the newest m0 instances of a batch alone, which costs less.

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

from raytune_hyperlearn.algorithms.batch_adaptive import Covariance
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.batch_adaptive.covariance_figures import draw_choices, draw_trajectories
from raytune_hyperlearn.reproductions.batch_adaptive.covariances import (
    COVARIANCES,
    M0,
    NEAR,
    Outcome,
    Probe,
    Regime,
    Settings,
    compare,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

ALIKE = 1.1
"""Losses, or mean batch sizes, within this factor are called the same."""
CONNECT4, FASHION = "connect-4", "fashion-mnist-cnn3"
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(
        (
            Regime(CONNECT4, 2_000, 4),
            Regime(CONNECT4, 300, 60, learning_rate=1.0, momentum=0.0),
            Regime(FASHION, 100, 10, learning_rate=0.3, momentum=0.0),
        ),
        probes=30,
    ),
    "small": Settings(
        (
            Regime(CONNECT4, 10_000, 14),
            Regime(CONNECT4, 1_000, 60, learning_rate=1.0, momentum=0.0),
            Regime(FASHION, 1_000, 5),
            Regime(FASHION, 300, 24),
            Regime(FASHION, 300, 24, learning_rate=0.1, momentum=0.0),
            Regime(FASHION, 300, 24, learning_rate=0.3, momentum=0.0),
        ),
        probes=80,
    ),
    "medium": Settings(
        (
            Regime(CONNECT4, 0, 14),
            Regime(CONNECT4, 1_000, 300, learning_rate=1.0, momentum=0.0),
            Regime(FASHION, 0, 1),
            Regime(FASHION, 0, 1, learning_rate=0.3, momentum=0.0),
        ),
        probes=300,
    ),
    "paper": Settings(
        (
            Regime(CONNECT4, 0, 14),
            Regime(CONNECT4, 1_000, 300, learning_rate=1.0, momentum=0.0),
            Regime(FASHION, 0, 100),
            Regime(FASHION, 0, 100, momentum=0.0),
            Regime(FASHION, 0, 100, learning_rate=0.05),
            Regime(FASHION, 0, 100, learning_rate=0.3, momentum=0.0),
        ),
        probes=1_000,
    ),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains, probes, compares, draws."""
    settings = SETTINGS[scale]
    total = len(COVARIANCES) * sum(regime.epochs for regime in settings.regimes)
    with Bar(console) as bar:
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
                "trajectories",
                "Training with each covariance",
                draw_trajectories(outcomes),
                "Left, the batch size of every update (a running mean where there are many); right, the loss on "
                "the training part after every epoch. One row per regime; the first is the paper's.",
            ),
            Drawn(
                "choices",
                "What both would want for the same draw",
                draw_choices(outcomes),
                "Draws of 32 instances during training: the batch size that maximizes the utility, by the exact "
                "covariance (circles) and by the diagonal (crosses), against the distance of the expected loss from "
                "the rebound in deviations of a batch of 32. Draws in which no size lowers the loss, so that "
                "both want the largest, are left out.",
            ),
        ),
        tables=(choices_table(outcomes), trajectory_table(outcomes)),
        numbers={"regimes": [_numbers(outcome) for outcome in outcomes]},
    )


def verdicts(outcomes: Sequence[Outcome]) -> tuple[Verdict, ...]:
    """The paper's conclusions from Connect-4, and what lies beyond them."""
    first = outcomes[0]
    exact, diagonal = (float(first.sizes[covariance].mean()) for covariance in ("exact", "diagonal"))
    ends = [float(first.losses[covariance][-1]) for covariance in ("exact", "diagonal")]
    worse = [o for o in outcomes if o.losses["diagonal"][-1] > ALIKE * o.losses["exact"][-1]]
    parts = [f"{number(float(o.losses['exact'][-1]))} and {number(float(o.losses['diagonal'][-1]))}" for o in outcomes]
    return (
        Verdict(
            "On Connect-4 the batch sizes of the two are almost the same.",
            f"{first.regime.title}: mean batch size {exact:.1f} with the exact covariance, {diagonal:.1f} with the "
            "diagonal.",
            _alike(exact, diagonal),
        ),
        Verdict(
            "They perform equally well on the training loss.",
            f"{first.regime.title}: final loss {number(ends[0])} exact, {number(ends[1])} diagonal.",
            _alike(*ends),
        ),
        Verdict(
            "So the diagonal does not degrade the method.",
            f"Final losses, exact and diagonal, in the order of the table: {'; '.join(parts)}. The diagonal ends more "
            f"than {100 * (ALIKE - 1):.0f} % higher in {len(worse)} of {len(outcomes)} regimes{_titles(worse)}. One "
            "seed each.",
            not worse,
        ),
        _variances_verdict(outcomes),
        _places_verdict([probe for outcome in outcomes for probe in outcome.probes]),
        _sizes_verdict(outcomes, "diagonal", "the diagonal leads to the same batch sizes in every regime."),
        _sizes_verdict(outcomes, "newest", "the newest draw alone leads to the same batch sizes as the whole batch."),
    )


def _variances_verdict(outcomes: Sequence[Outcome]) -> Verdict:
    ratios = [float(np.median([_ratio(probe) for probe in outcome.probes])) for outcome in outcomes]
    return Verdict(
        "Beyond the paper: the diagonal's variance along the gradient is close to that of the whole covariance.",
        f"It is smaller by a median factor of {', '.join(map(number, ratios))}, in the order of the table.",
        all(map(_near_one, ratios)),
    )


def _places_verdict(probes: Sequence[Probe]) -> Verdict:
    near = [probe for probe in probes if probe.kind == "near"]
    elsewhere = [probe for probe in probes if probe.kind != "near"]
    differing = sum(probe.differs for probe in near), sum(probe.differs for probe in elsewhere)
    return Verdict(
        "Beyond the paper: the two choose differently only near the rebound, within about three deviations of S*.",
        f"Near it they choose differently in {differing[0]} of {len(near)} draws, elsewhere in {differing[1]} of "
        f"{len(elsewhere)}.",
        differing[1] <= 0.1 * sum(differing) if any(differing) else None,
    )


def _sizes_verdict(outcomes: Sequence[Outcome], covariance: Covariance, claim: str) -> Verdict:
    apart = [o for o in outcomes if not _alike(float(o.sizes["exact"].mean()), float(o.sizes[covariance].mean()))]
    return Verdict(
        f"Beyond the paper: {claim}",
        f"Mean batch sizes differ from the exact covariance's by more than {100 * (ALIKE - 1):.0f} % in {len(apart)} "
        f"of {len(outcomes)} regimes{_titles(apart)}.",
        not apart,
    )


def _titles(outcomes: Sequence[Outcome]) -> str:
    return f" ({'; '.join(outcome.regime.title for outcome in outcomes)})" if outcomes else ""


def choices_table(outcomes: Sequence[Outcome]) -> Table:
    """Where draws lay, and where the two covariances disagreed about them."""
    rows = []
    for outcome in outcomes:
        cells = [outcome.regime.title, str(len(outcome.probes))]
        cells.append(number(float(np.median([_ratio(probe) for probe in outcome.probes]))))
        for kind in ("hopeless", "far", "near"):
            own = [probe for probe in outcome.probes if probe.kind == kind]
            parts = f"{100 * _share(own):.0f} % differ" if own else "–"
            cells.append(f"{len(own)}: {parts}" if own else "0")
        rows.append(tuple(cells))
    columns = ("regime", "draws", "exact ÷ diagonal variance", "no size helps", "far from the rebound", "near it")
    return Table(
        "The same draws put to both",
        columns,
        tuple(rows),
        "Ratio of variances: median. Differ: another number of enlargements by 32. Far from the rebound and near it: "
        f"more or less than {NEAR:g} deviations of a batch of 32.",
    )


def trajectory_table(outcomes: Sequence[Outcome]) -> Table:
    """Batch sizes and final losses of the trainings."""
    rows = tuple(
        (
            outcome.regime.title,
            *(f"{outcome.sizes[c].mean():.1f} ({100 * np.mean(outcome.sizes[c] > M0):.0f} %)" for c in COVARIANCES),
            *(number(float(outcome.losses[c][-1])) for c in COVARIANCES),
        )
        for outcome in outcomes
    )
    columns = (
        "regime",
        *(f"mean batch size, {covariance}" for covariance in COVARIANCES),
        *(f"final training loss, {covariance}" for covariance in COVARIANCES),
    )
    return Table("Three trainings each", columns, rows, f"In brackets, the share of updates with more than {M0}.")


def _alike(first: float, second: float) -> bool:
    return max(first, second) <= ALIKE * min(first, second)


def _near_one(ratio: float) -> bool:
    return 1 / ALIKE <= ratio <= ALIKE


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
