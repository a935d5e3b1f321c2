"""What the documentation tells people to run runs, and what it links to is there."""

from __future__ import annotations

import configparser
import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import ray
import typer
import yaml

from raytune_hyperlearn import Experiment, Learned, SearchSpace, SGDTrainable, cli
from raytune_hyperlearn.comparison.records import Confirmation, Record, Run
from raytune_hyperlearn.comparison.running import cluster

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")
COMMAND = re.compile(r"^(?:    )?(hyperlearn .+)$|`(hyperlearn [^`]+)`", re.MULTILINE)
SCRIPT = re.compile(r"python (?:-m )?(benchmarks|examples)[./](\w+)(?:\.py)?([^`]*)")
SHORTER = {"--time-limit": "3", "--seeds": "1"}
QUICK_START = "docs/quickstart.md"
ONLY_READ = {
    "README.md": {
        "hyperlearn tune": "the quick start runs it",
        "hyperlearn compare": "the quick start runs it",
    },
    QUICK_START: {"from mine import problem": "it starts a Ray of its own, whose workers find mine.py beside it"},
    "docs/tutorials/compare.md": {"hyperlearn reference": "dozens of trainings"},
    "docs/how-to/testing.md": {
        "import torch": "tests/testing/test_conformance.py runs it",
        "import pytest": "tests/testing/test_conformance.py runs it",
    },
    "docs/how-to/own-data.md": {"from ray.air": "it needs MLflow; tests/tune/test_scalars.py runs it"},
    "docs/comparisons.md": {
        "hyperlearn compare": "an hour; tests/comparison/running runs every method",
        "hyperlearn report": "it needs what takes that hour",
    },
    "docs/how-to/cluster.md": {"hyperlearn compare": "it needs a cluster"},
    "docs/how-to/use.md": {
        "from lightning": "tests/integrations runs it, with what is left out here",
        "from transformers": "tests/integrations runs it, with what is left out here",
    },
    "docs/reproductions/arbiter.md": {"hyperlearn reproduce": "minutes; tests/reproductions runs it at smoke scale"},
}
"""Page → beginning of a block or command that is parsed and not run → why."""
GIVEN = {"README.md": "import torch\noptimizer, total_steps = torch.optim.SGD([torch.zeros(1)], lr=1.0), 10"}
"""Page → what its blocks take for granted."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def runs(name: str, text: str) -> bool:
    """Whether a block or command of a page is run."""
    return not any(text.startswith(beginning) for beginning in ONLY_READ.get(name, ()))


def shortened(words: list[str]) -> list[str]:
    """A command that takes seconds: the same one, with less time and fewer seeds."""
    pairs = zip(["", *words], words, strict=False)
    return [SHORTER.get(before, word) if word.isdigit() else word for before, word in pairs]


def run_command(line: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shortened(shlex.split(line, comments=True)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0, line


def run_page(name: str, folder: Path) -> dict[str, Any]:
    """Run a page's blocks and commands one after the other in a folder; Python blocks share their names, returned."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(GIVEN.get(name, ""), names)
    text = (ROOT / name).read_text(encoding="utf-8")
    commands = re.findall(r"^    (hyperlearn .+)$", text, re.MULTILINE)
    for language, title, code in [*(("bash", "", line) for line in commands), *FENCE.findall(text)]:
        if title:
            (folder / title).unlink(missing_ok=True)  # the quick start's of that name stays as it is
            (folder / title).write_text(code, encoding="utf-8")
        if language == "python":
            program = compile(code, f"{name}: {title or code.splitlines()[0]}", "exec")
            if runs(name, code):
                exec(program, names)
        for line in code.splitlines() if language == "bash" else ():
            if line.startswith("hyperlearn") and runs(name, line):
                run_command(line)
        if language == "yaml":
            assert isinstance(yaml.safe_load(code), dict)
    return names


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """In that folder, with its modules; workers get those by value, as they cannot import them."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("HOME", str(folder))  # Tune writes to ~/ray_results unless it is told otherwise
        patch.setattr(cluster, "stop_ray", lambda: None)  # the session's runs on
        if (folder / "mine.py").is_file():
            ray.cloudpickle.register_pickle_by_value(importlib.import_module("mine"))
        yield
    if "mine" in sys.modules and "mine" not in before:
        with suppress(ValueError):
            ray.cloudpickle.unregister_pickle_by_value(sys.modules["mine"])
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def after_the_quick_start(tmp_path_factory: pytest.TempPathFactory, ray_session: str) -> Path:
    """A stranger's folder in which the quick start has been followed."""
    folder = tmp_path_factory.mktemp("stranger")
    with working_in(folder):
        run_page(QUICK_START, folder)
    return folder


