"""What all figures share: appearance, axes, labels that do not overlap, files and inline SVG.

Figures are drawn with matplotlib's object-oriented interface; nothing here touches pyplot or leaves settings changed.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from xml.sax.saxutils import escape, quoteattr

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from raytune_hyperlearn.comparison.reporting.compact_svg import compact_svg

PanelData = TypeVar("PanelData")
# Text and axes are drawn in one color that nothing else uses, so that inline SVG can follow the page's own color.
INK = "#1b1f24"
LABEL_GAP = 11.0  # points between two line-end labels
_LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "hyperlearn",
    "savefig.dpi": 160,
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Draw inside this context; the caller's matplotlib settings are the same afterwards."""
    with matplotlib.rc_context(_LOOK):
        yield


def label_width(names: Iterable[str]) -> float:
    """Inches that the longest of the names takes in a figure, with the space before it."""
    return 0.35 + 0.085 * max(map(len, names), default=0)


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes ``stem``.svg and ``stem``.png on white and returns their paths."""
    paths = stem.with_suffix(".svg"), stem.with_suffix(".png")
    with look():
        figure.savefig(paths[0], facecolor="white", bbox_inches="tight", metadata={"Date": None})
        figure.savefig(paths[1], facecolor="white", bbox_inches="tight")
    return paths


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an ``<svg>`` element for a page: transparent, as wide as its place, in the page's text color.

    Args:
        figure: what to draw.
        name: unique on the page; prefixes every id inside.
        title: what the figure shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    # A legend of the whole figure may lie outside of it.
    box = "tight" if figure.legends else None
    # Text stays text: it can be searched and read aloud, and the page carries no outlines of letters. The figure was
    # laid out for DejaVu Sans, which is wider than the page's own font, in which it is read.
    with look(), matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches=box, metadata={"Date": None})
    text = compact_svg(buffer.getvalue())
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf"<svg viewBox='\1' {_accessible(title)}>", text, count=1)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r' font-family="[^"]*"| transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r'"[\d.]*"', _rounded, text)
    return text.replace(INK, "currentColor").replace("<defs>", f"<title>{escape(title)}</title><defs>", 1)


def _rounded(coordinate: re.Match[str]) -> str:
    """Hundredths of a point, which are finer than any screen."""
    return re.sub(r"(\.\d\d)\d+", r"\1", coordinate.group())


def _accessible(title: str) -> str:
    return f'xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(title)}'


def name_lines(figure: Figure) -> None:
    """Writes a legend of the figure's labeled lines below it, each once."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        named.update((label, line) for line, label in zip(*axes.get_legend_handles_labels(), strict=True))
    if named:
        with look():
            figure.legend(
                list(named.values()),
                list(named),
                loc="upper center",
                bbox_to_anchor=(0.5, 0.01),
                ncols=3 if figure.get_figwidth() > 8 else 2,
                frameon=False,
                handlelength=3.2,
            )


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves labels apart, as little as least squares allows.

    Args:
        positions: where the labels want to be [n].
        gap: least distance between any two.
        low: lower end of the room they have.
        high: upper end; where the room is too small the labels start at ``low`` and pass ``high``.

    Returns:
        Positions in the same order [n].
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    # With y_i = x_i + i·gap the distances are kept exactly when x does not fall: isotonic regression by pooling.
    pools: list[tuple[float, int]] = []
    for place, i in enumerate(order):
        total, count = positions[i] - place * gap, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            previous = pools.pop()
            total, count = total + previous[0], count + previous[1]
        pools.append((total, count))
    levels = [total / count for total, count in pools for _ in range(count)]
    ceiling = max(high - (len(positions) - 1) * gap, low)
    moved = [0.0] * len(positions)
    for place, i in enumerate(order):
        moved[i] = min(max(levels[place], low), ceiling) + place * gap
    return moved


