"""The report: one file that needs no network, and what a real browser makes of it."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from raytune_hyperlearn.comparison.analysis.results import load_study
from raytune_hyperlearn.comparison.analysis.statistics import compare_with
from raytune_hyperlearn.comparison.analysis.summary import final_by_seed, summarize
from raytune_hyperlearn.comparison.reporting.page import build_report
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.wording import headline
from tests.comparison.reporting.browser import Browser
from tests.comparison.synthetic import make_experiment, write_folder

# Runs inside the report and tells the page around it what was laid out and what was asked of any network.
MEASURE = """
<script>
addEventListener("load", () => {
  const size = element => { const box = element.getBoundingClientRect(); return [box.width, box.height]; };
  const all = selector => [...document.querySelectorAll(selector)];
  parent.postMessage(JSON.stringify({
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
    headings: all("h1, h2, h3").map(heading => [heading.textContent, ...size(heading)]),
    figures: all(".panel svg").map(svg => [
      svg.getAttribute("aria-label"), ...size(svg), svg.querySelectorAll("path, use").length,
      Math.max(...[...svg.querySelectorAll("path")].map(path => size(path)[0])),
    ]),
    tables: all("table").map(table => size(table)),
    resources: performance.getEntriesByType("resource").map(entry => entry.name),
  }), "*");
});
</script>
"""
AROUND = """<!DOCTYPE html><body><pre id="measured"></pre>
<script>
addEventListener("message", event => {{ document.getElementById("measured").textContent = event.data; }});
</script>
<iframe src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe></body>
"""


class References(HTMLParser):
    """Collects whatever a browser would load or follow, and the tags it meets."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.loaded.append(value or "")
            if name == "style":
                self.loaded += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "style":
            self.loaded += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", data)


