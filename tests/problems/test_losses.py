"""A loss is one number per example: modules of torch are rebuilt so, and a mean over the batch is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from raytune_hyperlearn.problems import Examples, Problem, check_problem, evaluate

N = 7


def regression(count: int = N, outputs: int = 3) -> Examples:
    generator = torch.Generator().manual_seed(0)
    return Examples(torch.randn(count, 4, generator=generator), torch.randn(count, outputs, generator=generator))


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(dim=1)


class InPlace(nn.Module):
    """Spoils what the way back of its own sigmoid needs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs).sigmoid().add_(1)


def problem(**changes: Any) -> Problem:
    settings: dict[str, Any] = {
        "name": "mine",
        "model": lambda: nn.Linear(4, 3),
        "train": regression(),
        "test": regression(),
        "loss": squared_error,
        "score": squared_error,
        "batch_size": 2,
    }
    return Problem(**{**settings, **changes})


LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
CLASSES = torch.tensor([0, 2])
TOKENS = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
TOKEN_CLASSES = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("module", "outputs", "targets", "expected"),
    [
        (nn.CrossEntropyLoss, LOGITS, CLASSES, -LOGITS.log_softmax(1)[[0, 1], CLASSES]),
        (nn.CrossEntropyLoss, TOKENS, TOKEN_CLASSES, F.cross_entropy(TOKENS, TOKEN_CLASSES, reduction="none").mean(1)),
        (nn.NLLLoss, LOGITS, CLASSES, -LOGITS[[0, 1], CLASSES]),
        (nn.MSELoss, LOGITS, LOGITS + 2, torch.tensor([4.0, 4.0])),
        (nn.L1Loss, LOGITS[:, 0], LOGITS[:, 1], torch.tensor([2.0, 3.0])),
        (nn.BCEWithLogitsLoss, LOGITS, torch.ones(2, 3), F.softplus(-LOGITS).mean(1)),
    ],
)
def test_torchs_modules_give_one_loss_per_example(
    reduction: str, module: Callable[..., nn.Module], outputs: Tensor, targets: Tensor, expected: Tensor
) -> None:
    given = module(reduction=reduction)
    torch.testing.assert_close(problem(loss=given).loss(outputs, targets), expected)
    assert given.reduction == reduction  # the user's own module is left alone


def test_a_module_reports_the_loss_per_example() -> None:
    mine = problem(loss=nn.MSELoss())
    model = nn.Linear(4, 3)
    loss, _ = evaluate(model, mine, mine.test)
    assert loss == pytest.approx(F.mse_loss(model(mine.test.inputs), mine.test.targets).item(), rel=1e-6)


def test_class_weights_travel_with_the_problem() -> None:
    mine = problem(loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))).to("cpu", torch.float64)
    found = mine.loss(LOGITS.double(), CLASSES)
    torch.testing.assert_close(found, -LOGITS.double().log_softmax(1)[[0, 1], CLASSES] * torch.tensor([1.0, 3.0]))


