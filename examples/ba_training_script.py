"""Batch adaptive momentum in a plain training script, without Ray: the optimizer draws its own batches.

python examples/ba_training_script.py
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from raytune_hyperlearn.algorithms.batch_adaptive import BatchAdaptiveSGD
from raytune_hyperlearn.algorithms.sampler import EpochSampler


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """One loss per instance: their variance is what the batch size is decided by."""
    return functional.cross_entropy(outputs, targets, reduction="none")


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    sampler = EpochSampler(inputs, targets, seed=0)
    optimizer = BatchAdaptiveSGD(model, loss, sampler, lr=0.05, momentum=0.9)
    for epoch in range(1, 2 if "--smoke" in sys.argv else 11):
        sizes = []
        while sampler.epochs < epoch:
            sizes.append(optimizer.step().batch_size)
        with torch.no_grad():
            mean = loss(model(inputs), targets).mean()
        print(f"epoch {epoch}: loss {mean:.4f}, {len(sizes)} updates, batches of {min(sizes)} to {max(sizes)}")
