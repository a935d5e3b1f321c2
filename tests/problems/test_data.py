from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor

from raytune_hyperlearn.problems import MissingDataError, data
from raytune_hyperlearn.problems.data import SYSTEM_FASHION_MNIST, cifar, crop_and_flip, digits, fashion_mnist
from raytune_hyperlearn.problems.examples import Examples

needs_fashion_mnist = pytest.mark.skipif(
    not SYSTEM_FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def assert_normalized(train: Examples) -> None:
    channels = train.inputs.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(dim=1), torch.zeros(len(channels), dtype=torch.float64), rtol=0, atol=1e-4)
    torch.testing.assert_close(channels.std(dim=1), torch.ones(len(channels), dtype=torch.float64), rtol=0, atol=1e-4)


def test_digits_are_all_there_once() -> None:
    from sklearn.datasets import load_digits

    train, test = digits()
    assert train.inputs.shape == (1437, 1, 8, 8)
    assert test.inputs.shape == (360, 1, 8, 8)
    assert train.inputs.dtype == torch.float32
    assert train.targets.dtype == torch.int64
    assert_normalized(train)
    counts = torch.cat([train.targets, test.targets]).bincount()
    assert counts.tolist() == np.bincount(load_digits().target).tolist()

    def recovered(examples: Examples) -> Tensor:
        """The pixels, 0 to 16: images hold both of these, so their ends undo the normalization."""
        low, high = train.inputs.min(), train.inputs.max()
        return ((examples.inputs - low) / (high - low) * 16).round().long().flatten(1)

    rows = torch.cat([recovered(part) for part in (train, test)]).tolist()
    images = np.asarray(load_digits().data, dtype=int).tolist()
    assert sorted(rows) == sorted(images)


def test_the_partition_of_digits_is_fixed_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    (train, test), (again, test_again) = digits(), digits()
    assert torch.equal(train.inputs, again.inputs)
    assert torch.equal(test.targets, test_again.targets)
    assert torch.equal(torch.get_rng_state(), before)


@needs_fashion_mnist
def test_fashion_mnist_is_read_from_the_systems_package(tmp_path: Path) -> None:
    train, test = fashion_mnist(tmp_path)
    assert train.inputs.shape == (60_000, 1, 28, 28)
    assert test.inputs.shape == (10_000, 1, 28, 28)
    assert train.targets.bincount().tolist() == [6_000] * 10
    assert test.targets.bincount().tolist() == [1_000] * 10
    assert train.targets[:5].tolist() == [9, 0, 0, 3, 0]  # the file's first labels
    assert_normalized(train)
    raw = tmp_path / "FashionMNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(data.FASHION_MNIST_FILES)


# ----------------------------------------------------------------------------------- image folders


def write_images(root: Path, classes: dict[str, list[int]], part: str, suffix: str = "png") -> None:
    """One image per number: its pixel at row r, column c and channel k is (number + r + 2 c + 50 k) mod 256."""
    for name, images in classes.items():
        (root / part / name).mkdir(parents=True, exist_ok=True)
        for number in images:
            Image.fromarray(pixels(number)).save(root / part / name / f"{number:03}.{suffix}")


def pixels(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    row, column, channel = np.ogrid[:32, :32, :3]
    return ((number + row + 2 * column + 50 * channel) % 256).astype(np.uint8)


def expected_images(numbers: list[int], training: list[int]) -> Tensor:
    """Images normalized by the mean and deviation of each channel of the training images, in double precision."""
    images, train = (np.stack([pixels(number) for number in part]) / 255.0 for part in (numbers, training))
    mean, deviation = train.mean(axis=(0, 1, 2)), train.reshape(-1, 3).std(axis=0, ddof=1)
    return torch.from_numpy((images - mean) / deviation).permute(0, 3, 1, 2).float()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    write_images(tmp_path, {"frog": [0, 60], "bird": [20, 120, 200], "cat": [250]}, "train")
    write_images(tmp_path, {"cat": [5], "bird": [6], "frog": [7, 8]}, "test")
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "notes.txt").write_text("not a class")
    (tmp_path / "train" / "bird" / ".hidden").write_text("not an image")
    return tmp_path