def test_outputs_that_would_be_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outputs have shape \[2, 1\] and targets \[2\]; MSELoss needs equal shapes"):
        problem(loss=nn.MSELoss()).loss(LOGITS[:, :1], LOGITS[:, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"loss": nn.MSELoss()}, None),
        ({"loss": F.mse_loss}, r'loss returns shape \[\] for 2 examples; .* \[2\]: pass reduction="none"'),
        ({"loss": lambda o, t: F.mse_loss(o, t, reduction="none")}, r"loss returns shape \[2, 3\] .* average over all"),
        ({"loss": lambda o, t: 3.0}, r"loss returns float; it must return a tensor"),
        ({"loss": lambda o, t: squared_error(o, t).detach()}, r"loss has no gradient .* it must be differentiable"),
        ({"loss": lambda o, t: o.nonsense}, r"loss cannot be applied to shapes \[2, 3\] .*: AttributeError: "),
        (
            {"loss": lambda o, t: F.mse_loss(o, t).expand(len(o))},
            r"loss of an example is \S+ alone and \S+ in a batch of 2; .* \(no mean over the batch\)",
        ),
        ({"loss": lambda o, t: squared_error(o, t) / squared_error(o, t).mean()}, r"loss of an example is 1 alone and"),
        ({"model": InPlace}, r"the model's gradient cannot be computed: RuntimeError: one of the variables needed"),
        ({"score": F.mse_loss}, r'score returns shape \[\] for 2 examples; .*: pass reduction="none"'),
        ({"model": lambda: nn.Linear(5, 3)}, r"model cannot be applied to shapes \[2, 4\] .*: RuntimeError: .*mat1"),
        ({"model": lambda: nn.Linear(4, 3).requires_grad_(False)}, r"model has no parameter that requires a gradient"),
        ({"model": lambda: nn.Sequential(nn.Linear(4, 3), nn.Flatten(0))}, r"model returns \[6\] for 2 examples"),
        ({"model": lambda: nn.LSTM(4, 3)}, r"model returns tuple for 2 examples; it must return a tensor \[2, …\]"),
        ({"model": lambda: 3}, r"model builds int; it must build a torch.nn.Module"),
        ({"model": lambda: nn.Linear()}, r"model cannot be built: TypeError: "),
    ],
)
def test_a_problem_is_tried_on_two_examples(changes: dict[str, Any], message: str | None) -> None:
    state = torch.get_rng_state()
    if message is None:
        check_problem(problem(**changes))
    else:
        with pytest.raises(ValueError, match=f"^problem mine: {message}") as refused:
            check_problem(problem(**changes))
        assert "\n" not in str(refused.value)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("reduced", [F.mse_loss, lambda o, t: F.mse_loss(o, t, reduction="none")])
def test_an_evaluation_refuses_what_is_no_loss_per_example(reduced: Any) -> None:
    mine = problem(loss=reduced)
    with pytest.raises(ValueError, match="it must return one number per example"):
        evaluate(nn.Linear(4, 3), mine, mine.test)


DATA = TensorDataset(torch.zeros(4, 2), torch.zeros(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": DATA}, r"train is of type TensorDataset; it must be Examples\(inputs, targets\)"),
        ({"test": DataLoader(DATA)}, r"test is of type DataLoader; it must be Examples"),
        ({"train": regression(0)}, "train has 0 examples; it must have at least 2"),
        ({"train": regression(1), "batch_size": 1}, "train has 1 examples; it must have at least 2"),
        ({"test": regression(0)}, "test has 0 examples; it must have at least 1"),
        ({"batch_size": 7}, "batch_size is 7; mine allows 1 to 6"),
        ({"batch_size": 2.5}, "batch_size is 2.5; mine allows 1 to 6"),
        ({"model": nn.Linear(4, 3)}, "model is a Linear; it must be a function that builds a new one"),
        ({"model": None}, "model is None; it must be a function that builds a torch.nn.Module"),
        ({"loss": nn.MSELoss}, r"loss is the class MSELoss; it must be an instance, MSELoss\(\), or a function"),
        ({"loss": "mse"}, "loss is 'mse'; it must be a function of outputs and targets"),
    ],
)
def test_what_no_problem_can_be_made_of_is_refused_at_construction(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        problem(**changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros((3, 2)), torch.zeros(3), "inputs is of type ndarray; it must be a tensor with one row per example"),
        (torch.zeros(3, 2), [0, 1, 2], "targets is of type list; it must be a tensor with one row per example"),
        (torch.zeros(3, 2), torch.tensor(1.0), "targets is a number; it must be a tensor with one row per example"),
        (torch.zeros(3, 2), torch.zeros(3, device="meta"), "targets is on meta; it must be where inputs is, cpu"),
        (torch.zeros(3, 2), torch.zeros(2), "targets has 2 rows; it must have as many as inputs, 3"),
    ],
)
def test_examples_are_two_tensors_of_one_length_in_one_place(inputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Examples(inputs, targets)
