"""Learn hyperparameters by gradients, during training, on Ray Tune; compare honestly with black-box search."""

__version__ = "0.1.0"