def test_an_image_folder_is_read_in_the_order_of_its_names(image_folder: Path) -> None:
    train, test = cifar(10, image_folder)
    assert train.inputs.shape == (6, 3, 32, 32)
    assert test.inputs.shape == (4, 3, 32, 32)
    assert train.targets.tolist() == [0, 0, 0, 1, 2, 2]
    assert test.targets.tolist() == [0, 1, 2, 2]
    training = [20, 120, 200, 250, 0, 60]
    for part, numbers in ((train, training), (test, [6, 5, 7, 8])):
        torch.testing.assert_close(part.inputs, expected_images(numbers, training), rtol=1e-5, atol=1e-5)


def test_an_image_folder_is_read_once_and_kept_in_one_file(image_folder: Path) -> None:
    first = cifar(10, image_folder)
    for path in image_folder.glob("t*/*/*.png"):
        path.write_bytes(b"unreadable")
    again = cifar(10, image_folder)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
    assert sorted(path.name for path in image_folder.glob("*.pt")) == ["cifar10-test.pt", "cifar10-train.pt"]


def test_gray_images_become_color_and_compressed_ones_are_read(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "one").mkdir(parents=True)
        Image.fromarray(pixels(3)[:, :, 0]).save(tmp_path / part / "one" / "gray.png")
        Image.fromarray(pixels(9)).save(tmp_path / part / "one" / "photo.jpg")
    cifar(10, tmp_path)
    images, targets = torch.load(tmp_path / "cifar10-train.pt", weights_only=True)
    assert targets.tolist() == [0, 0]
    assert torch.equal(images[0], torch.from_numpy(pixels(3)[:, :, 0]).expand(3, 32, 32))
    assert images[1].shape == (3, 32, 32)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images_is_named(image_folder: Path, part: str) -> None:
    (image_folder / part / "dog").mkdir()
    message = rf"^.*{part}/dog holds no image; train and test must hold images of the same classes$"
    other = {"train": "test", "test": "train"}[part]
    write_images(image_folder, {"dog": [1]}, other)
    with pytest.raises(MissingDataError, match=message):
        cifar(10, image_folder)


def test_an_empty_image_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(MissingDataError, match=r"^.*train holds no image"):
        cifar(10, tmp_path)


# -------------------------------------------------------------------------------- torchvision's files


def write_batches(root: Path, classes: int) -> None:
    """Files in the published layout with two images each: rows of 1,024 red, 1,024 green and 1,024 blue pixels."""
    labels, layout = {
        10: ("labels", ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]),
        100: ("fine_labels", ["train", "test"]),
    }[classes]
    folder = root / {10: "cifar-10-batches-py", 100: "cifar-100-python"}[classes]
    folder.mkdir(parents=True)
    for index, name in enumerate(layout):
        images = np.stack([pixels(20 * index + offset).transpose(2, 0, 1).reshape(-1) for offset in (0, 1)])
        (folder / name).write_bytes(pickle.dumps({"data": images, labels: [index, classes - 1]}))
    names, meta = {10: ("label_names", "batches.meta"), 100: ("fine_label_names", "meta")}[classes]
    (folder / meta).write_bytes(pickle.dumps({names: [str(label) for label in range(classes)]}))


