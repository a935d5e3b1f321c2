"""[FDS] figure 1: regret against wall-clock of FDS, hypergradient descent and black-box search.

This is the comparison of ``hyperlearn compare`` with the paper's settings on CIFAR-10 and WRN-16-1: seven learning
rates, one momentum and one weight decay; FDS takes its hypergradients over one epoch first and over ten in all later
outer steps, trains with what it has for 50 epochs after each, and clamps gradients to ±3 and H·Z to ±1. Unlike in the
paper that training is charged to FDS's clock. Smaller scales compare on digits, with this package's own settings of FDS
(the defaults of ``hyperlearn compare``), so they test the paper's claim on another problem.

Regret's zero is the best of a grid around the literature's settings (appendix F). Digits have one that comes with the
package; on CIFAR-10 it is found first and kept in the folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from raytune_hyperlearn.comparison import head_to_head
from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.analysis.summary import MethodSummary, speed_up, summarize
from raytune_hyperlearn.comparison.experiment import Experiment, read_experiment
from raytune_hyperlearn.comparison.records import EXPERIMENT_FILE
from raytune_hyperlearn.comparison.reference_record import read_reference, reference_to_mapping, write_reference
from raytune_hyperlearn.comparison.reporting.given_tables import given_table
from raytune_hyperlearn.comparison.reporting.method_figures import draw_schedules, schedule_panels
from raytune_hyperlearn.comparison.reporting.page import build_report
from raytune_hyperlearn.comparison.reporting.regret_figures import draw_regret, regret_panels
from raytune_hyperlearn.comparison.reporting.styles import BLACK_BOX, method_styles
from raytune_hyperlearn.comparison.reporting.tables import confirmation_table, final_table, target_table
from raytune_hyperlearn.comparison.reporting.wording import quantity_name, regret_text, speed_up_text, time_text
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.lock import locked
from raytune_hyperlearn.comparison.running.reference import find_reference
from raytune_hyperlearn.hyperparameters import LearningRate, Momentum, SearchSpace, WeightDecay
from raytune_hyperlearn.problems import load
from raytune_hyperlearn.reproductions.reproduction import Drawn, Findings, Scale, Verdict

COMPARISON, REFERENCE_FILE = "comparison", "reference.json"
SPEED_UP = 20.0
"""The paper's, over the best black-box method."""
REFERENCE_SEEDS = 3
SETTINGS: Mapping[Scale, Mapping[str, Any]] = {
    "smoke": {
        "problem": "digits",
        "methods": ["fds", "hd", "rs", "bohb"],
        "seeds": [0],
        "time_limit": 5.0,
        "replicates": 1,
        "confirmations": 0,
    },
    "small": {"problem": "digits"},
    "paper": {
        "problem": "cifar10-wrn16-1",
        "seeds": [0, 1, 2],
        "time_limit": 86_400.0,
        "epochs": 50.0,
        "min_epochs": 1.0,
        "gpus_per_trial": 1.0,
        "metric": "validation_accuracy",
        "gradient_clamp": 3.0,
        "confirmations": 5,
        "space": SearchSpace(
            learning_rate=LearningRate(values=7, step=0.1),
            momentum=Momentum(step=0.1),
            weight_decay=WeightDecay(step=3e-4),
        ).to_mapping(),
        "method_options": {
            "fds": {
                "horizon_fractions": [1 / 50, 10 / 50],
                "replay_from": 1,
                "coarse_steps": 0,
                "scaled_moves": False,
                "tolerance": None,
                "growth": 1.0,
                "product_clamp": 1.0,
            }
        },
    },
}
"""Settings as ``hyperlearn compare --config`` takes them; what is not named is the problem's default there."""


def run(scale: Scale, output: Path, console: Console) -> Findings:
    """Runs the comparison, or goes on with it, and reads the figure's claims off it."""
    study = compare(SETTINGS[scale], output, console)
    build_report([output / COMPARISON], output / COMPARISON / "report.html")
    return findings(study)


def compare(settings: Mapping[str, Any], output: Path, console: Console) -> Study:
    """Every method with every seed, in ``output/comparison``.

    Raises:
        ValueError: In one line, if data or GPUs are missing.
    """
    path = output / COMPARISON
    begun = (path / EXPERIMENT_FILE).is_file()
    experiment = read_experiment(path / EXPERIMENT_FILE) if begun else prepared(settings, output, console)
    with locked(path):
        head_to_head.to_the_end(experiment, lambda: head_to_head.begin(experiment, path, begun), console)
    return load_study(path)


def prepared(settings: Mapping[str, Any], output: Path, console: Console) -> Experiment:
    """The experiment, with a reference: the package's own, the folder's, or one that is found now.

    Raises:
        ValueError: In one line, if data or GPUs are missing.
    """
    experiment = experiment_from_settings(settings)
    if experiment.reference is not None:
        return experiment
    load(experiment.problem)
    file = output / REFERENCE_FILE
    if not file.exists():
        given = experiment.problem, experiment.epochs, REFERENCE_SEEDS, experiment.workers, experiment.gpus_per_trial
        write_reference(find_reference(*given, console), file)
    return experiment_from_settings({**settings, "reference": reference_to_mapping(read_reference(file))})


