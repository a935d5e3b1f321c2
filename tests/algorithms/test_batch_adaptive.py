"""The Gaussian walk with rebound, its best batch size, and Algorithm 1 against a plain rewriting of the paper."""

from __future__ import annotations

import math
import random

import mpmath
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raytune_hyperlearn.algorithms.batch_adaptive import (
    BatchAdaptiveSGD,
    GaussianWalkRule,
    Walk,
    best_batch_size,
    expected_loss,
    utility,
)
from raytune_hyperlearn.algorithms.ruled_sgd import BatchStatistics, Progress
from raytune_hyperlearn.algorithms.sampler import EpochSampler

SIZES = torch.arange(1, 3001)


def random_walk(generator: random.Random) -> Walk:
    """Any scale of (s, μ, σ, η, S*), with zeros and negative values."""

    def scale(low: float, high: float) -> float:
        return 10 ** generator.uniform(low, high)

    minimum = generator.choice([0.0, 0.0, 0.3, -2.0, 5.0])
    return Walk(
        loss=minimum + scale(-6, 4) * generator.choice([1, 1, 1, 1, -1, 0]),
        drift=scale(-8, 5) * generator.choice([1, 1, 1, 1, -1, 0]),
        deviation=scale(-8, 6) * generator.choice([1, 1, 1, 1, 0]),
        learning_rate=scale(-5, 1),
        minimum_loss=minimum,
    )


def balanced_walk(generator: random.Random) -> Walk:
    """A walk whose best size is usually neither 1 nor the bound: noise of about √m decreases, m in the thousands."""
    decrease = 10 ** generator.uniform(-4, 0)
    loss = decrease * 10 ** generator.uniform(-0.2, 3)
    return Walk(loss, decrease / 0.1, decrease * 10 ** generator.uniform(0, 3) / 0.1, 0.1)


def precise_utility(walk: Walk, m: int) -> mpmath.mpf:
    """u(m) straight from equations 7 and 8 with 60 digits."""
    s, mu, sigma, eta, least = map(
        mpmath.mpf, (walk.loss, walk.drift, walk.deviation, walk.learning_rate, walk.minimum_loss)
    )
    center = s - least - eta * mu
    spread = eta * sigma / mpmath.sqrt(m)
    if spread == 0:
        return (s - abs(center) - least) / m
    a = center / spread
    mean = center * (mpmath.ncdf(a) - mpmath.ncdf(-a)) + spread * mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-(a**2) / 2)
    return (s - mean - least) / m


@pytest.fixture(autouse=True)
def sixty_digits() -> None:
    mpmath.mp.dps = 60


class TestExpectedLoss:
    @pytest.mark.parametrize("drift", [-3.0, 0.0, 0.8, 9.0])
    @pytest.mark.parametrize("m", [1, 10, 400])
    def test_is_the_mean_of_the_rebounding_walk(self, drift: float, m: int) -> None:
        """Against the integral of |s − S* − ηΔ| + S* over the normal density."""
        walk = Walk(loss=1.3, drift=drift, deviation=6.0, learning_rate=0.2, minimum_loss=0.4)
        step = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
        density = torch.exp(-step.square() / 2) / math.sqrt(2 * math.pi)
        moved = walk.loss - walk.minimum_loss - walk.learning_rate * (drift + walk.deviation / math.sqrt(m) * step)
        integral = torch.trapezoid((moved.abs() + walk.minimum_loss) * density, step)
        torch.testing.assert_close(expected_loss(walk, torch.tensor(m)), integral, rtol=1e-8, atol=0)

    def test_utility_keeps_its_digits_where_noise_hardly_matters(self) -> None:
        """Far from the rebound the noise's price is far below the loss's rounding error."""
        mpmath.mp.dps = 250  # the price is below 1e-198 of the loss
        for distance in (3.0, 8.0, 15.0, 30.0):
            walk = Walk(loss=distance, drift=0.0, deviation=1.0, learning_rate=1.0)
            expected = precise_utility(walk, 1)
            assert float(utility(walk, torch.tensor(1))) == pytest.approx(float(expected), rel=1e-10)
            assert expected < 0

    def test_agrees_with_sixty_digits_everywhere(self) -> None:
        """To the rounding of s − S* − ημ, in which a float64 state comes."""
        generator = random.Random(1)
        for _ in range(300):
            walk, m = random_walk(generator), generator.choice([1, 7, 100, 60_000])
            expected = precise_utility(walk, m)
            scale = abs(walk.loss) + abs(walk.minimum_loss) + abs(walk.learning_rate * walk.drift)
            allowed = 1e-14 * scale / m + 1e-12 * abs(expected)
            assert abs(mpmath.mpf(float(utility(walk, torch.tensor(m)))) - expected) <= allowed

    def test_shapes_and_infinite_distance(self) -> None:
        walk = Walk(loss=1.0, drift=1.0, deviation=0.0, learning_rate=0.1)
        assert expected_loss(walk, torch.ones(3, 4)).shape == (3, 4)
        torch.testing.assert_close(expected_loss(walk, SIZES), torch.full(SIZES.shape, 0.9, dtype=torch.float64))


