"""The shared entries of a result."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from ray.tune.utils import flatten_dict

from raytune_hyperlearn.comparison.records import Record
from raytune_hyperlearn.results import SCORES, Result, unflattened


def test_a_mapping_and_back() -> None:
    result = Result(0.5, 0.9, 0.6, 0.8, "diverged", {"momentum": [0.9]}, 2.0, 100, 1.5, 0.25)
    reported = result.to_mapping()
    assert set(reported) == {part.name for part in fields(Result)}
    assert Result.from_mapping({**reported, "training_iteration": 3}) == result


def test_what_is_not_reported_keeps_its_default() -> None:
    result = Result.from_mapping({"epochs": 3.0})
    assert (result.status, result.epochs, result.hyperparameters) == ("completed", 3.0, {})
    assert all(math.isnan(getattr(result, name)) for name in SCORES)


def test_a_status_that_nothing_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="status is 'lost'; it must be one of completed, diverged, crashed, out_of_me"):
        Result.from_mapping({"status": "lost"})


def test_records_keep_the_scores_under_the_same_names() -> None:
    assert set(SCORES) <= {part.name for part in fields(Record)}


def test_a_result_is_as_it_was_before_tune_flattened_it() -> None:
    nested = {"outer_state": {"values": {"momentum": [0.9]}, "index": 2}, "epochs": 3.0, "scores": [{"loss": 1.0}]}
    assert unflattened(flatten_dict(nested)) == nested
