"""FDS for an own model: learn the schedules of learning rate, momentum and weight decay while Ray Tune runs it.

python examples/fds_own_model.py
"""

import torch
from ray import tune
from torch import nn

from raytune_hyperlearn import Examples, FDSScheduler, FDSTrainable, Problem


def spirals() -> Problem:
    """Two classes on interleaved spirals, and the network that is to tell them apart."""
    angle = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 4 + 1
    side = torch.arange(2000) % 2
    turned = angle + side * torch.pi
    inputs = torch.stack([angle * turned.cos(), angle * turned.sin()], dim=1) / 5
    train, test = Examples(inputs[:1500], side[:1500]), Examples(inputs[1500:], side[1500:])
    return Problem("spirals", lambda: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)), train, test)


if __name__ == "__main__":
    config = {"problem": spirals, "seed": 0, "epochs": 20, "outer_steps": 8, "tolerance": 1.5}
    analysis = tune.run(FDSTrainable, config=config, scheduler=FDSScheduler(), verbose=0)
    best = analysis.trials[0].last_result["best"]
    print(f"outer step {best['outer_step']}: validation loss {best['validation_loss']:.3f}", best["hyperparameters"])
