"""Data sets, losses and metrics for :meth:`.Problem.from_datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, IterableDataset, default_collate

from raytune_hyperlearn.problems.examples import READERS, Collate, Examples, StoredExamples
from raytune_hyperlearn.problems.fields import Fields
from raytune_hyperlearn.problems.loading import WORTH_SHARING, loaded_once
from raytune_hyperlearn.problems.losses import IGNORED, LossFunction, mean_per_example, per_example
from raytune_hyperlearn.problems.problem import correct, cross_entropy

SOME = 16
"""Examples that a data set's size is estimated from."""
LABELS = "labels"


@dataclass(frozen=True)
class Collated:
    """Makes :class:`Examples` of a list of what a data set holds.

    Attributes:
        part: ``train`` or ``test``, for messages.
        collate: Makes (inputs, targets), or a dict with an entry ``labels``.
    """

    part: str
    collate: Collate

    def __call__(self, items: list[Any]) -> Examples:
        """The examples.

        Raises:
            ValueError: In one line that names the part, if the items make no pair of inputs and targets.
        """
        try:
            found = self.collate(items)
        except Exception as error:
            raise ValueError(f"collate cannot join examples of {self.part}: {_line(error)}") from error
        if isinstance(found, Mapping) and LABELS in found:
            found = {name: value for name, value in found.items() if name != LABELS}, found[LABELS]
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise ValueError(
                f"{self.part} gives {type(found).__name__}; its examples must be pairs (inputs, target) or dicts with "
                f"{LABELS!r}"
            )
        inputs, targets = found
        try:
            examples = Examples(tuple(inputs) if isinstance(inputs, list) else inputs, targets)
        except ValueError as error:
            raise ValueError(f"{self.part}: {error}") from error
        if len(examples) != len(items):
            raise ValueError(
                f"{self.part}: collate gives {len(examples)} rows for {len(items)} examples; it must give one each"
            )
        return _of_default_type(examples)


def examples_of(part: str, dataset: Dataset[Any], collate: Collate | None, memory_limit: float) -> Examples:
    """A data set's examples: in memory if they fit, else read when needed.

    Args:
        part: ``train`` or ``test``, for messages.
        dataset: Map-style.
        collate: See :meth:`.Problem.from_datasets`.
        memory_limit: In bytes.

    Raises:
        ValueError: In one line, for a data set that has no length, is empty, cannot be read or changes.
    """
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"{part} is a {type(dataset).__name__}, an IterableDataset; it must be map-style, with dataset[i] and "
            "len(dataset), so that any batch can be read again"
        )
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ValueError(f"{part} is of type {type(dataset).__name__}; it must have dataset[i] and len(dataset)")
    count = len(dataset)
    if count == 0:
        raise ValueError(f"{part} is of length 0; it must hold examples")
    stored = StoredExamples(dataset, Collated(part, collate or default_collate), torch.arange(count))
    some = stored[torch.linspace(0, count - 1, min(SOME, count)).long()]
    try:
        known = some.read()
        _check_repeatable(part, known, some.read())
        size = _bytes(known) / len(known) * count
        if size > memory_limit:
            return stored
        if size < WORTH_SHARING:
            return _in_memory(stored)
        (examples,) = loaded_once(f"{part} {count} {_digest(known)}", lambda: (_in_memory(stored),))
        return examples
    except (ValueError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{part} cannot be read: {_line(error)}") from error


def _in_memory(stored: StoredExamples) -> Examples:
    with ThreadPoolExecutor(READERS) as pool:
        return stored.collate(list(pool.map(stored.dataset.__getitem__, stored.rows.tolist())))


def _check_repeatable(part: str, first: Examples, again: Examples) -> None:
    for one, other in zip(_tensors(first), _tensors(again), strict=True):
        if not torch.equal(one, other):
            raise ValueError(f"{part} gives another example at every call; random changes belong in augmentation")


def _tensors(examples: Examples) -> list[Tensor]:
    inputs = examples.inputs
    return [*(inputs.tensors.values() if isinstance(inputs, Fields) else [inputs]), examples.targets]


def _bytes(examples: Examples) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(examples))


