"""From validation inputs to batch sizes: the agent's networks, its samples and what they stand for [Arbiter].

A logit l stands for a batch size; the two maps are inverse to each other on the integers from B_min to B_max:

    B(l) = ⌊(B_max − B_min) · sigmoid(l) + B_min⌋        l(B) = logit((B − B_min) / (B_max − B_min))
"""

import math
from numbers import Integral

import torch
from torch import Tensor, nn

ROUNDING = 1e-3
"""Slack of ⌊·⌋ in batch sizes: B(l(B)) = B in spite of rounding, and B_max has a finite logit."""


def require(name: str, value: object, holds: bool, allowed: str) -> None:
    """Refuses a value in one line.

    Raises:
        ValueError: unless ``holds``.
    """
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def require_integer(name: str, value: object, least: int) -> None:
    """Refuses a value in one line.

    Raises:
        ValueError: unless it is an integer of at least ``least``.
    """
    require(name, value, isinstance(value, Integral) and int(value) >= least, f"an integer of at least {least}")


def batch_size_of(logit: float, min_batch_size: int, max_batch_size: int) -> int:
    """B(l), the batch size that a logit stands for; ``max_batch_size`` included.

    Args:
        logit: l, any number; ±inf are the ends.
        min_batch_size: B_min.
        max_batch_size: B_max.

    Raises:
        ValueError: if the logit is not a number.
    """
    require("logit", logit, not math.isnan(logit), "a number")
    small = math.exp(-abs(logit))
    fraction = (1.0 if logit >= 0 else small) / (1.0 + small)
    return min(max_batch_size, math.floor((max_batch_size - min_batch_size) * fraction + min_batch_size + ROUNDING))


def logit_of(batch_size: int, min_batch_size: int, max_batch_size: int) -> float:
    """l(B), the inverse of :func:`batch_size_of` on the integers of the range, ends included.

    Raises:
        ValueError: if the batch size is outside the range.
    """
    allowed = f"between min_batch_size = {min_batch_size} and max_batch_size = {max_batch_size}"
    require("batch_size", batch_size, min_batch_size <= batch_size <= max_batch_size, allowed)
    nudge = ROUNDING / 2
    above = max(batch_size - min_batch_size, nudge)
    below = max(max_batch_size - batch_size, nudge)
    return math.log(above) - math.log(below)


def sorted_samples(logits: Tensor) -> Tensor:
    """S, the agent's logits [B, N] averaged over the mini-batch and sorted ascending, [N]."""
    return logits.mean(dim=0).sort().values


def mix(samples: Tensor, alpha: Tensor) -> Tensor:
    """s = S · softmax(α), a scalar, from the samples S [N] and α [N] (equation 2)."""
    return samples @ alpha.softmax(dim=0)


def image_agent(channels: int, samples: int) -> nn.Module:
    """The authors' agent for images of at least 3×3 pixels: [B, channels, H, W] to [B, samples].

    Args:
        channels: C of the images, at least 1.
        samples: Number of outputs, the batch sizes to choose from.
    """
    width = 64
    layers: list[nn.Module] = []
    # The first convolution is unpadded in the authors' network.
    for inputs, stride, padding in ((channels, 1, 0), (width, 2, 1), (width, 2, 1), (width, 2, 1)):
        layers += [
            nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=padding),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    agent = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, samples))
    # Measured on a CPU: a fifth faster, and the only part of an outer step that is not already at its floor.
    return agent.to(memory_format=torch.channels_last)


def vector_agent(features: int, samples: int) -> nn.Module:
    """An agent for vectors: [B, features] to [B, samples], two hidden layers of 64.

    Args:
        features: d of the vectors, at least 1.
        samples: Number of outputs, the batch sizes to choose from.
    """
    width = 64
    return nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, samples)
    )


def default_agent(inputs: Tensor, samples: int) -> nn.Module:
    """The agent for these inputs: images [n, C, H, W] or vectors [n, d].

    Args:
        inputs: A few of the training inputs.
        samples: Number of outputs, the batch sizes to choose from.

    Raises:
        ValueError: if the inputs are neither.
    """
    if inputs.is_floating_point() and inputs.dim() == 2:
        return vector_agent(inputs.shape[1], samples)
    if inputs.is_floating_point() and inputs.dim() == 4 and min(inputs.shape[2:]) >= 3:
        return image_agent(inputs.shape[1], samples)
    raise ValueError(
        "agent must be given unless the inputs are float vectors [n, d] or float images [n, C, H, W] of at "
        f"least 3×3 pixels, got None for {inputs.dtype} inputs of shape {tuple(inputs.shape)}"
    )
