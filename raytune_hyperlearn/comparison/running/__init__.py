"""From an experiment to records: methods, runs, their observer, references and confirmations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.running.confirmation import confirm
    from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
    from raytune_hyperlearn.comparison.running.method import Method, MethodArguments, MethodSetup
    from raytune_hyperlearn.comparison.running.methods import METHODS, setup_method
    from raytune_hyperlearn.comparison.running.reference import find_reference
    from raytune_hyperlearn.comparison.running.run import run_experiment, run_method
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".confirmation": ["confirm"],
            ".defaults": ["experiment_from_settings"],
            ".method": ["Method", "MethodArguments", "MethodSetup"],
            ".methods": ["METHODS", "setup_method"],
            ".reference": ["find_reference"],
            ".run": ["run_experiment", "run_method"],
        },
    )

__all__ = [
    "METHODS",
    "Method",
    "MethodArguments",
    "MethodSetup",
    "confirm",
    "experiment_from_settings",
    "find_reference",
    "run_experiment",
    "run_method",
    "setup_method",
]
