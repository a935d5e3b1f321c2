"""What figures share: labels that keep apart, axes, inline SVG, and colors that differ."""

from __future__ import annotations

import base64
import io
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from raytune_hyperlearn.comparison.reporting.compact_svg import compact_svg
from raytune_hyperlearn.comparison.reporting.drawing import (
    INK,
    inline_svg,
    light_grid,
    look,
    regret_axis,
    save_figure,
    spread,
    time_axis,
)
from raytune_hyperlearn.comparison.reporting.styles import METHOD_STYLES, method_styles


@pytest.mark.parametrize("seed", range(20))
def test_labels_keep_apart_and_move_little(seed: int) -> None:
    generator = np.random.default_rng(seed)
    wanted = generator.uniform(0, 100, size=int(generator.integers(1, 8))).tolist()
    placed = spread(wanted, 10.0, 0.0, 100.0)
    order = np.argsort(wanted)
    gaps = np.diff(np.array(placed)[order])
    assert np.all(gaps >= 10 - 1e-9)
    assert min(placed) >= -1e-9
    assert max(placed) <= 100 + 1e-9
    # No small feasible move brings the labels closer to where they want to be.
    cost = float(np.sum((np.array(placed) - wanted) ** 2))
    for _ in range(300):
        other = np.clip(np.array(placed) + generator.normal(0, 0.5, size=len(placed)), 0, 100)
        if np.all(np.diff(other[order]) >= 10):
            assert float(np.sum((other - wanted) ** 2)) >= cost - 1e-9


def test_labels_already_apart_stay() -> None:
    assert spread([50.0, 10.0, 90.0], 10.0, 0.0, 100.0) == [50.0, 10.0, 90.0]
    assert spread([], 10.0, 0.0, 100.0) == []
    assert spread([5.0, 5.0, 5.0], 10.0, 0.0, 15.0) == [0.0, 10.0, 20.0]


def tick_labels(axis: object) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]  # type: ignore[attr-defined]


def test_regret_axis_shows_zero_where_it_is_in_sight() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    regret_axis(axes, -0.03, 1.5, 0.01)
    figure.canvas.draw()
    labels = tick_labels(axes.yaxis)
    assert {"0", "0.01", "0.1", "1", "−0.01"} <= set(labels)
    low, high = axes.get_ylim()
    assert low < -0.03
    assert high > 1.5
    regret_axis(axes, 0.2, 1.5, 0.01)
    figure.canvas.draw()
    assert axes.get_yscale() == "log"
    assert tick_labels(axes.yaxis) == ["0.2", "0.5", "1"]


def test_time_axis_has_plain_round_ticks() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    time_axis(axes, 0.8, 60)
    figure.canvas.draw()
    assert tick_labels(axes.xaxis) == ["1", "2", "5", "10", "20", "50"]
    time_axis(axes, 0.8, 50_000)
    figure.canvas.draw()
    assert tick_labels(axes.xaxis) == ["1", "10", "100", "1,000", "10,000"]


def test_drawing_leaves_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    with look():
        Figure().add_subplot()
    assert dict(matplotlib.rcParams) == before


def test_files_and_inline_svg(tmp_path: Path) -> None:
    with look():
        figure = Figure(figsize=(3, 2))
        figure.add_subplot().plot([1, 2], [3, 4], marker="o")
    svg_file, png_file = save_figure(figure, tmp_path / "some.thing")
    assert svg_file.read_text().startswith("<?xml")
    assert png_file.read_bytes().startswith(b"\x89PNG")
    text = inline_svg(figure, "one", 'A "quoted" & odd title')
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == 'A "quoted" & odd title'
    assert root.get("width") is None
    assert root.get("viewBox")
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(name is not None and name.startswith("one-") for name in ids)
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert used
    assert {first or second for first, second in used} <= set(ids)
    assert INK not in text
    assert "currentColor" in text
    assert inline_svg(figure, "one", "t") == inline_svg(figure, "one", "t")


