"""Random settings: each is accepted and can be constructed, or refused in one line that says what is allowed."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_hyperlearn.comparison.experiment import read_settings
from raytune_hyperlearn.comparison.running.defaults import experiment_from_settings
from raytune_hyperlearn.comparison.running.methods import OWN_METHODS
from raytune_hyperlearn.comparison.running.run import check_experiment

INPUTS = 10_000
Outcome = tuple[dict[str, Any], Any, float]
CONSTRUCTED = 100
ODD: list[Any] = [
    None,
    True,
    "",
    "fds",
    "a\nb",
    -1,
    0,
    0.5,
    3,
    1e20,
    10**20,
    float("nan"),
    float("inf"),
    [],
    [1, 1],
    {},
    {"a": 1},
]
ENTRIES: dict[str, list[Any]] = {
    "methods": [[name] for name in OWN_METHODS],
    "seeds": [[0], [1, 2], [10**20], 3],
    "time_limit": [1.0, 60, "60"],
    "epochs": [1, 2.5, 27],
    "min_epochs": [0.1, 1, 99],
    "workers": [1, 2, 10**20],
    "concurrent": [1, 3],
    "cpus_per_trial": [1, 4],
    "gpus_per_trial": [0, 0.5],
    "metric": ["validation_loss", "validation_accuracy", "loss"],
    "replicates": [1, 2],
    "confirmations": [0, 3],
    "gradient_clamp": [None, 1.0],
    "gradient_norm": [None, 1.0],
    "precision": ["full", "bf16-mixed"],
    "space": [
        {},
        {"learning_rate": {"values": 3}},
        {"learning_rate": {"values": 1e20}},
        {"momentum": 0.9},
        {"learning_rate": {"range": [1, 0]}},
        {"speed": 1.0},
    ],
    "targets": [[0.0], [0.01, 0.1]],
    "focus": ["fds", "nobody"],
    "address": ["auto"],
    "speed": [1],
}


def fuzzed(generator: random.Random) -> dict[str, Any]:
    """Settings with some entries from those that make sense, some odd ones, and an option of the method's."""
    names = generator.sample(list(ENTRIES), generator.randint(1, 5))
    settings = {name: generator.choice(ENTRIES[name] if generator.random() < 0.8 else ODD) for name in names}
    method = generator.choice(list(OWN_METHODS))
    options = OWN_METHODS[method].defaults
    if options and generator.random() < 0.5:
        settings["methods"] = [method]
        settings["method_options"] = {method: {generator.choice(list(options)): generator.choice(ODD)}}
    return settings


def refusal(function: Callable[[Any], Any], argument: Any) -> str:
    """What a ValueError says; empty where there is none."""
    try:
        function(argument)
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """Settings, the experiment or the refusal, and the processor seconds that it took."""
    generator = random.Random(0)
    found: list[Outcome] = []
    for _ in range(INPUTS):
        settings, begun = fuzzed(generator), time.process_time()
        try:
            outcome: Any = experiment_from_settings(settings)
        except ValueError as error:
            outcome = str(error)
        found.append((settings, outcome, time.process_time() - begun))
    return found


def test_a_refusal_is_one_line_with_entry_and_what_is_allowed(
    outcomes: list[Outcome],
) -> None:
    refusals = [(settings, outcome) for settings, outcome, _ in outcomes if isinstance(outcome, str)]
    assert len(refusals) > INPUTS / 4
    for settings, line in refusals:
        assert "\n" not in line, settings
        assert re.search(r"must|lower bound|lower than|allowed", line), (settings, line)


def test_nothing_takes_a_second(outcomes: list[Outcome]) -> None:
    """What was slow is asked again, since the first to name a method also pays for its imports."""
    for settings, _, seconds in outcomes:
        if seconds >= 1.0:
            begun = time.process_time()
            refusal(experiment_from_settings, settings)
            assert time.process_time() - begun < 1.0, settings


def test_what_is_accepted_can_be_constructed_or_its_method_says_why_not(
    outcomes: list[Outcome],
) -> None:
    accepted = [outcome for settings, outcome, _ in outcomes if not isinstance(outcome, str) and "methods" in settings]
    assert len(accepted) > CONSTRUCTED
    runnable = 0
    for experiment in accepted[:CONSTRUCTED]:
        line = refusal(check_experiment, experiment)
        runnable += not line
        assert "\n" not in line
        assert not line or line.startswith(("method ", "method_options of "))
    assert runnable > CONSTRUCTED / 4


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"methods": ["ba-sgd"], "gradient_clamp": 1.0}, "method ba-sgd: gradient_clamp is 1.0; .* it must be None"),
        ({"methods": ["arbiter"], "method_options": {"arbiter": {"layer": "no"}}}, "method arbiter: layer must be one"),
        (
            {"methods": ["cabs"], "method_options": {"cabs": {"start": float("nan")}}},
            r"method cabs: start is nan; it must be a whole number in \[16",
        ),
        (
            {"methods": ["bo"], "method_options": {"bo": {"min_points_in_model": 3}}},
            "method bo: min_points_in_model is 3; it must be None or a whole number from 10",
        ),
    ],
)
def test_a_method_that_cannot_run_with_the_settings_is_asked_first(settings: dict[str, Any], line: str) -> None:
    experiment = experiment_from_settings({"epochs": 1, **settings})
    with pytest.raises(ValueError, match=line) as refused:
        check_experiment(experiment)
    assert "\n" not in str(refused.value)


def test_random_text_is_settings_or_refused_in_one_line(tmp_path: Path) -> None:
    generator = random.Random(1)
    path = tmp_path / "settings.yaml"
    for _ in range(1000):
        text = yaml.safe_dump(fuzzed(generator))
        cut = generator.randrange(len(text))
        path.write_text(text[:cut] + generator.choice("[]{}:-&*!|>'\"%@`\t#1 ") + text[cut + 1 :])
        line = refusal(read_settings, path)
        assert "\n" not in line
        assert not line or line.startswith(str(path))
