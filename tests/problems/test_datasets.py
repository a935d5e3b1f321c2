"""Problems from data sets of PyTorch: in memory or read batch by batch, one input or several, any loss."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from raytune_hyperlearn.algorithms import forward_mode, reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.fds import SGDStep
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from raytune_hyperlearn.problems import Examples, Problem, StoredExamples, batches, check_problem, evaluate, padded
from raytune_hyperlearn.problems.datasets import labels_right, token_cross_entropy, tokens_right
from raytune_hyperlearn.problems.examples import validation_batches
from raytune_hyperlearn.problems.models import initialize

GENERATOR = torch.Generator().manual_seed(0)
COUNT = 30
NUMBERS = torch.randn(COUNT, 4, generator=GENERATOR)
CLASSES = torch.arange(COUNT) % 3
LENGTHS = [1 + i % 5 for i in range(COUNT)]


class Sequences(Dataset[Any]):
    """Token sequences of 1 to 5 tokens with a class each, and how often one was read."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.arange(index, index + LENGTHS[index]) % 7, index % 3


class Reader(nn.Module):
    """Mean of the tokens' embeddings, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Logits [N, 3] of tokens [N, L] and their mask [N, L]."""
        weights = mask.to(self.last.weight.dtype).unsqueeze(-1)
        return self.last((self.embedding(tokens) * weights).sum(1) / weights.sum(1)).tanh()


def named(items: list[Any]) -> tuple[dict[str, Tensor], Tensor]:
    (tokens, mask), targets = padded(items)
    return {"mask": mask, "tokens": tokens}, targets


def sequences(collate: Any = padded, memory_limit: float = math.inf) -> Problem:
    return Problem.from_datasets(
        "sequences", Reader, Sequences(), Sequences(), collate, memory_limit=memory_limit, batch_size=4, epochs=2
    )


def plain(**changes: Any) -> Problem:
    data = TensorDataset(NUMBERS, CLASSES)
    settings: dict[str, Any] = {"model": lambda: nn.Linear(4, 3), "train": data, "test": data, "batch_size": 4}
    return Problem.from_datasets("plain", **{**settings, **changes})


def test_data_that_fit_are_loaded_once() -> None:
    problem = sequences()
    read = problem.train
    assert not isinstance(read, StoredExamples)
    assert [list(t.shape) for t in read.inputs.tensors.values()] == [[COUNT, 5], [COUNT, 5]]
    assert torch.equal(read.inputs.tensors[1].sum(1), torch.tensor(LENGTHS))
    check_problem(problem)


def test_larger_data_are_read_when_a_batch_needs_them() -> None:
    data = Sequences()
    problem = Problem.from_datasets("sequences", Reader, data, data, padded, memory_limit=100, batch_size=4)
    assert isinstance(problem.train, StoredExamples)
    check_problem(problem)
    train, before = problem.split(0).train, data.reads
    assert data.reads == before  # a split reads nothing
    assert len(list(batches(train, 4, 3, seed=0))) == 3
    assert data.reads == before + 12


@pytest.mark.parametrize("collate", [padded, named])
def test_a_batch_depends_on_the_seed_and_its_step_alone_wherever_it_is_read_from(collate: Any) -> None:
    stored, loaded = sequences(collate, 100).split(1).train, sequences(collate).split(1).train
    whole = list(batches(loaded, 4, 14, seed=5))
    for first in (0, 3, 13):
        rest = list(batches(stored, 4, 14, seed=5, first=first))
        assert len(rest) == 14 - first
        for (inputs, targets), (expected, same_targets) in zip(rest, whole[first:], strict=True):
            assert torch.equal(targets, same_targets)
            for name, tensor in inputs.tensors.items():
                other = expected.tensors[name]
                assert torch.equal(tensor, other[:, : tensor.shape[1]])  # padded to the batch's longest
                assert not other[:, tensor.shape[1] :].any()


def test_an_abandoned_pass_leaves_no_reader_behind() -> None:
    order = batches(sequences(memory_limit=100).train, 4, 7, seed=0)
    first, _ = next(order)
    order.close()
    again, _ = next(batches(sequences().train, 4, 7, seed=0))
    assert torch.equal(first.tensors[0].sum(1), again.tensors[0].sum(1))