@pytest.mark.parametrize(("classes", "count"), [(10, 10), (100, 2)])
def test_cifar_is_read_from_torchvisions_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, count: int
) -> None:
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    write_batches(tmp_path, classes)
    train, test = cifar(classes, tmp_path)
    assert train.inputs.shape == (count, 3, 32, 32)
    assert test.inputs.shape == (2, 3, 32, 32)
    assert train.targets[:2].tolist() == [0, classes - 1]
    assert train.inputs.is_contiguous()
    written = [20 * index + offset for index in range(count // 2 + 1) for offset in (0, 1)]
    for part, numbers in ((train, written[:-2]), (test, written[-2:])):
        torch.testing.assert_close(part.inputs, expected_images(numbers, written[:-2]), rtol=1e-5, atol=1e-5)


# -------------------------------------------------------------------------------------- missing data


def no_network(*_: object, **__: object) -> None:
    raise URLError("no route to host")


READERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "fashion-mnist": (
        "FashionMNIST",
        fashion_mnist,
        "install Debian's package dataset-fashion-mnist or set HYPERLEARN_DATA",
    ),
    "cifar-10": (
        "CIFAR10",
        lambda root: cifar(10, root),
        "put an image folder train/<class>/*, test/<class>/* there or set HYPERLEARN_DATA",
    ),
    "cifar-100": ("CIFAR100", lambda root: cifar(100, root), "set HYPERLEARN_DATA"),
}


@pytest.mark.parametrize("name", READERS)
def test_missing_data_say_in_one_line_where_they_were_sought_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reader, read, advice = READERS[name]
    monkeypatch.setattr(data, "SYSTEM_FASHION_MNIST", tmp_path / "nowhere")
    monkeypatch.setattr(getattr(torchvision.datasets, reader), "download", no_network)
    with pytest.raises(MissingDataError) as caught:
        read(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{tmp_path}" in message
    assert "cannot be downloaded (URLError)" in message
    assert message.endswith(advice)


def test_a_damaged_download_is_missing_data(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(MissingDataError, match=r"^CIFAR-10 is not in .* \(RuntimeError\)"):
        cifar(10, tmp_path)


def test_a_folder_that_cannot_be_written_is_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, blocked = tmp_path / "system", tmp_path / "file"
    system.mkdir()
    blocked.write_text("not a folder")
    monkeypatch.setattr(data, "SYSTEM_FASHION_MNIST", system)
    with pytest.raises(MissingDataError, match=r"^Fashion-MNIST is not in .* \(NotADirectoryError\)"):
        fashion_mnist(blocked)


def test_the_folder_of_downloads_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERLEARN_DATA", str(tmp_path))
    assert data.data_root() == tmp_path
    monkeypatch.delenv("HYPERLEARN_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.data_root() == tmp_path / ".cache" / "hyperlearn"


# -------------------------------------------------------------------------------------- augmentation


def every_crop(image: Tensor) -> dict[tuple[int, int, bool], Tensor]:
    """All 9 · 9 · 2 crops and mirrors of an image padded by 4, pixel by pixel."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 8, width + 8)
    for row in range(height):
        for column in range(width):
            padded[:, row + 4, column + 4] = image[:, row, column]
    crops = {}
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + height, left : left + width]
            crops[top, left, False] = crop
            crops[top, left, True] = torch.stack([crop[:, :, width - 1 - column] for column in range(width)], dim=2)
    return crops


def test_every_augmented_image_is_one_of_its_crops_and_all_of_them_occur() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 5, 6, generator=generator) + 1  # nowhere 0, unlike the border
    crops = {crop.numpy().tobytes(): which for which, crop in every_crop(image).items()}
    assert len(crops) == 162
    augmented = crop_and_flip(image.expand(4000, 2, 5, 6), generator)
    assert augmented.shape == (4000, 2, 5, 6)
    assert augmented.is_contiguous()
    found = [crops[one.numpy().tobytes()] for one in augmented]
    assert len(set(found)) == 162
    mirrored = sum(mirror for _, _, mirror in found) / len(found)
    assert mirrored == pytest.approx(0.5, abs=0.04)  # five standard errors
    for axis in (0, 1):
        counts = np.bincount([which[axis] for which in found], minlength=9)
        assert counts == pytest.approx(np.full(9, 4000 / 9), abs=5 * (4000 / 9) ** 0.5)


def test_every_image_is_cropped_from_itself() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 1, 5, 5, generator=generator) + 1
    before = images.clone()
    for image, augmented in zip(images, crop_and_flip(images, generator), strict=True):
        assert any(torch.equal(augmented, crop) for crop in every_crop(image).values())
    assert torch.equal(images, before)


def test_the_generator_alone_decides_an_augmentation() -> None:
    images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first, again, other = (crop_and_flip(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
