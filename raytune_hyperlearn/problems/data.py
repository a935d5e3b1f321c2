"""Readers of the data sets: each returns normalized tensors, or says in one line what is missing and how to get it."""

from __future__ import annotations

import gzip
import os
import shutil
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytune_hyperlearn.problems.examples import Examples

FASHION_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
VISIBLE = "[!.]*"
SYSTEM_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


class MissingDataError(ValueError):
    """A data set is neither on this machine nor can it be downloaded."""


def data_root() -> Path:
    """Folder of downloaded data: ``$HYPERLEARN_DATA``, else ``~/.cache/hyperlearn``."""
    return Path(os.environ.get("HYPERLEARN_DATA", Path.home() / ".cache" / "hyperlearn"))


def normalized(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """(images − mean) / deviation per channel; images [N, C, H, W], mean and deviation [C]."""
    return (images - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of each channel of images [N, C, H, W]."""
    return images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))


def digits() -> tuple[Examples, Examples]:
    """scikit-learn's 1,797 8×8 gray digits: 1,437 for training, 360 for testing, a fixed random partition."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.asarray(bunch.images, dtype=np.float32) / 16.0)[:, None]
    targets = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:360], order[360:]
    mean, deviation = channel_statistics(images[train])
    images = normalized(images, mean, deviation)
    return Examples(images[train], targets[train]), Examples(images[test], targets[test])


def fashion_mnist(root: Path | None = None) -> tuple[Examples, Examples]:
    """Fashion-MNIST: 60,000 training and 10,000 test images, 28×28 gray.

    Read from ``root``, from Debian's package ``dataset-fashion-mnist`` where it is installed, or downloaded.

    Args:
        root: Folder that holds ``FashionMNIST/raw``; default :func:`data_root`.

    Raises:
        MissingDataError: If it is nowhere and cannot be downloaded.
    """
    from torchvision.datasets import FashionMNIST

    root = root or data_root()
    raw = root / "FashionMNIST" / "raw"
    try:
        if not all((raw / name).is_file() for name in FASHION_MNIST_FILES) and SYSTEM_FASHION_MNIST.is_dir():
            raw.mkdir(parents=True, exist_ok=True)
            for name in FASHION_MNIST_FILES:
                unpacked = raw / f"{name}.{os.getpid()}"  # several workers may unpack at once
                with gzip.open(SYSTEM_FASHION_MNIST / f"{name}.gz", "rb") as packed, unpacked.open("wb") as file:
                    shutil.copyfileobj(packed, file)
                unpacked.replace(raw / name)
        present = all((raw / name).is_file() for name in FASHION_MNIST_FILES)
        parts = [FashionMNIST(str(root), train=train, download=not present) for train in (True, False)]
    except (RuntimeError, OSError, HTTPException) as error:
        raise MissingDataError(
            f"Fashion-MNIST is not in {raw} and cannot be downloaded ({error.__class__.__name__}); "
            "install Debian's package dataset-fashion-mnist or set HYPERLEARN_DATA"
        ) from error
    images = [part.data[:, None].float() / 255.0 for part in parts]
    mean, deviation = channel_statistics(images[0])
    train, test = (
        Examples(normalized(image, mean, deviation), part.targets.long())
        for image, part in zip(images, parts, strict=True)
    )
    return train, test


def cifar(classes: int, root: Path | None = None) -> tuple[Examples, Examples]:
    """CIFAR-10 or CIFAR-100: 50,000 training and 10,000 test images, 32×32 color.

    An image folder ``root/train/<class>/*`` and ``root/test/<class>/*`` (CIFAR-10 only) is preferred, read once
    and kept as one tensor file beside it; else torchvision's own files under ``root``, else a download.

    Args:
        classes: 10 or 100.
        root: Folder to look in; default :func:`data_root`.

    Raises:
        MissingDataError: If it is nowhere and cannot be downloaded, or a class of the image folder has no image.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    root = root or data_root()
    if classes == 10 and (root / "train").is_dir() and (root / "test").is_dir():
        found = (folder for part in ("train", "test") for folder in (root / part).glob(VISIBLE) if folder.is_dir())
        names = sorted({folder.name for folder in found})
        parts = [_image_folder(root, part, names) for part in ("train", "test")]
    else:
        reader, folder = (CIFAR10, "cifar-10-batches-py") if classes == 10 else (CIFAR100, "cifar-100-python")
        present = (root / folder).is_dir()
        try:
            sets = [reader(str(root), train=train, download=not present) for train in (True, False)]
        except (RuntimeError, OSError, HTTPException) as error:
            raise MissingDataError(
                f"CIFAR-{classes} is not in {root} and cannot be downloaded ({error.__class__.__name__}); "
                "put an image folder train/<class>/*, test/<class>/* there or set HYPERLEARN_DATA"
            ) from error
        parts = [(torch.from_numpy(s.data).permute(0, 3, 1, 2), torch.tensor(s.targets)) for s in sets]
    images = [part[0].float() / 255.0 for part in parts]
    mean, deviation = channel_statistics(images[0])
    train, test = (
        Examples(normalized(image, mean, deviation).contiguous(), part[1])
        for image, part in zip(images, parts, strict=True)
    )
    return train, test


def _image_folder(root: Path, part: str, classes: list[str]) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32] uint8 and indices [N] into ``classes`` of ``root/part/<class>/*``, cached in one file."""
    from PIL import Image

    cache = root / f"cifar10-{part}.pt"
    if cache.is_file():
        images, targets = torch.load(cache, weights_only=True)
        return images, targets
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((root / part / name).glob(VISIBLE))]
    empty = sorted(set(range(len(classes))) - {label for _, label in files})
    if empty or not files:
        lacking = root / part / classes[empty[0]] if empty else root / part
        raise MissingDataError(f"{lacking} holds no image; train and test must hold images of the same classes")
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB"), dtype=np.uint8) for path, _ in files])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor([label for _, label in files])
    unfinished = cache.with_suffix(f".{os.getpid()}")
    torch.save((images, targets), unfinished)
    unfinished.replace(cache)
    return images, targets


def crop_and_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Pad by 4 pixels, crop at random back to size and mirror half of the images.

    Args:
        inputs: Images [N, C, H, W].
        generator: CPU generator of the offsets and mirrors.

    Returns:
        Augmented images [N, C, H, W].
    """
    n, _, height, width = inputs.shape
    device = inputs.device
    rows, columns = (torch.randint(0, 9, (n,), generator=generator).to(device, non_blocking=True) for _ in range(2))
    mirrored = (torch.rand(n, generator=generator) < 0.5).to(device, non_blocking=True)
    padded = torch.nn.functional.pad(inputs, (4, 4, 4, 4))
    y = rows[:, None] + torch.arange(height, device=device)  # [N, H]
    x = torch.arange(width, device=device).expand(n, width)
    x = columns[:, None] + torch.where(mirrored[:, None], width - 1 - x, x)  # [N, W]
    picked = padded[torch.arange(n, device=device)[:, None, None], :, y[:, :, None], x[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()  # indexed as [N, H, W, C]
