"""Networks that the problems train: small ones for 8×8 and 28×28 images, WideResNet and VGG for 32×32.

Inputs are float images [N, C, H, W]; outputs are logits [N, classes].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raytune_hyperlearn.problems.seeds import Purpose, derived_seed


class SmallCNN(nn.Module):
    """Two 3×3 convolutions with BatchNorm and max-pooling and one linear layer, for 8×8 gray images.

    6,138 parameters. BatchNorm, as in [FDS]'s WideResNets, keeps training sane over wide ranges of learning rates.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(32 * 2 * 2, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, 1, 8, 8]."""
        return self.classifier(self.features(inputs))  # type: ignore[no-any-return]


class BatchNormCNN(nn.Module):
    """3×3 convolutions with BatchNorm, ReLU and max-pooling and one linear layer.

    11,218 parameters in seven layers by default.

    Args:
        channels: Input channels.
        size: Side of the square images in pixels.
        widths: Channels of the convolutions, each of which halves the side.
        classes: Number of logits.
    """

    def __init__(
        self, channels: int = 3, size: int = 32, widths: tuple[int, ...] = (8, 16, 32), classes: int = 10
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((channels, *widths)):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        side = size >> len(widths)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.classifier = nn.Linear(widths[-1] * side * side, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, channels, size, size]."""
        return self.classifier(self.features(inputs))  # type: ignore[no-any-return]


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max-pooling, the network of [FDS] figures 2 and 3.

    Args:
        channels: Input channels.
        size: Side of the square images in pixels, 28 or 32.
        classes: Number of logits.
    """

    def __init__(self, channels: int = 1, size: int = 28, classes: int = 10) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * side * side, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, channels, size, size]."""
        return self.classifier(self.features(inputs))  # type: ignore[no-any-return]


class _WideBlock(nn.Module):
    """Pre-activation residual block of two 3×3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        reshapes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if reshapes else None

    def forward(self, inputs: Tensor) -> Tensor:
        activated = F.relu(self.norm1(inputs))
        residual = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(activated)))))
        skip = inputs if self.shortcut is None else self.shortcut(activated)
        return residual + skip  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """WRN-depth-width of Zagoruyko and Komodakis (2016) for 32×32 images.

    Args:
        depth: Number of convolutional layers, 6n + 4.
        width: Widening factor k; the three groups have 16k, 32k and 64k channels.
        classes: Number of logits.
        channels: Input channels.
        dropout: Dropout probability inside the residual blocks, in [0, 1).
    """

    def __init__(
        self, depth: int = 16, width: int = 1, classes: int = 10, channels: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth is {depth}; it must be 6n + 4 with n ≥ 1 (10, 16, 22, 28, …)")
        blocks_per_group = (depth - 4) // 6
        widths = [16, 16 * width, 32 * width, 64 * width]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)]
        for group in range(3):
            for block in range(blocks_per_group):
                inputs = widths[group] if block == 0 else widths[group + 1]
                stride = 2 if group > 0 and block == 0 else 1
                layers.append(_WideBlock(inputs, widths[group + 1], stride, dropout))
        self.groups = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(widths[3])
        self.classifier = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, channels, 32, 32]."""
        features = F.relu(self.norm(self.groups(inputs)))
        return self.classifier(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class VGG11(nn.Module):
    """VGG-11 with BatchNorm and one linear layer, the usual variant for 32×32 images ([Arbiter] section 4)."""

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for entry in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"):
            if isinstance(entry, int):
                layers += [nn.Conv2d(width, entry, 3, padding=1), nn.BatchNorm2d(entry), nn.ReLU()]
                width = entry
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.classifier = nn.Linear(512, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, channels, 32, 32]."""
        return self.classifier(self.features(inputs))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Fully connected ReLU network over flattened inputs.

    Args:
        inputs: Number of input features after flattening.
        hidden: Widths of the hidden layers.
        classes: Number of logits.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...] = (128,), classes: int = 10) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        layers.append(nn.Linear(widths[-1], classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of inputs [N, …]."""
        return self.layers(inputs)  # type: ignore[no-any-return]


class ThreeConvolutions(nn.Module):
    """Three 3×3 convolutions of 32, 64 and 128 channels, each with max-pooling, ReLU and dropout, and a linear layer.

    The network of [BA] for Fashion-MNIST; 104,202 parameters. The paper does not say how much it drops out.

    Args:
        dropout: Dropout probability after each convolution, in [0, 1).
        channels: Input channels.
        size: Side of the square images in pixels.
        classes: Number of logits.
    """

    def __init__(self, dropout: float = 0.25, channels: int = 1, size: int = 28, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((channels, 32, 64, 128)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(dropout)]
        side = size // 8
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * side * side, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, channels, size, size]."""
        return self.layers(inputs)  # type: ignore[no-any-return]


class BidirectionalLSTM(nn.Module):
    """Two layers of bidirectional LSTM over embedded tokens, the largest output over time, and a linear layer.

    Args:
        vocabulary: Number of tokens; 0 is padding and takes no part in the maximum.
        classes: Number of logits.
        width: Of the embedding and of each direction of the LSTM.
        dropout: Dropout probability before the linear layer, in [0, 1).
    """

    def __init__(self, vocabulary: int, classes: int, width: int = 64, dropout: float = 0.25) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.recurrent = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of token indices [N, length]."""
        outputs, _ = self.recurrent(self.embedding(inputs))
        pooled = outputs.masked_fill((inputs == 0)[:, :, None], -1.0).amax(dim=1)  # outputs lie above -1
        return self.classifier(self.dropout(pooled))  # type: ignore[no-any-return]


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters D."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def initialize(model_factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model with its own random initialization; torch's global generators are left as they were.

    Args:
        model_factory: Callable without arguments that returns an ``nn.Module``.
        seed: Seed of the training; that of the initialization is derived from it.

    Returns:
        The new module on the CPU.
    """
    # torch.manual_seed would seed every GPU as well, those included that are first used after this.
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        own = derived_seed(seed, Purpose.INITIALIZATION)
        torch.default_generator.manual_seed(own)
        if gpus:
            torch.cuda.manual_seed_all(own)
        return model_factory()
