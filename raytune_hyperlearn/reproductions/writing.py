"""Runs a reproduction and writes what it found: figures, ``summary.json`` and one self-contained page.

reproduction.json   which reproduction and scale the folder belongs to
summary.json        settings, verdicts, tables and numbers
figures/            each figure as SVG and PNG
report.html         all of it on a page
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from raytune_hyperlearn.comparison.environment import describe_environment
from raytune_hyperlearn.comparison.running.lock import LOCK_FILE, locked
from raytune_hyperlearn.reproductions.reproduction import SCALE_NOTES, Findings, Reproduction, Scale

TEMPLATE = Path(__file__).with_name("report.html.jinja")
IDENTITY_FILE, SUMMARY_FILE, REPORT_FILE, FIGURES_FOLDER = (
    "reproduction.json",
    "summary.json",
    "report.html",
    "figures",
)


def reproduce(name: str, reproduction: Reproduction, scale: Scale, folder: Path, console: Console) -> Findings:
    """Runs a reproduction, or continues one that was stopped, and writes its files.

    Args:
        name: What it is called.
        reproduction: What to run.
        scale: How large.
        folder: Made where absent; otherwise empty, or of the same reproduction and scale and not finished.
        console: Shows progress.

    Raises:
        ValueError: In one line, if the folder holds something else, another process writes to it or data are missing.
    """
    with locked(folder):
        began_anew = prepare_folder(folder, {"name": name, "scale": scale})
        begun = time.monotonic()
        findings = reproduction.run(scale, folder, console)
        seconds = time.monotonic() - begun if began_anew else None
        write_findings(name, reproduction, scale, findings, seconds, folder)
    return findings


def prepare_folder(folder: Path, identity: Mapping[str, str]) -> bool:
    """Makes the folder, or takes up one of the same reproduction and scale that is not finished; True if it is new.

    Raises:
        ValueError: If it holds something else, or is finished.
    """
    if (folder / SUMMARY_FILE).exists():
        raise ValueError(f"output is {folder}; it holds a finished reproduction, choose another folder")
    mark = folder / IDENTITY_FILE
    is_new = not mark.exists()
    if not is_new:
        held = json.loads(mark.read_text(encoding="utf-8"))
        if held != identity:
            raise ValueError(f"output is {folder}; it holds {held['name']} at scale {held['scale']}")
    elif folder.exists() and any(not item.name.startswith(LOCK_FILE) for item in folder.iterdir()):
        raise ValueError(f"output is {folder}; it is neither empty nor a reproduction's folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(identity) + "\n", encoding="utf-8")
    return is_new


def write_findings(
    name: str, reproduction: Reproduction, scale: Scale, findings: Findings, seconds: float | None, folder: Path
) -> None:
    """Writes figures, page and, last, the summary; the seconds of a run that was stopped in between are not known."""
    import jinja2  # these and matplotlib are imported only where something is written
    from markupsafe import Markup

    from raytune_hyperlearn.comparison.reporting.drawing import inline_svg, save_figure
    from raytune_hyperlearn.comparison.reporting.given_tables import environment_table
    from raytune_hyperlearn.comparison.reporting.wording import seconds as seconds_text

    environment = describe_environment()
    figures = folder / FIGURES_FOLDER
    figures.mkdir(exist_ok=True)
    for drawn in findings.figures:
        save_figure(drawn.figure, figures / drawn.name)
    renderer = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = renderer.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        reproduction=reproduction,
        scale=scale,
        scale_note=SCALE_NOTES[scale],
        findings=findings,
        svgs=[Markup(inline_svg(drawn.figure, drawn.name, drawn.title)) for drawn in findings.figures],
        settings=[(key.replace("_", " "), _shown(value)) for key, value in findings.settings.items()],
        took="It was stopped and continued." if seconds is None else f"It took {seconds_text(seconds)}.",
        environment=environment_table(environment),
    )
    (folder / REPORT_FILE).write_text(page, encoding="utf-8")
    summary = {
        "name": name,
        "scale": scale,
        "description": reproduction.description,
        "source": reproduction.source,
        "claim": reproduction.claim,
        "settings": findings.settings,
        "verdicts": [asdict(verdict) for verdict in findings.verdicts],
        "tables": [asdict(table) for table in findings.tables],
        "numbers": findings.numbers,
        "seconds": seconds,
        "environment": environment,
    }
    text = json.dumps(finite(summary), indent=1, ensure_ascii=False, allow_nan=False)
    unfinished = folder / (SUMMARY_FILE + ".unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(folder / SUMMARY_FILE)


def finite(value: Any) -> Any:
    """Plain data with None for every number that JSON does not know: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
