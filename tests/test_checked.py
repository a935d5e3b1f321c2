"""Records that check their fields, and what they say of a bad one."""

from __future__ import annotations

import dataclasses
import pickle
import re
import subprocess
import sys
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import model_validator

from raytune_hyperlearn.checked import (
    AfterValidator,
    AnyNumber,
    Count,
    Described,
    Fraction,
    Items,
    Lenient,
    Pair,
    Positive,
    read,
    record,
    unknown,
)


def whole(line: str) -> str:
    """A pattern that the whole line matches."""
    return f"^{re.escape(line)}$"


@dataclasses.dataclass(frozen=True)
class Plain:
    """A record that knows nothing of pydantic."""

    way: Literal["fast", "exact"] = "exact"
    most: int = 4

    def __post_init__(self) -> None:
        if self.most > 9:
            raise ValueError(f"most is {self.most}; it must be at most 9")


def ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(values):
        raise ValueError("it must ascend")
    return values


@record
class Options:
    """What is checked here."""

    steps: Count = 10
    rate: Positive | None = None
    momentum: Fraction = 0.0
    on: bool = True
    how: Literal["sign", "surrogate"] = "sign"
    widths: Annotated[Items[Positive], AfterValidator(ascending)] = ()
    bounds: Pair[AnyNumber] = (0.0, 1.0)
    plain: Lenient[Plain] = Plain()
    choice: Annotated[str | int, Described("a name or a number")] = "a"

    @model_validator(mode="after")
    def _agree(self) -> Options:
        if self.how == "surrogate" and self.steps == 1:
            raise ValueError("steps is 1; with how 'surrogate' it must be at least 2")
        return self


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number of at least 1"),
        ({"steps": True}, "steps is True; it must be a whole number of at least 1"),
        ({"steps": "1"}, "steps is '1'; it must be a whole number of at least 1"),
        ({"steps": 0}, "steps is 0; it must be a whole number of at least 1"),
        ({"rate": 0}, "rate is 0; it must be a positive number or None"),
        ({"rate": float("nan")}, "rate is nan; it must be a positive number or None"),
        ({"rate": True}, "rate is True; it must be a positive number or None"),
        ({"momentum": 1}, "momentum is 1; it must be a number in [0, 1)"),
        ({"on": "no"}, "on is 'no'; it must be true or false"),
        ({"on": 1}, "on is 1; it must be true or false"),
        ({"how": "sing"}, "how is 'sing'; it must be 'sign' or 'surrogate'"),
        ({"widths": "1"}, "widths is '1'; it must be a list, each a positive number"),
        ({"widths": [1, "2"]}, "widths[1] is '2'; it must be a positive number"),
        ({"widths": [2, 1]}, "widths is [2, 1]; it must ascend"),
        ({"bounds": [1]}, "bounds is [1]; it must be a pair of a number and a number"),
        ({"plain": {"way": "x"}}, "plain.way is 'x'; it must be 'fast' or 'exact'"),
        ({"plain": {"most": "4"}}, "plain.most is '4'; it must be a whole number"),
        ({"plain": {"most": 10}}, "most is 10; it must be at most 9"),
        ({"plain": {"wya": "fast"}}, "option of plain is 'wya'; it must be way (the closest) or most"),
        ({"plain": 3}, "plain is 3; it must be a mapping of way or most"),
        ({"choice": 1.5}, "choice is 1.5; it must be a name or a number"),
        ({"how": "surrogate", "steps": 1}, "steps is 1; with how 'surrogate' it must be at least 2"),
        (
            {"steps": 0, "on": "no"},
            "steps is 0; it must be a whole number of at least 1; also on is 'no'; it must be true or false",
        ),
    ],
)
def test_one_line_says_all_that_is_wrong(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=whole(line)):
        Options(**given)
    with pytest.raises(ValueError, match=whole(f"file.yaml: {line}")):
        read(Options, given, "file.yaml")


def test_an_unknown_name_is_refused_with_the_closest() -> None:
    line = "option is 'setps'; it must be steps (the closest), bounds, choice, how, momentum, on, plain, rate or widths"
    with pytest.raises(ValueError, match=whole(line)):
        Options(setps=1)  # type: ignore[call-arg]
    assert unknown("key", "x", ["beta", "alpha"]) == "key is 'x'; it must be alpha or beta"


def test_a_missing_field_is_named() -> None:
    @record
    class Needs:
        steps: Count

    with pytest.raises(ValueError, match=whole("steps is missing; it must be a whole number of at least 1")):
        read(Needs, {})


def test_numbers_lists_and_mappings_become_what_is_declared() -> None:
    made = read(
        Options,
        {"steps": np.int64(3), "rate": np.float32(0.5), "widths": [1, 2], "bounds": [0, float("inf")], "plain": {}},
    )
    assert made == Options(3, 0.5, widths=(1.0, 2.0), bounds=(0.0, float("inf")), plain=Plain())
    assert [type(one) for one in (made.steps, made.rate, made.widths[0])] == [int, float, float]
    assert read(Options, made) is made
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_record_is_frozen_and_replaced_with_checks() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().steps = 2  # type: ignore[misc]
    with pytest.raises(ValueError, match="steps is 0; "):
        dataclasses.replace(Options(), steps=0)


def test_checks_need_neither_ray_nor_torch() -> None:
    program = "import sys, raytune_hyperlearn.checked; print(*{'ray', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
