"""[FDS] figure 2: how far greedy, unshared and shared hypergradients are from the best ones.

Along one fixed schedule, a cosine, the hypergradient of every step's learning rate is taken with many seeds, each with
its own initialization and data order. The best hypergradient of a step is taken to be the mean over seeds of the
unshared, non-greedy ones. Against it stand, seed by seed: the unshared ones, the greedy ones (horizon 1), and those of
FDS, which are the means over windows of W steps (sharing a value sums its steps' hypergradients up).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.baselines.grid import cosine
from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.json_lines import LineWriter, read_lines
from raytune_hyperlearn.comparison.progress_bar import Bar
from raytune_hyperlearn.comparison.reporting.drawing import INK, draw_grid, light_grid, plain_log_axis, time_axis
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.reproductions.fds.lenet_training import LeNetTraining, Setting
from raytune_hyperlearn.reproductions.fds.sharing_error import (
    STANDARD_ERRORS,
    Ensemble,
    Errors,
    decided,
    greedy_error,
    judge,
    shared,
    shared_error,
    single_minimum,
    standard_error,
)
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

ROWS = "hypergradients.jsonl"
SURE_OF_SEVERAL = 3.0
"""Standard errors by which the error of one of several windows must be lower."""


@dataclass(frozen=True)
class Settings:
    """One scale.

    Attributes:
        setting: Data and inner loop.
        seeds: R.
        greedy: So many of the seeds are differentiated greedily as well. That costs ten times as much as what is asked
            of the others, for every step of training then reads all validation images.
        learning_rate: α_0 of the cosine.
    """

    setting: Setting
    seeds: int
    greedy: int
    learning_rate: float = 0.01


SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(Setting("fashion-mnist", 4_000, 300, 30), 6, 6),
    "small": Settings(Setting("fashion-mnist", 0, 500, 250), 12, 12),
    "medium": Settings(Setting("fashion-mnist", 0, 2_000, 250), 100, 20),
    "paper": Settings(Setting("svhn", 0, 2_000, 250), 100, 100),
}


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Differentiates with every seed that the folder does not hold yet, then judges and draws."""
    settings = SETTINGS[scale]
    training = LeNetTraining(settings.setting)
    rows = collect(training, settings, output / ROWS, console)
    greedy = [row["greedy"] for row in rows if "greedy" in row]
    ensemble = Ensemble(np.array([row["unshared"] for row in rows]), np.array(greedy))
    return findings(ensemble, settings)


def schedule(settings: Settings, steps: int) -> list[float]:
    """The cosine, a value per step."""
    return [cosine(settings.learning_rate, step / steps) for step in range(steps)]


def collect(training: LeNetTraining, settings: Settings, file: Path, console: Console) -> list[Numbers]:
    """A row of hypergradients per seed, in order."""
    split = training.split(0)  # the validation images are the same for all seeds
    rates = schedule(settings, training.steps)
    with LineWriter(file) as lines, Bar(console) as bar:
        rows: list[Numbers] = [row for _, row in read_lines(file)]
        task = bar.add_task("seeds", total=settings.seeds, completed=len(rows))
        for seed in range(len(rows), settings.seeds):
            drawn = derived_seed(seed, Purpose.ENSEMBLE)
            row = {"unshared": training.non_greedy(rates, split, drawn).values["learning_rate"]}
            if seed < settings.greedy:
                row["greedy"] = training.greedy(rates, split, drawn).values["learning_rate"]
            lines.append_row(row)
            rows.append(row)
            bar.advance(task)
    return rows


def findings(ensemble: Ensemble, settings: Settings) -> Findings:
    """Verdicts, figures and table."""
    found = judge(ensemble)
    return Findings(
        settings=asdict(settings),
        verdicts=(
            _greedy(ensemble, found),
            _sharing(ensemble, found),
            _bound(ensemble, found),
            _shape(found),
        ),
        figures=(
            Drawn(
                "error-by-window",
                "Mean square error of hypergradients",
                draw_errors(found),
                "Against the mean over seeds of unshared hypergradients. Bars span two standard errors either side "
                "(jackknife over seeds). Left: the three kinds and the theorem's bound from the measured variance, "
                "correlation and drift, and the same without correlation. Right: what FDS's error is made of; squared "
                "biases that are very small, or below zero as noise allows, are not drawn.",
            ),
            Drawn(
                "hypergradients",
                "Hypergradients of every step",
                draw_hypergradients(ensemble, found),
                "Line: mean over seeds. Band: one standard deviation between seeds either side. All along the same "
                "schedule; negative means that a larger learning rate at this step would lower the validation loss.",
            ),
        ),
        tables=(_table(found), _moments_table(ensemble)),
        numbers={
            "unshared": ensemble.unshared.tolist(),
            "greedy": ensemble.greedy.tolist(),
            "windows": list(found.windows),
            "errors": [asdict(own) | {"total": own.total} for own in found.shared],
            "greedy_error": asdict(found.greedy) | {"total": found.greedy.total},
            "bounds": found.bounds.tolist(),
        },
    )


