"""Small networks written twice: as a module for the code under test, and as tensor arithmetic for the reference.

The arithmetic knows nothing of modules: parameters and running statistics are dictionaries of tensors, the running
statistics that training leaves behind are computed by their recursion and returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]
Forward = Callable[[State, State, Tensor, bool], tuple[Tensor, State]]
"""(parameters, running statistics, inputs, training) ↦ (outputs, running statistics afterwards)."""

CLASSES = 3


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def plain_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """One loss per example, from its definition."""
    picked = outputs[torch.arange(len(targets)), targets]
    return outputs.exp().sum(dim=1).log() - picked


def linear(p: State, name: str, x: Tensor) -> Tensor:
    x = x @ p[f"{name}.weight"].T
    return x + p[f"{name}.bias"] if f"{name}.bias" in p else x


def convolution(p: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def batch_norm(p: State, s: State, name: str, x: Tensor, training: bool, rate: float = 0.1) -> tuple[Tensor, State]:
    """Batch normalization and its running statistics: r ← (1 − rate) r + rate · (statistic of the batch)."""
    axes = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
    if training:
        count = x.numel() // x.shape[1]
        batch_mean = x.mean(dim=axes)
        batch_variance = ((x - batch_mean.view(shape)) ** 2).mean(dim=axes)
        s = {
            **s,
            f"{name}.running_mean": (1 - rate) * mean + rate * batch_mean,
            f"{name}.running_var": (1 - rate) * variance + rate * batch_variance * count / (count - 1),
        }
        mean, variance = batch_mean, batch_variance
    x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    if f"{name}.weight" in p:
        x = x * p[f"{name}.weight"].view(shape) + p[f"{name}.bias"].view(shape)
    return x, s


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))


def plain_mlp(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    return linear(p, "2", linear(p, "0", x).tanh()), s


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.GELU(), nn.Linear(5, 3)
    )


def plain_cnn(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x = convolution(p, "0", x).exp().log1p()
    x = x.view(len(x), 3, 2, 2, 2, 2).mean(dim=(3, 5))
    x = linear(p, "4", x.flatten(1))
    x = x * (1 + torch.erf(x / 2**0.5)) / 2
    return linear(p, "6", x), s


def relu_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)
    )


def plain_relu_cnn(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x = convolution(p, "0", x)
    x = torch.where(x > 0, x, torch.zeros_like(x))
    x = x.view(len(x), 3, 2, 2, 2, 2).amax(dim=(3, 5))
    return linear(p, "4", x.flatten(1)), s


def batch_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES))


def plain_batch_norm_mlp(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x, s = batch_norm(p, s, "1", linear(p, "0", x), training)
    return linear(p, "3", x.tanh()), s


def batch_norm_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.SiLU(),
        nn.Conv2d(3, 2, 2),
        nn.BatchNorm2d(2, affine=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(18, CLASSES),
    )


def plain_batch_norm_cnn(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x, s = batch_norm(p, s, "1", convolution(p, "0", x), training, rate=0.3)
    x, s = batch_norm(p, s, "4", convolution(p, "3", x * x.sigmoid()), training)
    return linear(p, "7", x.tanh().flatten(1)), s


def dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.Tanh(),
        nn.Dropout(0.4),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        nn.Dropout(0.2),
        nn.Linear(5, 3),
    )


def plain_dropout(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x = F.dropout(linear(p, "0", x).tanh(), 0.4, training)
    x, s = batch_norm(p, s, "4", linear(p, "3", x), training)
    return linear(p, "6", F.dropout(x, 0.2, training)), s


class Tied(nn.Module):
    """A weight under two names, and a layer with BatchNorm that every forward pass goes through twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.output = nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.first(inputs)).tanh()
        hidden = self.norm(self.second(hidden)).tanh()
        return self.output(hidden)


def plain_tied(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x, s = batch_norm(p, s, "norm", linear(p, "first", x), training)
    x = x.tanh() @ p["first.weight"].T + p["second.bias"]
    x, s = batch_norm(p, s, "norm", x, training)
    return linear(p, "output", x.tanh()), s


class Frozen(nn.Module):
    """Frozen parameters, a BatchNorm frozen in evaluation mode beside one that trains, and buffers of its own."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.5, 2.0, 1.5, 0.75]))
        self.register_buffer("shift", torch.tensor(3))
        self.first = nn.Linear(4, 5)
        self.frozen_norm = nn.BatchNorm1d(5)
        self.norm = nn.BatchNorm1d(5)
        self.second = nn.Linear(5, CLASSES)
        self.first.weight.requires_grad_(False)
        nn.init.uniform_(self.frozen_norm.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
        nn.init.uniform_(self.frozen_norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        self.frozen_norm.eval()

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.frozen_norm.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.frozen_norm(self.first(self.scale * inputs + self.shift))
        return self.second(self.norm(hidden.tanh()))


def plain_frozen(p: State, s: State, x: Tensor, training: bool) -> tuple[Tensor, State]:
    x = linear(p, "first", torch.tensor([0.5, 2.0, 1.5, 0.75], dtype=x.dtype) * x + 3)
    x, _ = batch_norm(p, s, "frozen_norm", x, training=False)
    x, s = batch_norm(p, s, "norm", x.tanh(), training)
    return linear(p, "second", x), s


@dataclass(frozen=True)
class Network:
    """A network written twice.

    Attributes:
        module: Builds it from torch's global generator.
        forward: The same network as arithmetic.
        shape: Shape of one input.
    """

    module: Callable[[], nn.Module]
    forward: Forward
    shape: tuple[int, ...] = (4,)

    def build(self, seed: int = 0) -> nn.Module:
        """The module in float64 and training mode."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.module().double().train()

    def examples(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs [count, …] and targets [count]."""
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(count, *self.shape, generator=generator, dtype=torch.float64)
        return inputs, torch.randint(CLASSES, (count,), generator=generator)

    def initial(self, seed: int = 0) -> tuple[State, State, State]:
        """Trainable parameters, frozen parameters and running statistics of the built module, as copies."""
        model = self.build(seed)
        trainable = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
        statistics = {n: b.clone() for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))}
        return trainable, frozen, statistics


NETWORKS = {
    "mlp": Network(mlp, plain_mlp),
    "cnn": Network(cnn, plain_cnn, (1, 6, 6)),
    "relu cnn": Network(relu_cnn, plain_relu_cnn, (1, 6, 6)),
    "batch norm mlp": Network(batch_norm_mlp, plain_batch_norm_mlp),
    "batch norm cnn": Network(batch_norm_cnn, plain_batch_norm_cnn, (1, 6, 6)),
    "dropout": Network(dropout, plain_dropout),
    "tied": Network(Tied, plain_tied),
    "frozen": Network(Frozen, plain_frozen),
}
"""Every kind of network that derivatives are tested on."""
