from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from raytune_hyperlearn.hyperparameters import (
    KINDS,
    LearningRate,
    Momentum,
    OptimizerSpace,
    Schedule,
    SearchSpace,
    WeightDecay,
)

NAN, INF = float("nan"), float("inf")
SPACE = SearchSpace(
    learning_rate=LearningRate(values=3, init=0.1, step=0.05, range=(0.01, 0.5)),
    momentum=0.9,
    weight_decay=WeightDecay(values=2),
)


def test_the_default_space_is_that_of_figure_1_from_zero() -> None:
    space = SearchSpace()
    assert space.dimensions == 9
    assert space.learned == ("learning_rate", "momentum", "weight_decay")
    assert space.initial() == {"learning_rate": [0.0] * 7, "momentum": [0.0], "weight_decay": [0.0]}
    for name, sizes in space.step_sizes().items():
        assert len(sizes) == len(space.initial()[name])
    assert space.ranges() == {"learning_rate": (0.0, 1.0), "momentum": (0.0, 1.0), "weight_decay": (0.0, 3e-3)}


def test_a_space_says_what_is_learned_and_what_is_fixed() -> None:
    assert SPACE.learned == ("learning_rate", "weight_decay")
    assert SPACE.dimensions == 5
    assert SPACE.initial() == {"learning_rate": [0.1] * 3, "momentum": [0.9], "weight_decay": [0.0] * 2}
    assert SPACE.step_sizes() == {"learning_rate": [0.05] * 3, "weight_decay": [3e-4] * 2}
    assert SPACE.ranges() == {"learning_rate": (0.01, 0.5), "weight_decay": (0.0, 3e-3)}
    assert SPACE.flat_names() == [
        "learning_rate_0",
        "learning_rate_1",
        "learning_rate_2",
        "weight_decay_0",
        "weight_decay_1",
    ]


def test_a_space_of_any_optimizer_has_the_names_that_it_is_given() -> None:
    space = OptimizerSpace({"beta1": Schedule(values=2, init=0.9, step=0.05, range=(0, 0.99)), "epsilon": "1e-6"})
    assert space.learned == ("beta1",)
    assert space.initial() == {"beta1": [0.9, 0.9], "epsilon": [1e-6]}
    assert space.step_sizes() == {"beta1": [0.05, 0.05]}
    assert space.ranges() == {"beta1": (0.0, 0.99)}
    assert space.from_flat({"beta1_0": 0.5, "beta1_1": 0.6}) == {"beta1": [0.5, 0.6], "epsilon": [1e-6]}
    with pytest.raises(ValueError, match="the search space has no schedule"):
        OptimizerSpace({"beta1": 0.9})
    with pytest.raises(ValueError, match=r"^beta2 is inf; it must be a finite number$"):
        OptimizerSpace({"beta1": Schedule(), "beta2": INF})


def test_flat_values_become_schedules() -> None:
    flat = {name: 0.001 * (index + 10) for index, name in enumerate(SPACE.flat_names()) if "rate" in name}
    found = SPACE.from_flat(flat | {"weight_decay_0": 0, "weight_decay_1": 0.003, "another": "ignored"})
    assert found == {
        "learning_rate": pytest.approx([0.01, 0.011, 0.012]),
        "momentum": [0.9],
        "weight_decay": [0.0, 0.003],
    }


def test_checked_values_come_back_as_plain_floats() -> None:
    found = SPACE.check({"learning_rate": (0.5, 0.01, 0.1), "weight_decay": [0, 0], "momentum": [0.9]})
    assert found == {"learning_rate": [0.5, 0.01, 0.1], "momentum": [0.9], "weight_decay": [0.0, 0.0]}
    assert all(type(value) is float for schedule in found.values() for value in schedule)


@pytest.mark.parametrize("space", [SPACE, SearchSpace(), SearchSpace(0.1, Momentum(init=0.5), 0.0)])
def test_a_space_survives_yaml_and_json(space: SearchSpace) -> None:
    mapping = space.to_mapping()
    assert SearchSpace.from_mapping(mapping) == space
    assert SearchSpace.from_mapping(yaml.safe_load(yaml.safe_dump(mapping))) == space
    assert SearchSpace.from_mapping(json.loads(json.dumps(mapping))) == space


def test_what_a_mapping_does_not_name_keeps_its_default() -> None:
    found = SearchSpace.from_mapping(yaml.safe_load("{learning_rate: {values: 2}, weight_decay: 5e-4}"))
    assert found == SearchSpace(LearningRate(values=2), Momentum(), 5e-4)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    """YAML 1.1 takes 1e-3 for a string: it wants a point."""
    text = "{learning_rate: {init: 1e-3, step: 1e-2, range: [0, 2e-1]}, weight_decay: 1e-4}"
    assert isinstance(yaml.safe_load(text)["weight_decay"], str)
    found = SearchSpace.from_mapping(yaml.safe_load(text))
    assert found == SearchSpace(LearningRate(init=1e-3, step=1e-2, range=(0.0, 0.2)), Momentum(), 1e-4)


@pytest.mark.parametrize("space", [SPACE, SearchSpace()])
def test_configspace_has_the_same_names_and_ranges(space: SearchSpace) -> None:
    pytest.importorskip("ConfigSpace")
    found = space.configuration_space()
    assert sorted(found) == sorted(space.flat_names())
    for name, hyperparameter in found.items():
        low, high = space.ranges()[name.rpartition("_")[0]]
        assert (hyperparameter.lower, hyperparameter.upper, hyperparameter.log) == (low, high, False)
    found.seed(0)
    for configuration in found.sample_configuration(20):
        space.from_flat(dict(configuration))