def _greedy(ensemble: Ensemble, found: Errors) -> Verdict:
    """Worse than FDS at its best window?"""
    best, both = found.windows[found.best], ensemble.with_greedy

    def gap(seeds: Ensemble) -> float:
        return greedy_error(seeds).total - shared_error(seeds, best).total

    value, deviation = gap(both), standard_error(both, gap)
    over = "" if len(both.unshared) == len(ensemble.unshared) else f" over {len(both.unshared)} seeds"
    share = 100 * found.greedy.bias / found.greedy.total
    return Verdict(
        "Greediness is a poor approximation to the optimal hypergradients.",
        f"Greedy mean square error {number(found.greedy.total)}, {number(share)} % of it bias; unshared "
        f"{number(found.shared[0].total)}; FDS {number(found.shared[found.best].total)} at W = {best}. The first "
        f"less the last{over}: {number(value)} ± {number(deviation)}.",
        decided(value, deviation),
    )


def _sharing(ensemble: Ensemble, found: Errors) -> Verdict:
    """Is the error of some window clearly below that of unshared ones? Several are tried, so it must be clearer."""
    gaps = [(window, *_gap(ensemble, window)) for window in found.windows[1:]]
    clear = [window for window, value, deviation in gaps if value > SURE_OF_SEVERAL * deviation]
    shown = "; ".join(
        f"W = {window}: {number(found.totals[0] / found.totals[place])} times less, by {number(value)} ± "
        f"{number(deviation)}"
        for place, (window, value, deviation) in enumerate(gaps, start=1)
    )
    told_apart = f" Clearly so at W = {', '.join(map(str, clear))}." if clear else ""
    return Verdict(
        "Averaging over contiguous steps significantly lowers the error of non-greedy hypergradients, even over few.",
        f"Against unshared ones: {shown}.{told_apart} (Clearly: by {SURE_OF_SEVERAL:g} standard errors.)",
        True if clear else None if any(value > 0 for _, value, _ in gaps) else False,
    )


def _gap(ensemble: Ensemble, window: int) -> tuple[float, float]:
    """How far the error of shared hypergradients lies below that of unshared ones, and its standard error."""

    def gap(seeds: Ensemble) -> float:
        return shared_error(seeds, 1).total - shared_error(seeds, window).total

    return gap(ensemble), standard_error(ensemble, gap)


def _bound(ensemble: Ensemble, found: Errors) -> Verdict:
    """Below the theorem's bound?"""
    variance, correlation, drift = ensemble.moments
    largest = float((found.totals / found.bounds).max())
    return Verdict(
        "The theorem's upper bound holds, if loosely, because the largest correlation between two steps is high.",
        f"Measured: variance {number(variance)}, c = {number(correlation)}, ε = {number(drift)}. At most "
        f"{number(largest)} of the bound is used up. (Moments measured from these seeds must obey it, so this checks "
        "the arithmetic alone.)",
        largest <= 1,
    )


def _shape(found: Errors) -> Verdict:
    """Down and up again, as the bound?"""
    best, by_bound = found.windows[found.best], found.windows[int(found.independent.argmin())]
    inside = 0 < found.best < len(found.windows) - 1
    return Verdict(
        "As the bound, the measured error falls with W to a single minimum and rises again.",
        f"Lowest at W = {best} of T = {found.windows[-1]}; the bound is lowest at "
        f"W = {found.windows[int(found.bounds.argmin())]}, without its correlation at W = {by_bound}. "
        f"{'One minimum.' if single_minimum(found.totals.tolist()) else 'There are several local minima.'}",
        inside and single_minimum(found.totals.tolist()),
    )


GREEDY, UNSHARED, SHARED = ("#CC79A7", "#0072B2", "#D55E00")


def draw_errors(found: Errors) -> Figure:
    """Errors by window, and their parts."""
    draws = (_draw_kinds, _draw_parts)
    return draw_grid(
        draws, lambda axes, draw: draw(axes, found), columns=2, size=(5.2, 3.9), left_margin=0.8, right_margin=0.2
    )


def _window_axes(axes: Axes, found: Errors, title: str, values: Sequence[float]) -> None:
    light_grid(axes)
    axes.set_title(title, loc="left")
    axes.set_ylabel("mean square error")
    time_axis(axes, 0.85, found.windows[-1] * 1.2)
    axes.set_xlabel("steps that share a value, W")
    positive = [value for value in values if value > 0]
    plain_log_axis(axes, min(positive) / 2, max(positive) * 2)


