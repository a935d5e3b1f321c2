"""Arbiter for an own model: its batch size, learned while it trains and granted by a scheduler within a memory limit.

Beside it train the same start without Arbiter, and Arbiter's agent on noise: without such controls a learned schedule
says little (see docs/reproductions/arbiter.md).

python examples/arbiter_own_model.py
"""

import sys

import torch
from ray import tune
from torch import nn

from raytune_hyperlearn import ArbiterScheduler, ArbiterTrainable, Examples, Problem

EPOCHS = 2 if "--smoke" in sys.argv else 20


def spirals() -> Problem:
    """Two classes on interleaved spirals, one label in ten wrong."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(2000, generator=generator) * 4 + 1
    side = torch.arange(2000) % 2
    turned = angle + side * torch.pi
    inputs = torch.stack([angle * turned.cos(), angle * turned.sin()], dim=1) / 5
    labels = torch.where(torch.rand(2000, generator=generator) < 0.1, 1 - side, side)

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))

    train, test = Examples(inputs[:1500], labels[:1500]), Examples(inputs[1500:], labels[1500:])
    return Problem("spirals", model, train, test, batch_size=32, epochs=EPOCHS)


AGENT = {"min_batch_size": 8, "max_batch_size": 200, "agent_lr": 1e-3, "mixing_lr": 2e-3, "warm_up_lr": 1e-2}
METHODS = {
    "Arbiter": {"chosen_by": "arbiter", "arbiter": AGENT},
    "without": {"chosen_by": "heuristic", "arbiter": AGENT},
    "on noise": {"chosen_by": "arbiter", "arbiter": {**AGENT, "agent_input": "noise"}},
}

if __name__ == "__main__":
    for name, method in METHODS.items():
        config = {
            "problem": spirals,
            "seed": 0,
            "hyperparameters": {"learning_rate": 0.1, "momentum": 0.9},
            **method,
        }
        analysis = tune.run(ArbiterTrainable, config=config, scheduler=ArbiterScheduler(memory_limit=1e9), verbose=0)
        result = analysis.trials[0].last_result
        sizes = [round(size) for size in result["hyperparameters"]["batch_size"]]
        print(f"{name}: validation loss {result['validation_loss']:.3f}, batch sizes {sizes}")