class TestBestBatchSize:
    def test_brute_force_over_a_wide_range(self) -> None:
        generator = random.Random(0)
        seen = {"one": 0, "between": 0, "largest": 0}
        for index in range(1500):
            walk = random_walk(generator) if index % 2 else balanced_walk(generator)
            largest = generator.choice([1, 2, 3, 32, 500, 3000])
            best = best_batch_size(walk, largest)
            values = utility(walk, SIZES[:largest])
            top = float(values.max())
            assert 1 <= best <= largest
            assert float(values[best - 1]) >= top - 1e-12 * abs(top) - 1e-300, (walk, largest, best)
            seen["one" if best == 1 else "largest" if best == largest else "between"] += 1
        assert min(seen.values()) > 100, seen

    def test_the_very_integer_with_sixty_digits(self) -> None:
        generator = random.Random(2)
        between = 0
        for _ in range(60):
            walk, largest = balanced_walk(generator), 200
            exact = max(range(1, largest + 1), key=lambda m, walk=walk: (precise_utility(walk, m), -m))
            assert best_batch_size(walk, largest) == exact
            between += 1 < exact < largest
        assert between > 10

    def test_far_beyond_what_brute_force_reaches(self) -> None:
        """No neighbor is better by more than rounding, and sizes twice or half as large are worse."""
        walk = Walk(loss=1.0, drift=1.0, deviation=2e5, learning_rate=1.0)
        best = best_batch_size(walk, 10**15)
        assert 10**8 < best < 10**15
        top = precise_utility(walk, best)
        for m in (best - 1, best + 1, best - best // 1000, best + best // 1000):
            assert precise_utility(walk, m) <= top * (1 + mpmath.mpf("1e-16"))
        for m in (best // 2, 2 * best):
            assert precise_utility(walk, m) < 0.99 * top

    @pytest.mark.parametrize(
        ("walk", "expected"),
        [
            (Walk(1.0, 1.0, 0.0, 0.1), 1),  # no noise: the smallest batch is the cheapest
            (Walk(1.0, 0.0, 0.0, 0.1), 1),  # nothing to gain and nothing to lose
            (Walk(1.0, -1.0, 0.0, 0.1), 77),  # a loss that is shared by more instances
            (Walk(1.0, -1.0, 3.0, 0.1), 77),
            (Walk(1.0, 0.0, 3.0, 0.1), 77),
            (Walk(0.5, 1.0, 3.0, 0.1, 0.9), 77),  # s < S*
            (Walk(0.5, 30.0, 3.0, 0.1), 77),  # the step leads beyond the mirror image of s
            (Walk(0.0, 0.0, 0.0, 0.1), 1),
            (Walk(1e300, 1e300, 1e300, 0.1), best_batch_size(Walk(1.0, 1.0, 1.0, 0.1), 77)),
            (Walk(1e-300, 1e-300, 1e-300, 0.1), best_batch_size(Walk(1.0, 1.0, 1.0, 0.1), 77)),
            (Walk(1.7e308, -1.0, 1.0, 0.1, -1.7e308), 77),
            (Walk(math.nan, 1.0, 1.0, 0.1), 1),  # diverged: no reason to prefer a size
            (Walk(math.inf, 1.0, 1.0, 0.1), 1),
            (Walk(1.0, -math.inf, 1.0, 0.1), 1),
            (Walk(1.0, 1.0, math.nan, 0.1), 1),
        ],
    )
    def test_special_cases(self, walk: Walk, expected: int) -> None:
        assert best_batch_size(walk, 77) == expected

    def test_does_not_depend_on_the_unit_of_loss(self) -> None:
        generator = random.Random(3)
        for _ in range(200):
            walk = balanced_walk(generator)
            for unit in (2.0**-600, 2.0**600):  # θ stays, so gradients scale with the loss and η with 1/loss
                scaled = Walk(walk.loss * unit, walk.drift * unit, walk.deviation * unit, walk.learning_rate)
                assert best_batch_size(scaled, 5000) == best_batch_size(walk, 5000)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"deviation": -1.0}, "deviation is -1.0; it must be at least 0"),
            ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive and finite"),
            ({"minimum_loss": math.inf}, "minimum_loss is inf; it must be finite"),
        ],
    )
    def test_bad_walks_are_refused(self, arguments: dict[str, float], message: str) -> None:
        fields = {"loss": 1.0, "drift": 1.0, "deviation": 1.0, "learning_rate": 0.1, **arguments}
        with pytest.raises(ValueError, match=message):
            Walk(**fields)
        with pytest.raises(ValueError, match="max_batch_size is 0; it must be at least 1"):
            best_batch_size(Walk(1.0, 1.0, 1.0, 0.1), 0)


