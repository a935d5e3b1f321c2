"""Small networks of every kind that variances are tested on, and per-instance gradients the slow, plain way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raytune_hyperlearn.derivatives.projections import Instances

N, CLASSES = 6, 3


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


class Recurrent(nn.Module):
    """A bidirectional 2-layer LSTM with dropout between its layers, on token sequences."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 5)
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=dropout)
        self.output = nn.Linear(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        return self.output(states.mean(dim=1))


class Attentive(nn.Module):
    """Self-attention, whose fused kernels have no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.output = nn.Linear(4, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.embedding(tokens)
        return self.output((states + self.attention(states, states, states, need_weights=False)[0]).mean(dim=1))


class Mixing(nn.Module):
    """Linear layers only, but every instance sees the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs).tanh()
        return self.second(hidden - hidden.mean(dim=0))


class Tied(nn.Module):
    """One weight used by two layers, a layer used twice, and an unused one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.mixing = nn.Linear(6, 6)
        self.output = nn.Linear(6, 20)
        self.output.weight = self.embedding.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.mixing(self.mixing(self.embedding(tokens)).tanh()).mean(dim=1)
        return self.output(states)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, CLASSES))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Dropout(0.25),
        nn.Conv2d(4, 6, 3),
        nn.GroupNorm(2, 6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(24, CLASSES),
    )


def batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4), nn.BatchNorm1d(4)
    )


def frozen() -> nn.Module:
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


@dataclass(frozen=True)
class Case:
    """A network with what is right for it.

    Attributes:
        model: Builds it.
        inputs: Draws inputs for n instances.
        methods: Ways of projecting that must work in float64 on the CPU.
        chosen: The way that must be chosen.
    """

    model: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor]
    methods: tuple[str, ...]
    chosen: str


def vectors(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 5, generator=generator, dtype=torch.float64)


def images(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=generator, dtype=torch.float64)


def tokens(n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(20, (n, 7), generator=generator)


EVERY = ("layers", "double-backward", "forward-mode", "unfused-double-backward")
GENERAL = EVERY[1:]
CASES = {
    "mlp": Case(mlp, vectors, EVERY, "layers"),
    "cnn with dropout": Case(cnn, images, EVERY, "layers"),
    "frozen weight": Case(frozen, vectors, EVERY, "layers"),
    "tied weights": Case(Tied, tokens, EVERY, "layers"),
    "batch norm": Case(batch_norm, vectors, GENERAL, "double-backward"),
    "lstm": Case(Recurrent, tokens, GENERAL, "double-backward"),
    "attention": Case(Attentive, tokens, ("unfused-double-backward",), "unfused-double-backward"),
    "mixing": Case(Mixing, vectors, GENERAL, "double-backward"),
}


def build(case: Case, n: int = N, seed: int = 0) -> tuple[nn.Module, Instances]:
    """The network in float64 and training mode, and a batch for it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = case.model().double().train()
    inputs = case.inputs(n, generator)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    return model, Instances(inputs, targets, seed=int(torch.randint(1000, (), generator=generator)))


def plain_losses(model: nn.Module, batch: Instances) -> Tensor:
    """Losses [n] as a training script computes them, under the batch's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(batch.seed)
        return cross_entropy(model(batch.inputs), batch.targets)


def explicit_gradients(model: nn.Module, batch: Instances) -> Tensor:
    """g [n, D]: one backward pass per entry of the whole batch's loss vector; the buffers stay as they are."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    losses = plain_losses(model, batch)
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for value in losses:
        gradient = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradient, strict=True)]
        rows.append(torch.cat([part.flatten() for part in parts]))
    for name, buffer in model.named_buffers():
        buffer.copy_(kept[name])
    return torch.stack(rows)


def flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])
