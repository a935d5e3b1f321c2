"""Figure 6's estimates against closed forms on a problem where they are known; figure 7's probes and verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.batch_adaptive import Walk, best_batch_size
from raytune_hyperlearn.problems import Examples, Problem
from raytune_hyperlearn.reproductions.batch_adaptive import covariances
from raytune_hyperlearn.reproductions.batch_adaptive import figure6 as ba_figure6
from raytune_hyperlearn.reproductions.batch_adaptive import figure7 as ba_figure7
from raytune_hyperlearn.reproductions.batch_adaptive.covariances import (
    COVARIANCES,
    Outcome,
    Probe,
    Regime,
    Settings,
    compare,
)
from tests.reproductions.small_problem import small_problem


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square() / 2


@pytest.fixture
def regression() -> Problem:
    """Correlated inputs: the covariance of the gradients is far from diagonal."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(500, 1, generator=generator)
    inputs = common + 0.3 * torch.randn(500, 6, generator=generator)
    targets = inputs.sum(dim=1) + torch.randn(500, generator=generator)
    examples = Examples(inputs, targets)
    return Problem("regression", lambda: nn.Linear(6, 1), examples, examples, loss=squared_error, score=squared_error)


def test_estimates_are_those_of_the_whole_data_set(regression: Problem) -> None:
    """With a step so small that the loss is linear, mean and deviation have closed forms."""
    rate = 1e-3
    settings = ba_figure6.Settings(500, 400, 50, ((rate, False),), learning_rate=1e-3)
    (sample,) = ba_figure6.measure(regression, settings, Console(quiet=True))
    model = regression_model(regression, settings)
    inputs = torch.cat([regression.train.inputs, torch.ones(500, 1)], dim=1)
    errors = model(regression.train.inputs)[:, 0] - regression.train.targets
    gradients = (errors[:, None] * inputs).detach().double()  # [500, 7]
    mean = gradients.mean(dim=0)
    deviation = rate * math.sqrt(float(mean @ gradients.T.cov(correction=0) @ mean) / 100)
    assert sample.measured.std(ddof=1) == pytest.approx(deviation, rel=0.15)
    assert np.median(sample.exact) == pytest.approx(deviation, rel=0.15)
    assert np.median(sample.means) == pytest.approx(sample.measured.mean(), rel=0.1)
    assert np.median(sample.diagonal) < 0.6 * deviation
    assert np.median(sample.along_whole) == pytest.approx(deviation, rel=0.1)
    found = ba_figure6.findings([sample], settings)
    assert [verdict.holds for verdict in found.verdicts[1:]] == [True, False, True, True]
    assert len(found.tables[0].rows) == 2


def regression_model(problem: Problem, settings: ba_figure6.Settings) -> nn.Module:
    """The model at the θ from which updates are measured, by PyTorch's own SGD on the same batches."""
    from raytune_hyperlearn.algorithms.sampler import EpochSampler
    from raytune_hyperlearn.problems.models import initialize

    model = initialize(problem.model, settings.seed)
    sampler = EpochSampler(problem.train.inputs, problem.train.targets, settings.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=settings.momentum)
    for _ in range(settings.iterations):
        sampler.begin_batch()
        inputs, targets = sampler.draw(settings.batch_size)
        optimizer.zero_grad()
        problem.loss(model(inputs), targets).mean().backward()
        optimizer.step()
    return model


def test_a_normal_sample_passes_and_a_skewed_one_does_not() -> None:
    generator = np.random.default_rng(0)
    normal = -1 + 0.1 * generator.standard_normal(200)
    sample = ba_figure6.Sample(
        0.02, False, normal, np.full(200, -1.0), np.full(200, 0.1), np.full(20, 0.01), np.full(200, 0.1)
    )
    settings = ba_figure6.SETTINGS["smoke"]
    assert [v.holds for v in ba_figure6.findings([sample], settings).verdicts] == [True, True, False, True, True]
    skewed = replace(sample, measured=-generator.exponential(size=200))
    assert [v.holds for v in ba_figure6.findings([skewed], settings).verdicts] == [False, True, False, False, False]


def test_probes_are_the_rules_own_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covariances, "load", lambda name: small_problem())
    regime = Regime("small", 200, 6, learning_rate=0.1)
    ticks: list[None] = []
    outcome = compare(regime, Settings((regime,), probes=30, max_batch_size=64), lambda: ticks.append(None))
    assert len(ticks) == 18
    assert len(outcome.probes) >= 15
    for probe in outcome.probes:
        wanted = [best_batch_size(Walk(probe.loss, probe.drift, s, 0.1), 64) for s in (probe.exact, probe.diagonal)]
        assert [probe.wants_exact, probe.wants_diagonal] == wanted
    assert all(len(outcome.losses[covariance]) == 6 for covariance in COVARIANCES)
    assert outcome.sizes["exact"].sum() >= 1_200
    assert outcome.probes[0].drift > 0, "before the first update there is no momentum to disagree"
    found = ba_figure7.findings([outcome, outcome], Settings((regime, regime), 30, 64))
    assert [drawn.name for drawn in found.figures] == ["trajectories", "choices"]
    assert [len(table.rows) for table in found.tables] == [2, 2]


def probe(distance: float, exact: int, diagonal: int, drift: float = 1.0) -> Probe:
    return Probe(0.0, 1.0, drift, drift, 2.0, 1.0, distance, exact, diagonal)


def test_kinds_of_draws() -> None:
    assert probe(10, 1, 1).kind == "far"
    assert probe(1, 100, 1).kind == "near"
    assert probe(1, 512, 512, drift=-0.5).kind == "hopeless"
    assert not probe(10, 32, 1).differs, "both draw once"
    assert probe(1, 33, 32).differs


def outcome(name: str, diagonal: list[int], loss: float, newest: list[int]) -> Outcome:
    """The exact covariance chooses 32 and 256 and ends at 0.1; the factor between the variances is 4."""
    sizes = {"exact": [32, 256], "diagonal": diagonal, "newest": newest}
    losses = {"exact": 0.1, "diagonal": loss, "newest": 0.1}
    return Outcome(
        Regime(name, 100, 2),
        {covariance: np.array(values, dtype=float) for covariance, values in sizes.items()},
        {covariance: np.array([1.0, end]) for covariance, end in losses.items()},
        (probe(10, 1, 1), probe(1, 100, 1)),
    )


def verdicts(*outcomes: Outcome) -> list[bool | None]:
    settings = Settings(tuple(one.regime for one in outcomes), 2)
    return [verdict.holds for verdict in ba_figure7.findings(outcomes, settings).verdicts]


def test_verdicts_of_figure7() -> None:
    same = outcome("connect-4", [32, 256], 0.1, [32, 256])
    apart = outcome("fashion", [32, 32], 0.3, [32, 240])
    assert verdicts(same, same) == [True, True, True, False, True, True, True]
    assert verdicts(same, apart) == [True, True, False, False, True, False, True]
    assert verdicts(apart, same) == [False, False, False, False, True, False, True]
    elsewhere = replace(same, probes=(probe(10, 100, 1), probe(1, 100, 1)))
    assert verdicts(elsewhere)[4] is False
    assert verdicts(replace(same, probes=(probe(1, 1, 1),)))[4] is None
    assert verdicts(replace(same, sizes={**same.sizes, "newest": np.array([32.0, 32.0])}))[6] is False
