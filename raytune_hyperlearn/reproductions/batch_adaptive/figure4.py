"""[BA] figure 4: BA-Momentum bears larger learning rates than Mini-32-Momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console

from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.batch_adaptive import twelve_methods
from raytune_hyperlearn.reproductions.batch_adaptive.learning_rate_pairs import (
    ADAPTIVE,
    CONSTANT,
    PROBLEM,
    Pairs,
    Settings,
    named,
    scales,
    styled_by_method,
    train_pairs,
    trajectory_numbers,
    trajectory_table,
)
from raytune_hyperlearn.reproductions.batch_adaptive.trajectories import Seeds, Trajectories, Trajectory
from raytune_hyperlearn.reproductions.batch_adaptive.trajectory_figures import (
    band_note,
    draw_over_seeds,
    draw_sizes,
    loss_panel,
    on_one_scale,
    size_panels,
)
from raytune_hyperlearn.reproductions.batch_adaptive.twelve_verdicts import clock_verdict, loss_verdict
from raytune_hyperlearn.reproductions.batch_adaptive.verdicts_over_seeds import below, final_loss, judge, spread_text
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

RATES = (0.005, 0.01, 0.02, 0.05)
GOOD = slice(0, 3)
"""The learning rates that the paper calls reasonable: all but the largest."""
LARGEST = RATES[-1]
CONTROLS = ("Mini-64-Momentum", "Manual-Momentum")
"""Also trained at the largest learning rate: would any larger batch have done?"""
SETTINGS = scales(RATES)
Series = tuple[float, ...]
"""A number per learning rate, [R]."""


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Trains both methods at every learning rate and the controls at the largest, compares, draws."""
    settings = SETTINGS[scale]
    pairs = train_pairs(settings, output, console)
    return findings(pairs, train_controls(settings, output / "controls", console), settings)


def train_controls(settings: Settings, output: Path, console: Console) -> dict[str, Seeds]:
    """The controls at the largest learning rate, with the same seeds."""
    twelve = twelve_methods.Settings(
        settings.train,
        settings.test,
        settings.epochs,
        settings.seeds,
        learning_rate=LARGEST,
        momentum=settings.momentum,
        max_batch_size=settings.max_batch_size,
    )
    return twelve_methods.train(PROBLEM, twelve, output, console, CONTROLS)


