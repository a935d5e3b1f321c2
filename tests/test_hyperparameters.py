from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
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


def test_a_default_step_is_never_wider_than_the_range() -> None:
    assert LearningRate(range=(0.0, 0.06)).step == 0.03
    assert LearningRate(range=(0.0, 0.2)).step == 0.1


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
    (
        lambda: Momentum(step=0.5, range=(0, 0.4)),
        "Momentum step is 0.5; it must be at most the width of its range, 0.4",
    ),
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
    (
        lambda: LearningRate(shape="cosines"),  # type: ignore[arg-type]
        "LearningRate shape is 'cosines'; it must be one of windows, linear, cosine, one-cycle, polynomial, "
        "exponential, or a function",
    ),
    (
        lambda: LearningRate(values=7, shape="cosine"),
        "LearningRate values is 7; it must be 3 with shape 'cosine': peak, final, warm_up",
    ),
    (lambda: Momentum(scale="ln"), "Momentum scale is 'ln'; it must be 'linear' or 'log'"),  # type: ignore[arg-type]
    (lambda: LearningRate(scale="log"), "LearningRate range is (0, 1); with scale 'log' it must begin above 0"),
    (
        lambda: LearningRate(shape="exponential"),
        "LearningRate range is (0, 1); with shape 'exponential' it must begin above 0",
    ),
    (
        lambda: LearningRate(values=3, shape="linear", lengths=[1, 2, 3]),
        "LearningRate lengths is [1, 2, 3]; it must be None where shape is not 'windows'",
    ),
    (lambda: LearningRate(lengths=3), "LearningRate lengths is 3; it must be a list of whole numbers"),  # type: ignore[arg-type]
    (
        lambda: LearningRate(values=2, lengths=[1, 2, 3]),
        "LearningRate lengths has 3 entries; it must have 2, one per window",
    ),
    (lambda: LearningRate(values=3, init=[0, 1]), "LearningRate init has 2 numbers; it must be one number or 3"),
    (lambda: LearningRate(values=2, init=[0, 2]), "LearningRate init is 2; it must lie in its range [0, 1]"),
    (lambda: LearningRate(values=2, step=[0.1, 0]), "LearningRate step is 0; it must be positive"),
    (
        lambda: LearningRate(values=3, range=[(0, 1), (0, 2)]),
        "LearningRate range is [(0, 1), (0, 2)]; it must be one pair of numbers, or 3 of them",
    ),
    (lambda: SearchSpace(coordinates="log"), "coordinates is 'log'; it must be 'plain' or 'effective'"),  # type: ignore[arg-type]
    (
        lambda: LearningRate(groups={}),
        "LearningRate groups is {}; it must be 'layers' or group → patterns of parameter names",
    ),
    (
        lambda: LearningRate(groups={"head": "fc.*"}),  # type: ignore[dict-item]
        "LearningRate groups is {'head': 'fc.*'}; it must be 'layers' or group → a list of patterns of parameter names",
    ),
    (
        lambda: SearchSpace(LearningRate(groups="layers")).dimensions,
        "groups of learning_rate is 'layers'; call for_model with a model first",
    ),
    (
        lambda: SearchSpace(momentum=Momentum(groups={"all": ["*"]}), coordinates="effective"),
        "coordinates is 'effective'; groups of momentum must be those of learning_rate, or momentum have none",
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
        "momentum holds 'start'; it must be values, init, step, range, shape, scale, lengths, groups",
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


# ------------------------------------------------------------------------- shapes, scales, groups, coordinates

COSINE = SearchSpace(LearningRate(shape="cosine", scale="log", range=(1e-3, 1.0), init=0.1), 0.9, 0.0)
SHAPED: dict[str, SearchSpace] = {
    "cosine on a logarithmic scale": COSINE,
    "straight lines": SearchSpace(LearningRate(values=4, shape="linear", init=[0.1, 0.3, 0.2, 0.0])),
    "windows of given lengths": SearchSpace(LearningRate(values=3, lengths=(1, 2, 9))),
    "ranges of its own": SearchSpace(LearningRate(values=2, range=[(0.1, 1.0), (0.0, 0.1)], init=[0.1, 0.0])),
    "groups": SearchSpace(LearningRate(values=2, groups={"body": ["0.*", "2.*"], "head": ["4.*"]}), Momentum()),
    "effective": SearchSpace(coordinates="effective"),
}


@pytest.mark.parametrize("name", SHAPED)
def test_spaces_of_every_kind_survive_yaml(name: str) -> None:
    space = SHAPED[name]
    assert SearchSpace.from_mapping(yaml.safe_load(yaml.safe_dump(space.to_mapping()))) == space


@pytest.mark.parametrize("name", SHAPED)
def test_every_method_is_given_the_same_space(name: str) -> None:
    """FDS's start values and axes, ConfigSpace's floats and Tune's domains, each under the same names."""
    space = SHAPED[name]
    assert sum(len(own) for own in space.axes().values()) == space.dimensions == len(space.flat_names())
    assert {k: len(v) for k, v in space.step_sizes().items()} == {k: len(v) for k, v in space.axes().items()}
    space.check(space.initial())
    axes = dict(zip(space.flat_names(), itertools.chain(*space.axes().values()), strict=True))
    found, domains = space.configuration_space(), space.tune_space()
    assert sorted(found) == sorted(domains) == sorted(axes)
    for key, axis in axes.items():
        assert (found[key].lower, found[key].upper, found[key].log) == (axis.low, axis.high, axis.scale == "log")
        assert (domains[key].lower, domains[key].upper) == (axis.low, axis.high)
        assert ("Log" in type(domains[key].get_sampler()).__name__) == (axis.scale == "log")
    found.seed(0)
    for configuration in found.sample_configuration(5):
        values = space.from_flat(dict(configuration))
        now = space.at_step(values, 3, 10)
        assert set(now) == set(space.parts)


def test_a_black_box_method_searches_the_three_numbers_of_a_cosine() -> None:
    assert COSINE.flat_names() == ["learning_rate_0", "learning_rate_1", "learning_rate_2"]
    assert COSINE.initial() == {"learning_rate": [0.1, 0.1, 0.1], "momentum": [0.9], "weight_decay": [0.0]}
    assert [(axis.low, axis.high, axis.scale) for axis in COSINE.axes()["learning_rate"]] == [
        (1e-3, 1.0, "log"),
        (1e-3, 1.0, "log"),
        (0.0, 0.5, "linear"),
    ]
    values = COSINE.from_flat({"learning_rate_0": 0.5, "learning_rate_1": 0.01, "learning_rate_2": 0.2})
    rates = [COSINE.at_step(values, step, 10)["learning_rate"] for step in range(11)]
    expected = [0.5 * t / 2 for t in range(2)] + [0.01 + 0.49 * (1 + math.cos(math.pi * u / 8)) / 2 for u in range(8)]
    assert rates == pytest.approx([*expected, expected[-1]], rel=1e-12)


def test_a_schedule_works_as_pytorchs_own_scheduler() -> None:
    """LambdaLR asks for step T as well."""
    schedule = LearningRate(values=3, shape="linear")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.at([0.1, 0.3, 0.2], step, 5))
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.25, 0.2])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)