def label_line_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes names to the right of the axes at the height of their lines' ends, moved apart where they would overlap.

    Args:
        axes: with its limits and scales final.
        ends: value, name and color of each line.
    """
    if not ends:
        return
    points = 72 / axes.figure.dpi
    box = axes.get_window_extent()
    transform = axes.transData
    right = axes.get_xlim()[1]
    wanted = [float(transform.transform((right, value))[1] - box.y0) * points for value, _, _ in ends]
    placed = spread(wanted, LABEL_GAP, 2.0, box.height * points - 2.0)
    for (value, name, color), start, place in zip(ends, wanted, placed, strict=True):
        axes.annotate(
            name,
            xy=(right, value),
            xytext=(16, place - start),
            textcoords="offset points",
            va="center",
            ha="left",
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.9, "shrinkA": 1, "shrinkB": 1, "relpos": (0, 0.5)},
        )


def time_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of seconds from ``low`` to ``high`` (> 0) with ticks at 1, 2 and 5 times powers of ten."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = _few_round_numbers(low, high, most=8)
    _set_ticks(axes.xaxis, ticks)


def regret_axis(axes: Axes, low: float, high: float, linear_below: float) -> None:
    """An axis of signed regret: logarithmic beyond ``linear_below`` on either side of zero, linear in between.

    Where all values are above ``linear_below`` it is an ordinary logarithmic axis.
    """
    if low > linear_below:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        ticks = _round_numbers(low / 1.15, high * 1.15, (1, 2, 5))
    else:
        axes.set_yscale("symlog", linthresh=linear_below, linscale=0.5)
        bottom = 1.3 * low if low < -linear_below else min(low - 0.3 * linear_below, -0.3 * linear_below)
        top = max(1.3 * high, 1.5 * linear_below)
        axes.set_ylim(bottom, top)
        positive = _round_numbers(linear_below, top, (1, 2, 5))
        negative = [-tick for tick in _round_numbers(linear_below, max(-bottom, 1e-300), (1, 2, 5))]
        if len(positive) + len(negative) > 9:
            positive = [tick for tick in positive if _is_power_of_ten(tick) or tick == linear_below]
            negative = [tick for tick in negative if _is_power_of_ten(-tick)]
        ticks = [*sorted(negative), 0.0, *positive]
    _set_ticks(axes.yaxis, ticks)


FEWEST_TICKS = 3
"""With fewer, a logarithmic axis takes finer round numbers."""


def plain_log_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical logarithmic axis from ``low`` to ``high`` (> 0) with plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = _few_round_numbers(low, high, most=7)
    if len(ticks) < FEWEST_TICKS:
        ticks = _round_numbers(low, high, (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
    _set_ticks(axes.yaxis, ticks)


def _few_round_numbers(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 times powers of ten; the powers alone where these are more than ``most``."""
    ticks = _round_numbers(low, high, (1, 2, 5))
    return ticks if len(ticks) <= most else _round_numbers(low, high, (1,))


def _set_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """Plain numbers at these places and nowhere else."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain_tick))


def light_grid(axes: Axes) -> None:
    """A grid that stays behind the data on a light and on a dark page."""
    axes.grid(visible=True, color=INK, alpha=0.13, linewidth=0.7)
    axes.set_axisbelow(True)


class ShownFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with look():
            self.savefig(buffer, format="png", facecolor="white", bbox_inches="tight")
        return buffer.getvalue()


def draw_grid(
    panels: Sequence[PanelData],
    draw: Callable[[Any, PanelData], None],
    columns: int,
    size: tuple[float, float],
    left_margin: float,
    right_margin: float,
) -> Figure:
    """One axes per panel, ``columns`` to a row, each ``size`` inches of which the margins are kept for labels."""
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = size
    with look():
        figure = ShownFigure(figsize=(columns * width, rows * height))
        for i, panel in enumerate(panels):
            row, column = divmod(i, columns)
            left, bottom = column * width + left_margin, (rows - 1 - row) * height + 0.52
            box = (
                left / (columns * width),
                bottom / (rows * height),
                (width - left_margin - right_margin) / (columns * width),
                (height - 0.52 - 0.35) / (rows * height),
            )
            draw(figure.add_axes(box), panel)
    return figure


def _round_numbers(low: float, high: float, leading: Sequence[float]) -> list[float]:
    if not 0 < low <= high < math.inf:
        return []
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = (digit * 10.0**exponent for exponent in exponents for digit in leading)
    return [number for number in numbers if low * (1 - 1e-9) <= number <= high * (1 + 1e-9)]


def _is_power_of_ten(number: float) -> bool:
    return bool(np.isclose(math.log10(number) % 1.0, [0.0, 1.0], atol=1e-9).any())


def _plain_tick(value: float, _position: int) -> str:
    return f"{value:,.10g}".replace("-", "−") if abs(value) < 1e5 else f"{value:.0e}"
