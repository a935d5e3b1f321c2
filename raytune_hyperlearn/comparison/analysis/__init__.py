"""From records to curves, summaries and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.analysis.curves import StepCurve, incumbents, regret_curve, time_to_target
    from raytune_hyperlearn.comparison.analysis.results import RunResult, Study, load_studies, load_study
    from raytune_hyperlearn.comparison.analysis.statistics import critical_difference
    from raytune_hyperlearn.comparison.analysis.summary import MethodSummary, summarize
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".curves": ["StepCurve", "incumbents", "regret_curve", "time_to_target"],
            ".results": ["RunResult", "Study", "load_studies", "load_study"],
            ".statistics": ["critical_difference"],
            ".summary": ["MethodSummary", "summarize"],
        },
    )

__all__ = [
    "MethodSummary",
    "RunResult",
    "StepCurve",
    "Study",
    "critical_difference",
    "incumbents",
    "load_studies",
    "load_study",
    "regret_curve",
    "summarize",
    "time_to_target",
]
