"""A study as its users hold it: as pandas frames, as a figure, and as a cell of a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_hyperlearn.comparison.analysis import results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Study(results.Study):
    """All runs on one problem, from one folder or several; a notebook shows who is ahead."""

    @property
    def records(self) -> pd.DataFrame:
        """All records, one row each, with a column per hyperparameter value."""
        from raytune_hyperlearn.comparison.analysis.frames import records_frame

        return records_frame(self)

    def curves(self, clock: str = "wall_clock") -> pd.DataFrame:
        """Median and quartiles of every method's regret at each event.

        Args:
            clock: ``wall_clock``, ``worker_seconds``, ``evaluations`` or ``epochs``.
        """
        from raytune_hyperlearn.comparison.analysis.frames import curves_frame

        return curves_frame(self, clock)

    def summary(self) -> pd.DataFrame:
        """One row per method: final regrets, seconds to each target, evaluations, failures."""
        from raytune_hyperlearn.comparison.analysis.frames import summary_frame

        return summary_frame(self)

    def plot(self, clock: str = "wall_clock", quantity: str = "validation") -> Figure:
        """Every method's regret over a clock: median and quartiles over seeds, as in the report.

        Args:
            clock: ``wall_clock``, ``worker_seconds``, ``evaluations`` or ``epochs``.
            quantity: Regret on which data, ``validation`` or ``test``; the incumbent is chosen by validation alone.

        Returns:
            A figure that a notebook shows and that ``savefig`` writes.

        Raises:
            ValueError: for another clock or quantity.
        """
        from raytune_hyperlearn.comparison.analysis.frames import clock_of, quantity_of
        from raytune_hyperlearn.comparison.reporting.regret_figures import plot

        return plot(self, clock_of(clock), quantity_of(quantity))

    def _repr_html_(self) -> str:
        """What a notebook shows: who is ahead, in a sentence and a small table."""
        from raytune_hyperlearn.comparison.reporting.notebook import study_html

        return study_html(self)


def load_study(folder: str | Path) -> Study:
    """Reads one result folder.

    Args:
        folder: Folder of one comparison.

    Raises:
        ValueError: if a file is missing or malformed, or its rows belong to another experiment; one line.
    """
    return _as_held(results.load_study(folder))


def load_studies(folders: Sequence[Path], focus: str | None = None) -> tuple[Study, ...]:
    """Reads result folders and joins those of one problem; one study per problem, in order of first appearance.

    Args:
        folders: at least one.
        focus: the method to test against each other one, in place of the one that the experiments named.

    Raises:
        ValueError: if there are no folders, one is unreadable, two of one problem hold the same run, another
            reference or other settings, or ``focus`` is none of a study's methods.
    """
    return tuple(map(_as_held, results.load_studies(folders, focus)))


def _as_held(study: results.Study) -> Study:
    return Study(**{entry.name: getattr(study, entry.name) for entry in dataclasses.fields(study)})