def findings(pairs: Pairs, controls: Trajectories, settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    adaptive, constant = ([pair[index] for pair in pairs.values()] for index in (0, 1))
    at_largest = [*map(styled_by_method, pairs[LARGEST]), *controls.values()]
    trajectories = {**named(pairs), **{f"η = {LARGEST:g}: {name}": own for name, own in controls.items()}}
    panels = on_one_scale(
        [
            loss_panel(ADAPTIVE, adaptive, "epochs"),
            loss_panel(CONSTANT, constant, "epochs"),
            loss_panel(f"η = {LARGEST:g}", at_largest, "epochs"),
        ]
    )
    return Findings(
        settings={"problem": PROBLEM, **asdict(settings)},
        verdicts=(*verdicts(pairs), *controls_verdicts({ADAPTIVE: pairs[LARGEST][0], **controls})),
        figures=(
            Drawn(
                "loss-by-epoch",
                "Training loss by epoch at four learning rates",
                draw_over_seeds(panels, columns=3),
                "Loss on the whole training part after each epoch of instances scanned. Left and middle, names are "
                "learning rates; right, all methods at the largest. " + band_note(len(adaptive[0])),
            ),
            Drawn(
                "batch-sizes",
                "Batch size of every update of BA-Momentum",
                draw_sizes(size_panels(adaptive)),
                "One line per seed; where there are many updates, the band spans the least and the largest of "
                "neighboring ones and the line is their mean.",
            ),
        ),
        tables=(trajectory_table(trajectories),),
        numbers=trajectory_numbers(trajectories),
    )


def verdicts(pairs: Pairs) -> tuple[Verdict, ...]:
    """The paper's observations."""
    losses = {method: series_of(pairs, index, final_loss) for index, method in enumerate((ADAPTIVE, CONSTANT))}
    rises = series_of(pairs, 1, lambda trajectory: trajectory.rises)
    sizes = series_of(pairs, 0, lambda trajectory: float(trajectory.sizes.mean()))
    both = list(zip(losses[ADAPTIVE], losses[CONSTANT], strict=True))
    medians = medians_of_series(losses[ADAPTIVE]), medians_of_series(losses[CONSTANT])
    return (
        _series_verdict(
            "BA-Momentum's final loss falls as the learning rate rises from 0.005 to 0.01 and 0.02.",
            f"{ADAPTIVE}: {_described(losses[ADAPTIVE])}.",
            losses[ADAPTIVE],
            lambda values: is_rising(tuple(-value for value in values[GOOD])),
        ),
        _series_verdict(
            "Mini-32-Momentum's final loss rises when the learning rate rises from 0.01 to 0.02.",
            f"{CONSTANT}: {_described(losses[CONSTANT])}.",
            losses[CONSTANT],
            lambda values: is_rising(values[1:3]),
        ),
        _series_verdict(
            "Mini-32-Momentum fluctuates more when the learning rate rises from 0.005 to 0.01.",
            f"Share of the second half's epochs that end with a higher loss than the one before: {_described(rises)}.",
            rises,
            lambda values: is_rising(values[:2]),
        ),
        judge(both_suffer, both, medians).verdict("At 0.05 both suffer from a very high loss.", _at_largest(losses)),
        _series_verdict(
            "The larger the learning rate, the larger BA-Momentum's batches.",
            f"Mean batch sizes: {_described(sizes)}.",
            sizes,
            is_rising,
        ),
        judge(is_lowest_at_best, both, medians).verdict(
            "Beyond the paper: at its best learning rate BA-Momentum ends below Mini-32-Momentum at its own.",
            _at_each(both, medians),
        ),
    )


def controls_verdicts(trajectories: Trajectories) -> tuple[Verdict, Verdict]:
    """BA-Momentum against the controls, all at the largest learning rate, by epochs and against Manual by the clock."""
    claim = f"Beyond the paper: at {LARGEST:g} neither a constant batch of 64 nor Manual ends as low as BA-Momentum."
    return (
        loss_verdict(claim, trajectories, ADAPTIVE, 0),
        clock_verdict(trajectories, "Manual-Momentum", f"at {LARGEST:g} "),
    )


def series_of(pairs: Pairs, index: int, value: Callable[[Trajectory], float]) -> list[Series]:
    """A number of each trajectory of one method, for each seed."""
    by_rate = [[value(trajectory) for trajectory in pair[index]] for pair in pairs.values()]
    return list(zip(*by_rate, strict=True))


def medians_of_series(seeds: Sequence[Series]) -> Series:
    """The median over seeds at each learning rate, [R]."""
    return tuple(float(median) for median in np.median(seeds, axis=0))


def is_rising(values: Series) -> bool:
    """Whether each is above the one before."""
    return all(first < second for first, second in pairwise(values))


def both_suffer(losses: tuple[Series, Series]) -> bool:
    """Whether both methods' losses at the largest learning rate are at least twice their least at the others."""
    return all(values[-1] > 2 * min(values[GOOD]) for values in losses)


def is_lowest_at_best(losses: tuple[Series, Series]) -> bool | None:
    """Whether BA-Momentum's least loss over the learning rates is clearly below Mini-32-Momentum's; None if level."""
    adaptive, constant = losses
    return below(min(adaptive), min(constant))


def _at_largest(losses: Mapping[str, Sequence[Series]]) -> str:
    parts = [
        f"{method} ends at {spread_text([values[-1] for values in seeds])}, at the best of the other three at "
        f"{number(min(medians_of_series(seeds)[GOOD]))}"
        for method, seeds in losses.items()
    ]
    return f"At 0.05 {'; '.join(parts)}."


def _at_each(seeds: Sequence[tuple[Series, Series]], medians: tuple[Series, Series]) -> str:
    lower = [sum(one[0][index] < one[1][index] for one in seeds) for index in range(len(RATES))]
    least = [f"{number(min(values))} at {RATES[values.index(min(values))]:g}" for values in medians]
    return (
        f"Least medians: {ADAPTIVE} {least[0]}, {CONSTANT} {least[1]}. At {', '.join(map(str, RATES))} {ADAPTIVE} ends "
        f"lower in {', '.join(map(str, lower))} of {len(seeds)} seeds."
    )


def _series_verdict(claim: str, found: str, seeds: Sequence[Series], rule: Callable[[Series], bool]) -> Verdict:
    return judge(rule, seeds, medians_of_series(seeds)).verdict(claim, found)


def _described(seeds: Sequence[Series]) -> str:
    by_rate = zip(RATES, zip(*seeds, strict=True), strict=True)
    return ", ".join(f"{spread_text(values)} at {rate:g}" for rate, values in by_rate)
