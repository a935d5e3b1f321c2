"""Draws trainings with each covariance side by side, and what two of them want for the same draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import INK, draw_grid, light_grid, look, plain_log_axis
from raytune_hyperlearn.reproductions.batch_adaptive.covariances import M0, NEAR, Outcome
from raytune_hyperlearn.reproductions.batch_adaptive.trajectory_figures import power_axis

LOOKS: Mapping[str, tuple[str, Any, str]] = {
    "exact": ("#0072B2", "-", "o"),
    "diagonal": ("#D55E00", (0, (3, 1.2)), "x"),
    "newest": ("#009E73", (0, (1, 1)), "+"),
}
SMOOTH = 400
"""More updates than this are drawn as a running mean over a hundredth of them."""


def draw_trajectories(outcomes: Sequence[Outcome]) -> Figure:
    """A row per regime: batch sizes on the left, losses on the right."""
    panels = [(outcome, draw) for outcome in outcomes for draw in (_draw_sizes, _draw_losses)]

    def draw_panel(axes: Axes, panel: Any) -> None:
        outcome, draw = panel
        light_grid(axes)
        draw(axes, outcome)

    with look():
        figure = draw_grid(panels, draw_panel, columns=2, size=(5.6, 2.9), left_margin=0.75, right_margin=0.2)
        _legend(figure)
    return figure


def draw_choices(outcomes: Sequence[Outcome]) -> Figure:
    """A panel per regime: the batch size wanted against the distance from the rebound."""
    with look():
        figure = draw_grid(outcomes, _draw_choices, columns=2, size=(5.6, 3.2), left_margin=0.75, right_margin=0.2)
        _legend(figure)
    return figure


def smoothed(sizes: FloatArray) -> FloatArray:
    """Running mean over a hundredth of the updates where there are many; the same length."""
    if len(sizes) <= SMOOTH:
        return sizes
    width = len(sizes) // 100
    sums = np.cumsum(np.concatenate([np.full(width, sizes[0]), sizes]))
    means: FloatArray = (sums[width:] - sums[:-width]) / width
    return means


def _draw_sizes(axes: Axes, outcome: Outcome) -> None:
    axes.set_title(outcome.regime.title, loc="left", fontsize=10)
    axes.set_xlabel("updates")
    axes.set_ylabel("batch size")
    shown = {covariance: smoothed(sizes) for covariance, sizes in outcome.sizes.items()}
    every = np.concatenate(list(shown.values()))
    power_axis(axes, float(every.min()), float(every.max()))
    for covariance, sizes in shown.items():
        color, line, _ = LOOKS[covariance]
        axes.plot(sizes, color=color, ls=line, lw=1.2, label=covariance)


def _draw_losses(axes: Axes, outcome: Outcome) -> None:
    axes.set_xlabel("epochs")
    axes.set_ylabel("training loss")
    every = np.concatenate(list(outcome.losses.values()))
    every = every[np.isfinite(every) & (every > 0)]
    if every.max() > 4 * every.min():
        plain_log_axis(axes, float(every.min()) / 1.15, float(every.max()) * 1.15)
    for covariance, losses in outcome.losses.items():
        color, line, _ = LOOKS[covariance]
        axes.plot(np.arange(1, len(losses) + 1), losses, color=color, ls=line, lw=1.8, label=covariance)


def _draw_choices(axes: Axes, outcome: Outcome) -> None:
    light_grid(axes)
    axes.set_title(outcome.regime.title, loc="left", fontsize=10)
    axes.set_xlabel("distance from the rebound, in deviations of a batch of 32")
    axes.set_ylabel("batch size wanted")
    shown = [probe for probe in outcome.probes if probe.kind != "hopeless" and np.isfinite(probe.distance)]
    if not shown:
        axes.text(0.5, 0.5, "no draw in which any size lowers the loss", transform=axes.transAxes, ha="center")
        return
    distances = [probe.distance for probe in shown]
    wanted = {
        "exact": [probe.wants_exact for probe in shown],
        "diagonal": [probe.wants_diagonal for probe in shown],
    }
    power_axis(axes, 1.0, float(max(max(sizes) for sizes in wanted.values())))
    axes.set_xscale("log")
    axes.axhline(M0, color=INK, lw=0.8, ls=":")
    axes.axvline(NEAR, color=INK, lw=0.8, ls=":")
    for covariance, sizes in wanted.items():
        color, _, marker = LOOKS[covariance]
        filled: dict[str, Any] = {"facecolors": "none", "edgecolors": color} if marker == "o" else {"c": color}
        axes.scatter(distances, sizes, s=22, marker=marker, lw=1.0, label=covariance, clip_on=False, **filled)


def _legend(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.01), ncols=3, frameon=False)
