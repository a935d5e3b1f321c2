"""FDS for a regression: scikit-learn's diabetes. It has a loss and no accuracy.

python examples/regression.py
"""

import sys

import torch
from ray import tune
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import TensorDataset

from raytune_hyperlearn import FDSTrainable, LearningRate, Problem, SearchSpace

SMOKE = "--smoke" in sys.argv  # seconds instead of a minute


def diabetes() -> Problem:
    """How far the disease has come a year later, in standard deviations, from ten measurements."""
    inputs, targets = (torch.from_numpy(part) for part in load_diabetes(return_X_y=True))
    inputs, targets = ((part - part.mean(0)) / part.std(0) for part in (inputs, targets))
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    train, test = (TensorDataset(inputs[rows], targets[rows]) for rows in (order[90:], order[:90]))
    return Problem.from_datasets("diabetes", network, train, test, loss="mse", batch_size=32)


def network() -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))


if __name__ == "__main__":
    config = {
        "problem": diabetes,
        "space": SearchSpace(learning_rate=LearningRate(values=3, init=0.01, step=0.02)),
        "seed": 0,
        "epochs": 3 if SMOKE else 30,
        "outer_steps": 3 if SMOKE else 15,
    }
    best = tune.run(FDSTrainable, config=config, verbose=0).trials[0].last_result["best"]
    print(f"mean squared error {best['validation_loss']:.3f}", best["hyperparameters"])
