"""Wall-clock that was neither training nor the searcher's computing, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_hyperlearn.comparison.analysis.overhead import covered, overhead
from raytune_hyperlearn.comparison.analysis.results import study_of_records
from raytune_hyperlearn.comparison.reporting.insight_tables import overhead_table
from raytune_hyperlearn.comparison.reporting.styles import method_styles
from tests.comparison.synthetic import make_experiment, make_record, make_run


def test_what_several_workers_train_at_once_is_counted_once() -> None:
    assert covered(np.array([0.0, 1.0, 5.0]), np.array([3.0, 2.0, 6.0])) == 4.0
    assert covered(np.array([5.0, -1.0]), np.array([6.0, 0.5])) == 1.5
    assert covered(np.empty(0), np.empty(0)) == 0.0


def test_the_rest_is_what_neither_training_nor_searcher_took() -> None:
    experiment = make_experiment(methods=("fds", "rs"), seeds=(0,), time_limit=20.0)
    rows = [
        make_record(method="rs", time=3.0, training_seconds=2.0),  # from 1 to 3
        make_record(method="rs", time=4.0, training_seconds=2.0),  # on the other worker, from 2 to 4
        make_record(method="rs", time=10.0, training_seconds=4.0),  # from 6 to 10
        make_record(method="rs", time=10.5, training_seconds=math.nan, status="crashed"),
        make_record(method="rs", time=30.0, training_seconds=9.0),  # after the limit
        make_record(method="fds", time=5.0, training_seconds=5.0),
    ]
    study = study_of_records(experiment, rows, [make_run(method="rs", searcher_seconds=1.5)])
    (run,) = study.runs_of("rs")
    found = overhead(study, run)
    assert found is not None
    assert (found.seconds, found.training, found.evaluations) == (10.5, 7.0, 4)
    assert found.rest == pytest.approx(10.5 - 7.0 - 1.5)
    (without_summary,) = study.runs_of("fds")
    assert overhead(study, without_summary) is None
    table = overhead_table(study, method_styles(study.methods))
    assert table is not None
    assert table.rows == (("Random search", "10.5 s", "7 s", "1.5 s", "2 s", "0.5 s", "19.0 %"),)
    assert overhead_table(study_of_records(experiment, rows), method_styles(study.methods)) is None