def test_on_a_logarithmic_scale_the_search_starts_in_the_middle() -> None:
    schedule = LearningRate(values=2, scale="log", range=(1e-4, 1.0))
    assert schedule.starts == pytest.approx((1e-2, 1e-2))
    assert schedule.steps == pytest.approx((math.log(1e4) / 10,) * 2)


def test_groups_have_schedules_of_their_own() -> None:
    space = SHAPED["groups"]
    assert space.learned == ("learning_rate@body", "learning_rate@head", "momentum", "weight_decay")
    assert space.dimensions == 6
    assert space.groups == {"learning_rate": {"body": ["0.*", "2.*"], "head": ["4.*"]}}
    assert space.flat_names()[:2] == ["learning_rate@body_0", "learning_rate@body_1"]


def test_layers_are_those_of_a_model_or_of_known_values() -> None:
    space = SearchSpace(LearningRate(values=2, groups="layers"), 0.9, WeightDecay(groups="layers"))
    known = space.for_model(["0.weight", "0.bias", "features.3.weight", "scale"])
    assert known.learned == tuple(
        f"{n}@{g}" for n in ("learning_rate", "weight_decay") for g in ("0", "features.3", "scale")
    )
    again = space.for_values(known.initial())
    assert (again.learned, again.axes(), again.initial()) == (known.learned, known.axes(), known.initial())
    assert SearchSpace.from_mapping(space.to_mapping()) == space


def test_effective_coordinates_give_the_learning_rate_of_the_momentum() -> None:
    values = {"learning_rate": [2.0, 1.0], "momentum": [0.9], "weight_decay": [0.0]}
    space = SearchSpace(LearningRate(values=2, range=(0, 10)), coordinates="effective")
    assert space.at_step(values, 0, 4)["learning_rate"] == pytest.approx(0.2)
    assert space.at_step(values, 3, 4)["learning_rate"] == pytest.approx(0.1)


def test_a_function_cannot_be_written_to_a_file() -> None:
    space = SearchSpace(LearningRate(values=1, shape=lambda share, theta: theta[0] * (1 - share)))
    values = {"learning_rate": [0.4], "momentum": [0.0], "weight_decay": [0.0]}
    assert space.at_step(values, 1, 4)["learning_rate"] == pytest.approx(0.3)
    with pytest.raises(ValueError, match=r"it must be one of windows, .* to be written to a file"):
        space.to_mapping()
