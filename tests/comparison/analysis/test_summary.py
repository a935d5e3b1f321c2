"""Headline numbers and sentences, from records worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.results import Study, load_study
from raytune_hyperlearn.comparison.analysis.statistics import compare_with
from raytune_hyperlearn.comparison.analysis.summary import (
    area_limits,
    final_by_seed,
    same_evaluations,
    speed_up,
    summarize,
)
from raytune_hyperlearn.comparison.experiment import write_experiment
from raytune_hyperlearn.comparison.records import Record, RecordWriter
from raytune_hyperlearn.comparison.reference_record import reference_to_mapping
from raytune_hyperlearn.comparison.reporting.given_tables import given_table, reference_table
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from raytune_hyperlearn.comparison.reporting.tables import (
    final_table,
    hyperparameter_table,
    runs_table,
    speed_up_tables,
    summary_table,
    target_table,
)
from raytune_hyperlearn.comparison.reporting.wording import (
    headline,
    number,
    quartiles_text,
    regret_text,
    seconds,
    speed_up_text,
)
from tests.comparison.synthetic import make_experiment, make_record, make_reference, make_run


def make_study(folder: Path, points: Mapping[str, Sequence[Sequence[tuple[float, float]]]], **changes: Any) -> Study:
    """A study in which each method's runs (one per seed) observed (time, validation regret) points.

    The reference's losses are 0, so that losses are regrets without rounding; test regret is twice as large.
    """
    reference = reference_to_mapping(make_reference(validation_loss=0.0, test_loss=0.0))
    seeds = tuple(range(max(len(runs) for runs in points.values())))
    settings = {"methods": tuple(points), "seeds": seeds, "time_limit": 100.0, "reference": reference}
    experiment = make_experiment(**{**settings, **changes})
    rows = [
        make_record(method=method, seed=seed, time=time, validation_loss=value, test_loss=2 * value)
        for method, runs in points.items()
        for seed, run in enumerate(runs)
        for time, value in run
    ]
    return study_of(folder, experiment, rows)


def study_of(folder: Path, experiment: Any, rows: Sequence[Record]) -> Study:
    write_experiment(experiment, folder / "experiment.yaml")
    with RecordWriter(folder / "records.jsonl") as writer:
        for row in rows:
            writer.append(row)
    return load_study(folder)


def sentences(study: Study) -> str:
    summaries = summarize(study)
    pairs = compare_with(study.focus, final_by_seed(study), np.random.default_rng(0))
    return " ".join(headline(study, summaries, method_styles(summaries), pairs))


FDS_AHEAD = {
    "fds": [[(5, 0.5), (10, 0.05), (20, 0.01)], [(5, 0.5), (12, 0.04), (40, 0.0)], [(5, 0.4), (20, 0.015)]],
    "rs": [[(4, 0.3), (30, 0.05)], [(4, 0.2), (24, 0.03)], [(4, 0.2)]],
}


def test_final_regret_times_and_areas_by_hand(tmp_path: Path) -> None:
    summaries = summarize(make_study(tmp_path, FDS_AHEAD))
    fds, random = summaries["fds"], summaries["rs"]
    assert fds.validation.median == pytest.approx(0.01)
    assert fds.test.median == pytest.approx(0.02)
    assert (random.validation.lower, random.validation.median) == pytest.approx((0.04, 0.05))
    assert fds.reached == (1, 2, 3, 3)
    assert fds.times == (math.inf, 40, 20, 12)
    assert random.reached == (0, 0, 0, 2)
    assert random.times == (math.inf, math.inf, math.inf, 30)
    start, end = area_limits(make_study(tmp_path, FDS_AHEAD))
    assert (start, end) == (5, 100)
    areas = [
        0.5 * math.log(10 / 5) + 0.05 * math.log(20 / 10) + 0.01 * math.log(100 / 20),
        0.5 * math.log(12 / 5) + 0.04 * math.log(40 / 12),
        0.4 * math.log(20 / 5) + 0.015 * math.log(100 / 20),
    ]
    assert fds.area.median == pytest.approx(sorted(areas)[1])


def test_late_failed_and_missing_results(tmp_path: Path) -> None:
    experiment = make_experiment(methods=("fds", "bohb"), seeds=(0, 1, 2), time_limit=10.0)
    rows = [
        make_record(method="fds", seed=0, time=10.0, validation_loss=0.3),
        make_record(method="fds", seed=0, time=10.1, validation_loss=0.1),
        make_record(method="fds", seed=1, time=5, validation_loss=0.4),
        make_record(method="fds", seed=2, time=5, validation_loss=math.nan, status="diverged"),
        make_record(method="bohb", seed=0, time=5, validation_loss=0.2, status="crashed"),
    ]
    summaries = summarize(study_of(tmp_path, experiment, rows))
    fds, bohb = summaries["fds"], summaries["bohb"]
    assert (fds.evaluations, fds.late, fds.failures) == (3, 1, {"diverged": 1})
    assert fds.validation.median == pytest.approx(0.4 - make_reference().validation_loss)
    assert fds.validation.upper == math.inf
    assert bohb.validation.median == math.inf
    assert bohb.failures == {"crashed": 1}
    assert math.isnan(bohb.startup_seconds)


def searched(method: str, seed: int, rates: Sequence[float], by_model: bool | None = None) -> list[Record]:
    """Rows of a searcher that proposed these learning rates."""
    info = {"config_id": "(0, 0, 0)"} if by_model is None else {"config_id": "(0, 0, 0)", "model_based_pick": by_model}
    return [
        make_record(
            method=method, seed=seed, time=1.0 + i, validation_loss=rate, hyperparameters={"lr": [rate]}, info=info
        )
        for i, rate in enumerate(rates)
    ]


def test_a_model_that_never_picked_and_what_it_drew_are_told(tmp_path: Path) -> None:
    draws = [0.3, 0.2, 0.5]
    rows = [row for seed in (0, 1) for row in searched("rs", seed, draws) + searched("bo", seed, draws[:2], False)]
    rows += searched("bohb", 0, [0.3, 0.4], True) + searched("bohb", 1, [0.3], False)
    study = study_of(tmp_path, make_experiment(methods=("rs", "bo", "bohb"), seeds=(0, 1)), rows)
    summaries = summarize(study)
    assert [summary.model_picks for summary in summaries.values()] == [None, 0, 2]
    assert same_evaluations(study) == (("rs", "bo"),)  # BOHB's second draw with seed 0 is another
    said = "Random search and Bayesian optimization made the same evaluations, so their results are one result."
    assert said in sentences(study)
    terminal = summary_table(study)
    assert said in terminal.note
    assert "by a model" not in terminal.columns  # the report's alone: there is no room for it
    final = final_table(study, summaries, method_styles(summaries))
    assert [row[final.columns.index("by a model")] for row in final.rows] == ["–", "0 of 4", "2 of 3"]


def test_crashes_alone_make_no_two_methods_the_same(tmp_path: Path) -> None:
    rows = [make_record(method=method, status="crashed", hyperparameters={}) for method in ("rs", "bo")]
    assert same_evaluations(study_of(tmp_path, make_experiment(methods=("rs", "bo"), seeds=(0,)), rows)) == ()


def runs_of(regrets: Sequence[float]) -> list[list[tuple[float, float]]]:
    return [[(5.0, regret)] for regret in regrets]


def test_the_headline_says_what_the_tests_came_to(tmp_path: Path) -> None:
    steps = [0.001 * seed for seed in range(8)]
    points = {
        "fds": runs_of([0.05 + step for step in steps]),
        "rs": runs_of([0.3 + 3 * step for step in steps]),
        "hb": runs_of([0.01] * 8),
        "bohb": runs_of([0.05 + step + 0.01 * (-1) ** seed for seed, step in enumerate(steps)]),
    }
    text = sentences(make_study(tmp_path, points))
    assert (
        "FDS is significantly better than random search, is significantly worse than Hyperband and is "
        "indistinguishable from BOHB (Wilcoxon's test over 8 seeds, Holm's correction, 5%)." in text
    )


def test_another_method_is_tested_where_it_was_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, FDS_AHEAD, focus="rs")
    assert study.focus == "rs"
    text = sentences(study)
    assert "Random search is not ahead" in text
    assert "To test random search against one other method takes at least 6 seeds; there are 3" in text
    assert study.with_focus("fds").focus == "fds"
    with pytest.raises(ValueError, match=r"^focus is 'hb'; it must be None or one of fds, rs$"):
        study.with_focus("hb")


def test_speed_ups() -> None:
    assert speed_up(10, 30) == 3
    assert speed_up(30, 10) == pytest.approx(1 / 3)
    assert speed_up(10, math.inf) == math.inf
    assert speed_up(math.inf, 10) == 0
    assert math.isnan(speed_up(math.inf, math.inf))
    assert speed_up_text(10, 30, 60) == "3×"
    assert speed_up_text(10, math.inf, 60) == "> 6×"
    assert speed_up_text(math.inf, 30, 60) == "< 0.5×"
    assert speed_up_text(math.inf, math.inf, 60) == "–"


def test_headline_when_fds_is_ahead(tmp_path: Path) -> None:
    text = sentences(make_study(tmp_path, FDS_AHEAD, targets=(-0.1, 0.02, 0.06)))
    assert "2 methods on digits, 3 seeds each, 100 s of wall-clock per run." in text
    assert "At the end FDS has the lowest median validation regret, 0.01 (quartiles 0.005 to 0.0125)" in text
    assert "0.04 below random search, the best black-box method (0.05)." in text
    assert (
        "The median of FDS was at the final level of random search (0.05), the best black-box method, after 12 s; "
        "random search itself after 30 s." in text
    )
    assert "FDS reached validation regret 0.06 first, after 12 s, 2.5 times sooner than random search (30 s)." in text
    assert "FDS reached validation regret 0.02 first, after 20 s; no other method reached it in half of its" in text
    assert "No method reached validation regret −0.1 in half of its runs." in text
    assert "To test FDS against one other method takes at least 6 seeds; there are 3, so the differences are" in text
    assert "not ahead" not in text


def test_headline_says_so_when_fds_is_not_ahead(tmp_path: Path) -> None:
    points = {"fds": [[(50, 0.3)]], "bohb": [[(10, 0.1), (20, -0.02)]], "rs": [[(15, 0.1)]]}
    text = sentences(make_study(tmp_path, points, targets=(0.0, 0.15)))
    assert "final level" not in text
    assert "At the end BOHB has the lowest median validation regret, −0.02" in text
    assert "Below zero means better than the reference." in text
    assert "FDS is not ahead: its median is 0.3, 0.32 higher." in text
    assert "BOHB reached validation regret 0.15 first, after 10 s, 1.5 times sooner than random search (15 s)" in text
    assert "FDS did not reach it." in text
    assert "BOHB has the lowest median test regret (−0.04); FDS has 0.6." in text


def test_headline_when_level_alone_or_empty(tmp_path: Path) -> None:
    level = {"fds": [[(5, 0.1)]], "bohb": [[(5, 0.1)]]}
    (tmp_path / "level").mkdir()
    text = sentences(make_study(tmp_path / "level", level, targets=(0.2,)))
    assert "At the end FDS has the lowest median validation regret, 0.1 (quartiles 0.1 to 0.1), level with BOHB" in text
    assert "FDS reached validation regret 0.2 first, after 5 s, together with BOHB." in text
    (tmp_path / "lost").mkdir()
    lost = study_of(tmp_path / "lost", make_experiment(methods=("fds",)), [make_record(status="diverged")])
    assert "No method has a result in at least half of its runs" in sentences(lost)
    (tmp_path / "crashed").mkdir()
    crashes = [make_record(status="crashed", error="ValueError: no"), make_record(status="crashed", error="later")]
    crashed = study_of(tmp_path / "crashed", make_experiment(methods=("fds",)), crashes)
    assert "Every evaluation of every method crashed, the first with: ValueError: no" in sentences(crashed)
    (tmp_path / "empty").mkdir()
    assert "No run has begun" in sentences(study_of(tmp_path / "empty", make_experiment(), []))


def test_without_a_reference_the_metric_itself_is_told(tmp_path: Path) -> None:
    experiment = make_experiment(methods=("fds",), seeds=(0,), reference=None, metric="validation_accuracy")
    study = study_of(tmp_path, experiment, [make_record(validation_accuracy=0.97, test_accuracy=0.95)])
    text = sentences(study)
    assert "lowest median validation error, 3 %" in text
    assert "regret" not in text
    assert summary_table(study).columns == ("method", "validation", "test", "results", "failures")
    assert summary_table(study).title == "digits: median error over seeds, 60 s per run"


def test_tables_say_what_the_study_holds(tmp_path: Path) -> None:
    study = make_study(tmp_path, FDS_AHEAD, targets=(0.0, 0.06), method_options={"fds": {"outer_steps": 8}})
    summaries = summarize(study)
    styles = method_styles(summaries)
    terminal = summary_table(study)
    assert terminal.columns == (
        "method",
        "validation",
        "test",
        "time to 0",
        "results",
        "failures",
    )
    assert terminal.title == "digits: median regret over seeds, 100 s per run"
    assert terminal.rows[0] == ("FDS", "0.01", "0.02", "> 100 s (1/3)", "8", "0")
    assert terminal.rows[1][0] == "RS"
    assert target_table(study, summaries, styles).rows[1] == ("Random search", "> 100 s (0/3)", "30 s (2/3)")
    (speed_ups,) = speed_up_tables(study, summaries, styles)
    assert speed_ups.rows == (("FDS", "", "2.5×"), ("Random search", "0.4×", ""))
    assert given_table(study, styles).rows == (("FDS", "outer_steps: 8"), ("Random search", "defaults"))
    learned = hyperparameter_table(study, styles)
    assert learned.rows[0][:4] == ("FDS", "0", "20 s", "27")
    assert learned.rows[0][-3:] == ("0.1", "0.9", "0")
    reference = reference_table(study)
    assert reference is not None
    assert ("made by", "hyperlearn reference digits") in reference.rows
    assert ("validation loss", "0 ± 0.012") in reference.rows
    assert runs_table(study, styles).rows[0][-1] == "driver killed"
    for table in (terminal, speed_ups, learned, reference, final_table(study, summaries, styles)):
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_given_options_come_from_the_runs(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "runs.jsonl") as writer:
        writer.append(make_run(seed=0, options={"eta": 3}, evaluations=0))
        writer.append(make_run(seed=1, options={"eta": 3}, evaluations=0))
        writer.append(make_run(seed=2, options={"eta": 4}, evaluations=0))
    study = study_of(tmp_path, make_experiment(methods=("fds",)), [])
    assert given_table(study, method_styles(["fds"])).rows == (("FDS", "eta: 3 | eta: 4"),)


def test_why_a_run_ended_stands_in_the_report(tmp_path: Path) -> None:
    reasons = {"time_limit": "time limit", "converged": "converged", "ended": "nothing left to try"}
    with RecordWriter(tmp_path / "runs.jsonl") as writer:
        for seed, finished in enumerate(reasons):
            writer.append(make_run(seed=seed, finished=finished, evaluations=0))
    study = study_of(tmp_path, make_experiment(methods=("fds",), seeds=(0, 1, 2)), [])
    assert [row[-1] for row in runs_table(study, method_styles(["fds"])).rows] == list(reasons.values())


def test_numbers_as_text() -> None:
    assert [number(value) for value in (0.012345, -0.5, 0.0, -0.0, 12345.0)] == ["0.0123", "−0.5", "0", "0", "1.23e+04"]
    assert number(math.nan) == "–"
    assert number(math.inf) == "no result"
    assert seconds(12.345) == "12.3 s"
    assert seconds(12345.6) == "12,346 s"
    assert regret_text(0.0123, "validation_accuracy") == "1.23 %"
    assert quartiles_text(None, "validation_loss") == "–"