def test_a_compact_image_takes_less_and_shows_the_same() -> None:
    randoms = np.random.default_rng(0)
    with look():
        figure = Figure(figsize=(3, 2))
        axes = figure.add_subplot()
        axes.scatter(*randoms.random((2, 300)), c=randoms.random(300), rasterized=True)
        light_grid(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    compact = compact_svg(buffer.getvalue())
    assert len(compact) < len(buffer.getvalue()) / 2

    def image(text: str) -> np.ndarray:
        found = re.search(r'data:image/png;base64,([^"]*)', text)
        assert found
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(found.group(1)))).convert("RGBA"), dtype=float)

    def shown(pixels: np.ndarray) -> np.ndarray:
        return pixels[..., :3] * pixels[..., 3:] / 255 + 255 - pixels[..., 3:]

    before, after = shown(image(buffer.getvalue())), shown(image(compact))
    assert before.std() > 10
    assert np.sqrt(np.mean((before - after) ** 2)) < 4
    labels = [element.text for element in ElementTree.fromstring(compact).iter() if element.tag.endswith("text")]
    assert len(labels) == len(re.findall("<text", buffer.getvalue()))


def deuteranope(color: str) -> np.ndarray:
    """A color as seen without middle-wavelength cones (Machado, Oliveira, Fernandes 2009), in CIE L*a*b*."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(seen @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SEARCHES = ("fds", "fds-forward", "hd", "rs", "bo", "hb", "bohb")
CLEANING = ("fds", "boat", "betty", "rs", "hb", "bohb")
ARBITERS = tuple(method for method in METHOD_STYLES if method.startswith("arbiter"))
BATCH_SIZES = (
    *("ba-sgd", "ba-momentum", "mini-32", "mini-64", "mini-128", "mini-256"),
    *("manual", "cabs", "gns"),
)


@pytest.mark.parametrize("family", [SEARCHES, CLEANING, BATCH_SIZES, ARBITERS])
def test_methods_that_stand_in_one_figure_differ_in_color_line_and_marker(family: tuple[str, ...]) -> None:
    for one, other in itertools.combinations(family, 2):
        first, second = METHOD_STYLES[one], METHOD_STYLES[other]
        assert first.marker != second.marker
        assert first.line != second.line
        distance = float(np.linalg.norm(deuteranope(first.color) - deuteranope(second.color)))
        assert distance > 12, (first.label, second.label, distance)


def test_no_two_methods_of_a_comparison_are_drawn_alike() -> None:
    shapes = [
        (style.line, style.marker) for name, style in METHOD_STYLES.items() if name not in (*ARBITERS, *BATCH_SIZES)
    ]
    assert len(set(shapes)) == len(shapes)


def test_unknown_methods_get_a_style_that_does_not_depend_on_the_known_ones() -> None:
    alone = method_styles(["mine", "another"])
    among = method_styles(["another", "fds", "bohb", "mine"])
    assert {name: among[name] for name in alone} == alone
    assert alone["mine"] != alone["another"]
    assert among["fds"] is METHOD_STYLES["fds"]


def test_a_wide_axis_with_negative_regret_has_ticks_on_both_sides() -> None:
    axes = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    regret_axis(axes, -0.02, 300.0, 1e-4)
    ticks = axes.get_yticks()
    assert min(ticks) < 0 < max(ticks)


def test_a_legend_below_the_axes_is_on_the_page() -> None:
    def height(with_legend: bool) -> float:
        figure = Figure(figsize=(4, 3))
        figure.add_subplot().plot([0, 1], [0, 1], label="measured")
        if with_legend:
            figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0))
        found = re.search(r"viewBox='([^']*)'", inline_svg(figure, "lines", "Lines"))
        assert found is not None
        return float(found[1].split()[3])

    assert height(with_legend=True) > height(with_legend=False) + 5
