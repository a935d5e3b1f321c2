import io
import math

import pytest
import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.arbiter_gradient_input import GradientStatistics


def model_with(gradient: list[float], model: nn.Module | None = None) -> nn.Linear:
    model = model or nn.Linear(2, 1).double()
    assert isinstance(model, nn.Linear)
    model.weight.grad = torch.tensor([gradient[:2]], dtype=torch.float64)
    model.bias.grad = torch.tensor(gradient[2:], dtype=torch.float64)
    return model


def test_statistics_of_three_updates_by_hand() -> None:
    gradients = [[3.0, 0.0, 4.0], [0.0, 2.0, 0.0], [-3.0, 0.0, -4.0]]
    model = model_with(gradients[0])
    statistics = GradientStatistics(model)
    for gradient in gradients:
        model_with(gradient, model)
        statistics.add()
    mean, square, rows, previous = [0.0] * 3, 0.0, [], [0.0] * 3
    for gradient in gradients:
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, gradient, strict=True)]
        norm = math.hypot(*gradient)
        square = 0.9 * square + 0.1 * norm**2
        dot = sum(g * p for g, p in zip(gradient, previous, strict=True))
        cosine = dot / (norm * math.hypot(*previous)) if any(previous) else 0.0
        rows.append([math.log10(norm), cosine, math.hypot(*mean) ** 2 / square])
        previous = gradient
    torch.testing.assert_close(statistics.rows, torch.tensor(rows, dtype=torch.float64))


def test_equal_gradients_agree_and_noise_does_not() -> None:
    generator = torch.Generator().manual_seed(0)

    def last(gradients: list[Tensor]) -> list[float]:
        model = nn.Linear(1000, 1, bias=False)
        statistics = GradientStatistics(model)
        for gradient in gradients:
            model.weight.grad = gradient[None]
            statistics.add()
        return statistics.rows[-1].tolist()

    constant, noise = torch.ones(1000), list(torch.randn(100, 1000, generator=generator))
    assert last([constant] * 100)[1:] == pytest.approx([1.0, 1.0 - 0.9**100], abs=1e-3)
    # Σ weights² = (1 − 0.9) / (1 + 0.9) for independent gradients.
    assert last(noise)[1:] == pytest.approx([0.0, 0.1 / 1.9], abs=0.1)


def test_before_any_update_there_is_a_row_of_zeros_and_the_last_updates_are_kept() -> None:
    model = nn.Linear(2, 1).double()
    statistics = GradientStatistics(model, history=4)
    statistics.add()
    assert torch.equal(statistics.rows, torch.zeros(1, 3, dtype=torch.float64))
    for size in range(1, 8):
        model_with([10.0**size, 0.0, 0.0], model)
        statistics.add()
    assert statistics.rows[:, 0].tolist() == pytest.approx([4, 5, 6, 7])


def test_a_gradient_that_is_not_finite_is_left_out() -> None:
    model = model_with([1.0, 0.0, 0.0])
    statistics = GradientStatistics(model)
    statistics.add()
    rows = statistics.rows
    model_with([math.nan, 0.0, 0.0], model)
    statistics.add()
    assert torch.equal(statistics.rows, rows)


def test_restored_statistics_go_on() -> None:
    model = model_with([1.0, 2.0, 0.0])
    first, second = GradientStatistics(model), GradientStatistics(model)
    first.add()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    model_with([0.5, -1.0, 3.0], model)
    first.add()
    second.add()
    assert torch.equal(first.rows, second.rows)
