"""The reproductions by name, in the papers' order.

A reproduction is added in two steps: write a file with a :class:`Reproduction`, and put that into ``REPRODUCTIONS``.
"""

from __future__ import annotations

from collections.abc import Mapping

from raytune_hyperlearn.reproductions import (
    arbiter_figure3,
    arbiter_figure4,
    arbiter_figure5,
    ba_figure1,
    ba_figure2,
    ba_figure4,
    ba_figure5,
    ba_figure6,
    ba_figure7,
    fds_figure1,
    fds_figure2,
    fds_figure3,
    fds_figure4,
    fds_theorem,
)
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
