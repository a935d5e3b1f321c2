"""The rows and the formula behind a figure, without drawing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raytune_hyperlearn.comparison.analysis.across import common_methods
from raytune_hyperlearn.comparison.analysis.results import Study
from raytune_hyperlearn.comparison.reporting.figure_data import (
    FigureData,
    evaluation_data,
    outer_step_data,
    rank_data,
    regret_data,
    schedule_data,
    timeline_data,
    training_data,
    value_data,
    windows_data,
)
from raytune_hyperlearn.comparison.reporting.insight_figures import outer_step_panels, timeline_panels, windows_panels
from raytune_hyperlearn.comparison.reporting.line_figures import ecdf_panel, line_data, profile_panel, rank_panel
from raytune_hyperlearn.comparison.reporting.method_figures import evaluation_panels, schedule_panels, value_panels
from raytune_hyperlearn.comparison.reporting.parallel_figures import parallel_data, parallel_panels
from raytune_hyperlearn.comparison.reporting.rank_figures import final_ranks, ranks_over_time
from raytune_hyperlearn.comparison.reporting.styles import Styles, method_styles
from raytune_hyperlearn.comparison.reporting.takeaway import file_prefixes
from raytune_hyperlearn.comparison.reporting.training_figures import training_panels

OF_ONE_PROBLEM: dict[str, Callable[[Study, Styles], FigureData]] = {
    "regret-wall-clock": lambda study, styles: regret_data(study),
    "regret-worker-seconds": lambda study, styles: regret_data(study, ("worker_seconds",)),
    "schedules": lambda study, styles: schedule_data(schedule_panels(study, styles)),
    "values": lambda study, styles: value_data(value_panels(study, styles)),
    "training-loss": lambda study, styles: training_data(training_panels(study, styles)),
    "outer-steps": lambda study, styles: outer_step_data(outer_step_panels(study, styles)),
    "windows": lambda study, styles: windows_data(windows_panels(study, styles)),
    "parallel-coordinates": lambda study, styles: parallel_data(parallel_panels(study, styles)),
    "timeline": lambda study, styles: timeline_data(timeline_panels(study, styles)),
    "evaluations": lambda study, styles: evaluation_data(evaluation_panels(study, styles)),
}
OF_ALL_PROBLEMS: dict[str, Callable[[Sequence[Study], Styles], FigureData]] = {
    "targets-reached": lambda studies, styles: line_data(ecdf_panel(studies, common_methods(studies))),
    "performance-profile": lambda studies, styles: line_data(profile_panel(studies, common_methods(studies))),
    "ranks-over-time": lambda studies, styles: line_data(
        rank_panel(ranks_over_time(studies, styles), common_methods(studies))
    ),
    "ranks": lambda studies, styles: rank_data(final_ranks(studies)),
}


def figure_names(studies: Sequence[Study]) -> tuple[str, ...]:
    """The figures that can be explained."""
    joined = len(studies) > 1 and len(common_methods(studies)) > 1
    return (*OF_ONE_PROBLEM, *(OF_ALL_PROBLEMS if joined else ()))


def explain(studies: Sequence[Study], figure: str) -> dict[str, FigureData]:
    """The numbers behind a figure, by problem; under "all problems" for a figure over all of them.

    Args:
        studies: one per problem.
        figure: one of :func:`figure_names`, or the name of its file in a report of several problems, such as
            ``digits-values``, for that problem alone.

    Raises:
        ValueError: if there is no such figure.
    """
    styles = method_styles(dict.fromkeys(method for study in studies for method in study.experiment.methods))
    names = figure_names(studies)
    if figure in names and figure in OF_ALL_PROBLEMS:
        return {"all problems": OF_ALL_PROBLEMS[figure](studies, styles)}
    found = {
        study.experiment.problem: OF_ONE_PROBLEM[name](study, styles)
        for study, prefix in zip(studies, file_prefixes(studies), strict=True)
        for name in OF_ONE_PROBLEM
        if figure in (name, prefix + name)
    }
    if not found:
        raise ValueError(f"explain is {figure!r}; it must be one of {', '.join(names)}")
    return found
