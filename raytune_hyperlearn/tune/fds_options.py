"""What FDS can be told beyond the shared settings of a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_hyperlearn.algorithms.fds import Clamps, SGDStep
from raytune_hyperlearn.algorithms.forward_mode import InnerStep
from raytune_hyperlearn.algorithms.groups import ungrouped
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, inner_step
from raytune_hyperlearn.algorithms.update_maps import (
    SGD,
    Adam,
    AdamW,
    GradientUpdate,
    Objective,
    UpdateMap,
    class_weights,
    label_smoothing,
)
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.hyperparameters import Space

MakeUpdate = Callable[[FunctionalModel], UpdateMap]
OPTIMIZERS: Mapping[str, type[Adam]] = {"adam": Adam, "adamw": AdamW}


@dataclass(frozen=True)
class FDSOptions:
    """What FDS can be told beyond the shared settings; keys of the trial's config.

    Attributes:
        horizons: Epochs of the inner loop in each outer step: a list, whose last entry serves all later ones, or a
            rule ``{"first": e, "factor": f}``: e, e f, e f², …; at most the full budget, which None takes always.
        replay: After a hypergradient over fewer epochs than the full budget, or where an evaluation has several
            replicates, train with the same values at the full budget (no tangents), so that every outer step is
            scored as any other method's evaluation.
        replay_from: First outer step that is replayed; the ones before, far from good values, cost too much to score.
        coarse_steps: In so many first outer steps all values of a schedule are one, shared by the whole run: fewer
            columns and less noise while the values are far from their place. Then they part, with new step sizes.
        outer_optimizer: ``"sign"``, the paper's rule, or ``"surrogate"``, which fits a Gaussian process to the losses
            and hypergradients of all outer steps (:mod:`raytune_hyperlearn.algorithms.surrogate_descent`).
        growth: Of the sign rule: factor on a value's step size while its hypergradient keeps its sign; 1 is the
            paper's.
        tolerance: An outer step that ends at more than this times the best validation loss so far is retried with
            halved step sizes; None (the paper's rule) retries only what diverged.
        clamp_product: Bound on H Z, element by element, or None.
        hessian: Fields of :class:`HessianProductOptions`.
        outer_steps: Stop after so many outer steps, or None.
        stop_when_converged: Stop when every step size is below 5 % of its value.
        optimizer: What trains: ``"sgd"``, ``"adam"``, ``"adamw"``, or a function that makes an own
            :class:`UpdateMap` of a model. Other than for SGD, the space is an :class:`OptimizerSpace`.
        objective: The training loss, where it has hyperparameters of its own: ``"label_smoothing"`` (of that name, in
            [0, 1]) or ``"class_weights"`` (``class_weight@0`` … , one per class), both for cross-entropy. The space is
            an :class:`OptimizerSpace` that has them; None is the problem's own loss.
    """

    horizons: tuple[float, ...] | Mapping[str, float] | None = None
    replay: bool = True
    replay_from: int = 1
    coarse_steps: int = 0
    outer_optimizer: str = "sign"
    growth: float = 1.0
    tolerance: float | None = None
    clamp_product: float | None = None
    hessian: HessianProductOptions = field(default_factory=HessianProductOptions)
    outer_steps: int | None = None
    stop_when_converged: bool = True
    optimizer: str | MakeUpdate = "sgd"
    objective: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FDSOptions:
        """Read and check the keys.

        Raises:
            ValueError: In one line that names the key, its value and what is allowed.
        """
        given = {name: config[name] for name in cls.__dataclass_fields__ if config.get(name) is not None}
        if "hessian" in given and not isinstance(given["hessian"], HessianProductOptions):
            given["hessian"] = HessianProductOptions(**given["hessian"])
        if "horizons" in given:
            given["horizons"] = _checked_horizons(given["horizons"])
        options = cls(**given)
        if not options.growth >= 1:
            raise ValueError(f"growth is {options.growth}; it must be at least 1")
        if options.outer_optimizer not in ("sign", "surrogate"):
            raise ValueError(f"outer_optimizer is {options.outer_optimizer!r}; it must be 'sign' or 'surrogate'")
        if options.outer_optimizer == "surrogate":
            for name, neutral in (("growth", 1.0), ("tolerance", None)):
                if getattr(options, name) != neutral:
                    allowed = f"with outer_optimizer 'surrogate' it must be {neutral}"
                    raise ValueError(f"{name} is {getattr(options, name)}; {allowed}")
        if options.tolerance is not None and not options.tolerance > 1:
            raise ValueError(f"tolerance is {options.tolerance}; it must be greater than 1 or None")
        if not isinstance(options.coarse_steps, int) or options.coarse_steps < 0:
            raise ValueError(f"coarse_steps is {options.coarse_steps}; it must be a whole number of at least 0")
        if options.outer_steps is not None and options.outer_steps < 1:
            raise ValueError(f"outer_steps is {options.outer_steps}; it must be at least 1 or None")
        if not callable(options.optimizer) and options.optimizer not in ("sgd", *OPTIMIZERS):
            allowed = ", ".join(("sgd", *OPTIMIZERS))
            raise ValueError(f"optimizer is {options.optimizer!r}; it must be {allowed} or a function of the model")
        if options.objective is not None and options.objective not in OBJECTIVES:
            raise ValueError(f"objective is {options.objective!r}; it must be {', '.join(OBJECTIVES)} or None")
        if options.objective is not None and callable(options.optimizer):
            raise ValueError(f"objective is {options.objective!r}; an own optimizer has its own: it must be None")
        Clamps(product=options.clamp_product)
        return options

    def inner_epochs(self, outer_step: int, full: float) -> float:
        """Epochs of the inner loop in an outer step, at most the full budget."""
        if self.horizons is None:
            return full
        if isinstance(self.horizons, Mapping):
            # An exponent beyond the float range would be an error; so many factors are past any full budget.
            return min(self.horizons["first"] * self.horizons["factor"] ** min(outer_step, 100), full)
        return min(self.horizons[min(outer_step, len(self.horizons) - 1)], full)

    def is_last(self, outer_step: int) -> bool:
        """Whether an outer step is the last."""
        return self.outer_steps is not None and outer_step + 1 >= self.outer_steps

    def inner_step(self, model: FunctionalModel, gradient_clamp: float | None, space: Space) -> InnerStep:
        """How one step of training carries tangents along.

        Args:
            model: What is trained.
            gradient_clamp: Bound on batch gradients, or None.
            space: Whose groups the optimizer has.

        Raises:
            ValueError: If an own optimizer is to be clamped or given groups here.
        """
        groups = space.groups
        if self.optimizer == "sgd" and self.objective is None:
            products = HessianProducts(model, self.hessian)
            return SGDStep(model, products, Clamps(gradient_clamp, self.clamp_product), groups)
        update = self._update(model, gradient_clamp, space)
        if isinstance(update, GradientUpdate):
            return GradientStep(update, self.hessian, self.clamp_product)
        if self.clamp_product is not None:
            raise ValueError(f"clamp_product is {self.clamp_product}; {type(update).__name__} allows None only")
        return inner_step(update, self.hessian)

    def _update(self, model: FunctionalModel, gradient_clamp: float | None, space: Space) -> UpdateMap:
        """The optimizer as an update map."""
        if not isinstance(self.optimizer, str):
            if gradient_clamp is not None:
                raise ValueError(f"gradient_clamp is {gradient_clamp}; an own optimizer must clamp by itself")
            if space.groups:
                raise ValueError(f"groups of {next(iter(space.groups))} are set; an own optimizer must make its own")
            return self.optimizer(model)
        objective = None if self.objective is None else OBJECTIVES[self.objective](space)
        if self.optimizer == "sgd":
            return SGD(model, objective, groups=space.groups, gradient_clamp=gradient_clamp)
        return OPTIMIZERS[self.optimizer](model, objective, groups=space.groups, gradient_clamp=gradient_clamp)


def _class_weights(space: Space) -> Objective:
    """Of as many classes as the space has weights."""
    return class_weights(sum(ungrouped(name) == "class_weight" for name in space.parts))


OBJECTIVES: Mapping[str, Callable[[Space], Objective]] = {
    "label_smoothing": lambda space: label_smoothing(),
    "class_weights": _class_weights,
}


def _checked_horizons(horizons: Any) -> tuple[float, ...] | dict[str, float]:
    """A list of epochs, or a rule of growth.

    Raises:
        ValueError: In one line, if it is neither.
    """
    if isinstance(horizons, Mapping):
        if set(horizons) != {"first", "factor"} or not horizons["first"] > 0 or not 1 <= horizons["factor"] <= 1000:
            allowed = "first must be a positive number of epochs and factor at least 1 and at most 1000"
            raise ValueError(f"horizons is {dict(horizons)}; {allowed}")
        return {name: float(number) for name, number in horizons.items()}
    epochs = tuple(float(e) for e in horizons)
    if not epochs or not all(e > 0 and math.isfinite(e) for e in epochs):
        raise ValueError(f"horizons is {list(epochs)}; it must hold positive numbers of epochs")
    return epochs