@pytest.mark.long
def test_the_quick_start_runs_from_an_empty_folder(after_the_quick_start: Path) -> None:
    learned = Learned.load(after_the_quick_start / "found" / "best.json")
    assert learned.found["method"] == "fds"
    assert len(learned.hyperparameters["learning_rate"]) == 7
    assert (after_the_quick_start / "compared" / "report.html").is_file()


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        name_of(page)
        for page in PAGES
        if name_of(page) != QUICK_START and re.search(r"^```(python|bash|yaml)", page.read_text("utf-8"), re.MULTILINE)
    ],
)
def test_a_pages_blocks_and_commands_run(
    name: str, after_the_quick_start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in after_the_quick_start.iterdir():
        (tmp_path / path.name).symlink_to(path)
    with working_in(tmp_path):
        names = run_page(name, tmp_path)
    printed = capsys.readouterr().out
    assert "nan" not in printed
    if name == "docs/tutorials/schedule.md":
        best = names["result"]["best"]
        assert names["again"](best["hyperparameters"]) < names["again"](names["space"].initial()) / 2
    if name == "docs/tutorials/batch-size.md":
        assert len(set(names["sizes"])) > 1
        assert "adaptive" in printed
    if name == "docs/tutorials/compare.md":
        assert (tmp_path / "spirals" / "report.html").is_file()


def test_what_is_only_read_is_there() -> None:
    for name, beginnings in ONLY_READ.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for beginning in beginnings:
            assert re.search(rf"^(    )?{beginning}", text, re.MULTILINE), f"{name}: {beginning}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_what_there_is(page: Path) -> None:
    """Every ``hyperlearn`` command in a code block has options that its help knows, and extras exist."""
    text = page.read_text(encoding="utf-8")
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = set(settings["options.extras_require"])
    for named in re.findall(r"raytune-hyperlearn\[([\w,]+)\]", text):
        assert set(named.split(",")) <= extras, named
    commands: Any = typer.main.get_command(cli.app).commands
    for line in (fenced or inline for fenced, inline in COMMAND.findall(text)):
        _, *words = shlex.split(line, comments=True)
        if words[0].startswith("-") or not words[0].islower():
            continue  # options of the whole command; a placeholder
        assert words[0] in commands, line
        options = {option for parameter in commands[words[0]].params for option in parameter.opts}
        for word in (word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)):
            assert word in options, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_scripts_and_targets_are_there(page: Path) -> None:
    """``python benchmarks/…`` and ``python examples/…`` name files and options that there are; so does ``make``."""
    text = page.read_text(encoding="utf-8")
    for folder, name, rest in SCRIPT.findall(text):
        source = (ROOT / folder / f"{name}.py").read_text(encoding="utf-8")
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", rest):
            assert f'"{option}"' in source, f"{page.name}: {name} {option}"
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^    |`)make ([a-z]+)\b", text, re.MULTILINE):
        assert re.search(rf"^{target}:", targets, re.MULTILINE), f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_under_every_figure_stands_the_command_that_made_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for figure in re.finditer(r"^!\[.*\]\(.*\)$", text, re.MULTILINE):
        below = text[figure.end() :].strip().split("\n\n")[0]
        assert re.search(r"`hyperlearn [^`]+`", below), f"{page.name}: {figure[0]}"


@pytest.mark.parametrize("report", sorted((ROOT / "docs" / "reports").glob("*.html")), ids=lambda path: path.name)
def test_a_report_stays_below_3_mb(report: Path) -> None:
    assert report.stat().st_size < 3e6


def test_reference_pages_are_filled_from_the_program() -> None:
    hook = runpy.run_path(str(ROOT / "docs" / "generated.py"))
    filled = {page.name: hook["on_page_markdown"](page.read_text("utf-8")) for page in (ROOT / "docs").rglob("*.md")}
    assert not [name for name, text in filled.items() if "<!-- generated" in text]
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        assert f"## hyperlearn {name}" in filled["cli.md"]
        assert all(parameter.opts[0] in filled["cli.md"] for parameter in command.params)
    assert all(f"| `{field.name}` |" in filled["settings.md"] for field in fields(Experiment))
    for record_type in (Record, Run, Confirmation):
        assert all(f"| `{field.name}` |" in filled["records.md"] for field in fields(record_type))


def test_the_entries_of_a_result_are_those_on_their_page() -> None:
    page = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    reported = SGDTrainable({"problem": "digits", "epochs": 0.1, "hyperparameters": SearchSpace().initial()}).step()
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(reported) - {"done"}


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
