"""The papers' experiments, one file each, built from the comparison's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.reproductions.registry import REPRODUCTIONS, find
    from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Reproduction, Scale, Verdict
    from raytune_hyperlearn.reproductions.writing import reproduce
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".registry": ["REPRODUCTIONS", "find"],
            ".reproduction": ["Drawn", "Findings", "Reproduction", "Scale", "Verdict"],
            ".writing": ["reproduce"],
        },
    )

__all__ = ["REPRODUCTIONS", "Drawn", "Findings", "Reproduction", "Scale", "Verdict", "find", "reproduce"]
