"""[FDS] theorem 4.1: how far shared hypergradients are from the best ones, drawn and counted.

Hypergradients h_t ~ N(m_t, Σ) are drawn many times, shared over windows of every size W, and their squared error is
compared with what the theorem says: σ²/W without drift, at most σ²/W + ε²(W² − 1)/12 with drift, σ²(1 + c(W − 1))/W
in place of σ²/W with correlations up to c. A bound that is never attained says little, so among the profiles there are
those that must attain it: means on a straight line, and equal correlations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from raytune_hyperlearn.comparison.analysis.curves import FloatArray
from raytune_hyperlearn.comparison.reporting.drawing import (
    INK,
    draw_grid,
    light_grid,
    plain_log_axis,
    time_axis,
)
from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.comparison.reporting.wording import number
from raytune_hyperlearn.reproductions.fds.sharing_error import bound, errors, exact_error, single_minimum, window_sizes
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

STANDARD_ERRORS = 5.0
"""Standard errors that a measurement may lie off: some 150 are made, and chance should decide none."""
CHUNK = 5_000
"""Draws made at a time."""
CASES = {"still": "No drift", "drifting": "Drift of at most ε a step", "correlated": "Correlated noise"}


@dataclass(frozen=True)
class Settings:
    """One scale; T, W, σ and ε are the authors' own check.

    Attributes:
        draws: R.
        horizon: T.
        window: W of the table.
        deviation: σ.
        drift: ε.
        correlation: c of the correlated profiles.
        seed: Of everything.
    """

    draws: int
    horizon: int = 400
    window: int = 40
    deviation: float = 0.25
    drift: float = 0.08
    correlation: float = 0.1
    seed: int = 0


SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(2_000),
    "small": Settings(20_000),
    "paper": Settings(200_000),
}


@dataclass(frozen=True)
class Profile:
    """A distribution of hypergradients.

    Attributes:
        name: In tables.
        case: Key of :data:`CASES`.
        means: m [T].
        deviations: Of each step [T].
        correlations: [T, T], 1 on the diagonal.
        correlation: c, the largest beside the diagonal.
        drift: ε, at least the largest change of the mean.
        attains: Whether it must attain the bound.
    """

    name: str
    case: str
    means: FloatArray
    deviations: FloatArray
    correlations: FloatArray
    correlation: float
    drift: float
    attains: bool

    @property
    def covariance(self) -> FloatArray:
        """Σ [T, T]."""
        return np.outer(self.deviations, self.deviations) * self.correlations

    def bound(self, window: int) -> float:
        """The theorem's, from this profile's own σ̄², c and ε."""
        return bound(float(np.square(self.deviations).mean()), self.correlation, self.drift, window)

    def draws(self, count: int, generator: np.random.Generator) -> Iterator[FloatArray]:
        """Hypergradients [R', T], ``CHUNK`` at a time."""
        root = np.linalg.cholesky(self.covariance)
        for first in range(0, count, CHUNK):
            rows = min(CHUNK, count - first)
            yield self.means + generator.standard_normal((rows, len(self.means))) @ root.T


@dataclass(frozen=True)
class Measured:
    """Errors of one profile at every window size.

    Attributes:
        profile: What was drawn.
        windows: W [S].
        errors: Mean over draws [S].
        deviations: Standard errors of those means [S].
        exact: In closed form [S].
        bounds: The theorem's [S].
    """

    profile: Profile
    windows: tuple[int, ...]
    errors: FloatArray
    deviations: FloatArray
    exact: FloatArray
    bounds: FloatArray

    def off(self, expected: FloatArray) -> float:
        """Largest distance from what is expected, in standard errors."""
        return float(np.abs((self.errors - expected) / self.deviations).max())

    @property
    def above(self) -> float:
        """How far the worst error lies above its bound, in standard errors; negative where all lie below."""
        return float(((self.errors - self.bounds) / self.deviations).max())


def profiles(settings: Settings) -> tuple[Profile, ...]:
    """All that are drawn from."""
    T, c, slope = settings.horizon, settings.correlation, settings.drift
    steps: FloatArray = np.arange(T, dtype=np.float64)
    flat, straight = np.full(T, 0.3), slope * steps
    wave = slope * T / (4 * np.pi) * np.sin(4 * np.pi * steps / T)
    walk = np.cumsum(np.random.default_rng(settings.seed).uniform(-slope, slope, T))
    zigzag = slope * (steps % 2)
    alike = np.where(np.eye(T, dtype=bool), 1.0, c)
    fading = c ** np.abs(steps[:, None] - steps[None, :])
    independent = np.eye(T)
    even = np.full(T, settings.deviation)
    uneven = settings.deviation * (0.2 + 1.6 * steps / T)
    return (
        Profile("independent", "still", flat, even, independent, 0.0, 0.0, True),
        Profile("straight line", "drifting", straight, even, independent, 0.0, slope, True),
        Profile("two waves", "drifting", wave, even, independent, 0.0, slope, False),
        Profile("random walk", "drifting", walk, even, independent, 0.0, slope, False),
        Profile("zigzag", "drifting", zigzag, even, independent, 0.0, slope, False),
        Profile("equal correlations", "correlated", flat, even, alike, c, 0.0, True),
        Profile("fading correlations", "correlated", flat, even, fading, c, 0.0, False),
        Profile("equal, unequal variances", "correlated", flat, uneven, alike, c, 0.0, False),
        Profile("equal, straight line", "correlated", straight, even, alike, c, slope, True),
    )


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Draws, compares, draws figures."""
    settings = SETTINGS[scale]
    generator = np.random.default_rng(settings.seed + 1)
    measured = []
    with console.status("drawing hypergradients"):
        for profile in profiles(settings):
            measured.append(measure(profile, settings.draws, generator))
    return findings(measured, settings)


def measure(profile: Profile, draws: int, generator: np.random.Generator) -> Measured:
    """Mean squared error at every window size over many draws."""
    windows = window_sizes(len(profile.means))
    every = [[errors(chunk, profile.means, window) for window in windows] for chunk in profile.draws(draws, generator)]
    joined = np.concatenate(every, axis=1)
    return Measured(
        profile,
        windows,
        joined.mean(axis=1),
        joined.std(axis=1, ddof=1) / np.sqrt(draws),
        np.array([exact_error(profile.means, profile.covariance, window) for window in windows]),
        np.array([profile.bound(window) for window in windows]),
    )


def findings(measured: Sequence[Measured], settings: Settings) -> Findings:
    """Verdicts, figure and tables."""
    of = {case: [m for m in measured if m.profile.case == case] for case in CASES}
    return Findings(
        settings=asdict(settings),
        verdicts=(
            _unshared(measured),
            _attained(
                "Shared over W steps and without drift of the means, the mean square error is exactly σ²/W.",
                of["still"],
            ),
            _bounded(
                "With means that drift by at most ε a step it is at most σ²/W + ε²(W² − 1)/12, for every W.",
                of["drifting"],
            ),
            _bounded("With correlations up to c the first term is σ²(1 + c(W − 1))/W.", of["correlated"]),
            _attained(
                "Beyond the paper: the bound is sharp; a straight line and equal correlations attain it.",
                [m for m in measured if m.profile.attains and m.profile.case != "still"],
            ),
            _helps(measured, settings),
            _single(measured, settings),
        ),
        figures=(
            Drawn(
                "error-by-window",
                "Mean square error by the size of the window",
                draw(measured),
                "Markers: measured. Thin lines: the closed form for the same means and covariance. Thick and broken: "
                "the theorem's bound (for the profiles with σ, c and ε of the panel). Both axes are logarithmic; the "
                "paper shows random profiles and their bound in appendix B.",
            ),
        ),
        tables=(_table(measured, settings), _best_table(measured)),
        numbers={"profiles": [_numbers(m) for m in measured]},
    )


def _unshared(measured: Sequence[Measured]) -> Verdict:
    """W = 1."""
    variances = [float(np.square(m.profile.deviations).mean()) for m in measured]
    off = max(abs(m.errors[0] - v) / m.deviations[0] for m, v in zip(measured, variances, strict=True))
    first = measured[0]
    return Verdict(
        "Without sharing the mean square error is σ².",
        f"Measured {number(first.errors[0])} where σ² is {number(variances[0])}; over all {len(measured)} profiles the "
        f"largest distance is {number(off)} standard errors.",
        bool(off < STANDARD_ERRORS),
    )


def _attained(claim: str, measured: Sequence[Measured]) -> Verdict:
    """Whether the errors equal the bounds."""
    off = max(m.off(m.bounds) for m in measured)
    relative = max(float(np.abs(m.errors / m.bounds - 1).max()) for m in measured)
    names = ", ".join(m.profile.name for m in measured)
    return Verdict(
        claim,
        f"{names}: over {len(measured[0].windows)} sizes of the window the largest distance is {number(off)} standard "
        f"errors, {number(100 * relative)} %.",
        off < STANDARD_ERRORS,
    )


def _bounded(claim: str, measured: Sequence[Measured]) -> Verdict:
    """Whether no error exceeds its bound."""
    above = max(m.above for m in measured)
    shares = [f"{m.profile.name} {number(float((m.errors / m.bounds).min()))}" for m in measured]
    worst = f"{number(above)} standard errors above it" if above > 0 else "below it"
    return Verdict(
        claim,
        f"At worst {worst} over {len(measured)} profiles and {len(measured[0].windows)} sizes of the window. The least "
        f"share of the bound that each uses up: {', '.join(shares)}.",
        above < STANDARD_ERRORS,
    )


def _helps(measured: Sequence[Measured], settings: Settings) -> Verdict:
    """Whether some W > 1 has a smaller error than W = 1."""
    parts, holds = [], True
    for m in measured:
        best = int(m.errors.argmin())
        gain = m.errors[0] - m.errors[best]
        holds &= bool(best > 0 and gain > STANDARD_ERRORS * np.hypot(m.deviations[0], m.deviations[best]))
        parts.append(f"{m.profile.name} W = {m.windows[best]}, {number(m.errors[0] / m.errors[best])} times less")
    return Verdict(
        "For sufficiently small c and ε some W > 1 has a smaller error than no sharing.",
        f"Lowest errors with σ = {settings.deviation:g}, ε = {settings.drift:g}, c = {settings.correlation:g}: "
        f"{'; '.join(parts)}.",
        holds,
    )


def _single(measured: Sequence[Measured], settings: Settings) -> Verdict:
    """Whether each bound has one minimum over all whole W."""
    lowest, holds = [], True
    for m in measured:
        values = [m.profile.bound(window) for window in range(1, settings.horizon + 1)]
        holds &= single_minimum(values)
        lowest.append(str(int(np.argmin(values)) + 1))
    return Verdict(
        "In all cases the bound has a single minimum over W.",
        f"Over W = 1 … {settings.horizon} the bounds are lowest at W = {', '.join(lowest)} (profiles in the table's "
        "order).",
        holds,
    )


COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")


def draw(measured: Sequence[Measured]) -> Figure:
    """A panel per case."""
    panels = [[m for m in measured if m.profile.case == case] for case in CASES]
    return draw_grid(panels, _draw_panel, columns=3, size=(4.4, 3.8), left_margin=0.75, right_margin=0.2)


def _draw_panel(axes: Axes, measured: Sequence[Measured]) -> None:
    light_grid(axes)
    axes.set_title(CASES[measured[0].profile.case], loc="left")
    axes.set_ylabel("mean square error")
    every = np.concatenate([np.concatenate([m.errors, m.bounds]) for m in measured])
    time_axis(axes, 0.9, measured[0].windows[-1] * 1.1)
    plain_log_axis(axes, float(every.min()) / 1.3, float(every.max()) * 1.3)
    axes.set_xlabel("steps that share a value, W")
    bounds = {tuple(m.bounds.tolist()) for m in measured}
    for values in bounds:
        axes.plot(measured[0].windows, values, color=INK, ls=(0, (4, 2)), lw=2.2, label="bound")
    for m, color, marker in zip(measured, COLOURS, MARKERS, strict=False):
        axes.plot(m.windows, m.exact, color=color, lw=0.9)
        axes.plot(m.windows, m.errors, color=color, ls="", marker=marker, markersize=4.5, label=m.profile.name)
    axes.legend(loc="best", frameon=False, fontsize=8)


def _table(measured: Sequence[Measured], settings: Settings) -> Table:
    """Errors at the authors' window."""
    rows = []
    for m in measured:
        place = m.windows.index(settings.window)
        rows.append(
            (
                f"{CASES[m.profile.case]}: {m.profile.name}",
                number(float(m.errors[0])),
                f"{number(float(m.errors[place]))} ± {number(float(m.deviations[place]))}",
                number(float(m.exact[place])),
                number(float(m.bounds[place])),
                "yes" if m.profile.attains else "no",
            )
        )
    return Table(
        f"Mean square errors at W = {settings.window}",
        ("profile", "unshared", "shared", "closed form", "bound", "must attain it"),
        tuple(rows),
        f"T = {settings.horizon}, σ = {settings.deviation:g}, ε = {settings.drift:g}, as in the authors' own check. "
        "With so strong a drift a window of 40 is far too long: the bias outweighs what sharing saves in noise.",
    )


def _best_table(measured: Sequence[Measured]) -> Table:
    """The window with the lowest error."""
    rows = tuple(
        (
            f"{CASES[m.profile.case]}: {m.profile.name}",
            str(m.windows[int(m.errors.argmin())]),
            number(float(m.errors.min())),
            str(m.windows[int(m.bounds.argmin())]),
            number(float(m.bounds.min())),
            f"{number(m.off(m.exact))} s.e.",
        )
        for m in measured
    )
    columns = ("profile", "best W", "error there", "best W by the bound", "bound there", "off the closed form at most")
    return Table("The best windows", columns, rows, "s.e.: standard errors, the worst of all sizes of the window.")


def _numbers(measured: Measured) -> dict[str, object]:
    profile = measured.profile
    return {
        "name": profile.name,
        "case": profile.case,
        "correlation": profile.correlation,
        "drift": profile.drift,
        "windows": list(measured.windows),
        **{key: getattr(measured, key).tolist() for key in ("errors", "deviations", "exact", "bounds")},
    }