class TestRule:
    PROGRESS = Progress(instances=0, epochs=0.0, max_batch_size=300, learning_rate=0.1)

    def test_variance_is_not_computed_where_it_cannot_matter(self) -> None:
        def never() -> float:
            raise AssertionError("σ² was computed")

        rule = GaussianWalkRule()
        rising = BatchStatistics(32, loss=1.0, gradient_norm_squared=1.0, drift=-0.5, variance_along_gradient=never)
        assert rule.choose_size(self.PROGRESS, rising) == 300

    def test_wants_the_best_size_of_the_walk(self) -> None:
        rule = GaussianWalkRule(increment=16, minimum_loss=0.2)
        batch = BatchStatistics(
            16, loss=1.0, gradient_norm_squared=9.0, drift=2.0, variance_along_gradient=lambda: 900.0
        )
        assert rule.choose_size(self.PROGRESS, None) == 16
        assert rule.choose_size(self.PROGRESS, batch) == best_batch_size(Walk(1.0, 2.0, 30.0, 0.1, 0.2), 300)

    def test_bad_settings_are_refused(self) -> None:
        with pytest.raises(ValueError, match="increment is 1; it must be at least 2"):
            GaussianWalkRule(increment=1)
        with pytest.raises(ValueError, match="minimum_loss is nan; it must be finite"):
            GaussianWalkRule(minimum_loss=math.nan)
        with pytest.raises(ValueError, match="covariance is 'full'; it must be 'exact', 'newest' or 'diagonal'"):
            GaussianWalkRule(covariance="full")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def noisy_problem() -> tuple[nn.Module, Tensor, Tensor]:
    """300 points in the plane whose classes overlap, and a small network, in float64."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.randint(2, (300,), generator=generator)
    inputs = torch.randn(300, 2, generator=generator, dtype=torch.float64) * 2 + targets[:, None]
    model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model, inputs, targets


class Algorithm1:
    """Algorithm 1 of the paper as it stands, with every gradient and the whole covariance matrix, one update a call."""

    def __init__(
        self, model: nn.Module, sampler: EpochSampler, lr: float, rho: float, covariance: str, cap: int
    ) -> None:
        self.model, self.sampler, self.lr, self.rho, self.covariance, self.cap = (
            model,
            sampler,
            lr,
            rho,
            covariance,
            cap,
        )
        self.buffer: Tensor | float = 0.0
        self.movement: Tensor | float = 0.0

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses, rows = [], []
        for x, y in zip(inputs, targets, strict=True):
            value = F.cross_entropy(self.model(x[None]), y[None])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(self.model.parameters()))]))
            losses.append(value.detach())
        return torch.stack(losses), torch.stack(rows)

    def sigma_squared(self, rows: Tensor, newest: Tensor) -> float:
        mean = rows.mean(0)
        matrix = torch.cov((newest if self.covariance == "newest" else rows).T)
        if self.covariance == "diagonal":
            matrix = torch.diag(torch.diag(matrix))
        return float(mean @ matrix @ mean)

    def step(self, m0: int, minimum: float) -> int:
        self.sampler.begin_batch()
        all_losses, all_rows = [], []
        while True:
            losses, newest = self.gradients(*self.sampler.draw(min(m0, self.cap - sum(map(len, all_losses)))))
            all_losses.append(losses)
            all_rows.append(newest)
            rows = torch.cat(all_rows)
            mean = rows.mean(0)
            mu = float(mean @ (self.rho * self.buffer + mean))
            walk = Walk(
                float(torch.cat(all_losses).mean()), mu, math.sqrt(self.sigma_squared(rows, newest)), self.lr, minimum
            )
            best = int(utility(walk, torch.arange(1, self.cap + 1)).argmax()) + 1
            if len(rows) >= min(best, self.cap):
                break
        self.buffer = self.rho * self.buffer + mean
        self.movement = self.rho * self.movement + self.lr * mean
        with torch.no_grad():
            offset = 0
            for p in self.model.parameters():
                p -= self.movement[offset : offset + p.numel()].view_as(p)
                offset += p.numel()
        return len(rows)


@pytest.mark.parametrize("covariance", ["exact", "newest", "diagonal"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_algorithm_1_update_by_update(covariance: str, momentum: float) -> None:
    model, inputs, targets = noisy_problem()
    twin, _, _ = noisy_problem()
    lr, minimum, cap = (2.0 if momentum == 0 else 0.6), 0.3, 150
    reference = Algorithm1(twin, EpochSampler(inputs, targets, seed=1), lr, momentum, covariance, cap)
    sampler = EpochSampler(inputs, targets, seed=1)
    optimizer = BatchAdaptiveSGD(
        model, cross_entropy, sampler, lr=lr, momentum=momentum, minimum_loss=minimum, m0=8,
        max_batch_size=cap, covariance=covariance,
    )  # fmt: skip
    sizes = []
    for _ in range(40):
        update = optimizer.step()
        sizes.append(update.batch_size)
        assert update.batch_size == reference.step(8, minimum)
        assert update.enlargements == math.ceil(update.batch_size / 8)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)
    assert len(set(sizes)) > 2, sizes
    assert sampler.instances == sum(sizes)
    assert optimizer.updates == 40


def test_batches_end_at_the_training_set_and_at_the_bound() -> None:
    model, inputs, targets = noisy_problem()
    few = EpochSampler(inputs[:20], targets[:20], seed=0)
    optimizer = BatchAdaptiveSGD(model, cross_entropy, few, lr=50.0, minimum_loss=10.0, m0=8)
    assert optimizer.step().batch_size == 20  # s < S*: every size is too small
    many = EpochSampler(inputs, targets, seed=0)
    optimizer = BatchAdaptiveSGD(model, cross_entropy, many, lr=50.0, minimum_loss=10.0, m0=8, max_batch_size=30)
    update = optimizer.step()
    assert (update.batch_size, update.enlargements, update.chosen_size) == (30, 4, 30)


def test_divergence_spends_no_further_instances() -> None:
    model, inputs, targets = noisy_problem()
    with torch.no_grad():
        model[2].weight.fill_(math.nan)
    optimizer = BatchAdaptiveSGD(model, cross_entropy, EpochSampler(inputs, targets, seed=0), lr=0.1, m0=8)
    update = optimizer.step()
    assert math.isnan(update.loss)
    assert update.batch_size == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be positive and finite"),
        ({"lr": math.nan}, "lr is nan; it must be positive and finite"),
        ({"momentum": 1.0}, r"momentum is 1.0; it must lie in \[0, 1\)"),
        ({"m0": 1}, "m0 is 1; it must be at least 2"),
        ({"max_batch_size": 1}, "max_batch_size is 1; it must be at least 2"),
        ({"covariance": "full"}, "covariance is 'full'; it must be"),
        ({"minimum_loss": math.inf}, "minimum_loss is inf; it must be finite"),
        ({"micro_batch_size": 0}, "micro_batch_size is 0; it must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, object], message: str) -> None:
    model, inputs, targets = noisy_problem()
    with pytest.raises(ValueError, match=message) as error:
        BatchAdaptiveSGD(model, cross_entropy, EpochSampler(inputs, targets, seed=0), **{"lr": 0.1, **arguments})
    assert "\n" not in str(error.value)


def test_diagonal_covariance_with_batch_norm_is_refused_before_training() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    sampler = EpochSampler(torch.zeros(9, 2), torch.zeros(9, dtype=torch.long), seed=0)
    with pytest.raises(ValueError, match="layer '1'"):
        BatchAdaptiveSGD(model, cross_entropy, sampler, lr=0.1, covariance="diagonal")
