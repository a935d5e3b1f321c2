"""The reproductions by name, in the papers' order.

A reproduction is added in two steps: write a file with a :class:`Reproduction`, and put that into ``REPRODUCTIONS``.
"""

from __future__ import annotations

from collections.abc import Mapping

from raytune_hyperlearn.reproductions.arbiter import figure3 as arbiter_figure3
from raytune_hyperlearn.reproductions.arbiter import figure4 as arbiter_figure4
from raytune_hyperlearn.reproductions.arbiter import figure5 as arbiter_figure5
from raytune_hyperlearn.reproductions.batch_adaptive import figure1 as ba_figure1
from raytune_hyperlearn.reproductions.batch_adaptive import figure2 as ba_figure2
from raytune_hyperlearn.reproductions.batch_adaptive import figure4 as ba_figure4
from raytune_hyperlearn.reproductions.batch_adaptive import figure5 as ba_figure5
from raytune_hyperlearn.reproductions.batch_adaptive import figure6 as ba_figure6
from raytune_hyperlearn.reproductions.batch_adaptive import figure7 as ba_figure7
from raytune_hyperlearn.reproductions.fds import figure1 as fds_figure1
from raytune_hyperlearn.reproductions.fds import figure2 as fds_figure2
from raytune_hyperlearn.reproductions.fds import figure3 as fds_figure3
from raytune_hyperlearn.reproductions.fds import figure4 as fds_figure4
from raytune_hyperlearn.reproductions.fds import theorem as fds_theorem
from raytune_hyperlearn.reproductions.reproduction import Reproduction

REPRODUCTIONS: Mapping[str, Reproduction] = {
    "arbiter-figure3": arbiter_figure3.REPRODUCTION,
    "arbiter-figure4": arbiter_figure4.REPRODUCTION,
    "arbiter-figure5": arbiter_figure5.REPRODUCTION,
    "ba-figure1": ba_figure1.REPRODUCTION,
    "ba-figure2": ba_figure2.REPRODUCTION,
    "ba-figure4": ba_figure4.REPRODUCTION,
    "ba-figure5": ba_figure5.REPRODUCTION,
    "ba-figure6": ba_figure6.REPRODUCTION,
    "ba-figure7": ba_figure7.REPRODUCTION,
    "fds-theorem": fds_theorem.REPRODUCTION,
    "fds-figure1": fds_figure1.REPRODUCTION,
    "fds-figure2": fds_figure2.REPRODUCTION,
    "fds-figure3": fds_figure3.REPRODUCTION,
    "fds-figure4": fds_figure4.REPRODUCTION,
}


def find(name: str) -> Reproduction:
    """The reproduction of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in REPRODUCTIONS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(REPRODUCTIONS)}")
    return REPRODUCTIONS[name]