@pytest.fixture(scope="module")
def page(result_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report") / "report.html"
    assert build_report([result_folder], output) == output
    return output


@pytest.fixture(scope="module")
def joined_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two problems; on the first, seeds in two folders and enough of them for tests."""
    root = tmp_path_factory.mktemp("joined")
    methods = ("fds", "rs", "my-method")
    folders = [
        write_folder(root / "a", make_experiment(name="one", methods=methods, seeds=(0, 1, 2))),
        write_folder(root / "b", make_experiment(name="two", methods=methods, seeds=(3, 4))),
        write_folder(root / "c", make_experiment(name="three", problem="fashion-mnist", methods=methods, seeds=(0,))),
    ]
    return build_report(folders, root / "report.html")


def test_report_needs_no_network(page: Path) -> None:
    parser = References()
    parser.feed(page.read_text(encoding="utf-8"))
    assert parser.loaded
    assert [target for target in parser.loaded if not target.startswith(("#", "data:"))] == []
    assert not {"script", "iframe", "object", "embed", "link:stylesheet"} & set(parser.tags)
    assert "default-src 'none'" in page.read_text(encoding="utf-8")


def test_ids_are_unique_and_references_within_the_page_resolve(joined_page: Path) -> None:
    text = joined_page.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = {first or second for first, second in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)}
    assert used
    assert used <= set(ids)


def test_report_says_what_was_measured(page: Path, result_folder: Path) -> None:
    text = html.unescape(page.read_text(encoding="utf-8"))
    study = load_study(result_folder)
    summaries = summarize(study)
    pairs = compare_with("fds", final_by_seed(study), np.random.default_rng(0))
    for sentence in headline(study, summaries, method_styles(summaries), pairs):
        assert f"<p>{sentence}</p>" in text
    for part in (
        "At the end FDS has the lowest median validation regret",
        "<p>To test FDS against each of 5 other methods takes at least 8 seeds; there are 3, so the differences",
        "Time to reach a validation regret",
        "Speed-ups of each method over each other",
        "Learned hyperparameters",
        "What each method was given",
        "The reference: where regret is zero",
        "hyperlearn reference digits",
        "Machine and versions",
        study.environments[0]["processor"],
        "OMP_NUM_THREADS".replace("_", " "),
        "outer_steps: 10; budgets: [1, 3, 9]; hz_clip: 1",
    ):
        assert part in text, part


def test_figures_are_files_too(page: Path) -> None:
    for name in ("regret-wall-clock", "regret-worker-seconds", "schedules", "values", "evaluations"):
        picture = imread(page.parent / "figures" / f"{name}.png")
        assert picture.shape[1] > 1000
        assert picture[..., :3].std() > 0.02
        assert "<svg" in (page.parent / "figures" / f"{name}.svg").read_text()


def test_several_folders_and_problems_in_one_page(joined_page: Path) -> None:
    text = html.unescape(joined_page.read_text(encoding="utf-8"))
    assert "<h1>Comparison: one + two + three</h1>" in text
    assert "Problem: digits" in text
    assert "Problem: fashion-mnist" in text
    assert "3 methods on digits, 5 seeds each" in text
    assert "FDS − RS" in text
    assert "RS − " not in text  # FDS against each, not all pairs
    assert "p (Holm)" in text
    assert "Over 2 problems" in text
    assert "With 2 problems no test has power" in text
    assert "Ranks over time" in text
    assert "From the result folders a, b." in text
    names = {path.name for path in (joined_page.parent / "figures").iterdir()}
    assert {"digits-regret-wall-clock.svg", "fashion-mnist-regret-wall-clock.png", "ranks.svg"} <= names


def test_text_from_the_folder_cannot_become_markup(tmp_path: Path) -> None:
    experiment = make_experiment(name="<script>alert(1)</script>", methods=("<b>x", "rs"), seeds=(0,))
    output = build_report([write_folder(tmp_path / "results", experiment)], tmp_path / "report.html")
    text = output.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "<b>x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_folder_without_any_result_still_gives_a_report(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "results", make_experiment(methods=("fds",), seeds=(0,)))
    (folder / "records.jsonl").write_text("")
    (folder / "runs.jsonl").unlink()
    (folder / "environment.json").unlink()
    text = build_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No run has begun" in text
    assert "not run" in text
    assert "holds no description of the machine" in text


def test_unreadable_folders_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^folder is '.*'; it must hold experiment\.yaml"):
        build_report([tmp_path / "nowhere"], tmp_path / "out" / "report.html")
    assert not (tmp_path / "out").exists()


def measure(browser: Browser, page: Path, width: int, folder: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)  # it would stop the measuring script
    inner = folder / f"inner-{width}.html"
    inner.write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    around = folder / f"around-{width}.html"
    around.write_text(AROUND.format(page=inner.name, width=width), encoding="utf-8")
    document = browser.document(around, "--virtual-time-budget=10000", "--window-size=1300,1000")
    found = re.search(r'<pre id="measured">(.*?)</pre>', document, flags=re.DOTALL)
    assert found is not None
    measured: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return measured


@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_lays_everything_out(width: int, browser: Browser, page: Path, tmp_path: Path) -> None:
    measured = measure(browser, page, width, tmp_path)
    assert measured["width"] == width
    assert measured["overflow"] <= 0
    titles = [title for title, *_ in measured["headings"]]
    assert titles[:2] == ["Comparison: digits-comparison", "Problem: digits"]
    assert {"Regret over wall-clock", "Learned schedules", "Every evaluation", "At the end"} <= set(titles)
    assert all(w > 50 and h > 10 for _, w, h in measured["headings"])
    assert len(measured["figures"]) == 2 + 2 + 6 + 2 + 6
    for label, drawn_width, height, shapes, widest in measured["figures"]:
        assert label
        assert 300 <= drawn_width <= width
        assert height > 100
        assert shapes > 20
        assert widest > 100
    assert len(measured["tables"]) >= 8
    assert all(w > 50 and h > 20 for w, h in measured["tables"] if (w, h) != (0, 0))
    assert measured["resources"] == []


def test_measuring_would_notice_a_network_resource(browser: Browser, page: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked.html"
    image = '<img src="http://example.invalid/picture.png">'
    linked.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{image}"), encoding="utf-8")
    assert measure(browser, linked, 1200, tmp_path)["resources"] == ["http://example.invalid/picture.png"]


def test_a_browser_paints_it(browser: Browser, page: Path, tmp_path: Path) -> None:
    picture = imread(browser.screenshot(page, tmp_path / "page.png", 1200, 2400))
    assert picture.shape[:2] == (2400, 1200)
    colours = picture[..., :3]
    orange = np.array([0xD5, 0x5E, 0x00]) / 255
    for top in range(0, 2400, 400):
        assert colours[top : top + 400].std() > 0.02
    assert np.sum(np.abs(colours - orange).max(axis=-1) < 0.02) > 500
