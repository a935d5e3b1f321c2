"""What the documentation tells people to run runs, and what it links to is there."""

from __future__ import annotations

import configparser
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from raytune_hyperlearn import cli
from raytune_hyperlearn.comparison.running import cluster

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")
SHORTER = {"--time-limit": "3", "--seeds": "1"}


def shortened(words: list[str]) -> list[str]:
    """A command that takes seconds: the same one, with less time and fewer seeds."""
    return [SHORTER.get(before, word) for before, word in zip(["", *words], words, strict=False)]


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: str) -> Iterator[Path]:
    """A stranger's folder, with this session's Ray running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cluster, "stop_ray", lambda: None)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", shortened(shlex.split(line)))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, line


def test_the_quick_start_runs_from_an_empty_folder(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = FENCE.findall((ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    for language, title, code in blocks:
        if language == "python":
            (in_empty_folder / title).write_text(code, encoding="utf-8")
            compile(code, title, "exec")
            if title != "script.py":  # it starts a Ray of its own, whose workers find mine.py beside it
                runpy.run_path(str(in_empty_folder / title))
        for line in code.splitlines() if language == "bash" else ():
            if line.startswith("hyperlearn"):
                run_command(line, monkeypatch)
    assert (in_empty_folder / "found" / "best.json").is_file()
    assert (in_empty_folder / "compared" / "report.html").is_file()
    assert "learning_rate: [" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in LINK.findall(text):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor[1:] in anchors(linked), f"{page.name} links to {target}{anchor}"


def anchors(page: Path) -> set[str]:
    """The ids that mkdocs and GitHub give to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_what_there_is(page: Path) -> None:
    """Every ``hyperlearn`` command in a code block has options that its help knows, and extras exist."""
    text = page.read_text(encoding="utf-8")
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = set(settings["options.extras_require"])
    for named in re.findall(r"raytune-hyperlearn\[([\w,]+)\]", text):
        assert set(named.split(",")) <= extras, named
    commands: Any = typer.main.get_command(cli.app)
    for line in re.findall(r"^(?:    )?hyperlearn (.+)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        assert words[0] in commands.commands, line
        options = {option for parameter in commands.commands[words[0]].params for option in parameter.opts}
        for word in (word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)):
            assert word in options, f"{page.name}: {line}"


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = [line for line in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines() if "`" in line]
    named = [name for row in rows for name in re.findall(r"`([\w/.:]*\btest_[\w/.:]*)`", row)]
    assert len(named) > 25
    file = ""
    for name in named:
        path, _, inner = name.rpartition("::") if "::" in name else ("", "", name)
        if name.endswith(".py"):
            path, inner = name, ""
        file = path.partition("::")[0] or file
        matching = [found for found in (ROOT / "tests").rglob("*.py") if str(found).endswith(f"/{file}")]
        assert matching, name
        assert re.search(rf"(def|class) {inner}\b", matching[0].read_text(encoding="utf-8")), name