def _draw_kinds(axes: Axes, found: Errors) -> None:
    shown = [*found.totals.tolist(), *found.bounds.tolist(), found.greedy.total]
    _window_axes(axes, found, "Greedy, unshared and shared", shown)
    unshared = found.totals[0]
    axes.axhline(found.greedy.total, color=GREEDY, ls=(0, (5, 1.5)), lw=1.8, label="greedy, H = 1")
    axes.axhline(unshared, color=UNSHARED, ls=(0, (1, 1.2)), lw=1.8, label="non-greedy, unshared")
    axes.errorbar(
        found.windows,
        found.totals,
        STANDARD_ERRORS * found.deviations,
        color=SHARED,
        marker="o",
        markersize=4.5,
        lw=1.8,
        capsize=2,
        label="FDS",
    )
    axes.plot(found.windows, found.bounds, color=INK, ls=(0, (4, 2)), lw=1.2, label="bound")
    axes.plot(found.windows, found.independent, color=INK, ls=":", lw=1.2, label="bound at c = 0")
    axes.legend(loc="best", frameon=False, fontsize=8)


def _draw_parts(axes: Axes, found: Errors) -> None:
    noise = np.array([own.noise for own in found.shared])
    bias = np.array([own.bias for own in found.shared])
    seen = bias > found.totals.max() / 1e3
    _window_axes(axes, found, "FDS: noise and bias", [*noise.tolist(), *found.totals.tolist(), *bias[seen].tolist()])
    windows = np.array(found.windows)
    axes.plot(windows, noise, color="#56B4E9", marker="s", markersize=4, lw=1.4, label="noise (variance)")
    axes.plot(windows[seen], bias[seen], color="#A6761D", marker="^", markersize=4, lw=1.4, label="squared bias")
    axes.plot(windows, found.totals, color=SHARED, marker="o", markersize=4, lw=1.8, label="their sum")
    axes.legend(loc="best", frameon=False, fontsize=8)


def draw_hypergradients(ensemble: Ensemble, found: Errors) -> Figure:
    """Mean and spread of the three kinds."""
    best = found.windows[found.best]
    panels = (
        ("Non-greedy, unshared", ensemble.unshared, UNSHARED),
        (f"FDS, W = {best}", shared(ensemble.unshared, best), SHARED),
        ("Greedy, H = 1", ensemble.greedy, GREEDY),
    )
    return draw_grid(panels, _draw_spread, columns=3, size=(4.3, 3.2), left_margin=0.85, right_margin=0.2)


def _draw_spread(axes: Axes, panel: tuple[str, FloatArray, str]) -> None:
    title, values, color = panel
    light_grid(axes)
    axes.set_title(title, loc="left")
    axes.set_xlabel("inner step")
    axes.set_ylabel("hypergradient of the learning rate")
    mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
    steps = np.arange(len(mean))
    axes.fill_between(steps, mean - deviation, mean + deviation, color=color, alpha=0.25, lw=0)
    axes.plot(steps, mean, color=color, lw=1.6)
    axes.axhline(0, color=INK, lw=0.7)
    axes.set_xlim(0, len(mean) - 1)
    axes.locator_params(axis="y", nbins=6)


def _table(found: Errors) -> Table:
    named = [("greedy, H = 1", found.greedy, found.greedy_deviation, None)]
    named += [
        ("unshared" if window == 1 else f"FDS, W = {window}", own, deviation, limit)
        for window, own, deviation, limit in zip(
            found.windows, found.shared, found.deviations, found.bounds, strict=True
        )
    ]
    rows = tuple(
        (
            name,
            f"{number(own.total)} ± {number(float(deviation))}",
            number(own.noise),
            number(own.bias),
            number(found.totals[0] / own.total),
            "–" if limit is None else number(float(limit)),
        )
        for name, own, deviation, limit in named
    )
    columns = ("hypergradients", "mean square error", "noise", "squared bias", "times less than unshared", "bound")
    return Table("Errors", columns, rows, "±: standard error over seeds. The paper shows them in a figure, no numbers.")


def _moments_table(ensemble: Ensemble) -> Table:
    variance, correlation, drift = ensemble.moments
    rows = (
        ("mean variance σ²", number(variance)),
        ("largest correlation c of two steps", number(correlation)),
        ("largest change ε of the mean from a step to the next", number(drift)),
        ("seeds", str(len(ensemble.unshared))),
    )
    return Table("What the theorem asks for, measured", ("", "value"), rows, "With few seeds c and ε are too high.")
