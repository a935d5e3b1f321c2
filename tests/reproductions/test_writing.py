"""What a reproduction leaves in its folder, and what it refuses to overwrite."""

from __future__ import annotations

import importlib
import json
import math
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from raytune_hyperlearn.comparison.reporting.tables import Table
from raytune_hyperlearn.reproductions.registry import REPRODUCTIONS, find
from raytune_hyperlearn.reproductions.reproduction import (
    SCALES,
    Drawn,
    Findings,
    Reproduction,
    Scale,
    Verdict,
    as_scale,
)
from raytune_hyperlearn.reproductions.writing import finite, prepare_folder, reproduce


def run(scale: Scale, output: Path, console: Console) -> Findings:
    figure = Figure()
    figure.add_subplot().plot([1, 2], [3, 4])
    return Findings(
        settings={"epochs": 1_000, "rates": (0.1, 0.2), "nested": {"a": 1}},
        verdicts=(
            Verdict("It falls.", "From 2 to 1.", True),
            Verdict("It rises <b>.", "It does not.", False),
            Verdict("It is red.", "Too dark to tell.", None),
        ),
        figures=(Drawn("lines", "Two points", figure, "They rise."),),
        tables=(Table("Points", ("x", "y"), (("1", "3"), ("2", "4")), "All of them."),),
        numbers={"losses": [1.0, math.inf, math.nan], "scale": scale},
    )


REPRODUCTION = Reproduction("Draws two points.", "Nobody's figure 1.", "two points make a line.", run)


def written(folder: Path) -> str:
    reproduce("points", REPRODUCTION, "smoke", folder, Console(quiet=True))
    return (folder / "report.html").read_text()


def test_files_hold_what_was_found(tmp_path: Path) -> None:
    page = written(tmp_path / "out")
    assert (tmp_path / "out/figures/lines.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out/figures/lines.svg").read_text()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["name"] == "points"
    assert summary["numbers"] == {"losses": [1.0, None, None], "scale": "smoke"}
    assert [verdict["holds"] for verdict in summary["verdicts"]] == [True, False, None]
    assert summary["tables"][0]["rows"] == [["1", "3"], ["2", "4"]]
    assert summary["environment"]["versions"]["torch"]
    for text in ("two points make a line.", "inconclusive", "does not hold", "They rise.", "1,000", "0.1, 0.2"):
        assert text in page


def test_page_needs_nothing_from_elsewhere_and_escapes_text(tmp_path: Path) -> None:
    page = written(tmp_path / "out")
    assert "It rises &lt;b&gt;." in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "<script" not in page
    assert 'aria-label="Two points"' in page or "aria-label='Two points'" in page


def test_a_finished_folder_is_kept(tmp_path: Path) -> None:
    written(tmp_path / "out")
    with pytest.raises(ValueError, match="holds a finished reproduction"):
        written(tmp_path / "out")


def test_a_stopped_one_goes_on_and_no_other_takes_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    assert prepare_folder(folder, {"name": "points", "scale": "smoke"})
    (folder / "epochs.jsonl").write_text("{}")
    assert not prepare_folder(folder, {"name": "points", "scale": "smoke"})
    # How long it took in all is not known then, and the page does not pretend to.
    assert "It was stopped and continued." in written(folder)
    assert "It took " in written(folder.with_name("new"))


def test_another_reproductions_folder_is_refused(tmp_path: Path) -> None:
    prepare_folder(tmp_path, {"name": "points", "scale": "smoke"})
    with pytest.raises(ValueError, match="holds points at scale smoke"):
        prepare_folder(tmp_path, {"name": "points", "scale": "paper"})


def test_a_strangers_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="neither empty nor a reproduction's folder"):
        prepare_folder(tmp_path, {"name": "points", "scale": "smoke"})


def test_finite() -> None:
    assert finite({1: (math.nan, 2, "x", None, True)}) == {"1": [None, 2, "x", None, True]}


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_every_scale_that_is_offered_has_settings(name: str) -> None:
    paper, _, part = name.partition("-")
    folder = {"ba": "batch_adaptive"}.get(paper, paper)
    module = importlib.import_module(f"raytune_hyperlearn.reproductions.{folder}.{part}")
    assert tuple(module.SETTINGS) == find(name).scales


def test_names_and_scales() -> None:
    assert [as_scale(scale) for scale in SCALES] == ["smoke", "small", "medium", "paper"]
    with pytest.raises(ValueError, match="scale is 'huge'; it must be one of smoke, small, medium, paper"):
        as_scale("huge")
    with pytest.raises(ValueError, match="scale is 'medium'; it must be one of smoke, small, paper"):
        as_scale("medium", find("fds-theorem").scales)
    for name, reproduction in REPRODUCTIONS.items():
        assert find(name) is reproduction
        assert reproduction.source.endswith(".")
        assert reproduction.description.endswith((".", "?"))
        assert reproduction.description[0].isupper()
        # The page puts the claim after "The paper: ", so it begins small unless with an algorithm's name.
        first = reproduction.claim.split()[0]
        assert first[0].islower() or first in ("FDS", "BA-Momentum", "Arbiter"), name
    with pytest.raises(ValueError, match="name is 'ba-figure9'; it must be one of arbiter-figure3, "):
        find("ba-figure9")
