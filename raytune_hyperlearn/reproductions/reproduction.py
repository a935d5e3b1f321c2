"""What a reproduction is: a paper's experiment at one of several scales, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from raytune_hyperlearn.comparison.reporting.tables import Table

Scale = Literal["smoke", "small", "medium", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
SCALE_NOTES: Mapping[Scale, str] = {
    "smoke": "Smoke scale: about a minute on two cores, to see that everything runs. Far too little training to judge "
    "the paper by.",
    "small": "Small scale: minutes to hours on two cores. Less data and fewer epochs than the paper's.",
    "medium": "Medium scale: half an hour to a night on two cores. Whole data sets, or many more seeds or seconds.",
    "paper": "Paper scale: the paper's own data, epochs and settings wherever it tells them.",
}


def as_scale(text: str, allowed: Sequence[Scale] = SCALES) -> Scale:
    """The scale of that name.

    Args:
        text: Its name.
        allowed: Those that there are.

    Raises:
        ValueError: If it is none of them.
    """
    for scale in allowed:
        if scale == text:
            return scale
    raise ValueError(f"scale is {text!r}; it must be one of {', '.join(allowed)}")


@dataclass(frozen=True)
class Verdict:
    """One of the paper's claims beside what was measured.

    Attributes:
        claim: The paper's.
        found: What was measured, in a sentence made from the numbers.
        holds: Whether the measurement agrees; None where it cannot tell.
    """

    claim: str
    found: str
    holds: bool | None

    @property
    def word(self) -> str:
        """``holds``, ``does not hold`` or ``inconclusive``."""
        return "inconclusive" if self.holds is None else "holds" if self.holds else "does not hold"


@dataclass(frozen=True)
class Drawn:
    """A finished figure.

    Attributes:
        name: File name without ending.
        title: Heading.
        figure: Drawn under :func:`raytune_hyperlearn.comparison.reporting.drawing.look`.
        caption: How to read it.
    """

    name: str
    title: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Findings:
    """What a reproduction found.

    Attributes:
        settings: What it ran with, as plain data.
        verdicts: The paper's claims, each with a measurement.
        figures: At least one.
        tables: Numbers to read.
        numbers: The same and more, as plain data for other programs.
    """

    settings: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]
    figures: tuple[Drawn, ...]
    tables: tuple[Table, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reproduction:
    """An experiment of a paper.

    Attributes:
        description: One line for the list.
        source: Which experiment of which paper.
        claim: What the paper says that it shows.
        run: Runs it at a scale. Long work goes on from what it left in the folder, which exists; the console shows
            progress.
        scales: That it can be run at.
    """

    description: str
    source: str
    claim: str
    run: Callable[[Scale, Path, Console], Findings]
    scales: tuple[Scale, ...] = ("smoke", "small", "paper")
