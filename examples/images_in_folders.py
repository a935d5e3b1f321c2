"""FDS for a ResNet-18 on images in folders: train/<class>/*.png and test/<class>/*.png, such as CIFAR-10's.

python examples/images_in_folders.py FOLDER
"""

import sys
from functools import partial
from pathlib import Path

import torch
from ray import tune
from torch import nn
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from raytune_hyperlearn import FDSTrainable, LearningRate, Problem, SearchSpace
from raytune_hyperlearn.problems.data import crop_and_flip, data_root

SMOKE = "--smoke" in sys.argv  # seconds instead of hours


def network(classes: int) -> nn.Module:
    """ResNet-18 with the first layers that small images need."""
    blocks = [1, 1, 1, 1] if SMOKE else [2, 2, 2, 2]
    model = models.ResNet(models.resnet.BasicBlock, blocks, num_classes=classes)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def images(folder: Path) -> Problem:
    """Images that fit are loaded once; more than ``memory_limit`` bytes would be read while training goes on."""
    tensors = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])
    train, test = (ImageFolder(str(folder / part), tensors) for part in ("train", "test"))
    return Problem.from_datasets(
        "images",
        partial(network, len(train.classes)),
        train,
        test,
        batch_size=4 if SMOKE else 128,
        epochs=1 if SMOKE else 30,
        augmentation=crop_and_flip,  # random changes belong here: a data set gives the same image at every call
    )


if __name__ == "__main__":
    folder = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), data_root())
    if not (folder / "train").is_dir():
        sys.exit(f"skipped: there is no folder {folder / 'train'}")
    config = {
        "problem": images(folder),
        "space": SearchSpace(learning_rate=LearningRate(values=2, init=0.01, step=0.01), weight_decay=5e-4),
        "seed": 0,
        "outer_steps": 1 if SMOKE else 20,
    }
    resources = {"cpu": 1, "gpu": torch.cuda.device_count() and 1}
    best = (
        tune.run(tune.with_resources(FDSTrainable, resources), config=config, verbose=0).trials[0].last_result["best"]
    )
    print(f"validation loss {best['validation_loss']:.3f}", best["hyperparameters"])