@pytest.mark.parametrize("collate", [padded, named])
@pytest.mark.parametrize("memory_limit", [100.0, math.inf])
def test_forward_and_reverse_mode_differentiate_through_several_inputs(collate: Any, memory_limit: float) -> None:
    problem = sequences(collate, memory_limit).to("cpu", torch.float64)
    split, values = problem.split(0), {"learning_rate": [0.3, 0.1], "momentum": [0.5], "weight_decay": [0.01]}
    model = FunctionalModel(initialize(problem.model, 0).double(), problem.loss)

    def validation_loss(rate: float) -> float:
        module = initialize(problem.model, 0).double()
        parameters = list(module.parameters())
        velocity = [torch.zeros_like(p) for p in parameters]
        for step, (inputs, targets) in enumerate(batches(split.train, 4, 4, seed=3)):
            tensors = {("tokens", "mask")[n] if isinstance(n, int) else n: v for n, v in inputs.tensors.items()}
            loss = F.cross_entropy(module(**tensors), targets)
            slopes = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, v, g in zip(parameters, velocity, slopes, strict=True):
                    v.mul_(0.5).add_(g + 0.01 * p)
                    p.sub_((rate if step < 2 else 0.1) * v)
        return evaluate(module.eval(), problem, split.validation)[0]

    shared = 2  # steps of a window, over which a hypergradient is the mean
    expected = (validation_loss(0.3 + 1e-5) - validation_loss(0.3 - 1e-5)) / 2e-5 / shared
    arguments = validation_batches(split.validation), values, 4, ["learning_rate"]
    order = list(batches(split.train, 4, 4, seed=3))
    forward = forward_mode.hypergradient(SGDStep(model, HessianProducts(model)), order, *arguments)
    backward = reverse_mode.hypergradient(SGDAdjoint(model), order, *arguments)
    for found in (forward, backward):
        assert found.validation_loss == pytest.approx(validation_loss(0.3), rel=1e-10)
        assert float(found.values["learning_rate"][0]) == pytest.approx(expected, rel=1e-6)


def test_regression_has_a_loss_and_no_accuracy() -> None:
    data = TensorDataset(NUMBERS, NUMBERS[:, 0].double())
    problem = plain(train=data, test=data, model=lambda: nn.Linear(4, 1), loss="mse")
    check_problem(problem)
    model = initialize(problem.model, 0)
    loss, accuracy = evaluate(model, problem, problem.test)
    assert loss == pytest.approx(F.mse_loss(model(NUMBERS)[:, 0], NUMBERS[:, 0]).item(), rel=1e-6)
    assert math.isnan(accuracy)
    assert problem.train.targets.dtype == torch.float32


def test_multi_label_data_are_scored_label_by_label() -> None:
    labels = (NUMBERS > 0).float()
    data = TensorDataset(NUMBERS, labels)
    problem = plain(train=data, test=data, model=lambda: nn.Linear(4, 4), loss="multilabel")
    check_problem(problem)
    loss, share = evaluate(lambda inputs: inputs, problem, problem.test)
    assert loss == pytest.approx(F.binary_cross_entropy_with_logits(NUMBERS, labels).item(), rel=1e-6)
    assert share == 1.0
    assert labels_right(torch.tensor([[1.0, -1.0]]), torch.tensor([[1, 1]])).tolist() == [0.5]


