"""From an experiment's settings to records, from records to curves, from curves to a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.analysis.results import RunResult
    from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment, write_experiment
    from raytune_hyperlearn.comparison.head_to_head import compare, extend
    from raytune_hyperlearn.comparison.records import Confirmation, Record, Run
    from raytune_hyperlearn.comparison.reference_record import Reference, read_reference, write_reference
    from raytune_hyperlearn.comparison.reporting.page import build_report
    from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
    from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup
    from raytune_hyperlearn.comparison.running.methods import METHODS
    from raytune_hyperlearn.comparison.running.reference import find_reference
    from raytune_hyperlearn.comparison.study import Study, load_studies, load_study
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".analysis.results": ["RunResult"],
            ".experiment": ["Experiment", "read_experiment", "write_experiment"],
            ".head_to_head": ["compare", "extend"],
            ".records": ["Confirmation", "Record", "Run"],
            ".reference_record": ["Reference", "read_reference", "write_reference"],
            ".reporting.page": ["build_report"],
            ".running.defaults": ["experiment_from_settings"],
            ".running.method": ["Method", "MethodArguments", "MethodSetup"],
            ".running.methods": ["METHODS"],
            ".running.reference": ["find_reference"],
            ".study": ["Study", "load_studies", "load_study"],
        },
    )

__all__ = [
    "METHODS",
    "Confirmation",
    "Experiment",
    "Method",
    "MethodArguments",
    "MethodSetup",
    "Record",
    "Reference",
    "Run",
    "RunResult",
    "Study",
    "build_report",
    "compare",
    "experiment_from_settings",
    "extend",
    "find_reference",
    "load_studies",
    "load_study",
    "read_experiment",
    "read_reference",
    "write_experiment",
    "write_reference",
]
