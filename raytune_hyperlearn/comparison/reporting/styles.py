"""How methods are called and drawn: the same name, color, line and marker in every figure of every report.

The colors are M. Okabe and K. Ito's, which people with any of the common color blindnesses can tell apart; line and
marker differ as well, so nothing rests on color alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MethodStyle:
    """One method's appearance.

    Attributes:
        label: full name, for tables and sentences.
        short: the field's abbreviation, for figures.
        color: hexadecimal RGB.
        line: matplotlib's line style.
        marker: matplotlib's marker.
    """

    label: str
    short: str
    color: str
    line: Any
    marker: str

    @property
    def heading(self) -> str:
        """The full name with a capital, to begin a line with."""
        return self.label[:1].upper() + self.label[1:]


Styles = Mapping[str, MethodStyle]
"""Appearances by method."""

METHOD_STYLES = {
    "fds": MethodStyle("FDS", "FDS", "#D55E00", "-", "o"),
    "fds-forward": MethodStyle("FDS by forward mode", "FDS forward", "#8C3A00", (0, (6, 2)), "*"),
    "hd": MethodStyle("hypergradient descent", "HD", "#CC79A7", (0, (5, 1.5)), "X"),
    "rs": MethodStyle("random search", "RS", "#666666", (0, (1, 1.2)), "s"),
    "bo": MethodStyle("Bayesian optimization", "BO", "#0072B2", (0, (6, 1.5, 1, 1.5)), "D"),
    "hb": MethodStyle("Hyperband", "HB", "#009E73", (0, (3, 1.2, 1, 1.2, 1, 1.2)), "^"),
    "bohb": MethodStyle("BOHB", "BOHB", "#56B4E9", (0, (8, 2)), "v"),
    "boat": MethodStyle("BOAT, unrolled", "BOAT", "#E69F00", (0, (4, 1.2)), "P"),
    "betty": MethodStyle("Betty, finite differences", "Betty", "#8C6BB1", (0, (2, 1.2)), "X"),
    "ba-sgd": MethodStyle("batch adaptive SGD", "BA-SGD", "#E69F00", (0, (7, 1.5)), "p"),
    "ba-momentum": MethodStyle("batch adaptive momentum", "BA-M", "#A50F15", "-", "P"),
    "mini-32": MethodStyle("batches of 32", "Mini-32", "#56B4E9", (0, (1, 1.2)), "s"),
    "mini-64": MethodStyle("batches of 64", "Mini-64", "#0072B2", (0, (2, 1.2)), "D"),
    "mini-128": MethodStyle("batches of 128", "Mini-128", "#8C6BB1", (0, (4, 1.2)), "^"),
    "mini-256": MethodStyle("batches of 256", "Mini-256", "#4D4D4D", (0, (8, 1.2)), "v"),
    "manual": MethodStyle("batch size doubled by hand", "Manual", "#009E73", (0, (6, 1.5, 1, 1.5)), "<"),
    "cabs": MethodStyle("CABS", "CABS", "#CC79A7", (0, (3, 1.2, 1, 1.2)), "X"),
    "gns": MethodStyle("gradient noise scale", "GNS", "#A6761D", (0, (3, 1.2, 1, 1.2, 1, 1.2)), "h"),
    # Arbiter and its controls in P. Tol's muted colors, which are as safe.
    "arbiter": MethodStyle("Arbiter", "Arbiter", "#332288", "-", "o"),
    "arbiter-constant": MethodStyle("without Arbiter", "Without", "#666666", (0, (1, 1.2)), "s"),
    "arbiter-frozen": MethodStyle("frozen response", "Frozen Φ", "#117733", (0, (6, 1.5)), "D"),
    "arbiter-noise": MethodStyle("noise for the agent", "Noise", "#CC6677", (0, (4, 1.2)), "^"),
    "arbiter-constant-mean": MethodStyle("constant mean of its schedule", "Mean", "#999933", (0, (2, 1.2)), "P"),
    "arbiter-replay": MethodStyle("its schedule on a new start", "Replay", "#44AA99", (0, (3, 1.2, 1, 1.2)), "v"),
    "arbiter-random-walk": MethodStyle("random walk of its steps", "Walk", "#AA4499", (0, (6, 1.5, 1, 1.5)), "X"),
}
METHOD_STYLES |= {
    # The peers in P. Tol's bright and muted colors; line and marker tell what shares a hue with the ones above.
    "asha": MethodStyle("ASHA", "ASHA", "#AA3377", (0, (4, 1.2)), "<"),
    "pbt": MethodStyle("population based training", "PBT", "#228833", (0, (7, 1.5)), ">"),
    "pb2": MethodStyle("population based bandits", "PB2", "#88A02C", (0, (2, 1.2)), "h"),
    "tpe": MethodStyle("TPE", "TPE", "#4477AA", (0, (5, 1.2, 1, 1.2)), "P"),
    "gp": MethodStyle("Gaussian process", "GP", "#332288", (0, (3, 1.2)), "p"),
    "cma-es": MethodStyle("CMA-ES", "CMA-ES", "#A6761D", (0, (6, 1.2, 2, 1.2)), "d"),
    "smac": MethodStyle("SMAC3", "SMAC", "#CC3311", (0, (1, 0.8)), "v"),
    "dehb": MethodStyle("DEHB", "DEHB", "#117733", (0, (8, 1.2, 2, 1.2)), "^"),
    "tune-bohb": MethodStyle("Ray Tune's BOHB", "TuneBOHB", "#44AA99", (0, (2, 0.8)), "8"),
    "cosine-tpe": MethodStyle("cosine tuned by TPE", "Cos-TPE", "#8C6BB1", (0, (5, 1.2)), "s"),
    "cosine-rs": MethodStyle("cosine tuned by random search", "Cos-RS", "#999933", (0, (1, 1.5)), "D"),
    "one-cycle-tpe": MethodStyle("one cycle tuned by TPE", "1C-TPE", "#882255", (0, (5, 1.2, 1, 1.2)), "o"),
    "one-cycle-rs": MethodStyle("one cycle tuned by random search", "1C-RS", "#4D4D4D", (0, (3, 1.5)), "X"),
    "schedule-free": MethodStyle("Schedule-Free", "SF", "#BB5566", "-", "*"),
    "prodigy": MethodStyle("Prodigy", "Prodigy", "#004488", "-", "P"),
}
GRADIENT_BASED = frozenset({"fds", "fds-forward", "hd"})
BLACK_BOX = frozenset(
    {"rs", "bo", "hb", "bohb", "asha", "pbt", "pb2", "tpe", "gp", "cma-es", "smac", "dehb", "tune-bohb"}
    | {"cosine-tpe", "cosine-rs", "one-cycle-tpe", "one-cycle-rs"}
)

_SPARE_COLOURS = ("#E69F00", "#8C6BB1", "#A6761D", "#4D4D4D")
_SPARE_MARKERS = ("P", "*", "<", ">", "h")


def method_styles(methods: Iterable[str]) -> dict[str, MethodStyle]:
    """The style of each method; names not in the table get spare ones, in alphabetical order."""
    methods = tuple(methods)
    unknown = sorted(method for method in methods if method not in METHOD_STYLES)
    spare = {
        method: MethodStyle(
            method,
            method,
            _SPARE_COLOURS[i % len(_SPARE_COLOURS)],
            (0, (2 + 2 * (i % 3), 1)),
            _SPARE_MARKERS[i % len(_SPARE_MARKERS)],
        )
        for i, method in enumerate(unknown)
    }
    return {method: METHOD_STYLES.get(method) or spare[method] for method in methods}
