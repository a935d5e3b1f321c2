"""What the algorithms differentiate with: functional modules, Hessian products, variances along a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.derivatives.differentiability import layer_without_forward_mode, undifferentiable_layer
    from raytune_hyperlearn.derivatives.functional import FunctionalModel, LossFunction
    from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts, gradient
    from raytune_hyperlearn.derivatives.micro_batches import MicroBatches, coupled_layer
    from raytune_hyperlearn.derivatives.projections import Instances, Linearization
    from raytune_hyperlearn.derivatives.push_forward import PushForward, PushForwardOptions
    from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers
    from raytune_hyperlearn.derivatives.variance import Variance, growing_batch
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".differentiability": ["layer_without_forward_mode", "undifferentiable_layer"],
            ".functional": ["FunctionalModel", "LossFunction"],
            ".hessian_products": ["HessianProductOptions", "HessianProducts", "gradient"],
            ".micro_batches": ["MicroBatches", "coupled_layer"],
            ".projections": ["Instances", "Linearization"],
            ".push_forward": ["PushForward", "PushForwardOptions"],
            ".random_numbers": ["private_random_numbers"],
            ".variance": ["Variance", "growing_batch"],
        },
    )

__all__ = [
    "FunctionalModel",
    "HessianProductOptions",
    "HessianProducts",
    "Instances",
    "Linearization",
    "LossFunction",
    "MicroBatches",
    "PushForward",
    "PushForwardOptions",
    "Variance",
    "coupled_layer",
    "gradient",
    "growing_batch",
    "layer_without_forward_mode",
    "private_random_numbers",
    "undifferentiable_layer",
]