def test_tune_has_the_same_names_and_ranges() -> None:
    found = SPACE.tune_space()
    assert list(found) == SPACE.flat_names()
    for name, domain in found.items():
        assert (domain.lower, domain.upper) == SPACE.ranges()[name.rpartition("_")[0]]


# (what is built, the whole message)
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: LearningRate(values=0), "LearningRate values is 0; it must be a whole number of at least 1"),
    (lambda: LearningRate(values=2.0), "LearningRate values is 2.0; it must be a whole number of at least 1"),  # type: ignore[arg-type]
    (lambda: LearningRate(values=True), "LearningRate values is True; it must be a whole number of at least 1"),
    (lambda: Momentum(range=(1, 0)), "Momentum range is (1, 0); the lower bound must lie below the upper one"),
    (lambda: Momentum(range=(1, 1)), "Momentum range is (1, 1); the lower bound must lie below the upper one"),
    (lambda: Momentum(range=(0, INF)), "Momentum range bound is inf; it must be a finite number"),
    (lambda: Momentum(range=(0, "high")), "Momentum range bound is 'high'; it must be a finite number"),  # type: ignore[arg-type]
    (lambda: Momentum(range=(0, 1, 2)), "Momentum range is (0, 1, 2); it must be a pair of numbers (lowest, highest)"),  # type: ignore[arg-type]
    (lambda: Momentum(range=3), "Momentum range is 3; it must be a pair of numbers (lowest, highest)"),  # type: ignore[arg-type]
    (lambda: WeightDecay(init=0.5), "WeightDecay init is 0.5; it must lie in its range [0, 0.003]"),
    (lambda: WeightDecay(init=NAN), "WeightDecay init is nan; it must be a finite number"),
    (lambda: Schedule(step=0), "Schedule step is 0; it must be positive"),
    (lambda: Schedule(step=INF), "Schedule step is inf; it must be a finite number"),
    (lambda: Schedule(step="fast"), "Schedule step is 'fast'; it must be a finite number"),  # type: ignore[arg-type]
    (
        lambda: SearchSpace(0.1, 0.9, 0.0),
        "the search space has no schedule; at least one hyperparameter must be learned",
    ),
    (lambda: SearchSpace(momentum=NAN), "momentum is nan; it must be a finite number"),
    (lambda: SearchSpace(momentum=True), "momentum is True; it must be a finite number"),
    (lambda: SearchSpace(momentum=None), "momentum is None; it must be a finite number"),  # type: ignore[arg-type]
    (
        lambda: SearchSpace.from_mapping({"lr": 0.1}),
        "space holds 'lr'; it must be learning_rate, momentum, weight_decay",
    ),
    (
        lambda: SearchSpace.from_mapping({"momentum": {"start": 0.1}}),
        "momentum holds 'start'; it must be values, init, step, range",
    ),
    (lambda: SearchSpace.from_mapping({"momentum": "high"}), "momentum is 'high'; it must be a finite number"),
    (lambda: SearchSpace.from_mapping({"momentum": [0.9]}), "momentum is [0.9]; it must be a finite number"),
    (
        lambda: SearchSpace.from_mapping([1]),  # type: ignore[arg-type]
        "space is [1]; it must map learning_rate, momentum, weight_decay to schedules or numbers",
    ),
    (
        lambda: SPACE.from_flat({"learning_rate_0": 0.1}),
        "hyperparameters lack 'learning_rate_1'; the space needs "
        "learning_rate_0, learning_rate_1, learning_rate_2, weight_decay_0, weight_decay_1",
    ),
    (
        lambda: SPACE.from_flat(dict.fromkeys(SPACE.flat_names(), 0.6)),
        "learning_rate is 0.6; it must lie in [0.01, 0.5]",
    ),
    (
        lambda: SPACE.from_flat(dict.fromkeys(SPACE.flat_names(), NAN)),
        "learning_rate is nan; it must be a finite number",
    ),
    (
        lambda: SPACE.check({"lr": [0.1]}),
        "hyperparameters hold 'lr'; they must be learning_rate, momentum, weight_decay",
    ),
    (lambda: SPACE.check({"learning_rate": [0.1] * 2}), "learning_rate has 2 values; the space has 3"),
    (lambda: SPACE.check({"learning_rate": 0.1}), "learning_rate is 0.1; it must be a list of numbers"),  # type: ignore[dict-item]
    (
        lambda: SPACE.check({"learning_rate": [0.1, 0.1, 0.0]}),
        "learning_rate is 0; it must lie in [0.01, 0.5]",
    ),
    (
        lambda: SPACE.check({"learning_rate": [0.1] * 3}),
        "hyperparameters lack 'weight_decay'; the space needs learning_rate, weight_decay",
    ),
    (lambda: SPACE.check({"momentum": [0.5]}), "momentum is 0.5; it must lie in [0.9, 0.9]"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        make()
    assert str(caught.value) == message


def test_every_name_of_a_space_has_its_kind() -> None:
    assert tuple(KINDS) == SearchSpace().learned
    for name, kind in KINDS.items():
        assert type(SearchSpace().schedules[name]) is kind