def findings(study: Study) -> Findings:
    """Verdicts, figures and tables."""
    summaries, styles = summarize(study), method_styles(study.experiment.methods)
    wall = regret_panels(study, styles, "time")
    schedules = [panel for panel in schedule_panels(study, styles) if panel.name == "learning_rate"]
    drawn = [
        Drawn(
            "regret",
            "Regret against wall-clock",
            draw_regret(wall),
            f"Median over seeds ({len(study.experiment.seeds)}) and quartiles of the "
            f"{quantity_name(study, 'validation')} and of the {quantity_name(study, 'test')} of what each method would "
            "have returned at that moment, chosen by validation alone. Zero is the best of a grid around the usual "
            "settings.",
        )
    ]
    if schedules:
        drawn.append(
            Drawn(
                "schedules",
                "Learned learning rates",
                draw_schedules(schedules),
                "What each run held best at its end; the best run's is thick.",
            )
        )
    tables = [target_table(study, summaries, styles), final_table(study, summaries, styles)]
    confirmed = confirmation_table(study, summaries, styles)
    experiment = study.experiment
    return Findings(
        settings={
            "problem": experiment.problem,
            "methods": experiment.methods,
            "seeds": experiment.seeds,
            "seconds per run": experiment.time_limit,
            "epochs": experiment.epochs,
            "chosen by": experiment.metric,
            "full report": f"{COMPARISON}/report.html",
        },
        verdicts=(
            _first(study, summaries),
            _faster(study, summaries),
            _others(study, summaries),
            _below_descent(study, summaries),
        ),
        figures=tuple(drawn),
        tables=(*tables, *([confirmed] if confirmed else []), given_table(study, styles)),
        numbers={
            method: {
                "seconds to targets": list(own.times),
                "runs that reached them": list(own.reached),
                "validation regret": own.validation.median,
                "test regret": own.test.median,
            }
            for method, own in summaries.items()
        },
    )


def zero_times(study: Study, summaries: Mapping[str, MethodSummary]) -> dict[str, tuple[float, int]]:
    """Median seconds to a validation regret of zero, infinite where half of the runs did not reach it, and how many."""
    place = study.experiment.targets.index(0.0)
    return {method: (own.times[place], own.reached[place]) for method, own in summaries.items()}


def _times_text(study: Study, summaries: Mapping[str, MethodSummary], methods: tuple[str, ...]) -> str:
    styles, limit = method_styles(study.experiment.methods), study.experiment.time_limit
    times = zero_times(study, summaries)
    order = sorted(methods, key=lambda method: times[method][0])
    return ", ".join(f"{styles[m].short} {time_text(*times[m], summaries[m].seeds, limit)}" for m in order)


def _first(study: Study, summaries: Mapping[str, MethodSummary]) -> Verdict:
    times = {method: time for method, (time, _) in zero_times(study, summaries).items()}
    soonest = min(times.values())
    return Verdict(
        "FDS reaches zero regret, and before all others.",
        f"Median time to a validation regret of zero: {_times_text(study, summaries, tuple(times))}.",
        None if math.isinf(soonest) else times["fds"] == soonest and list(times.values()).count(soonest) == 1,
    )


def _faster(study: Study, summaries: Mapping[str, MethodSummary]) -> Verdict:
    """The speed-up over the best black-box method at zero regret; a bound where only one of the two reached it."""
    times = zero_times(study, summaries)
    limit, styles = study.experiment.time_limit, method_styles(study.experiment.methods)
    rivals = [method for method in times if method in BLACK_BOX]
    claim = f"FDS reaches zero regret {SPEED_UP:g} times sooner than the best black-box method."
    if not rivals:
        return Verdict(claim, "No black-box method was run.", None)
    rival = min(rivals, key=lambda method: (times[method][0], summaries[method].validation.median))
    own, other = times["fds"][0], times[rival][0]
    if math.isinf(own) and math.isinf(other):
        return Verdict(claim, "Neither reached it in half of its runs.", None)
    found = f"{speed_up_text(own, other, limit)} sooner than {styles[rival].label}."
    if math.isinf(other):
        return Verdict(claim, found, True if limit >= SPEED_UP * own else None)
    return Verdict(claim, found, speed_up(own, other) >= SPEED_UP)


def _others(study: Study, summaries: Mapping[str, MethodSummary]) -> Verdict:
    times = zero_times(study, summaries)
    others = tuple(method for method in times if method not in ("fds", "bohb"))
    return Verdict(
        "Methods other than FDS and BOHB do not reach zero regret in the time that they were run for.",
        f"Median times: {_times_text(study, summaries, others)}." if others else "No other method was run.",
        all(math.isinf(times[method][0]) for method in others) if others else None,
    )


def _below_descent(study: Study, summaries: Mapping[str, MethodSummary]) -> Verdict:
    claim = "FDS ends with a lower regret than online greedy differentiation, on the test data too."
    if "hd" not in summaries:
        return Verdict(claim, "Hypergradient descent was not run.", None)
    pairs = {name: (getattr(summaries["fds"], name), getattr(summaries["hd"], name)) for name in ("validation", "test")}
    shown = "; ".join(
        f"{name}: FDS {regret_text(own.median, study.metric)}, HD {regret_text(other.median, study.metric)}"
        for name, (own, other) in pairs.items()
    )
    return Verdict(
        claim, f"Median regrets at the end: {shown}.", all(own.median < other.median for own, other in pairs.values())
    )
