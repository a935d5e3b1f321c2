"""FDS for data that do not fit in memory: an own data set with a file for each example, read while training goes on.

python examples/data_on_disk.py
"""

import sys
import tempfile
from pathlib import Path

import torch
from ray import tune
from torch import nn
from torch.utils.data import Dataset

from raytune_hyperlearn import FDSTrainable, LearningRate, Problem, SearchSpace

SMOKE = "--smoke" in sys.argv
COUNT = 60 if SMOKE else 600


class Recordings(Dataset[tuple[torch.Tensor, int]]):
    """``NUMBER.pt`` holds a recording and whether its pitch is high."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.pt"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        recording, high = torch.load(self.files[index], weights_only=True)
        return recording, high


def write(folder: Path) -> None:
    """Sines and noise."""
    folder.mkdir()
    generator, time = torch.Generator().manual_seed(0), torch.arange(64)
    for number in range(COUNT):
        noise = torch.randn(64, generator=generator)
        torch.save(((time * (0.3 + 0.1 * (number % 2))).sin() + noise, number % 2), folder / f"{number:04}.pt")


def network() -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        write(Path(root, "train"))
        write(Path(root, "test"))
        train, test = Recordings(Path(root, "train")), Recordings(Path(root, "test"))
        problem = Problem.from_datasets("recordings", network, train, test, memory_limit=10_000, batch_size=20)
        config = {
            "problem": problem,
            "space": SearchSpace(learning_rate=LearningRate(values=2, init=0.05, step=0.05)),
            "seed": 0,
            "epochs": 2 if SMOKE else 5,
            "outer_steps": 2 if SMOKE else 8,
        }
        best = tune.run(FDSTrainable, config=config, verbose=0).trials[0].last_result["best"]
    print(f"{problem.train}: validation loss {best['validation_loss']:.3f}", best["hyperparameters"])
