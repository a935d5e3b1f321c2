"""Runs an experiment in its folder for the subcommands that search."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_hyperlearn.cli.terminal import console, one_line_errors, ways_to_continue

if TYPE_CHECKING:
    from raytune_hyperlearn.comparison.experiment import Experiment
    from raytune_hyperlearn.comparison.running.folder import Folder


def run_comparison(
    experiment: Experiment,
    path: Path,
    begin: Callable[[Experiment, Path], Folder],
    trust: bool,
    command: str,
    verbose: bool,
) -> None:
    """Check all, then run to the end and leave Ray; if it is stopped, name the command that continues.

    Args:
        experiment: What to run.
        path: The experiment's folder, which no other process may write to meanwhile.
        begin: Checks the experiment, starts Ray and makes the folder.
        trust: Whether the folder is new, or may be continued though others could have written to it.
        command: Continues the run.
        verbose: Show a line for every result.
    """
    from raytune_hyperlearn.comparison import head_to_head
    from raytune_hyperlearn.comparison.running import cluster
    from raytune_hyperlearn.comparison.running.duration import plan_text
    from raytune_hyperlearn.comparison.running.lock import locked
    from raytune_hyperlearn.comparison.running.trust import require_own

    with ExitStack() as held:
        with one_line_errors():
            if not trust:
                require_own(path, experiment.storage)
            held.enter_context(locked(path))
            folder = begin(experiment, path)
        held.callback(cluster.stop_ray)
        console.print(plan_text(experiment), highlight=False, soft_wrap=True)
        _say_what_seeds_can_show(experiment)
        with ways_to_continue(command):
            head_to_head.run(experiment, folder, console, verbose=verbose)


def _say_what_seeds_can_show(experiment: Experiment) -> None:
    if len(experiment.methods) > 1:
        from raytune_hyperlearn.comparison.reporting.styles import method_styles
        from raytune_hyperlearn.comparison.reporting.wording import seeds_text

        label = method_styles(experiment.methods)[experiment.tested].label
        console.print(seeds_text(label, len(experiment.methods) - 1, len(experiment.seeds)))
