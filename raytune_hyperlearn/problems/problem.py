"""What is trained: a data set, a model and a loss in one frozen record.

A user's own model is a :class:`Problem` of five lines::

    Problem(name="mine", model=MyModule, train=Examples(x, y), test=Examples(x_test, y_test))

Data are tensors that live on the training device and are batched by index; there are no loader workers. Any map-style
data set of PyTorch becomes such tensors, or is read batch by batch where it is too large, by
:meth:`Problem.from_datasets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from raytune_hyperlearn.problems.examples import Collate, Examples, InParts, read_ahead
from raytune_hyperlearn.problems.fields import Fields, TakesFields
from raytune_hyperlearn.problems.losses import LossFunction, PerExample, per_example, require_per_example
from raytune_hyperlearn.problems.seeds import Purpose, derived_seed

Augmentation = Callable[[Any, torch.Generator], Any]
"""Maps training inputs [N, …] to augmented inputs of the same shape; randomness comes from the generator.

Inputs that are a tuple or a dict come as :class:`~raytune_hyperlearn.problems.fields.Fields`."""
MEMORY_LIMIT = 2.0**31
"""Bytes of a data set that :meth:`Problem.from_datasets` loads."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [N, classes] against class indices [N]: one value per example, in nats.

    Args:
        outputs: Logits [N, classes].
        targets: Class indices [N].
    """
    return F.cross_entropy(outputs, targets, reduction="none")


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest logit of [N, classes] is the target's, else 0: a float tensor [N].

    Args:
        outputs: Logits [N, classes].
        targets: Class indices [N].
    """
    return (outputs.argmax(dim=1) == targets).to(outputs.dtype)


@dataclass(frozen=True)
class Split:
    """Disjoint training and validation examples."""

    train: Examples
    validation: Examples


@dataclass(frozen=True)
class Problem:
    """A training problem.

    Attributes:
        name: What records and reports call it.
        model: Builds a freshly initialized module from torch's global generator. Inputs that are a tuple or a dict
            are given to the module as ``*inputs`` or ``**inputs``.
        train: Training examples; the validation set is carved out of them by :meth:`split`.
        test: Test examples: scored, never used to choose anything.
        loss: Per-example loss [N] of outputs [N, …] and targets [N, …]. A loss module of torch, such as
            ``nn.CrossEntropyLoss()`` or ``nn.MSELoss()``, is taken without its reduction, see
            :class:`~raytune_hyperlearn.problems.losses.PerExample`; a function must not take the mean over the batch.
        score: Per-example score in [0, 1] whose mean is the accuracy; None for a problem that has none.
        batch_size: Default number of examples in a batch.
        epochs: Default full budget, in passes over the training part of the split.
        validation_fraction: Share of ``train`` that :meth:`split` sets aside, in (0, 1).
        augmentation: Applied to training inputs only, or None.
        source: Where the data come from, their license and counts, for reports.
    """

    name: str
    model: Callable[[], nn.Module]
    train: Examples
    test: Examples
    loss: LossFunction = cross_entropy
    score: LossFunction | None = correct
    batch_size: int = 128
    epochs: int = 10
    validation_fraction: float = 0.2
    augmentation: Augmentation | None = None
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for part, examples in (("train", self.train), ("test", self.test)):
            _check_part(part, examples)
        _check_model(self.model)
        if isinstance(self.train[slice(0, 1)].read().inputs, Fields) and not isinstance(self.model, TakesFields):
            object.__setattr__(self, "model", TakesFields(self.model))
        object.__setattr__(self, "loss", per_example(self.loss))
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is {self.validation_fraction}; it must lie in (0, 1)")
        training = len(self.train) - self.validation_size
        if not isinstance(self.batch_size, int) or not 1 <= self.batch_size <= training:
            raise ValueError(f"batch_size is {self.batch_size}; {self.name} allows 1 to {training}")
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; it must be at least 1")

    @classmethod
    def from_datasets(
        cls,
        name: str,
        model: Callable[[], nn.Module],
        train: Dataset[Any],
        test: Dataset[Any],
        collate: Collate | None = None,
        loss: str | LossFunction = "cross_entropy",
        metric: str | LossFunction | None = "of the loss",
        memory_limit: float = MEMORY_LIMIT,
        **more: Any,
    ) -> Problem:
        """A problem from map-style data sets of PyTorch, whose examples are pairs of inputs and target.

        Data that fit are loaded once, into tensors. Others are read a batch at a time, ahead of training; which
        examples batch t holds depends on seed and t alone in both cases. Floating-point data of 64 bits become the
        type that parameters have by default.

        Args:
            name: What records and reports call it.
            model: See :class:`Problem`.
            train: ``train[i]`` must be the same at every call: random changes belong in ``augmentation``.
            test: Likewise.
            collate: Makes (inputs, targets) of a list of examples, inputs a tensor, or a tuple or dict of tensors;
                :func:`~raytune_hyperlearn.problems.datasets.padded` for sequences of different lengths. Default:
                PyTorch's ``default_collate``, where examples that are dicts have their target under ``labels``.
            loss: ``cross_entropy``, ``mse``, ``multilabel`` (binary cross-entropy, mean over the labels) or ``tokens``
                (cross-entropy of logits [N, L, classes], mean over each sequence's targets that are not −100); or a
                function of outputs and targets. One that returns [N, L] is averaged over L by the same rule.
            metric: ``accuracy``, ``multilabel`` (share of the labels that are right), ``tokens``, or a function that
                gives each example a score in [0, 1]; None for none. Default: what goes with the loss; nothing for
                ``mse`` and for a function.
            memory_limit: Largest size of one data set in memory, in bytes, as estimated from some of its examples.
            more: batch_size, epochs and all others of :class:`Problem`.

        Raises:
            ValueError: In one line, for data, a loss or a metric that cannot be used.
        """
        from raytune_hyperlearn.problems import datasets

        return cls(
            name,
            model,
            datasets.examples_of("train", train, collate, memory_limit),
            datasets.examples_of("test", test, collate, memory_limit),
            loss=datasets.chosen_loss(loss),
            score=datasets.chosen_metric(metric, loss),
            **more,
        )

    @property
    def validation_size(self) -> int:
        """Number of examples that :meth:`split` sets aside."""
        return max(1, round(self.validation_fraction * len(self.train)))

    def split(self, seed: int) -> Split:
        """Training and validation examples: a uniformly random partition that depends on ``seed`` alone.

        The data are not copied.

        Args:
            seed: Any integer; equal seeds give equal parts.
        """
        generator = torch.Generator().manual_seed(derived_seed(seed, Purpose.SPLIT))
        order = torch.randperm(len(self.train), generator=generator).to(self.train.device)
        held_out = self.validation_size
        return Split(train=self.train.chosen(order[held_out:]), validation=self.train.chosen(order[:held_out]))

    def horizon(self, epochs: float, batch_size: int | None = None) -> int:
        """Number T of inner steps in ``epochs`` passes over the training part; incomplete batches are dropped.

        Args:
            epochs: Passes over the training part, above 0; fractions are allowed.
            batch_size: Instances per step; None for the problem's own.

        Returns:
            T, at least 1.
        """
        per_epoch = (len(self.train) - self.validation_size) // (batch_size or self.batch_size)
        return max(1, round(epochs * per_epoch))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Problem:
        """The same problem with its data on ``device``.

        Args:
            device: Where the tensors go.
            dtype: New type of floating-point tensors; None keeps theirs.
        """
        loss = self.loss.to(device, dtype) if isinstance(self.loss, PerExample) else self.loss
        return replace(self, train=self.train.to(device, dtype), test=self.test.to(device, dtype), loss=loss)


