"""CIFAR-10 and CIFAR-100 with VGG-11 and WRN-16-4: right networks and splits from torchvision's files, or one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from raytune_hyperlearn.problems import MissingDataError, data, load
from raytune_hyperlearn.problems.examples import Examples
from raytune_hyperlearn.problems.models import count_parameters, initialize

NAMES = ["cifar10-vgg11", "cifar10-wrn16-4", "cifar100-vgg11", "cifar100-wrn16-4"]


def few_images(classes: int, root: Path | None = None) -> tuple[Examples, Examples]:
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 3, 32, 32, generator=generator) for n in (320, 10))
    return tuple(Examples(images, torch.arange(len(images)) % classes) for images in (train, test))  # type: ignore[return-value]


@pytest.mark.parametrize("name", NAMES)
def test_problem(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "cifar", few_images)
    problem = load(name)
    classes = 10 if name.startswith("cifar10-") else 100
    model = initialize(problem.model, 0).eval()
    assert problem.name == name
    assert model(problem.test.inputs[:2]).shape == (2, classes)
    # Counted by hand: convolutions (VGG-11's with biases), two numbers per channel of BatchNorm, the linear layer.
    convolutions = {"vgg11": 9_220_480 + 2 * 2_752, "wrn16-4": 2_742_704 + 2 * 1_808}[name.partition("-")[2]]
    features = 512 if "vgg" in name else 256
    assert count_parameters(model) == convolutions + (features + 1) * classes
    split = problem.split(0)
    assert (len(split.train), len(split.validation)) == (256, 64)
    assert (problem.batch_size, problem.epochs) == (128, 200)


def test_cifar100_is_read_from_torchvisions_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = {part: random.integers(0, 256, (n, 3072), dtype=np.uint8) for part, n in (("train", 6), ("test", 4))}
    for part, images in pixels.items():
        labels = list(range(len(images)))
        (folder / part).write_bytes(pickle.dumps({"data": images, "fine_labels": labels, "coarse_labels": labels}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    monkeypatch.setattr(CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    train, test = data.cifar(100, tmp_path)
    assert train.inputs.shape == (6, 3, 32, 32)
    assert test.targets.tolist() == [0, 1, 2, 3]
    scaled = torch.from_numpy(pixels["train"].reshape(6, 3, 32, 32)).double() / 255
    expected = (scaled - scaled.mean((0, 2, 3), keepdim=True)) / scaled.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(train.inputs.double(), expected, atol=1e-5, rtol=1e-5)


def test_missing_cifar100_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100

    def offline(self: CIFAR100) -> None:
        raise OSError("no network")

    monkeypatch.setattr(CIFAR100, "download", offline)
    monkeypatch.setenv("HYPERLEARN_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match="CIFAR-100 is not in") as refused:
        load("cifar100-vgg11")
    assert "\n" not in str(refused.value)
