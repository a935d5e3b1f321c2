"""The report in a real browser: laid out at two widths, every switch tried, by pointer and by keyboard, and printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.curves import across_seeds
from raytune_hyperlearn.comparison.analysis.results import load_study
from raytune_hyperlearn.comparison.reporting.page import build_report
from tests.comparison.reporting.browser import FLAGS, find_browser
from tests.comparison.synthetic import make_experiment, write_folder

sync_api = pytest.importorskip("playwright.sync_api")

DRAWN = """() => [...document.querySelectorAll("figure[data-kind] canvas")].map(canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colors = new Set();
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 200) colors.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
  return colors.size;
})"""
SIZES = """() => ({
  overflow: document.documentElement.scrollWidth - innerWidth,
  headings: [...document.querySelectorAll("h1, h2, h3, h4")].map(
    heading => [heading.id, heading.getBoundingClientRect().width]),
  clipped: [...document.querySelectorAll(".glance .scroll")].filter(
    box => box.scrollWidth > box.clientWidth + 1).length,
  resources: performance.getEntriesByType("resource").map(entry => entry.name),
})"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path to open the report with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seeds of four methods, on two problems."""
    root = tmp_path_factory.mktemp("interaction")
    settings: dict[str, Any] = {"methods": ("fds", "rs", "hb", "bohb"), "seeds": (0, 1, 2, 3, 4), "time_limit": 30.0}
    folders = [
        write_folder(root / problem, make_experiment(problem=problem, **settings), skill=0.03)
        for problem in ("digits", "fashion-mnist")
    ]
    return build_report(folders, root / "report.html")


def opened(
    chromium: Any, report: Path, width: int = 1440, scheme: str = "light", **options: Any
) -> tuple[Any, list[str]]:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_timeout(300)
    return page, complaints


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everything_is_laid_out_without_complaint(chromium: Any, report: Path, width: int, scheme: str) -> None:
    page, complaints = opened(chromium, report, width, scheme)
    page.evaluate("() => document.querySelectorAll('details').forEach(element => { element.open = true; })")
    page.wait_for_timeout(400)
    sizes = page.evaluate(SIZES)
    assert complaints == []
    assert sizes["overflow"] <= 0
    assert sizes["clipped"] == 0 or width == 390
    assert sizes["resources"] == []
    ids = [name for name, _ in sizes["headings"]]
    assert all(ids)
    assert len(ids) == len(set(ids))
    assert all(across > 20 for _, across in sizes["headings"])
    drawn = page.evaluate(DRAWN)
    assert len(drawn) == page.locator("figure[data-kind]").count() >= 2
    assert min(drawn) > 10
    page.context.close()


@pytest.mark.long
def test_the_first_screen_answers(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    for selector in (".verdict", ".plot", ".glance table"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 900, selector
    assert page.locator(".glance table").first.locator("thead th").count() <= 5
    page.context.close()


@pytest.mark.long
def test_every_switch_draws_something_else(chromium: Any, report: Path) -> None:
    page, complaints = opened(chromium, report)
    figure = page.locator("figure[data-kind=regret]").first
    picture = "canvas => canvas.toDataURL()"
    for switch in figure.locator("select").all():
        values = switch.locator("option").evaluate_all("options => options.map(option => option.value)")
        pictures = []
        for value in values:
            switch.select_option(value)
            page.wait_for_timeout(100)
            pictures.append(figure.locator("canvas").evaluate(picture))
        assert len(set(pictures)) == len(values) >= 2
        switch.select_option(values[0])
    shown = figure.locator("canvas").evaluate(picture)
    button = figure.locator(".names button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert figure.locator("canvas").evaluate(picture) != shown
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert complaints == []
    page.context.close()


@pytest.mark.long
def test_pointer_and_arrows_read_time_value_and_hyperparameters(chromium: Any, report: Path) -> None:
    page, complaints = opened(chromium, report)
    figure = page.locator("figure[data-kind=regret]").first
    readout = figure.locator(".readout")
    figure.locator(".u-over").hover(position={"x": 300, "y": 100})
    assert re.search(r"median of 5 seeds at [\d.]+ s: ", readout.text_content())
    figure.locator("[data-switch=spread]").select_option("seeds")
    plot = figure.locator(".plot")
    plot.focus()
    plot.press("End")
    assert re.search(r"FDS, seed 0 at [\d.]+ s: .* · learning rate .*; momentum ", readout.text_content())
    at_the_end = readout.text_content()
    plot.press("ArrowLeft")
    assert readout.text_content() != at_the_end
    plot.press("ArrowDown")
    assert "FDS, seed 1" in readout.text_content()
    assert complaints == []
    page.context.close()


@pytest.mark.long
def test_the_page_holds_the_curves_of_the_analysis(report: Path) -> None:
    study = load_study(report.parent / "digits")
    text = report.read_text(encoding="utf-8")
    block = re.search(r'id="data-digits-regret-wall-clock">(.*?)</script>', text, flags=re.DOTALL)
    assert block is not None
    views = json.loads(block.group(1))["views"]
    for clock in ("time", "worker_seconds", "evaluations", "epochs"):
        for quantity in ("validation", "test"):
            for method, line in zip(study.methods, views[clock][quantity]["band"], strict=True):
                band = across_seeds([study.curve(run, quantity, clock) for run in study.runs_of(method)])
                count = band.times.size
                assert line["method"] == method
                np.testing.assert_allclose(line["x"][:count], band.times, rtol=1e-5)
                np.testing.assert_allclose(line["y"][:count], band.median, rtol=1e-5)
                np.testing.assert_allclose(line["upper"][:count], band.upper, rtol=1e-5)


@pytest.mark.long
def test_without_scripts_and_on_paper_the_figures_are_svg(chromium: Any, report: Path, tmp_path: Path) -> None:
    page, _ = opened(chromium, report, java_script_enabled=False)
    assert page.locator("canvas").count() == 0
    static = page.locator("figure[data-kind] .panels")
    assert static.first.is_visible()
    page.context.close()
    page, _ = opened(chromium, report)
    page.emulate_media(media="print")
    assert page.locator("figure[data-kind] .panels").first.is_visible()
    assert not page.locator(".live").first.is_visible()
    wide = "() => [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 without margins
    assert page.evaluate(wide) == 0
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    page.context.close()


@pytest.mark.long
def test_a_link_to_a_heading_opens_its_fold(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    fold = page.locator("details.fold", has=page.locator("#problem-digits-settings"))
    assert fold.get_attribute("open") is None
    page.locator("#contents a[href='#problem-digits-settings']").click()
    page.wait_for_timeout(100)
    assert fold.get_attribute("open") is not None
    page.context.close()
