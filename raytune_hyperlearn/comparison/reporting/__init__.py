"""From curves and summaries to a page, its tables and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.reporting.page import build_report
    from raytune_hyperlearn.comparison.reporting.progress import Progress
    from raytune_hyperlearn.comparison.reporting.tables import Table, summary_table
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".page": ["build_report"],
            ".progress": ["Progress"],
            ".tables": ["Table", "summary_table"],
        },
    )

__all__ = ["Progress", "Table", "build_report", "summary_table"]
