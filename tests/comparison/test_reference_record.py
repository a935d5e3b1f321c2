"""The frozen reference: exact round trip through JSON, and what it refuses to serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_hyperlearn.comparison.reference_record import (
    read_reference,
    reference_from_mapping,
    reference_to_mapping,
    write_reference,
)
from tests.comparison.synthetic import make_reference


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    reference = make_reference(validation_loss=0.1 + 0.2, test_loss=float("inf"))
    path = tmp_path / "digits.json"
    write_reference(reference, path)
    assert read_reference(path) == reference
    assert reference_from_mapping(reference_to_mapping(reference)) == reference


def test_matches_its_own_problem_and_epochs_only() -> None:
    reference = make_reference()
    reference.require_match("digits", 27)
    with pytest.raises(ValueError, match=r"^reference is for the problem 'digits'; it must be for 'cifar10'$"):
        reference.require_match("cifar10", 27)
    with pytest.raises(ValueError, match=r"^reference is for 27 epochs; it must be for 9.5, as the experiment$"):
        reference.require_match("digits", 9.5)


def test_refuses_malformed_files_naming_them(tmp_path: Path) -> None:
    path = tmp_path / "digits.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"digits\.json: not JSON"):
        read_reference(path)
    path.write_text(json.dumps({**reference_to_mapping(make_reference()), "test_loss": "0.1"}))
    with pytest.raises(ValueError, match=r"digits\.json: test_loss is '0\.1'; it must be a number$"):
        read_reference(path)
    with pytest.raises(ValueError, match=r"^seeds is \(\); it must be a list of at least one seed$"):
        make_reference(seeds=())