def test_a_sequences_loss_is_the_mean_over_its_own_tokens_whatever_the_padding() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1, 4, -100], [2, -100, -100]])
    expected = [F.cross_entropy(logits[0, :2], targets[0, :2]), F.cross_entropy(logits[1, :1], targets[1, :1])]
    torch.testing.assert_close(token_cross_entropy(logits, targets), torch.stack(expected))
    right = tokens_right(F.one_hot(torch.tensor([[1, 0, 0], [2, 0, 0]]), 5).float(), targets)
    assert right.tolist() == [0.5, 1.0]

    def own(outputs: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(outputs.movedim(-1, 1), wanted, reduction="none")

    for loss in (own, nn.CrossEntropyLoss()):
        given = plain(loss=loss).loss
        outputs = logits if loss is own else logits.movedim(-1, 1)
        torch.testing.assert_close(given(outputs, targets), torch.stack(expected))


def test_examples_that_are_dicts_have_their_target_under_labels() -> None:
    items = [{"input": NUMBERS[i], "labels": int(CLASSES[i])} for i in range(COUNT)]
    problem = plain(train=items, test=items)
    assert list(problem.train.inputs.tensors) == ["input"]
    assert torch.equal(problem.train.targets, CLASSES)
    check_problem(problem)


def test_sequences_with_a_target_for_each_token_are_padded_with_what_does_not_count() -> None:
    (tokens, mask), targets = padded(
        [(torch.tensor([3]), torch.tensor([1])), (torch.tensor([4, 5]), torch.tensor([0, 2]))]
    )
    assert tokens.tolist() == [[3, 0], [4, 5]]
    assert mask.tolist() == [[True, False], [True, True]]
    assert targets.tolist() == [[1, -100], [0, 2]]


class Endless(IterableDataset[Any]):
    """Has no length."""

    def __iter__(self) -> Any:
        return iter([])


class Changing(TensorDataset):
    """Another example at every call."""

    def __getitem__(self, index: int) -> Any:
        inputs, target = super().__getitem__(index)
        return inputs + torch.rand(4), target


class Broken(TensorDataset):
    """Cannot be read."""

    def __getitem__(self, index: int) -> Any:
        raise RuntimeError(f"no file {index}")


DATA = TensorDataset(NUMBERS, CLASSES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": Endless()}, r"train is a Endless, an IterableDataset; it must be map-style, with dataset\[i\]"),
        ({"train": (1 for _ in range(3))}, r"train is of type generator; it must have dataset\[i\] and len"),
        ({"test": Subset(DATA, [])}, "test is of length 0; it must hold examples"),
        ({"train": Broken(NUMBERS, CLASSES)}, "train cannot be read: RuntimeError: no file 0"),
        ({"train": Changing(NUMBERS, CLASSES)}, "train gives another example at every call; .* augmentation"),
        ({"train": [(NUMBERS[0], 1, 2)] * 9}, r"train gives list; its examples must be pairs \(inputs, target\)"),
        (
            {"train": [(NUMBERS[0], NUMBERS[: 1 + i, 0]) for i in range(9)]},
            "collate cannot join examples of train: Runt",
        ),
        ({"collate": lambda items: (NUMBERS[:9], CLASSES[:8])}, "train: targets has 8 rows; it must have as many"),
        ({"collate": lambda items: (NUMBERS[:9], CLASSES[:9])}, "train: collate gives 9 rows for 16 examples"),
        ({"loss": "hinge"}, "loss is 'hinge'; it must be one of cross_entropy, mse, multilabel, tokens, or a function"),
        ({"metric": "f1"}, "metric is 'f1'; it must be one of accuracy, multilabel, tokens, or a function"),
        ({"batch_size": 25}, "batch_size is 25; plain allows 1 to 24"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with torch.random.fork_rng(), pytest.raises(ValueError, match=f"^{message}") as refused:
        plain(**changes)
    assert "\n" not in str(refused.value)


def test_a_method_that_needs_all_data_in_memory_says_so() -> None:
    with pytest.raises(ValueError, match=r"^inputs of StoredExamples\(30 of .* memory_limit of Problem.from_datasets"):
        sequences(memory_limit=100).train.inputs  # noqa: B018


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs is empty; it must hold at least one tensor"),
        ({"a": torch.zeros(3, 2), "b": torch.zeros(2)}, r"inputs\['b'\] has 2 rows; it must have as many as others, 3"),
        ((torch.zeros(3), [1, 2, 3]), r"inputs\[1\] is of type list; it must be a tensor"),
    ],
)
def test_several_inputs_are_tensors_of_one_length(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Examples(inputs, torch.zeros(3))


def test_a_problem_that_is_changed_takes_its_inputs_as_before() -> None:
    problem = replace(sequences(named), batch_size=2)
    model = initialize(problem.model, 0)
    assert model(problem.train[slice(0, 3)].inputs).shape == (3, 3)
    assert list(dict(model.named_parameters())) == ["embedding.weight", "last.weight", "last.bias"]
