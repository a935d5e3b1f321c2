"""A scheduler that chooses the batch size of an own Trainable between its steps, from three numbers that it reports.

python examples/ba_own_trainable.py
"""

import torch
from ray import tune

from raytune_hyperlearn import BatchAdaptiveScheduler


class LeastSquares(tune.Trainable):
    """y = 3x and noise; one update a step. Its per-instance gradients are known in closed form."""

    def setup(self, config):
        """Start from slope 0 at the batch size that the scheduler put into the config."""
        self.generator = torch.Generator().manual_seed(0)
        self.slope, self.batch_size = 0.0, config["batch_size"]

    def apply_update(self, update):
        """Called between steps with what the scheduler changes."""
        self.batch_size = update["batch_size"]

    def step(self):
        """Make one update and report its loss s, μ = f·f and σ = √(fᵀΣf)."""
        inputs, noise = torch.randn(2, self.batch_size, generator=self.generator)
        errors = self.slope * inputs - (3 * inputs + noise)
        gradients = errors * inputs
        mean = gradients.mean().item()
        self.slope -= self.config["learning_rate"] * mean
        return {
            "loss": errors.square().mean().item() / 2,
            "drift": mean**2,
            "deviation": abs(mean) * gradients.std().item(),
            "slope": self.slope,
            "used": self.batch_size,
        }

    def save_checkpoint(self, checkpoint_dir):
        """Slope and generator; the batch size travels in the config."""
        torch.save((self.slope, self.generator.get_state()), f"{checkpoint_dir}/state.pt")

    def load_checkpoint(self, checkpoint_dir):
        """Go on from save_checkpoint."""
        self.slope, state = torch.load(f"{checkpoint_dir}/state.pt")
        self.generator.set_state(state)


if __name__ == "__main__":
    scheduler = BatchAdaptiveScheduler(max_batch_size=512, min_batch_size=8, minimum_loss=0.45)
    config = {"learning_rate": 0.3}
    analysis = tune.run(
        LeastSquares,
        config=config,
        scheduler=scheduler,
        stop={"training_iteration": 12},
        resources_per_trial={"cpu": 1},
        verbose=0,
    )
    result = analysis.trials[0].last_result
    print(f"step {result['training_iteration']}: slope {result['slope']:.3f} with a batch of {result['used']}")