def _digest(examples: Examples) -> str:
    """Of shapes, types and values: what tells data sets of one length apart."""
    digest = hashlib.sha256()
    for tensor in _tensors(examples):
        digest.update(f"{list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _of_default_type(examples: Examples) -> Examples:
    """Numbers of Python and NumPy have 64 bits, which no model's parameters have unless it is asked for."""

    def changed(values: Tensor) -> Tensor:
        return values.to(torch.get_default_dtype()) if values.dtype == torch.float64 else values

    inputs = examples.inputs
    return Examples(inputs.map(changed) if isinstance(inputs, Fields) else changed(inputs), changed(examples.targets))


def padded(items: list[tuple[Tensor, Any]]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Sequences of different lengths as ((sequences, mask), targets): the model is called with two tensors.

    Args:
        items: Pairs of a sequence [L_i, …] and a target: a number, or one per token [L_i], padded with −100.

    Returns:
        Sequences [N, L, …] padded with 0 to the longest, a mask [N, L] that is true where they have a token, targets.
    """
    sequences = [torch.as_tensor(sequence) for sequence, _ in items]
    targets = [torch.as_tensor(target) for _, target in items]
    mask = pad_sequence([torch.ones(len(sequence), dtype=torch.bool) for sequence in sequences], batch_first=True)
    joined = pad_sequence(targets, True, IGNORED) if targets[0].ndim else torch.stack(targets)
    return (pad_sequence(sequences, batch_first=True), mask), joined


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over an example's outputs [N, …] of the squared error: [N]. Outputs [N, 1] go with targets [N].

    Raises:
        ValueError: If the shapes differ otherwise.
    """
    if outputs.shape == (*targets.shape, 1):
        outputs = outputs.squeeze(-1)
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs have shape {list(outputs.shape)} and targets {list(targets.shape)}; they must be equal"
        )
    return mean_per_example((outputs - targets).square())


def label_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of logits [N, labels] against 0 or 1, mean over the labels: [N], in nats."""
    return mean_per_example(F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none"))


def token_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [N, L, classes], mean over each sequence's targets [N, L] that are not −100: [N]."""
    return mean_per_example(F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none"), targets)


def labels_right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share [N] of the labels whose logit in [N, labels] has the right sign."""
    return mean_per_example(((outputs > 0) == (targets > 0.5)).to(outputs.dtype))


def tokens_right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share [N] of the targets [N, L] that are not −100 whose logit in [N, L, classes] is the largest."""
    return mean_per_example((outputs.argmax(dim=-1) == targets).to(outputs.dtype), targets)


@dataclass(frozen=True)
class OfTokens:
    """A function's values averaged for each example, see :func:`.mean_per_example`."""

    function: LossFunction

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One value per example [N]."""
        values = self.function(outputs, targets)
        return mean_per_example(values, targets) if isinstance(values, Tensor) and values.ndim > 1 else values


LOSSES: Mapping[str, LossFunction] = {
    "cross_entropy": cross_entropy,
    "mse": squared_error,
    "multilabel": label_cross_entropy,
    "tokens": token_cross_entropy,
}
METRICS: Mapping[str, LossFunction] = {"accuracy": correct, "multilabel": labels_right, "tokens": tokens_right}
METRIC_OF_LOSS: Mapping[str, str] = {"cross_entropy": "accuracy", "multilabel": "multilabel", "tokens": "tokens"}


def chosen_loss(loss: str | LossFunction) -> LossFunction:
    """A loss by name, or a function whose values are averaged for each example.

    Raises:
        ValueError: If there is no such name.
    """
    if isinstance(loss, str):
        return _named("loss", loss, LOSSES)
    known = per_example(loss)
    return OfTokens(known) if known is loss else known


def chosen_metric(metric: str | LossFunction | None, loss: str | LossFunction) -> LossFunction | None:
    """A metric by name or as a function; ``of the loss`` for what goes with it.

    Raises:
        ValueError: If there is no such name.
    """
    if metric == "of the loss":
        metric = METRIC_OF_LOSS.get(loss) if isinstance(loss, str) else None
    if isinstance(metric, str):
        return _named("metric", metric, METRICS)
    return None if metric is None else OfTokens(metric)


def _named(name: str, value: str, known: Mapping[str, Callable[[Tensor, Tensor], Tensor]]) -> LossFunction:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}, or a function")
    return known[value]


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
