"""Any optimizer's hypergradients the slow, plain way: reverse mode through the unrolled run.

Each optimizer is written once more, on dictionaries of tensors, after its paper's formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.values import Values
from tests.algorithms.unrolled import Batches, validation_loss
from tests.plain_networks import Network, State, plain_cross_entropy

Scalars = dict[str, Tensor]
Memory = dict[str, State]
Rule = Callable[[int, str, Tensor, Tensor, Memory, Scalars], Tensor]
"""(step, parameter's name, parameter, gradient, memory changed in place, hyperparameters) ↦ parameter."""
Loss = Callable[[Tensor, Tensor, Scalars], Tensor]


Curve = Callable[[Tensor, int, int], Tensor]
"""(parameters θ, step, horizon) ↦ the schedule's value."""


def straight_lines(theta: Tensor, step: int, horizon: int) -> Tensor:
    """Linear interpolation between knots at equal distances, from its definition."""
    knots = torch.linspace(0, horizon - 1, len(theta), dtype=torch.float64)
    heights = (1 - (step - knots).abs() * (len(theta) - 1) / (horizon - 1)).clamp(min=0)
    return heights @ theta


def cosine_with_warm_up(theta: Tensor, step: int, horizon: int) -> Tensor:
    """(peak, final, warm-up share), from its formula."""
    peak, final, warm_up = theta[0], theta[1], theta[2]
    if step < warm_up * horizon:
        return peak * step / (warm_up * horizon)
    passed = (step - warm_up * horizon) / (horizon - warm_up * horizon)
    return final + (peak - final) * torch.cos(passed * torch.pi / 2) ** 2


def plain_loss(outputs: Tensor, targets: Tensor, _values: Scalars) -> Tensor:
    return plain_cross_entropy(outputs, targets).mean()


def smoothed_loss(outputs: Tensor, targets: Tensor, values: Scalars) -> Tensor:
    """Cross-entropy towards soft targets, from its definition."""
    s, classes = values["label_smoothing"], outputs.shape[1]
    soft = (1 - s) * torch.eye(classes, dtype=outputs.dtype)[targets] + s / classes
    return -(soft * (outputs - outputs.exp().sum(dim=1, keepdim=True).log())).sum(dim=1).mean()


def weighted_loss(outputs: Tensor, targets: Tensor, values: Scalars) -> Tensor:
    return (plain_cross_entropy(outputs, targets) + values["loss_weight"] * (outputs**2).mean(dim=1)).mean()


def own(values: Scalars, hyperparameter: str, name: str) -> Tensor:
    """A hyperparameter's value for one parameter: its layer's, where layers have their own."""
    return values.get(f"{hyperparameter}@{name.rpartition('.')[0]}", values.get(hyperparameter, torch.zeros(())))


def sgd_rule(step: int, name: str, w: Tensor, g: Tensor, memory: Memory, values: Scalars) -> Tensor:
    rate, momentum, decay = (own(values, key, name) for key in ("learning_rate", "momentum", "weight_decay"))
    g = g + decay * w
    kept = 1 - (own(values, "dampening", name) if step > 0 else 0)
    velocity = momentum * memory.setdefault("v", {}).get(name, torch.zeros_like(w)) + kept * g
    memory["v"][name] = velocity
    return w - rate * velocity


def effective_sgd_rule(step: int, name: str, w: Tensor, g: Tensor, memory: Memory, values: Scalars) -> Tensor:
    """With α = e (1 − μ), e the value that is given."""
    rate = values["learning_rate"] * (1 - values["momentum"])
    return sgd_rule(step, name, w, g, memory, {**values, "learning_rate": rate})


def nesterov_rule(step: int, name: str, w: Tensor, g: Tensor, memory: Memory, values: Scalars) -> Tensor:
    g = g + values["weight_decay"] * w
    velocity = values["momentum"] * memory.setdefault("v", {}).get(name, torch.zeros_like(w)) + g
    memory["v"][name] = velocity
    return w - values["learning_rate"] * (g + values["momentum"] * velocity)


def adam_rule(
    step: int, name: str, w: Tensor, g: Tensor, memory: Memory, values: Scalars, amsgrad: bool = False
) -> Tensor:
    b1, b2 = values["beta1"], values["beta2"]
    g = g + values["weight_decay"] * w
    zero = torch.zeros_like(w)
    m = b1 * memory.setdefault("m", {}).get(name, zero) + (1 - b1) * g
    s = b2 * memory.setdefault("s", {}).get(name, zero) + (1 - b2) * g * g
    memory["m"][name], memory["s"][name] = m, s
    if amsgrad:
        largest = memory.setdefault("largest", {}).get(name, zero)
        s = memory["largest"][name] = torch.where(largest > s, largest, s)
    corrected_m, corrected_s = m / (1 - b1 ** (step + 1)), s / (1 - b2 ** (step + 1))
    return w - values["learning_rate"] * corrected_m / (corrected_s**0.5 + values["epsilon"])


def amsgrad_rule(step: int, name: str, w: Tensor, g: Tensor, memory: Memory, values: Scalars) -> Tensor:
    return adam_rule(step, name, w, g, memory, values, amsgrad=True)


def adamw_rule(step: int, name: str, w: Tensor, g: Tensor, memory: Memory, values: Scalars) -> Tensor:
    shrunk = w - values["learning_rate"] * values["weight_decay"] * w
    moved = adam_rule(step, name, w, g, memory, {**values, "weight_decay": torch.zeros(())})
    return shrunk + moved - w


@dataclass(frozen=True)
class Unrolled:
    """A training run to differentiate.

    Attributes:
        network: Starts at its own initial state.
        rule: Its optimizer.
        loss: Its training loss.
        batches: One per step.
        windows: Name → how many steps each value serves; equal parts where it is not there.
        curves: Name → (θ, step, horizon) ↦ value, for schedules without windows.
    """

    network: Network
    rule: Rule
    loss: Loss
    batches: Batches
    windows: Mapping[str, Sequence[int]]
    curves: Mapping[str, Curve]

    def index(self, name: str, count: int, step: int) -> int:
        """Which of ``count`` values a step uses."""
        horizon = len(self.batches)
        if name not in self.windows:
            return count * step // horizon
        return [i for i, length in enumerate(self.windows[name]) for _ in range(length)][step]

    def value(self, name: str, leaf: Tensor, step: int) -> Tensor:
        """What a step uses."""
        if name in self.curves:
            return self.curves[name](leaf, step, len(self.batches))
        return leaf[self.index(name, len(leaf), step)]

    def hypergradients(
        self, values: Sequence[Values], ends: Sequence[int]
    ) -> list[tuple[float, dict[str, list[float]]]]:
        """Loss at the end of every segment, and its derivatives.

        They are divided by the number of the segment's steps that share the value, but not those of curves.

        Args:
            values: Of each segment.
            ends: Of the segments.
        """
        trainable, frozen, statistics = self.network.initial()
        weights = {name: value.requires_grad_() for name, value in trainable.items()}
        memory: Memory = {}
        found = []
        first = 0
        for numbers, end in zip(values, ends, strict=True):
            leaves = as_leaves(numbers)
            weights = {name: value.detach().requires_grad_() for name, value in weights.items()}
            statistics = detached(statistics)
            memory = {key: detached(part) for key, part in memory.items()}
            for step in range(first, end):
                now = {name: self.value(name, leaf, step) for name, leaf in leaves.items()}
                inputs, targets = self.batches[step]
                outputs, statistics = self.network.forward({**weights, **frozen}, statistics, inputs, True)
                loss = self.loss(outputs, targets, now)
                slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
                weights = {
                    name: self.rule(step, name, w, g, memory, now)
                    for (name, w), g in zip(weights.items(), slopes, strict=True)
                }
            score = validation_loss(self.network, {**weights, **frozen}, statistics)
            slopes = torch.autograd.grad(score, list(leaves.values()), retain_graph=True, allow_unused=True)
            entries = {}
            for (name, leaf), slope in zip(leaves.items(), slopes, strict=True):
                counts = torch.zeros(len(leaf), dtype=torch.float64)
                for step in range(first, end):
                    counts[self.index(name, len(leaf), step)] += name not in self.curves
                slope = torch.zeros_like(leaf) if slope is None else slope
                entries[name] = (slope / counts.clamp(min=1)).tolist()
            found.append((score.item(), entries))
            first = end
        return found


def as_leaves(numbers: Values) -> Scalars:
    return {name: torch.tensor(v, dtype=torch.float64, requires_grad=True) for name, v in numbers.items()}


def detached(state: State) -> State:
    return {name: value.detach() for name, value in state.items()}
