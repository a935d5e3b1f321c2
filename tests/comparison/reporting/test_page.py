"""The report: one file that needs no network, and what a real browser makes of it."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.image import imread

from raytune_hyperlearn.comparison.analysis.results import load_studies, load_study
from raytune_hyperlearn.comparison.analysis.statistics import compare_with
from raytune_hyperlearn.comparison.analysis.summary import final_by_seed, summarize
from raytune_hyperlearn.comparison.reporting.explain import explain
from raytune_hyperlearn.comparison.reporting.page import build_report
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.wording import headline
from tests.comparison.synthetic import make_experiment, write_folder


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
    assert not {"iframe", "object", "embed"} & set(parser.tags)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert len(re.findall("&#39;sha256-.+?&#39;", text)) == 2
    assert page.stat().st_size < 3e6


@pytest.mark.long
def test_joined_page_stays_small(joined_page: Path) -> None:
    assert joined_page.stat().st_size < 3e6


def test_ids_are_unique_and_references_within_the_page_resolve(joined_page: Path) -> None:
    text = joined_page.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = {first or second for first, second in re.findall(r'href="#([^"%]+)"|url\(#([^)]+)\)', text)}
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
        "FDS has the lowest median validation regret at the end",
        "from 3 seeds it is open whether that is more than luck (an interval takes 5)",
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
        assert picture.shape[1] > 700
        assert picture[..., :3].std() > 0.02
        assert "<svg" in (page.parent / "figures" / f"{name}.svg").read_text()
        header, *rows = (page.parent / "figures" / f"{name}.csv").read_text().splitlines()
        assert "," in header
        assert len(rows) > 5


def test_tables_are_files_too(page: Path) -> None:
    for name in ("At a glance", "At the end", "Learned hyperparameters", "Runs"):
        stem = page.parent / "tables" / "-".join(name.lower().split())
        assert len(stem.with_suffix(".csv").read_text().splitlines()) > 6
        assert r"\toprule" in stem.with_suffix(".tex").read_text()


def test_downloads_hold_the_files(page: Path) -> None:
    links = dict(re.findall(r'<a download="([^"]+)" href="data:[^,]+,([^"]*)"', page.read_text(encoding="utf-8")))
    for name, content in links.items():
        path = next(path for path in page.parent.rglob(name))
        assert len(unquote(html.unescape(content)).splitlines()) == len(path.read_text().splitlines())
    assert {"at-a-glance.csv", "at-a-glance.tex", "schedules.csv"} <= set(links)


def test_every_figure_can_be_explained_by_the_rows_of_its_download(joined_page: Path) -> None:
    text = joined_page.read_text(encoding="utf-8")
    names = re.findall(r'<figure id="figure-([^"]+)"', text)
    links = dict(re.findall(r'<a download="([^"]+)" href="data:text/csv[^,]+,([^"]*)"', text))
    studies = load_studies([joined_page.parent / folder for folder in ("a", "b", "c")])
    assert {"targets-reached", "performance-profile", "ranks-over-time", "ranks", "digits-values"} <= set(names)
    for name in names:
        (data,) = explain(studies, name).values()
        assert len(data.formula) > 40, name
        assert data.to_csv() == (joined_page.parent / "figures" / f"{name}.csv").read_text(encoding="utf-8"), name
        if f"{name}.csv" in links:
            assert data.to_csv(6) == unquote(html.unescape(links[f"{name}.csv"])), name
    assert set(explain(studies, "values")) == {"digits", "fashion-mnist"}


def test_one_number_is_no_panel(tmp_path: Path) -> None:
    """A schedule that does not move, and worker-seconds of one worker, are not drawn."""
    experiment = make_experiment(methods=("hd", "rs"), seeds=(0,), workers=1)
    folder = write_folder(tmp_path / "results", experiment)
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for row in rows:
        row["hyperparameters"]["learning_rate"] = [0.25] * 7
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = build_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert "schedules.svg" not in names
    assert "regret-worker-seconds.svg" not in names
    assert "values.svg" in names
    assert "<td>0.25</td>" in text


@pytest.mark.long
def test_several_folders_and_problems_in_one_page(joined_page: Path) -> None:
    text = html.unescape(joined_page.read_text(encoding="utf-8"))
    assert '<h1 id="top">Comparison: one + two + three</h1>' in text
    assert ">digits</h2>" in text
    assert ">fashion-mnist</h2>" in text
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
    assert "<script>alert" not in text
    assert "<b>x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_name_that_is_no_formula_is_drawn_as_text(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "results", make_experiment(methods=("hd", "rs"), seeds=(0,), workers=1))
    rows = (folder / "records.jsonl").read_text()
    strange = {"learning_rate": r"$\frac{$", "momentum": r"$\sqrt$"}
    for name, other in strange.items():
        rows = rows.replace(json.dumps(name), json.dumps(other))
    (folder / "records.jsonl").write_text(rows)
    text = html.unescape(build_report([folder], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert all(name in text for name in strange.values())


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
