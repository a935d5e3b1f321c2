"""Per-instance gradients g_j, [n, *shape] for each parameter: what the diagonal of a covariance is made of.

They exist only where instances do not meet: BatchNorm in training mode is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from raytune_hyperlearn.derivatives.functional import LossFunction
from raytune_hyperlearn.derivatives.micro_batches import coupled_layer
from raytune_hyperlearn.derivatives.projections import Instances, Tensors, summed_gradient, trainable
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers


def refuse_coupled_instances(model: nn.Module) -> None:
    """Refuses a model that has no per-instance gradients.

    Raises:
        ValueError: Naming the layer.
    """
    name = coupled_layer(model)
    if name is not None:
        layer = type(model.get_submodule(name)).__name__
        raise ValueError(
            f"covariance is 'diagonal'; layer {name!r} ({layer} in training mode) makes the instances of a batch "
            "depend on each other, so they have no gradients of their own: use 'exact' or 'newest'"
        )


def vectorized_gradients(model: nn.Module, loss: LossFunction, batch: Instances) -> tuple[Tensor, Tensors]:
    """Losses [n] and gradients [n, *shape] in one vectorized backward pass.

    Raises:
        RuntimeError: If a layer cannot be vectorized over instances (some recurrent kernels).
    """
    parameters = {name: p.detach() for name, p in trainable(model).items()}

    def one(values: dict[str, Tensor], instance: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(model, values, (instance.unsqueeze(0),))
        return loss(outputs, target.unsqueeze(0)).squeeze(0)

    with private_random_numbers(batch.seed, batch.inputs.device):
        gradients, losses = vmap(grad_and_value(one), in_dims=(None, 0, 0), randomness="different")(
            parameters, batch.inputs, batch.targets
        )
    return losses, tuple(gradients[name] for name in parameters)


def looped_gradients(model: nn.Module, loss: LossFunction, batch: Instances) -> tuple[Tensor, Tensors]:
    """The same, by one backward pass per instance."""
    rows = [summed_gradient(model, loss, batch.part(j, j + 1)) for j in range(len(batch))]
    losses = torch.cat([losses for losses, _ in rows])
    return losses, tuple(torch.stack(parts) for parts in zip(*(gradient for _, gradient in rows), strict=True))