def _check_part(name: str, examples: object) -> None:
    if not isinstance(examples, Examples):
        raise ValueError(
            f"{name} is of type {type(examples).__name__}; it must be Examples(inputs, targets), two tensors with one "
            "row per example"
        )
    if len(examples) < 1 + (name == "train"):
        raise ValueError(f"{name} has {len(examples)} examples; it must have at least {1 + (name == 'train')}")


def _check_model(model: object) -> None:
    if isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ValueError(f"model is a {kind}; it must be a function that builds a new one, such as lambda: {kind}(…)")
    if not callable(model):
        raise ValueError(f"model is {model!r}; it must be a function that builds a torch.nn.Module")


def batches(
    examples: Examples,
    batch_size: int,
    steps: int,
    seed: int,
    augmentation: Augmentation | None = None,
    first: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches ``first`` … ``steps`` − 1; every pass over the data is a new random order without replacement.

    Batch t depends on ``seed`` and t alone, so the same call replays the same batches on any device and training
    can go on from any step. Batches all have ``batch_size`` rows: what is left at the end of a pass is dropped.

    Args:
        examples: N examples.
        batch_size: Rows per batch, in [1, N].
        steps: Number of batches T.
        seed: Seed of the order and of the augmentation.
        augmentation: Applied to each batch's inputs, or None.
        first: Index of the first batch to yield, in [0, T].

    Raises:
        ValueError: If ``batch_size`` lies outside [1, N].
    """
    if not 1 <= batch_size <= len(examples):
        raise ValueError(f"batch_size is {batch_size}; it must lie in [1, {len(examples)}]")
    parts = (examples[rows] for rows in rows_of_batches(examples, batch_size, steps, seed, first))
    for step, part in enumerate(read_ahead(parts), start=first):
        inputs = part.inputs
        if augmentation is not None:
            inputs = augmentation(inputs, torch.Generator().manual_seed(derived_seed(seed, Purpose.AUGMENTATION, step)))
        yield inputs, part.targets


def rows_of_batches(examples: Examples, batch_size: int, steps: int, seed: int, first: int = 0) -> Iterator[Tensor]:
    """Which rows [batch_size] of ``examples`` batches ``first`` … ``steps`` − 1 hold, see :func:`batches`."""
    per_epoch = len(examples) // batch_size
    epoch = -1
    for step in range(first, steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = _order(len(examples), seed, epoch).to(examples.device, non_blocking=True)
        begin = step % per_epoch * batch_size
        yield order[begin : begin + batch_size]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    """Order of a pass over the data; kept, because reverse mode reads batch after batch from the last to the first."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(seed, Purpose.ORDER, epoch)))


@torch.no_grad()
def evaluate(
    model: Callable[[Tensor], Tensor], problem: Problem, examples: Examples, batch_size: int = 2000
) -> tuple[float, float]:
    """Mean loss and mean score of ``model`` over ``examples``.

    Args:
        model: Maps inputs to outputs; it must already be in evaluation mode.
        problem: Gives the loss and the score.
        examples: What to evaluate on.
        batch_size: Rows per forward pass.

    Returns:
        (mean loss, accuracy in [0, 1]); the accuracy is NaN for a problem without a score.
    """
    losses: list[Tensor] = []
    scores: list[Tensor] = []
    for part in InParts(examples, batch_size):
        outputs = model(part.inputs)
        losses.append(_total("loss", problem.loss(outputs, part.targets), part))
        if problem.score is not None:
            scores.append(_total("score", problem.score(outputs, part.targets), part))
    accuracy = math.nan if problem.score is None else float(sum(scores)) / len(examples)
    return float(sum(losses)) / len(examples), accuracy


def _total(name: str, values: Tensor, part: Examples) -> Tensor:
    return require_per_example(name, values, len(part)).double().sum()
